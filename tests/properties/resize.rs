use hotad_kernels::resize::{Filter, resize, resize_backward};
use proptest::prelude::*;

use crate::{adjoint, at_all, near, noise, put, uninit};

/// The weight of input pixel `i` of `from` in output pixel `o` of `to`, not yet made to sum to 1.
fn weight(filter: Filter, (i, from): (usize, usize), (o, to): (usize, usize)) -> f64 {
    let scale = from as f64 / to as f64;
    match filter {
        // Between the two nearest pixel centres; beyond the outermost ones, the outermost.
        Filter::Bilinear => {
            let at = ((o as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
            (1.0 - (i as f64 - at).abs()).max(0.0)
        }
        // A triangle over as many input pixels as an output pixel covers.
        Filter::BilinearAntialias => {
            let distance = (i as f64 + 0.5) - (o as f64 + 0.5) * scale;
            (1.0 - distance.abs() / scale.max(1.0)).max(0.0)
        }
    }
}

/// All weights of an output pixel, which sum to 1.
fn weights(filter: Filter, from: usize, (o, to): (usize, usize)) -> Vec<f64> {
    let raw: Vec<f64> = (0..from).map(|i| weight(filter, (i, from), (o, to))).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|w| w / sum).collect()
}

#[test]
fn sizes_up_and_down() {
    let filter = prop_oneof![Just(Filter::Bilinear), Just(Filter::BilinearAntialias)];
    at_all(([1..3usize, 1..24, 1..24, 1..6], 1..40usize, 1..40usize, filter), |device, (shape, oh, ow, filter)| {
        let [n, h, w, c] = shape;
        let (x, len) = (noise(shape.iter().product(), 1), n * oh * ow * c);
        let (mut y, mut dx) = (uninit(device, len), uninit(device, x.len()));
        resize(&put(device, &x), shape, (oh, ow), filter, &mut y).expect("there are pixels");
        let rows: Vec<Vec<f64>> = (0..oh).map(|o| weights(filter, h, (o, oh))).collect();
        let columns: Vec<Vec<f64>> = (0..ow).map(|o| weights(filter, w, (o, ow))).collect();
        let value = |at: usize| {
            let (k, ox, oy, i) = (at % c, at / c % ow, at / c / ow % oh, at / c / ow / oh);
            let row =
                |y: usize| (0..w).map(|p| columns[ox][p] * f64::from(x[((i * h + y) * w + p) * c + k])).sum::<f64>();
            (0..h).filter(|y| rows[oy][*y] > 0.0).map(|y| rows[oy][y] * row(y)).sum::<f64>()
        };
        near(&y, &(0..len).map(value).collect::<Vec<f64>>(), 2e-6)?;

        let g = noise(len, 2);
        resize_backward(&put(device, &g), shape, (oh, ow), filter, &mut dx).expect("as forward");
        adjoint(&y, &g, &x, &dx)
    });
}
