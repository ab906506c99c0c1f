//! Transposed convolution: the adjoint of [`super::conv2d`] with the same weights.
//!
//! Output size `(h - 1) * stride - 2 * padding + k`. Weights are laid out `[in, kh, kw, out]`: the
//! OHWI weights of the convolution that this one transposes.

use super::{ConvOptions, Geometry, Nhwc, conv2d, conv2d_backward_weight};
use crate::activation::Activation;
use crate::error::{Result, check_len, shape_error};

/// Shape of the output.
///
/// # Errors
/// When nothing is left, or the channels do not fit.
pub fn conv_transpose2d_shape(x: Nhwc, w: [usize; 4], opts: ConvOptions) -> Result<Nhwc> {
    output_shape("conv_transpose2d", x, w, opts)
}

fn output_shape(op: &'static str, x: Nhwc, w: [usize; 4], opts: ConvOptions) -> Result<Nhwc> {
    let axis = |n: usize, k: usize| {
        (n.saturating_sub(1) * opts.stride + opts.dilation * (k - 1) + 1).checked_sub(2 * opts.padding)
    };
    if opts.groups != 1 || w[1] == 0 || w[2] == 0 || x[3] != w[0] {
        return shape_error(op, format!("weights {w:?} (IHWO, one group) do not fit input {x:?}"));
    }
    match (axis(x[1], w[1]), axis(x[2], w[2])) {
        (Some(h), Some(wd)) if h > 0 && wd > 0 => Ok([x[0], h, wd, w[3]]),
        _ => shape_error(op, format!("input {x:?} with kernel {w:?} and {opts:?} leaves no output")),
    }
}

/// Forward: writes `y` and returns its shape.
///
/// # Errors
/// When shapes, options or lengths do not fit together.
#[allow(clippy::too_many_arguments)] // a convolution has this many operands
pub fn conv_transpose2d(
    x: &[f32],
    x_shape: Nhwc,
    w: &[f32],
    w_shape: [usize; 4],
    bias: Option<&[f32]>,
    opts: ConvOptions,
    activation: Activation,
    y: &mut [f32],
) -> Result<Nhwc> {
    const OP: &str = "conv_transpose2d";
    let y_shape = output_shape(OP, x_shape, w_shape, opts)?;
    let g = Geometry::new(OP, y_shape, w_shape, opts)?;
    g.check_y(OP, x)?;
    g.check_w(OP, w)?;
    g.check_x(OP, y)?;
    if let Some(b) = bias {
        check_len(OP, "bias", b.len(), y_shape[3])?;
    }
    super::conv2d::scatter(&g, 0, x, w, bias, activation, y);
    Ok(y_shape)
}

/// Gradient with respect to the input: writes `dx`.
///
/// # Errors
/// When shapes, options or lengths do not fit together.
pub fn conv_transpose2d_backward_data(
    grad: &[f32],
    x_shape: Nhwc,
    w: &[f32],
    w_shape: [usize; 4],
    opts: ConvOptions,
    dx: &mut [f32],
) -> Result<()> {
    let y_shape = output_shape("conv_transpose2d_backward_data", x_shape, w_shape, opts)?;
    conv2d(grad, y_shape, w, w_shape, None, opts, Activation::Identity, dx)?;
    Ok(())
}

/// Gradient with respect to the weights: adds to `dw`.
///
/// # Errors
/// When shapes, options or lengths do not fit together.
pub fn conv_transpose2d_backward_weight(
    x: &[f32],
    x_shape: Nhwc,
    grad: &[f32],
    w_shape: [usize; 4],
    opts: ConvOptions,
    dw: &mut [f32],
) -> Result<()> {
    let y_shape = output_shape("conv_transpose2d_backward_weight", x_shape, w_shape, opts)?;
    conv2d_backward_weight(grad, y_shape, x, w_shape, opts, dw)
}
