//! Gated convolution (free-form inpainting, Yu et al. 2019, equation 2), also on masked input.
//!
//! `y = ELU(conv(x, w_f) + b_f) * sigmoid(conv(x, w_g) + b_g)`. The weights are one tensor, features
//! first, gates after, so that both are one matrix product; on a GPU the gate is applied before the tile
//! is written. With a mask the input is `[rgb * (1 - mask), 1, mask]`, made while it is read.

use cubecl::prelude::*;
use rayon::prelude::*;

use super::implicit_gemm;
use super::pass::{Operands, Sizes};
use super::{ConvOptions, Geometry, Nhwc, conv2d};
use crate::activation::{Activation, elu, elu_slope, sigmoid, sigmoid_slope};
use crate::device::{Buffer, View, ViewMut, launch, mixed, place, units};
use crate::error::{Result, check_len, shape_error};

/// Channels of a masked input: three colours, ones, the mask.
pub const MASKED_CHANNELS: usize = 5;

/// Features times gate from both halves before their activations.
#[cube]
#[inline(always)]
pub fn gated(feature: f32, gate: f32) -> f32 {
    elu(feature, 1.0) * sigmoid(gate)
}

/// Forward, for inference: writes `y` of shape `[n, oh, ow, o]` for weights `[2 o, kh, kw, i]` and biases
/// `[2 o]`, and returns that shape. With `mask` (`[n, h, w]`), `x` has three channels and `i` is 5.
///
/// # Errors
/// When shapes, options, lengths or devices do not fit together.
#[allow(clippy::too_many_arguments)] // a convolution has this many operands
pub fn gated_conv2d<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    mask: Option<View<'a>>,
    w: impl Into<View<'a>>,
    w_shape: [usize; 4],
    bias: impl Into<View<'a>>,
    opts: ConvOptions,
    y: impl Into<ViewMut<'a>>,
) -> Result<Nhwc> {
    const OP: &str = "gated_conv2d";
    let (x, w, bias, y) = (x.into(), w.into(), bias.into(), y.into());
    let g = geometry(OP, x_shape, mask, w_shape, opts)?;
    let [n, oh, ow, both] = g.y;
    check_len(OP, "input", x.len(), x_shape.iter().product())?;
    g.check_w(OP, w.len())?;
    check_len(OP, "bias", bias.len(), both)?;
    check_len(OP, "output", y.len(), n * oh * ow * both / 2)?;
    match place(OP, &[&x, &mask.unwrap_or(x), &w, &bias, &y])? {
        Some(gpu) => {
            let operands = Operands::new(x.device(), w.device(), Some(bias.device()), y.device());
            implicit_gemm::run_gated(&gpu, &Sizes::gated(&g, mask.is_some()), mask.map(View::device), &operands);
        }
        None => {
            let masked = mask.map(|m| masked_input(x, m)).transpose()?;
            let x = masked.as_ref().map_or(x, Buffer::view);
            let mut halves = vec![0.0; n * oh * ow * both];
            conv2d(x, g.x, w, w_shape, Some(bias), opts, Activation::Identity, &mut halves)?;
            gate(&halves, both / 2, y)?;
        }
    }
    Ok([n, oh, ow, both / 2])
}

/// The convolution over the input as the weights see it.
fn geometry(op: &'static str, x: Nhwc, mask: Option<View>, w: [usize; 4], opts: ConvOptions) -> Result<Geometry> {
    let [n, h, wd, c] = x;
    let Some(mask) = mask else { return checked(op, x, w, opts) };
    check_len(op, "mask", mask.len(), n * h * wd)?;
    if c != 3 {
        return shape_error(op, format!("a masked input has three channels, not {c}"));
    }
    checked(op, [n, h, wd, MASKED_CHANNELS], w, opts)
}

fn checked(op: &'static str, x: Nhwc, w: [usize; 4], opts: ConvOptions) -> Result<Geometry> {
    if !w[0].is_multiple_of(2) || opts.groups != 1 {
        return shape_error(op, format!("weights {w:?}: as many gates as features, one group"));
    }
    Geometry::new(op, x, w, opts)
}

/// `y = ELU(f) * sigmoid(g)` from `halves` (`[pixel][2 o]`, before their activations).
///
/// # Errors
/// When lengths or devices do not fit.
pub fn gate<'a>(halves: impl Into<View<'a>>, channels: usize, y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "gate";
    let (halves, y) = (halves.into(), y.into());
    check_len(OP, "halves", halves.len(), 2 * y.len())?;
    check_len(OP, "channels", y.len() % channels.max(1), 0)?;
    match place(OP, &[&halves, &y])? {
        None => {
            let pixels = y.host().par_chunks_mut(channels).zip(halves.host().par_chunks(2 * channels));
            pixels.with_min_len(64).for_each(|(y, halves)| {
                let (features, gates) = halves.split_at(channels);
                for ((y, f), g) in y.iter_mut().zip(features).zip(gates) {
                    *y = gated(*f, *g);
                }
            });
        }
        Some(gpu) => {
            let n = y.len();
            launch!(gpu, gate_kernel, units(n), halves.device().arg(), y.device().arg(), n, channels);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn gate_kernel(halves: &Array<f32>, y: &mut Array<f32>, n: usize, channels: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let from = at / channels * 2 * channels + at % channels;
        y[at] = gated(halves[from], halves[from + channels]);
    }
}

/// Gradient of [`gate()`]: writes that of both halves to `d_halves`.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn gate_backward<'a>(
    halves: impl Into<View<'a>>,
    channels: usize,
    grad: impl Into<View<'a>>,
    d_halves: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "gate_backward";
    let (halves, grad, d_halves) = (halves.into(), grad.into(), d_halves.into());
    check_len(OP, "halves", halves.len(), 2 * grad.len())?;
    check_len(OP, "gradient", d_halves.len(), halves.len())?;
    check_len(OP, "channels", grad.len() % channels.max(1), 0)?;
    match place(OP, &[&halves, &grad, &d_halves])? {
        None => {
            let (halves, grad) = (halves.host(), grad.host());
            let pixels = d_halves.host().par_chunks_mut(2 * channels).zip(halves.par_chunks(2 * channels));
            pixels.zip(grad.par_chunks(channels)).with_min_len(64).for_each(|((d, halves), grad)| {
                for (k, g) in grad.iter().enumerate() {
                    let (feature, gate) = (elu(halves[k], 1.0), sigmoid(halves[channels + k]));
                    d[k] = g * gate * elu_slope(feature, 1.0);
                    d[channels + k] = g * feature * sigmoid_slope(gate);
                }
            });
        }
        Some(gpu) => {
            let n = grad.len();
            launch!(
                gpu,
                gate_backward_kernel,
                units(n),
                halves.device().arg(),
                grad.device().arg(),
                d_halves.device().arg(),
                n,
                channels
            );
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn gate_backward_kernel(halves: &Array<f32>, grad: &Array<f32>, d_halves: &mut Array<f32>, n: usize, channels: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let from = at / channels * 2 * channels + at % channels;
        let feature = elu(halves[from], f32::new(1.0));
        let gate = sigmoid(halves[from + channels]);
        d_halves[from] = grad[at] * gate * elu_slope(feature, f32::new(1.0));
        d_halves[from + channels] = grad[at] * feature * sigmoid_slope(gate);
    }
}

/// Channel `channel` of a masked input.
#[cube]
#[inline(always)]
pub fn masked(colour: f32, mask: f32, channel: usize) -> f32 {
    select(channel < 3, colour * (1.0 - mask), select(channel == 3, f32::new(1.0), mask))
}

/// `[rgb * (1 - mask), 1, mask]` for every pixel, as backward passes need it.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn masked_input<'a>(rgb: impl Into<View<'a>>, mask: impl Into<View<'a>>) -> Result<Buffer> {
    const OP: &str = "masked_input";
    let (rgb, mask) = (rgb.into(), mask.into());
    check_len(OP, "colours", rgb.len(), 3 * mask.len())?;
    match (rgb, mask) {
        (View::Host(rgb), View::Host(mask)) => {
            let mut out = vec![0.0; MASKED_CHANNELS * mask.len()];
            for (at, v) in out.iter_mut().enumerate() {
                let (pixel, channel) = (at / MASKED_CHANNELS, at % MASKED_CHANNELS);
                *v = masked(rgb[3 * pixel + channel.min(2)], mask[pixel], channel);
            }
            Ok(Buffer::Host(out.into()))
        }
        (View::Gpu(rgb), View::Gpu(mask)) if rgb.gpu().is(mask.gpu()) => {
            let n = MASKED_CHANNELS * mask.len();
            let out = rgb.gpu().alloc(n)?;
            launch!(rgb.gpu(), masked_kernel, units(n), rgb.arg(), mask.arg(), out.arg(), n);
            Ok(Buffer::Gpu(out))
        }
        _ => mixed(OP),
    }
}

#[cube(launch_unchecked)]
fn masked_kernel(rgb: &Array<f32>, mask: &Array<f32>, out: &mut Array<f32>, n: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let (pixel, channel) = (at / 5, at % 5);
        out[at] = masked(rgb[3 * pixel + usize::min(channel, 2)], mask[pixel], channel);
    }
}

/// Gradient of the colours from that of a masked input (`[pixel][5]`).
///
/// # Errors
/// When lengths or devices do not fit.
pub fn masked_input_backward<'a>(
    grad: impl Into<View<'a>>,
    mask: impl Into<View<'a>>,
    d_rgb: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "masked_input_backward";
    let (grad, mask, d_rgb) = (grad.into(), mask.into(), d_rgb.into());
    check_len(OP, "gradient", grad.len(), MASKED_CHANNELS * mask.len())?;
    check_len(OP, "colour gradient", d_rgb.len(), 3 * mask.len())?;
    match place(OP, &[&grad, &mask, &d_rgb])? {
        None => {
            let (grad, mask) = (grad.host(), mask.host());
            for (at, d) in d_rgb.host().iter_mut().enumerate() {
                *d = grad[at / 3 * MASKED_CHANNELS + at % 3] * (1.0 - mask[at / 3]);
            }
        }
        Some(gpu) => {
            let n = d_rgb.len();
            launch!(
                gpu,
                masked_backward_kernel,
                units(n),
                grad.device().arg(),
                mask.device().arg(),
                d_rgb.device().arg(),
                n
            );
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn masked_backward_kernel(grad: &Array<f32>, mask: &Array<f32>, d_rgb: &mut Array<f32>, n: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        d_rgb[at] = grad[at / 3 * 5 + at % 3] * (1.0 - mask[at / 3]);
    }
}

/// The four checkerboard masks of an image of `h` x `w` (I3AD, section 3.3): cells of `cell` pixels;
/// pixel (i, j) in cell (r, c) is 1 in mask `(r mod 2) * 2 + c mod 2` and 0 in the others. Writes
/// `[4][h][w]`.
///
/// # Errors
/// When a size is 0 or the length does not fit.
pub fn checkerboard_masks<'a>(h: usize, w: usize, cell: usize, masks: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "checkerboard_masks";
    let masks = masks.into();
    if h * w * cell == 0 {
        return shape_error(OP, format!("{h}x{w} in cells of {cell}"));
    }
    check_len(OP, "masks", masks.len(), 4 * h * w)?;
    match masks {
        ViewMut::Host(masks) => {
            for (at, m) in masks.iter_mut().enumerate() {
                let (mask, i, j) = (at / (h * w), at / w % h, at % w);
                *m = f32::from(u8::from(mask == i / cell % 2 * 2 + j / cell % 2));
            }
        }
        ViewMut::Gpu(masks) => {
            let n = masks.len();
            launch!(masks.gpu(), checkerboard_kernel, units(n), masks.arg(), n, h, w, cell);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn checkerboard_kernel(masks: &mut Array<f32>, n: usize, h: usize, w: usize, cell: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let (mask, i, j) = (at / (h * w), at / w % h, at % w);
        let own = i / cell % 2 * 2 + j / cell % 2;
        masks[at] = select(mask == own, f32::new(1.0), f32::new(0.0));
    }
}
