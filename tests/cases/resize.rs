//! Resizing of maps, and its adjoint.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_kernels::resize::{Filter, resize, resize_backward};

use super::{Array, Case, SUM, given};

/// Rows and columns of the enlarged map.
fn larger(x: &[usize]) -> (usize, usize) {
    (2 * x[1] + 5, 2 * x[2] + 2)
}

/// Rows and columns of the reduced map.
fn smaller(x: &[usize]) -> (usize, usize) {
    (x[1].div_ceil(3), x[2].div_ceil(2))
}

/// The weights of an axis of `from` pixels in pixel `o` of `to`.
fn weights(filter: Filter, from: usize, o: usize, to: usize) -> Vec<f64> {
    let scale = from as f64 / to as f64;
    let centre = (o as f64 + 0.5) * scale - 0.5;
    let weight = |i: usize| match filter {
        // Between the two nearest pixel centres; beyond the outermost ones, the outermost.
        Filter::Bilinear => (1.0 - (i as f64 - centre.clamp(0.0, (from - 1) as f64)).abs()).max(0.0),
        // A triangle over as many input pixels as an output pixel covers.
        Filter::BilinearAntialias => (1.0 - (i as f64 - centre).abs() / scale.max(1.0)).max(0.0),
    };
    let raw: Vec<f64> = (0..from).map(weight).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|w| w / sum).collect()
}

/// Calls `f` with the index in the result, the index in the map of shape `x`, and the weight between them.
fn taps(x: &[usize], size: (usize, usize), filter: Filter, mut f: impl FnMut(usize, usize, f64)) {
    let ([n, h, w, c], (oh, ow)) = ([0, 1, 2, 3].map(|axis| x[axis]), size);
    for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
        let (rows, columns) = (weights(filter, h, oy, oh), weights(filter, w, ox, ow));
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))).filter(|(y, x)| rows[*y] * columns[*x] > 0.0) {
            for (i, k) in (0..n).flat_map(|i| (0..c).map(move |k| (i, k))) {
                f(((i * oh + oy) * ow + ox) * c + k, ((i * h + y) * w + x) * c + k, rows[y] * columns[x]);
            }
        }
    }
}

fn resized(a: &[Array], size: (usize, usize), filter: Filter) -> Vec<f64> {
    let x = &a[0];
    let mut y = vec![0.0; x.shape[0] * size.0 * size.1 * x.shape[3]];
    taps(&x.shape, size, filter, |to, from, weight| y[to] += weight * x.values[from]);
    y
}

fn run(t: &[Tensor], size: (usize, usize), filter: Filter) -> Result<Tensor> {
    let [n, _, _, c] = t[0].nhwc()?;
    let mut y = t[0].device().alloc(n * size.0 * size.1 * c)?;
    resize(t[0].view(), t[0].nhwc()?, size, filter, &mut y)?;
    Tensor::from_buffer(y, &[n, size.0, size.1, c])
}

/// Of the gradient of an enlarged map: that of the map, whose shape the second input has.
fn run_backward(t: &[Tensor]) -> Result<Tensor> {
    let mut dx = t[0].device().alloc(t[1].len())?;
    resize_backward(t[0].view(), t[1].nhwc()?, larger(t[1].shape()), Filter::Bilinear, &mut dx)?;
    Tensor::from_buffer(dx, t[1].shape())
}

pub const CASES: &[Case] = &[
    Case {
        name: "resize_larger",
        checked: &[&[given(&[1, 1, 1, 1])], &[given(&[2, 13, 9, 3])]],
        timed: &[given(&[8, 64, 64, 64])],
        flops: 4.0 * 6.0,
        run: |t| run(t, larger(t[0].shape()), Filter::Bilinear),
        oracle: |a| resized(a, larger(&a[0].shape), Filter::Bilinear),
        tolerance: SUM,
    },
    Case {
        name: "resize_smaller",
        checked: &[&[given(&[1, 1, 1, 1])], &[given(&[2, 13, 9, 3])]],
        timed: &[given(&[8, 256, 256, 3])],
        flops: 6.0,
        run: |t| run(t, smaller(t[0].shape()), Filter::BilinearAntialias),
        oracle: |a| resized(a, smaller(&a[0].shape), Filter::BilinearAntialias),
        tolerance: SUM,
    },
    Case {
        name: "resize_backward",
        checked: &[&[given(&[1, 7, 4, 1]), given(&[1, 1, 1, 1])], &[given(&[2, 31, 20, 3]), given(&[2, 13, 9, 3])]],
        timed: &[given(&[8, 133, 130, 64]), given(&[8, 64, 64, 64])],
        flops: 6.0,
        run: run_backward,
        oracle: |a| {
            let mut dx = vec![0.0; a[1].values.len()];
            let add = |from: usize, to: usize, weight: f64| dx[to] += weight * a[0].values[from];
            taps(&a[1].shape, larger(&a[1].shape), Filter::Bilinear, add);
            dx
        },
        tolerance: SUM,
    },
];
