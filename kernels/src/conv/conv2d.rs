//! conv2d: cross-correlation with zero padding, bias and activation fused.
//!
//! `y[n, j, i, o] = act(b[o] + sum over r, s, c of x[n, j*stride + r*dilation - p, i*stride + s*dilation - p, c] * w[o, r, s, c])`
//!
//! Layout: maps NHWC, weights OHWI. Source: PyTorch `conv2d`, which the golden vectors follow.

use rayon::prelude::*;

use super::dense::{self, Pass, Phase, pack};
use super::{ConvOptions, Geometry, Nhwc, depthwise, weight_grad};
use crate::activation::Activation;
use crate::error::{Result, check_len};

/// Forward: writes `y` of shape `[n, oh, ow, o]` and returns that shape.
///
/// # Errors
/// When shapes, options or lengths do not fit together.
#[allow(clippy::too_many_arguments)] // a convolution has this many operands
pub fn conv2d(
    x: &[f32],
    x_shape: Nhwc,
    w: &[f32],
    w_shape: [usize; 4],
    bias: Option<&[f32]>,
    opts: ConvOptions,
    activation: Activation,
    y: &mut [f32],
) -> Result<Nhwc> {
    const OP: &str = "conv2d";
    let g = Geometry::new(OP, x_shape, w_shape, opts)?;
    g.check_x(OP, x)?;
    g.check_w(OP, w)?;
    g.check_y(OP, y)?;
    if let Some(b) = bias {
        check_len(OP, "bias", b.len(), g.y[3])?;
    }
    if g.is_depthwise() {
        depthwise::forward(&g, x, w, bias, activation, y);
        return Ok(g.y);
    }
    let [_, kh, kw, cin] = g.w;
    let cout = g.y[3] / opts.groups;
    let offsets = |k: usize| (0..k).map(|t| (t * opts.dilation) as isize - opts.padding as isize).collect::<Vec<_>>();
    for group in 0..opts.groups {
        let o0 = group * cout;
        let phase = Phase {
            rows: offsets(kh),
            cols: offsets(kw),
            start: (0, 0),
            packed: pack(kh * kw, cin, cout, |o, tap, c| w[((o0 + o) * kh * kw + tap) * cin + c]),
        };
        let pass = Pass {
            x,
            x_shape,
            x_channels: (group * cin, cin),
            y_shape: g.y,
            y_channels: (o0, cout),
            in_step: opts.stride,
            out_step: 1,
            phases: &[phase],
            bias: bias.map(|b| &b[o0..o0 + cout]),
            activation,
        };
        dense::run(&pass, y);
    }
    Ok(g.y)
}

/// Gradient with respect to the input: writes `dx` of shape `x_shape` from `grad`, the gradient of
/// the output before the activation.
///
/// # Errors
/// When shapes, options or lengths do not fit together.
pub fn conv2d_backward_data(
    grad: &[f32],
    x_shape: Nhwc,
    w: &[f32],
    w_shape: [usize; 4],
    opts: ConvOptions,
    dx: &mut [f32],
) -> Result<()> {
    const OP: &str = "conv2d_backward_data";
    let g = Geometry::new(OP, x_shape, w_shape, opts)?;
    g.check_y(OP, grad)?;
    g.check_w(OP, w)?;
    g.check_x(OP, dx)?;
    if g.is_depthwise() {
        depthwise::backward_data(&g, grad, w, dx);
        return Ok(());
    }
    for group in 0..opts.groups {
        scatter(&g, group, grad, w, None, Activation::Identity, dx);
    }
    Ok(())
}

/// The adjoint of a convolution, one dense pass per residue of the output position modulo the
/// stride. Also the forward pass of a transposed convolution.
pub(super) fn scatter(
    g: &Geometry,
    group: usize,
    grad: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    dx: &mut [f32],
) {
    let [_, kh, kw, cin] = g.w;
    let stride = g.opts.stride;
    let cout = g.y[3] / g.opts.groups;
    let phases: Vec<Phase> = (0..stride * stride)
        .map(|p| {
            let (py, px) = (p / stride, p % stride);
            let (row_taps, rows) = phase_taps(py, kh, g.opts);
            let (col_taps, cols) = phase_taps(px, kw, g.opts);
            let packed = pack(rows.len() * cols.len(), cout, cin, |c, tap, o| {
                let (r, s) = (row_taps[tap / cols.len()], col_taps[tap % cols.len()]);
                w[(((group * cout + o) * kh + r) * kw + s) * cin + c]
            });
            Phase { rows, cols, start: (py, px), packed }
        })
        .collect();
    let pass = Pass {
        x: grad,
        x_shape: g.y,
        x_channels: (group * cout, cout),
        y_shape: g.x,
        y_channels: (group * cin, cin),
        in_step: 1,
        out_step: stride,
        phases: &phases,
        bias,
        activation,
    };
    dense::run(&pass, dx);
}

/// Taps that reach input positions `stride * j + phase`, and the output position, relative to `j`,
/// that each reads; ascending in that offset.
fn phase_taps(phase: usize, k: usize, opts: ConvOptions) -> (Vec<usize>, Vec<isize>) {
    let stride = opts.stride as isize;
    (0..k)
        .rev()
        .map(|t| (t, (phase + opts.padding) as isize - (t * opts.dilation) as isize))
        .filter(|(_, position)| position.rem_euclid(stride) == 0)
        .map(|(t, position)| (t, position.div_euclid(stride)))
        .unzip()
}

/// Gradient with respect to the weights: adds to `dw` (OHWI).
///
/// # Errors
/// When shapes, options or lengths do not fit together.
pub fn conv2d_backward_weight(
    x: &[f32],
    x_shape: Nhwc,
    grad: &[f32],
    w_shape: [usize; 4],
    opts: ConvOptions,
    dw: &mut [f32],
) -> Result<()> {
    const OP: &str = "conv2d_backward_weight";
    let g = Geometry::new(OP, x_shape, w_shape, opts)?;
    g.check_x(OP, x)?;
    g.check_y(OP, grad)?;
    g.check_w(OP, dw)?;
    if g.is_depthwise() {
        depthwise::backward_weight(&g, x, grad, dw);
        return Ok(());
    }
    for group in 0..opts.groups {
        weight_grad::run(&g, group, x, grad, dw);
    }
    Ok(())
}

/// Gradient with respect to the bias: adds the sum of `grad` over images and pixels to `db`,
/// image by image in a fixed order.
///
/// # Errors
/// When `grad` is not a whole number of images of `shape`.
pub fn conv2d_backward_bias(grad: &[f32], shape: Nhwc, db: &mut [f32]) -> Result<()> {
    const OP: &str = "conv2d_backward_bias";
    let [n, h, w, c] = shape;
    check_len(OP, "gradient", grad.len(), n * h * w * c)?;
    check_len(OP, "bias gradient", db.len(), c)?;
    let sums: Vec<Vec<f32>> = grad
        .par_chunks((w * c).max(1))
        .map(|row| {
            let mut sum = vec![0.0; c];
            for pixel in row.chunks_exact(c) {
                for (s, v) in sum.iter_mut().zip(pixel) {
                    *s += v;
                }
            }
            sum
        })
        .collect();
    for sum in sums {
        for (d, s) in db.iter_mut().zip(sum) {
            *d += s;
        }
    }
    Ok(())
}
