//! SSIM as a loss (Wang et al. 2004, equation 13), with Gaussian windows of 11 pixels and a standard deviation of 1.5.

use hotad_engine::ops::ssim_loss;
use hotad_kernels::ssim::SsimOptions;
use hotad_kernels::window::{Border, Window};

use super::{Array, Case, Input, share};

/// The largest absolute difference of pixels relative to the largest: quotients of small differences of means.
const QUOTIENTS: f32 = 1e-4;

const SIZE: usize = 11;
const SIGMA: f32 = 1.5;

fn options(border: Border) -> SsimOptions {
    SsimOptions { window: Window::Gaussian { size: SIZE, sigma: SIGMA }, border, ..SsimOptions::default() }
}

/// Position `p` of an axis of `n`, or the one that it mirrors.
fn inside(p: isize, n: usize, border: Border) -> Option<usize> {
    let n = n as isize;
    let p = match border {
        Border::Symmetric if p < 0 => -1 - p,
        Border::Symmetric if p >= n => 2 * n - 1 - p,
        _ => p,
    };
    (0..n).contains(&p).then_some(p as usize)
}

/// Weighted means around one pixel of `x`, `y`, `x^2`, `y^2` and `x y`.
fn means(a: &[Array], [i, py, px, k]: [usize; 4], border: Border) -> [f64; 5] {
    let [h, w, c] = [1, 2, 3].map(|axis| a[0].shape[axis]);
    let radius = SIZE as isize / 2;
    let weight = |d: isize| (-(d * d) as f64 / (2.0 * f64::from(SIGMA).powi(2))).exp();
    let all: f64 = (-radius..=radius).map(weight).sum();
    let mut means = [0.0; 5];
    for (dy, dx) in (-radius..=radius).flat_map(|dy| (-radius..=radius).map(move |dx| (dy, dx))) {
        let at = [(py, dy, h), (px, dx, w)].map(|(p, d, n)| inside(p as isize + d, n, border));
        let [Some(y), Some(x)] = at else { continue };
        let [p, q] = [0, 1].map(|image| a[image].values[((i * h + y) * w + x) * c + k]);
        let share = weight(dy) * weight(dx) / (all * all);
        means.iter_mut().zip([p, q, p * p, q * q, p * q]).for_each(|(m, v)| *m += share * v);
    }
    means
}

/// 1 - mean SSIM.
fn dissimilarity(a: &[Array], border: Border) -> Vec<f64> {
    let [n, h, w, c] = [0, 1, 2, 3].map(|axis| a[0].shape[axis]);
    let margin = if border == Border::Valid { SIZE / 2 } else { 0 };
    let (mut sum, mut count) = (0.0, 0.0);
    for at in 0..n * h * w * c {
        let [i, y, x, k] = [at / (h * w * c), at / (w * c) % h, at / c % w, at % c];
        if y < margin || y + margin >= h || x < margin || x + margin >= w {
            continue;
        }
        let [p, q, pp, qq, pq] = means(a, [i, y, x, k], border);
        let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
        let luminance = (2.0 * p * q + c1) / (p * p + q * q + c1);
        sum += luminance * (2.0 * (pq - p * q) + c2) / (pp - p * p + qq - q * q + c2);
        count += 1.0;
    }
    vec![1.0 - sum / count]
}

const fn target(shape: &'static [usize]) -> Input {
    Input { learned: false, ..share(shape) }
}

pub const CASES: &[Case] = &[
    Case {
        name: "ssim_loss",
        checked: &[&[share(&[2, 23, 18, 3]), target(&[2, 23, 18, 3])], &[share(&[1, 6, 7, 1]), target(&[1, 6, 7, 1])]],
        timed: &[share(&[8, 128, 128, 3]), target(&[8, 128, 128, 3])],
        flops: 5.0 * 4.0 * 11.0,
        run: |t| ssim_loss(&t[0], &t[1], &options(Border::Symmetric)),
        oracle: |a| dissimilarity(a, Border::Symmetric),
        tolerance: QUOTIENTS,
    },
    Case {
        name: "ssim_loss_zero_border",
        checked: &[&[share(&[1, 17, 21, 1]), target(&[1, 17, 21, 1])]],
        timed: &[share(&[8, 128, 128, 3]), target(&[8, 128, 128, 3])],
        flops: 5.0 * 4.0 * 11.0,
        run: |t| ssim_loss(&t[0], &t[1], &options(Border::Zero)),
        oracle: |a| dissimilarity(a, Border::Zero),
        tolerance: QUOTIENTS,
    },
    Case {
        name: "ssim_loss_whole_windows",
        checked: &[&[share(&[2, 16, 21, 2]), target(&[2, 16, 21, 2])]],
        timed: &[share(&[8, 128, 128, 3]), target(&[8, 128, 128, 3])],
        flops: 5.0 * 4.0 * 11.0,
        run: |t| ssim_loss(&t[0], &t[1], &options(Border::Valid)),
        oracle: |a| dissimilarity(a, Border::Valid),
        tolerance: QUOTIENTS,
    },
];
