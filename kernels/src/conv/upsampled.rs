//! Nearest x2 up-sampling followed by a 3x3 convolution of padding 1, as one operation.
//!
//! `y = conv2d(upsample_nearest(x), w)`. An output pixel sees only 2x2 different input pixels, so
//! the pair equals a transposed convolution with kernel 4, stride 2 and padding 1 whose kernel `v`
//! holds sums of `w`: along each axis v = (w2, w1 + w2, w0 + w1, w0). That needs 16 products where
//! the pair needs 36, and the enlarged map never exists.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use super::{ConvOptions, Padding, conv_transpose2d, conv_transpose2d_backward_data, conv_transpose2d_backward_weight};
use crate::activation::Activation;
use crate::device::{Buffer, View, ViewMut, fill, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::shape::Nhwc;

/// The transposed convolution that the pair equals.
pub(super) const TRANSPOSED: ConvOptions = ConvOptions { stride: 2, padding: Padding::Each(1), dilation: 1, groups: 1 };

/// Taps of the 3-kernel that each tap of the 4-kernel sums.
const SUMS: [&[usize]; 4] = [&[2], &[1, 2], &[0, 1], &[0]];

/// The shape of the transposed kernel (IHWO) for weights of length `w` over so many channels.
pub(super) fn check(op: &'static str, channels: usize, w: usize, w_shape: [usize; 4]) -> Result<[usize; 4]> {
    let [o, kh, kw, i] = w_shape;
    if kh != 3 || kw != 3 || i != channels {
        return shape_error(op, format!("weights {w_shape:?} (OHWI) are not 3x3 over {channels} channels"));
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
pub(super) fn expand(w: View, shape: [usize; 4]) -> Result<Buffer> {
    let len = shape.iter().product();
    match w {
        View::Host(w) => {
            let mut v = vec![0.0; len];
            v.par_chunks_mut(16 * shape[3]).enumerate().for_each(|(c, block)| {
                for_taps(c, shape, |to, from| block[to] += w[from]);
            });
            Ok(Buffer::Host(v.into()))
        }
        View::Gpu(w) => {
            let v = w.gpu().alloc(len)?;
            let [i, _, _, o] = shape;
            launch!(w.gpu(), expand_kernel, units(len), w.arg(), v.arg(), len, i, o);
            Ok(Buffer::Gpu(v))
        }
    }
}

/// One unit for each weight of the 4-kernel: the sum of those it stands for. Along an axis, tap u of
/// four holds the taps from max(2 - u, 0) to min(3 - u, 2) of three.
#[cube(launch_unchecked)]
fn expand_kernel(w: &Array<f32>, v: &mut Array<f32>, len: usize, inputs: usize, outputs: usize) {
    let at = ABSOLUTE_POS;
    if at < len {
        let k = at % outputs;
        let (column, row) = ((at / outputs) % 4, (at / (4 * outputs)) % 4);
        let c = at / (16 * outputs);
        let mut sum = f32::new(0.0);
        for r in usize::max(2, row) - row..usize::min(4 - row, 3) {
            for s in usize::max(2, column) - column..usize::min(4 - column, 3) {
                sum += w[((k * 3 + r) * 3 + s) * inputs + c];
            }
        }
        v[at] = sum;
    }
}

/// One unit for each weight of the 3-kernel: adds the gradients of those of the 4-kernel it is part of,
/// taps 2 - r and 3 - r along an axis.
#[cube(launch_unchecked)]
fn contract_kernel(dv: &Array<f32>, dw: &mut Array<f32>, len: usize, inputs: usize, outputs: usize) {
    let at = ABSOLUTE_POS;
    if at < len {
        let c = at % inputs;
        let (s, r) = ((at / inputs) % 3, (at / (3 * inputs)) % 3);
        let k = at / (9 * inputs);
        let mut sum = f32::new(0.0);
        for row in 2 - r..4 - r {
            for column in 2 - s..4 - s {
                sum += dv[((c * 4 + row) * 4 + column) * outputs + k];
            }
        }
        dw[at] += sum;
    }
}

/// Forward: writes `y` of shape `[n, 2h, 2w, o]`.
///
/// # Errors
/// When shapes, lengths or devices do not fit together.
pub fn upsample_conv2d<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    w: impl Into<View<'a>>,
    w_shape: [usize; 4],
    bias: Option<View<'a>>,
    activation: Activation,
    y: impl Into<ViewMut<'a>>,
) -> Result<Nhwc> {
    let (x, w, y) = (x.into(), w.into(), y.into());
    let shape = check("upsample_conv2d", x_shape[3], w.len(), w_shape)?;
    conv_transpose2d(x, x_shape, &expand(w, shape)?, shape, bias, TRANSPOSED, activation, y)
}

/// Gradient with respect to the input: writes `dx`.
///
/// # Errors
/// When shapes, lengths or devices do not fit together.
pub fn upsample_conv2d_backward_data<'a>(
    grad: impl Into<View<'a>>,
    x_shape: Nhwc,
    w: impl Into<View<'a>>,
    w_shape: [usize; 4],
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    let (grad, w, dx) = (grad.into(), w.into(), dx.into());
    let shape = check("upsample_conv2d_backward_data", x_shape[3], w.len(), w_shape)?;
    conv_transpose2d_backward_data(grad, x_shape, &expand(w, shape)?, shape, TRANSPOSED, dx)
}

/// Gradient with respect to the weights: adds to `dw` (OHWI, 3x3).
///
/// # Errors
/// When shapes, lengths or devices do not fit together.
#[outlined]
pub fn upsample_conv2d_backward_weight<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    grad: impl Into<View<'a>>,
    w_shape: [usize; 4],
    dw: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "upsample_conv2d_backward_weight";
    let shape = check(OP, x_shape[3], dw.len(), w_shape)?;
    let len = shape.iter().product();
    match place(OP, &[&x, &grad, &dw])? {
        None => {
            let (mut dv, dw) = (vec![0.0; len], dw.host());
            conv_transpose2d_backward_weight(x, x_shape, grad, shape, TRANSPOSED, &mut dv)?;
            for (c, block) in dv.chunks_exact(16 * shape[3]).enumerate() {
                for_taps(c, shape, |from, to| dw[to] += block[from]);
            }
        }
        Some(gpu) => {
            let mut dv = gpu.alloc(len)?;
            fill(&mut dv, 0.0);
            conv_transpose2d_backward_weight(x, x_shape, grad, shape, TRANSPOSED, &mut dv)?;
            let (dw, [i, _, _, o]) = (dw.device(), shape);
            let n = dw.len();
            launch!(gpu, contract_kernel, units(n), dv.arg(), dw.arg(), n, i, o);
        }
    }
    Ok(())
}
