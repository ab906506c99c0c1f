//! Resizing NHWC maps: nearest x2, bilinear, bilinear with antialias.
//!
//! The bilinear ones are two sparse matrices, one per axis: each output pixel is a weighted sum of
//! neighbouring input pixels. Forward applies them, backward applies their transposes.
//! Bytes: input read once, a row-resized map written and read, output written once.

use rayon::prelude::*;

use crate::conv::Nhwc;
use crate::error::{Result, check_len, shape_error};
use crate::simd::simd_fn;

/// How output pixels are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Two taps per axis, also when shrinking (PyTorch `align_corners=False`).
    Bilinear,
    /// A triangle as wide as the scale when shrinking (Pillow's BILINEAR).
    BilinearAntialias,
}

/// Input pixels and weights of every output pixel of one axis.
struct Axis {
    taps: Vec<(usize, Vec<f32>)>,
}

impl Axis {
    fn new(filter: Filter, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let taps = (0..to)
            .map(|o| match filter {
                Filter::Bilinear => two_taps(o, scale, from),
                Filter::BilinearAntialias => triangle(o, scale, from),
            })
            .collect();
        Self { taps }
    }

    /// The transposed matrix: which outputs each input pixel reaches.
    fn transposed(&self, from: usize) -> Vec<Vec<(usize, f32)>> {
        let mut reaches = vec![Vec::new(); from];
        for (o, (first, weights)) in self.taps.iter().enumerate() {
            for (k, w) in weights.iter().enumerate() {
                reaches[first + k].push((o, *w));
            }
        }
        reaches
    }
}

/// Position (o + 0.5) * scale - 0.5, not below 0; upper neighbour clamped to the last pixel.
fn two_taps(o: usize, scale: f64, n: usize) -> (usize, Vec<f32>) {
    let at = ((o as f64 + 0.5) * scale - 0.5).max(0.0);
    let low = (at as usize).min(n - 1);
    let part = (at - low as f64).min(1.0);
    if low + 1 < n { (low, vec![(1.0 - part) as f32, part as f32]) } else { (low, vec![1.0]) }
}

/// Weights max(0, 1 - |j + 0.5 - m| / r) around m = scale (o + 0.5), r = max(scale, 1), made to sum to 1.
fn triangle(o: usize, scale: f64, n: usize) -> (usize, Vec<f32>) {
    let (m, r) = (scale * (o as f64 + 0.5), scale.max(1.0));
    let first = (m - r + 0.5).max(0.0) as usize;
    let end = ((m + r + 0.5) as usize).min(n);
    let raw: Vec<f64> = (first..end).map(|j| (1.0 - (j as f64 + 0.5 - m).abs() / r).max(0.0)).collect();
    let sum: f64 = raw.iter().sum();
    (first, raw.iter().map(|w| (w / sum) as f32).collect())
}

simd_fn! {
    /// `sum += weight * x`.
    fn add_scaled(sum: &mut [f32], weight: f32, x: &[f32]) {
        for (s, x) in sum.iter_mut().zip(x) {
            *s += weight * x;
        }
    }
}

fn check(x: usize, x_shape: Nhwc, size: (usize, usize), y: usize) -> Result<()> {
    let [n, h, w, c] = x_shape;
    if h * w * size.0 * size.1 == 0 {
        return shape_error("resize", format!("{h}x{w} to {}x{}: no pixels", size.0, size.1));
    }
    check_len("resize", "input", x, n * h * w * c)?;
    check_len("resize", "output", y, n * size.0 * size.1 * c)
}

/// Forward: writes `y` of shape `[n, size.0, size.1, c]`.
///
/// # Errors
/// When a size is 0 or lengths do not fit.
pub fn resize(x: &[f32], x_shape: Nhwc, size: (usize, usize), filter: Filter, y: &mut [f32]) -> Result<()> {
    check(x.len(), x_shape, size, y.len())?;
    let [_, h, w, c] = x_shape;
    let (oh, ow) = size;
    let (rows, cols) = (Axis::new(filter, h, oh), Axis::new(filter, w, ow));
    y.par_chunks_mut(ow * c).enumerate().for_each_init(Vec::new, |line: &mut Vec<f32>, (row, out)| {
        let (n, j) = (row / oh, row % oh);
        line.clear();
        line.resize(w * c, 0.0);
        let (first, weights) = &rows.taps[j];
        for (k, weight) in weights.iter().enumerate() {
            let at = (n * h + first + k) * w * c;
            add_scaled(line, *weight, &x[at..at + w * c]);
        }
        for (pixel, (first, weights)) in out.chunks_exact_mut(c).zip(&cols.taps) {
            pixel.fill(0.0);
            for (k, weight) in weights.iter().enumerate() {
                add_scaled(pixel, *weight, &line[(first + k) * c..(first + k + 1) * c]);
            }
        }
    });
    Ok(())
}

/// Backward: writes `dx` of shape `x_shape` from the gradient of the output.
///
/// # Errors
/// When a size is 0 or lengths do not fit.
pub fn resize_backward(
    grad: &[f32],
    x_shape: Nhwc,
    size: (usize, usize),
    filter: Filter,
    dx: &mut [f32],
) -> Result<()> {
    check(dx.len(), x_shape, size, grad.len())?;
    let [_, h, w, c] = x_shape;
    let (oh, ow) = size;
    let rows = Axis::new(filter, h, oh).transposed(h);
    let cols = Axis::new(filter, w, ow).transposed(w);
    dx.par_chunks_mut(w * c).enumerate().for_each_init(Vec::new, |line: &mut Vec<f32>, (row, out)| {
        let (n, j) = (row / h, row % h);
        line.clear();
        line.resize(ow * c, 0.0);
        for (o, weight) in &rows[j] {
            let at = (n * oh + o) * ow * c;
            add_scaled(line, *weight, &grad[at..at + ow * c]);
        }
        for (pixel, reach) in out.chunks_exact_mut(c).zip(&cols) {
            pixel.fill(0.0);
            for (o, weight) in reach {
                add_scaled(pixel, *weight, &line[o * c..(o + 1) * c]);
            }
        }
    });
    Ok(())
}

/// Nearest x2: `y[j, i] = x[j / 2, i / 2]`.
///
/// # Errors
/// When lengths do not fit.
pub fn upsample_nearest(x: &[f32], x_shape: Nhwc, y: &mut [f32]) -> Result<()> {
    let [_, _, w, c] = x_shape;
    check_len("upsample_nearest", "input", x.len(), x_shape.iter().product())?;
    check_len("upsample_nearest", "output", y.len(), 4 * x.len())?;
    y.par_chunks_mut((4 * w * c).max(1)).zip(x.par_chunks((w * c).max(1))).for_each(|(out, line)| {
        let (upper, lower) = out.split_at_mut(2 * w * c);
        for (pair, pixel) in upper.chunks_exact_mut(2 * c).zip(line.chunks_exact(c)) {
            pair[..c].copy_from_slice(pixel);
            pair[c..].copy_from_slice(pixel);
        }
        lower.copy_from_slice(upper);
    });
    Ok(())
}

/// Backward of [`upsample_nearest`]: sums each 2x2 block.
///
/// # Errors
/// When lengths do not fit.
pub fn upsample_nearest_backward(grad: &[f32], x_shape: Nhwc, dx: &mut [f32]) -> Result<()> {
    let [_, _, w, c] = x_shape;
    check_len("upsample_nearest_backward", "input gradient", dx.len(), x_shape.iter().product())?;
    check_len("upsample_nearest_backward", "gradient", grad.len(), 4 * dx.len())?;
    dx.par_chunks_mut((w * c).max(1)).zip(grad.par_chunks((4 * w * c).max(1))).for_each(|(out, rows)| {
        let (upper, lower) = rows.split_at(2 * w * c);
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            let (u, l) = (&upper[2 * i * c..], &lower[2 * i * c..]);
            for (k, d) in pixel.iter_mut().enumerate() {
                *d = u[k] + u[c + k] + l[k] + l[c + k];
            }
        }
    });
    Ok(())
}
