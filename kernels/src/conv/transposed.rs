//! Transposed convolution: the adjoint of [`super::conv2d`] with the same weights.
//!
//! Output size `(h - 1) * stride - 2 * padding + k`, with the same padding on every side. Weights are laid out `[in, kh, kw, out]`: the
//! OHWI weights of the convolution that this one transposes.

use super::dense::Epilogue;
use super::pass::{Direction, Operands};
use super::{ConvOptions, Geometry, Padding, conv2d, conv2d_backward_weight};
use crate::activation::Activation;
use crate::device::{View, ViewMut, place};
use crate::error::{Result, check_len, shape_error};
use crate::shape::Nhwc;

/// Shape of the output.
///
/// # Errors
/// When nothing is left, or the channels do not fit.
pub fn conv_transpose2d_shape(x: Nhwc, w: [usize; 4], opts: ConvOptions) -> Result<Nhwc> {
    output_shape("conv_transpose2d", x, w, opts)
}

fn output_shape(op: &'static str, x: Nhwc, w: [usize; 4], opts: ConvOptions) -> Result<Nhwc> {
    let Padding::Each(padding) = opts.padding else {
        return shape_error(op, "a transposed convolution needs a padding given in pixels, not SAME");
    };
    let axis =
        |n: usize, k: usize| (n.saturating_sub(1) * opts.stride + opts.dilation * (k - 1) + 1).checked_sub(2 * padding);
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
/// When shapes, options, lengths or devices do not fit together.
#[allow(clippy::too_many_arguments)] // a convolution has this many operands
pub fn conv_transpose2d<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    w: impl Into<View<'a>>,
    w_shape: [usize; 4],
    bias: Option<View<'a>>,
    opts: ConvOptions,
    activation: Activation,
    y: impl Into<ViewMut<'a>>,
) -> Result<Nhwc> {
    const OP: &str = "conv_transpose2d";
    let (x, w, y) = (x.into(), w.into(), y.into());
    let y_shape = output_shape(OP, x_shape, w_shape, opts)?;
    let g = Geometry::new(OP, y_shape, w_shape, opts)?;
    g.check_y(OP, x.len())?;
    g.check_w(OP, w.len())?;
    g.check_x(OP, y.len())?;
    if let Some(b) = bias {
        check_len(OP, "bias", b.len(), y_shape[3])?;
    }
    let gpu = place(OP, &[&x, &w, &bias.unwrap_or(w), &y])?;
    match gpu {
        None => {
            let epilogue = Epilogue::new(bias.map(View::host), activation);
            super::conv2d::scatter(&g, 0, x.host(), w.host(), epilogue, y.host());
        }
        Some(gpu) => {
            let operands = Operands::new(x.device(), w.device(), bias.map(View::device), y.device());
            super::conv2d::on_gpu(&gpu, &g, Direction::Scatter, &operands, activation)?;
        }
    }
    Ok(y_shape)
}

/// Gradient with respect to the input: writes `dx`.
///
/// # Errors
/// When shapes, options, lengths or devices do not fit together.
pub fn conv_transpose2d_backward_data<'a>(
    grad: impl Into<View<'a>>,
    x_shape: Nhwc,
    w: impl Into<View<'a>>,
    w_shape: [usize; 4],
    opts: ConvOptions,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    let y_shape = output_shape("conv_transpose2d_backward_data", x_shape, w_shape, opts)?;
    conv2d(grad, y_shape, w, w_shape, None, opts, Activation::Identity, dx)?;
    Ok(())
}

/// Gradient with respect to the weights: adds to `dw`.
///
/// # Errors
/// When shapes, options, lengths or devices do not fit together.
pub fn conv_transpose2d_backward_weight<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    grad: impl Into<View<'a>>,
    w_shape: [usize; 4],
    opts: ConvOptions,
    dw: impl Into<ViewMut<'a>>,
) -> Result<()> {
    let y_shape = output_shape("conv_transpose2d_backward_weight", x_shape, w_shape, opts)?;
    conv2d_backward_weight(grad, y_shape, x, w_shape, opts, dw)
}
