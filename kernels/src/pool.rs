//! Max pooling over NHWC maps.
//!
//! Padding counts as minus infinity; among equal maxima the first in row order takes the gradient.
//! Bytes: input read once, output written once. Operations: `k * k` comparisons per output.

use rayon::prelude::*;

use crate::conv::{ConvOptions, Nhwc};
use crate::error::{Result, check_len, shape_error};
use crate::simd::simd_fn;

/// Kernel, stride and padding of a pooling, the same for both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Pixels of the window.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Pixels added on every side.
    pub padding: usize,
}

impl PoolOptions {
    /// The shape that pooling `x` gives.
    ///
    /// # Errors
    /// When no window fits, or the padding is larger than half the kernel.
    pub fn output(&self, x: Nhwc) -> Result<Nhwc> {
        let conv = ConvOptions { stride: self.stride.max(1), padding: self.padding, dilation: 1, groups: 1 };
        let size = |n| if self.kernel == 0 || self.stride == 0 { None } else { conv.output(n, self.kernel) };
        match (size(x[1]), size(x[2])) {
            (Some(h), Some(w)) if self.padding * 2 <= self.kernel => Ok([x[0], h, w, x[3]]),
            _ => shape_error("max_pool2d", format!("{self:?} does not fit {}x{} pixels", x[1], x[2])),
        }
    }

    /// Input pixels of output `o` along one axis of `n`.
    fn window(&self, o: usize, n: usize) -> std::ops::Range<usize> {
        let first = o * self.stride;
        first.saturating_sub(self.padding)..(first + self.kernel - self.padding).min(n)
    }
}

simd_fn! {
    /// One output row of one image.
    fn pool_row(image: &[f32], h: usize, w: usize, opts: PoolOptions, j: usize, out: &mut [f32], c: usize) {
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            pixel.fill(f32::NEG_INFINITY);
            for sy in opts.window(j, h) {
                for sx in opts.window(i, w) {
                    let at = (sy * w + sx) * c;
                    for (y, x) in pixel.iter_mut().zip(&image[at..at + c]) {
                        *y = if *x > *y { *x } else { *y };
                    }
                }
            }
        }
    }
}

/// Forward: writes `y` of the shape that [`PoolOptions::output`] gives.
///
/// # Errors
/// When shapes or lengths do not fit together.
pub fn max_pool2d(x: &[f32], x_shape: Nhwc, opts: PoolOptions, y: &mut [f32]) -> Result<Nhwc> {
    let [_, h, w, c] = x_shape;
    let shape = opts.output(x_shape)?;
    let [_, oh, ow, _] = shape;
    check_len("max_pool2d", "input", x.len(), x_shape.iter().product())?;
    check_len("max_pool2d", "output", y.len(), shape.iter().product())?;
    y.par_chunks_mut(ow * c).enumerate().for_each(|(row, out)| {
        let (n, j) = (row / oh, row % oh);
        pool_row(&x[n * h * w * c..(n + 1) * h * w * c], h, w, opts, j, out, c);
    });
    Ok(shape)
}

/// Backward: writes `dx`; finds the maxima again from `x`.
///
/// # Errors
/// When shapes or lengths do not fit together.
pub fn max_pool2d_backward(x: &[f32], x_shape: Nhwc, grad: &[f32], opts: PoolOptions, dx: &mut [f32]) -> Result<()> {
    let [_, h, w, c] = x_shape;
    let shape = opts.output(x_shape)?;
    let [_, oh, ow, _] = shape;
    check_len("max_pool2d_backward", "input", x.len(), x_shape.iter().product())?;
    check_len("max_pool2d_backward", "gradient", grad.len(), shape.iter().product())?;
    check_len("max_pool2d_backward", "input gradient", dx.len(), x.len())?;
    dx.par_chunks_mut((h * w * c).max(1)).zip(x.par_chunks((h * w * c).max(1))).enumerate().for_each(|(n, (dx, x))| {
        dx.fill(0.0);
        for j in 0..oh {
            for i in 0..ow {
                let from = ((n * oh + j) * ow + i) * c;
                route(x, dx, &grad[from..from + c], opts.window(j, h), opts.window(i, w), w);
            }
        }
    });
    Ok(())
}

simd_fn! {
    /// Adds the gradient of one output pixel to the first maximum of its window, channel by channel.
    fn route(x: &[f32], dx: &mut [f32], grad: &[f32], rows: std::ops::Range<usize>, cols: std::ops::Range<usize>, width: usize) {
        const LANES: usize = 16;
        let c = grad.len();
        for c0 in (0..c).step_by(LANES) {
            let n = LANES.min(c - c0);
            let mut best = [f32::NEG_INFINITY; LANES];
            let mut place = [0u32; LANES];
            for y in rows.clone() {
                for i in cols.clone() {
                    let at = y * width + i;
                    let values = &x[at * c + c0..at * c + c0 + n];
                    for ((b, p), v) in best.iter_mut().zip(&mut place).zip(values) {
                        let larger = *v > *b;
                        *b = if larger { *v } else { *b };
                        *p = if larger { at as u32 } else { *p };
                    }
                }
            }
            for (lane, p) in place.iter().enumerate().take(n) {
                dx[*p as usize * c + c0 + lane] += grad[c0 + lane];
            }
        }
    }
}
