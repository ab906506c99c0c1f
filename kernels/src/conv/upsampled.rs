//! Nearest x2 up-sampling followed by a 3x3 convolution of padding 1, as one operation.
//!
//! `y = conv2d(upsample_nearest(x), w)`. An output pixel sees only 2x2 different input pixels, so
//! the pair equals a transposed convolution with kernel 4, stride 2 and padding 1 whose kernel `v`
//! holds sums of `w`: along each axis v = (w2, w1 + w2, w0 + w1, w0). That needs 16 products where
//! the pair needs 36, and the enlarged map never exists.

use rayon::prelude::*;

use super::{ConvOptions, Nhwc, conv_transpose2d, conv_transpose2d_backward_data, conv_transpose2d_backward_weight};
use crate::activation::Activation;
use crate::error::{Result, check_len, shape_error};

const TRANSPOSED: ConvOptions = ConvOptions { stride: 2, padding: 1, dilation: 1, groups: 1 };

/// Taps of the 3-kernel that each tap of the 4-kernel sums.
const SUMS: [&[usize]; 4] = [&[2], &[1, 2], &[0, 1], &[0]];

fn check(op: &'static str, x_shape: Nhwc, w: usize, w_shape: [usize; 4]) -> Result<[usize; 4]> {
    let [o, kh, kw, i] = w_shape;
    if kh != 3 || kw != 3 || i != x_shape[3] {
        return shape_error(op, format!("weights {w_shape:?} (OHWI) are not 3x3 over {} channels", x_shape[3]));
    }
    check_len(op, "weights", w, o * 9 * i)?;
    Ok([i, 4, 4, o])
}

/// Calls `f(index in the block of v, index in w)` for every pair of taps that belong together, for
/// the block of `v` that input channel `c` owns.
fn for_taps(c: usize, [i, _, _, o]: [usize; 4], mut f: impl FnMut(usize, usize)) {
    for (u, rows) in SUMS.iter().enumerate() {
        for (v, cols) in SUMS.iter().enumerate() {
            for (r, s) in rows.iter().flat_map(|r| cols.iter().map(move |s| (r, s))) {
                for k in 0..o {
                    f((u * 4 + v) * o + k, ((k * 3 + r) * 3 + s) * i + c);
                }
            }
        }
    }
}

/// The 4x4 transposed kernel (IHWO) that `w` (OHWI, 3x3) stands for.
fn expand(w: &[f32], shape: [usize; 4]) -> Vec<f32> {
    let mut v = vec![0.0; shape.iter().product()];
    v.par_chunks_mut(16 * shape[3]).enumerate().for_each(|(c, block)| {
        for_taps(c, shape, |to, from| block[to] += w[from]);
    });
    v
}

/// Forward: writes `y` of shape `[n, 2h, 2w, o]`.
///
/// # Errors
/// When shapes or lengths do not fit together.
pub fn upsample_conv2d(
    x: &[f32],
    x_shape: Nhwc,
    w: &[f32],
    w_shape: [usize; 4],
    bias: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) -> Result<Nhwc> {
    let shape = check("upsample_conv2d", x_shape, w.len(), w_shape)?;
    conv_transpose2d(x, x_shape, &expand(w, shape), shape, bias, TRANSPOSED, activation, y)
}

/// Gradient with respect to the input: writes `dx`.
///
/// # Errors
/// When shapes or lengths do not fit together.
pub fn upsample_conv2d_backward_data(
    grad: &[f32],
    x_shape: Nhwc,
    w: &[f32],
    w_shape: [usize; 4],
    dx: &mut [f32],
) -> Result<()> {
    let shape = check("upsample_conv2d_backward_data", x_shape, w.len(), w_shape)?;
    conv_transpose2d_backward_data(grad, x_shape, &expand(w, shape), shape, TRANSPOSED, dx)
}

/// Gradient with respect to the weights: adds to `dw` (OHWI, 3x3).
///
/// # Errors
/// When shapes or lengths do not fit together.
pub fn upsample_conv2d_backward_weight(
    x: &[f32],
    x_shape: Nhwc,
    grad: &[f32],
    w_shape: [usize; 4],
    dw: &mut [f32],
) -> Result<()> {
    let shape = check("upsample_conv2d_backward_weight", x_shape, dw.len(), w_shape)?;
    let mut dv = vec![0.0; shape.iter().product()];
    conv_transpose2d_backward_weight(x, x_shape, grad, shape, TRANSPOSED, &mut dv)?;
    for (c, block) in dv.chunks_exact(16 * shape[3]).enumerate() {
        for_taps(c, shape, |from, to| dw[to] += block[from]);
    }
    Ok(())
}
