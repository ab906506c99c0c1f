use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::ssim::{SsimOptions, ssim_map};
use hotad_kernels::window::{Border, Window};
use proptest::prelude::*;

use crate::{at_all, near, noise, put, uninit};

fn border() -> impl Strategy<Value = Border> {
    prop_oneof![Just(Border::Symmetric), Just(Border::Reflect101), Just(Border::Zero), Just(Border::Valid)]
}

/// Where a position beyond an axis of `n` lies, one reflection at a time.
fn mirrored(mut p: isize, n: usize, border: Border) -> Option<usize> {
    let n = n as isize;
    while p < 0 || p >= n {
        p = match border {
            Border::Symmetric => {
                if p < 0 {
                    -1 - p
                } else {
                    2 * n - 1 - p
                }
            }
            Border::Reflect101 if n == 1 => 0,
            Border::Reflect101 => {
                if p < 0 {
                    -p
                } else {
                    2 * n - 2 - p
                }
            }
            Border::Zero | Border::Valid => return None,
        };
    }
    Some(p as usize)
}

/// The mean of every window of one image of one channel; `None` where the window is larger than the image.
fn means(x: &[f64], [h, w]: [usize; 2], weights: &[f64], border: Border) -> Option<Vec<f64>> {
    let radius = weights.len() / 2;
    let (skipped, [oh, ow]) = match border {
        Border::Valid => (radius, [h.checked_sub(2 * radius)?, w.checked_sub(2 * radius)?]),
        _ => (0, [h, w]),
    };
    let mean = |at: usize| {
        let (oy, ox) = ((at / ow + skipped) as isize, (at % ow + skipped) as isize);
        let offsets = || (0..weights.len()).map(|t| (t as isize - radius as isize, weights[t]));
        let mut sum = 0.0;
        for (dy, wy) in offsets() {
            let Some(y) = mirrored(oy + dy, h, border) else { continue };
            let row = offsets().filter_map(|(dx, wx)| Some(wx * x[y * w + mirrored(ox + dx, w, border)?]));
            sum += wy * row.sum::<f64>();
        }
        sum
    };
    (oh * ow > 0).then(|| (0..oh * ow).map(mean).collect())
}

/// Means of all images and channels, channels last.
fn all_means(x: &[f64], [n, h, w, c]: [usize; 4], weights: &[f64], border: Border) -> Option<Vec<f64>> {
    let plane = |i: usize, k: usize| (0..h * w).map(|p| x[(i * h * w + p) * c + k]).collect::<Vec<f64>>();
    let mut out = Vec::new();
    for i in 0..n {
        let planes: Option<Vec<Vec<f64>>> = (0..c).map(|k| means(&plane(i, k), [h, w], weights, border)).collect();
        let planes = planes?;
        out.extend((0..planes[0].len() * c).map(|at| planes[at % c][at / c]));
    }
    Some(out)
}

fn normalised(raw: Vec<f64>) -> Vec<f64> {
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|w| w / sum).collect()
}

fn gaussian(radius: usize, sigma: f32) -> Vec<f64> {
    let weight = |i: usize| (-(i as f64 - radius as f64).powi(2) / (2.0 * f64::from(sigma).powi(2))).exp();
    normalised((0..2 * radius + 1).map(weight).collect())
}

fn widened(x: &[f32]) -> Vec<f64> {
    x.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn blurs() {
    let shapes = ([1..3usize, 1..20, 1..20, 1..6], 0..12usize, 0.5..4.0f32, border());
    at_all(shapes, |device, (shape, radius, sigma, border)| {
        let x = noise(shape.iter().product(), 1);
        let want = all_means(&widened(&x), shape, &gaussian(radius, sigma), border);
        let Some(want) = want else { return Ok(()) };
        let mut y = uninit(device, want.len());
        gaussian_blur(&put(device, &x), shape, sigma, radius, border, &mut y).expect("the window fits");
        near(&y, &want, 2e-6)
    });
}

#[test]
fn similarities() {
    let window = prop_oneof![
        (0..6usize, 0.5..3.0f32).prop_map(|(radius, sigma)| Window::Gaussian { size: 2 * radius + 1, sigma }),
        (1..6usize).prop_map(|radius| Window::Uniform { size: 2 * radius + 1 }),
    ];
    at_all(([1..3usize, 1..20, 1..20, 1..4], window, border()), |device, (shape, window, border)| {
        let weights = match window {
            Window::Gaussian { size, sigma } => gaussian(size / 2, sigma),
            Window::Uniform { size } => normalised(vec![1.0; size]),
        };
        let image =
            |index| noise(shape.iter().product(), index).into_iter().map(|v| 0.5 + 0.5 * v).collect::<Vec<f32>>();
        let (x, y) = (image(1), image(2));
        let mean_of = |f: fn(f64, f64) -> f64| {
            let values: Vec<f64> = x.iter().zip(&y).map(|(x, y)| f(f64::from(*x), f64::from(*y))).collect();
            all_means(&values, shape, &weights, border)
        };
        let Some(mx) = mean_of(|x, _| x) else { return Ok(()) };
        let fits = "as the first";
        let (my, xx) = (mean_of(|_, y| y).expect(fits), mean_of(|x, _| x * x).expect(fits));
        let (yy, xy) = (mean_of(|_, y| y * y).expect(fits), mean_of(|x, y| x * y).expect(fits));
        let similarity = |i: usize| {
            let ([c1, c2], product) = ([1e-4, 9e-4], mx[i] * my[i]);
            let (squares, variances) = (mx[i] * mx[i] + my[i] * my[i], xx[i] + yy[i] - mx[i] * mx[i] - my[i] * my[i]);
            (2.0 * product + c1) * (2.0 * (xy[i] - product) + c2) / ((squares + c1) * (variances + c2))
        };
        let want: Vec<f64> = (0..mx.len()).map(similarity).collect();
        let (opts, mut map) = (SsimOptions { window, border, ..SsimOptions::default() }, uninit(device, want.len()));
        ssim_map(&put(device, &x), &put(device, &y), shape, &opts, &mut map).expect("the window fits");
        // Variances are differences of means, so that a rounding weighs 1 / c2 of them.
        near(&map, &want, 1e-3)
    });
}
