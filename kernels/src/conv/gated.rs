//! Gated convolution (free-form inpainting, Yu et al. 2019, equation 2), also on masked input.
//!
//! `y = act(conv(x, w_f) + b_f) * sigmoid(conv(x, w_g) + b_g)`, act = ELU or another. The weights are
//! one tensor, features first, gates after, so that both are one matrix product, and the gate is applied
//! to the sums before they are written: 4 bytes written per feature, where two convolutions, two
//! activations and a product write 20 and read 16. With a mask the input is `[rgb * (1 - mask), 1, mask]`,
//! made while it is read. After nearest x2 up-sampling the enlarged map is never made (see
//! [`super::upsample_conv2d`]).

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use super::conv2d::{forward_pass, forward_phase, scatter_pass, scatter_phases};
use super::dense::{self, Epilogue};
use super::masked::MASKED_CHANNELS;
use super::micro::{HALF, NR};
use super::packed::Phase;
use super::pass::{Operands, PassSizes};
use super::{ConvOptions, Geometry, conv_transpose2d, implicit_gemm, upsampled};
use crate::activation::{Activation, Kind, activate, activation_slope, sigmoid, sigmoid_slope, wide};
use crate::device::{Buffer, GpuBuffer, Rounding, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::shape::Nhwc;
use crate::simd::{Wide, by_registers, lanes_fn};

const OP: &str = "gated convolution";

/// A gated convolution with weights as its device wants them.
pub struct PreparedGated {
    weights: Weights,
    /// OHWI; both halves.
    shape: [usize; 4],
    bias: Buffer,
    opts: ConvOptions,
    features: Activation,
    upsampled: bool,
}

enum Weights {
    /// In blocks of half features, half gates, and the bias likewise.
    Packed(Vec<Phase>, Vec<f32>),
    Gpu(GpuBuffer),
}

/// Output channels in the order of the host's blocks: half features, half gates, zeros where there are
/// no more of them.
fn interleaved(values: &[f32], channels: usize) -> Vec<f32> {
    let len = values.len() / (2 * channels).max(1);
    let mut out = vec![0.0; channels.div_ceil(HALF) * NR * len];
    for (channel, row) in values.chunks_exact(len.max(1)).enumerate() {
        let (half, feature) = (channel / channels, channel % channels);
        let lane = feature / HALF * NR + half * HALF + feature % HALF;
        out[lane * len..(lane + 1) * len].copy_from_slice(row);
    }
    out
}

impl PreparedGated {
    /// Weights `[2 o, kh, kw, i]` (OHWI), biases `[2 o]`, features before gates; `features` is what the
    /// features go through. `i` is 5 for a masked input.
    ///
    /// # Errors
    /// When lengths and options do not fit together.
    pub fn new(
        weight: Buffer,
        shape: [usize; 4],
        bias: Buffer,
        opts: ConvOptions,
        features: Activation,
    ) -> Result<Self> {
        check(shape, opts)?;
        check_len(OP, "weights", weight.len(), shape.iter().product())?;
        check_len(OP, "bias", bias.len(), shape[0])?;
        let weights = match weight {
            Buffer::Gpu(w) => Weights::Gpu(w),
            Buffer::Host(w) => {
                let w = interleaved(&w, shape[0] / 2);
                let g = blocked(shape, opts, [1, reach(shape[1], opts), reach(shape[2], opts), shape[3]])?;
                Weights::Packed(vec![forward_phase(&g, &w, 0).kept()], interleaved(bias.view().host(), shape[0] / 2))
            }
        };
        Ok(Self { weights, shape, bias, opts, features, upsampled: false })
    }

    /// After nearest x2 up-sampling: weights `[2 o, 3, 3, i]`.
    ///
    /// # Errors
    /// When lengths do not fit together.
    pub fn upsampled(weight: Buffer, shape: [usize; 4], bias: Buffer, features: Activation) -> Result<Self> {
        let opts = upsampled::TRANSPOSED;
        check(shape, opts)?;
        check_len(OP, "bias", bias.len(), shape[0])?;
        let weights = match weight {
            Buffer::Gpu(w) => {
                match upsampled::expand(View::Gpu(&w), upsampled::check(OP, shape[3], w.len(), shape)?)? {
                    Buffer::Gpu(w) => Weights::Gpu(w),
                    Buffer::Host(_) => unreachable!("weights stay where they are"),
                }
            }
            Buffer::Host(w) => {
                let w = interleaved(&w, shape[0] / 2);
                let lanes = [lanes(shape), 3, 3, shape[3]];
                let wide = upsampled::check(OP, shape[3], w.len(), lanes)?;
                let expanded = upsampled::expand(View::Host(&w), wide)?;
                let g = Geometry::new(OP, [1, 2, 2, lanes[0]], wide, opts)?;
                let phases = scatter_phases(&g, 0, expanded.view().host()).into_vec();
                Weights::Packed(phases, interleaved(bias.view().host(), shape[0] / 2))
            }
        };
        Ok(Self { weights, shape, bias, opts, features, upsampled: true })
    }

    /// With the operands of its products rounded, on the CPU; a GPU's handle says what it rounds.
    ///
    /// # Errors
    /// When so many terms overflow the integers that sum them.
    pub fn rounded(self, rounding: Rounding) -> Result<Self> {
        let weights = match self.weights {
            Weights::Packed(phases, bias) => {
                let rounded = phases.into_iter().map(|phase| phase.rounded(self.shape[3], rounding));
                Weights::Packed(rounded.collect::<Result<_>>()?, bias)
            }
            other => other,
        };
        Ok(Self { weights, ..self })
    }

    /// The shape of the output for an input of shape `x`; a masked input counts five channels.
    ///
    /// # Errors
    /// When the input does not fit.
    pub fn output(&self, x: Nhwc) -> Result<Nhwc> {
        if self.upsampled {
            return Ok([x[0], 2 * x[1], 2 * x[2], self.shape[0] / 2]);
        }
        let [n, h, w, both] = Geometry::new(OP, x, self.shape, self.opts)?.y;
        Ok([n, h, w, both / 2])
    }

    /// Writes `y` of shape `[n, oh, ow, o]` and returns that shape. With `mask` (`[n, h, w]`), `x` has
    /// three channels; not after up-sampling.
    ///
    /// # Errors
    /// When shapes, lengths or devices do not fit together.
    pub fn run<'a>(
        &self,
        x: impl Into<View<'a>>,
        x_shape: Nhwc,
        mask: Option<View<'a>>,
        y: impl Into<ViewMut<'a>>,
    ) -> Result<Nhwc> {
        let (x, y) = (x.into(), y.into());
        let seen = self.seen(x_shape, mask)?;
        let shape = self.output(seen)?;
        check_len(OP, "input", x.len(), x_shape.iter().product())?;
        check_len(OP, "output", y.len(), shape.iter().product())?;
        place(OP, &[&x, &mask.unwrap_or(x), &self.bias.view(), &y])?;
        match &self.weights {
            Weights::Packed(phases, bias) => {
                let epilogue = Epilogue { gated: true, ..Epilogue::new(Some(bias), self.features) };
                self.on_host(seen, (x.host(), mask.map(View::host)), phases, epilogue, y.host())?;
            }
            Weights::Gpu(w) if self.upsampled => {
                let mut halves = w.gpu().alloc(2 * y.len())?;
                let wide = [self.shape[3], 4, 4, self.shape[0]];
                let bias = Some(self.bias.view());
                conv_transpose2d(x, x_shape, w, wide, bias, self.opts, Activation::Identity, &mut halves)?;
                gate(&halves, self.shape[0] / 2, self.features, y)?;
            }
            Weights::Gpu(w) => {
                let g = Geometry::new(OP, seen, self.shape, self.opts)?;
                let operands = Operands::new(x.device(), w, Some(self.bias.view().device()), y.device());
                let sizes = PassSizes::gated(&g, mask.is_some());
                implicit_gemm::run_gated(w.gpu(), &sizes, mask.map(View::device), self.features, &operands)?;
            }
        }
        Ok(shape)
    }

    /// The shape of the input as the weights see it.
    fn seen(&self, x: Nhwc, mask: Option<View>) -> Result<Nhwc> {
        let [n, h, w, c] = x;
        let Some(mask) = mask else {
            check_len(OP, "input channels", c, self.shape[3])?;
            return Ok(x);
        };
        check_len(OP, "mask", mask.len(), n * h * w)?;
        if c != 3 || self.shape[3] != MASKED_CHANNELS || self.upsampled {
            return shape_error(
                OP,
                format!("a masked input has three channels, its weights five; not {c} and {}", self.shape[3]),
            );
        }
        Ok([n, h, w, MASKED_CHANNELS])
    }

    fn on_host(
        &self,
        seen: Nhwc,
        (x, mask): (&[f32], Option<&[f32]>),
        phases: &[Phase],
        epilogue: Epilogue,
        y: &mut [f32],
    ) -> Result<()> {
        let lanes = lanes(self.shape);
        let mut pass = if self.upsampled {
            let g = Geometry::new(OP, [seen[0], 2 * seen[1], 2 * seen[2], lanes], [seen[3], 4, 4, lanes], self.opts)?;
            scatter_pass(&g, 0, x, phases, epilogue)
        } else {
            forward_pass(&blocked(self.shape, self.opts, seen)?, 0, x, phases, epilogue)
        };
        pass.mask = mask;
        pass.y_shape[3] = self.shape[0] / 2;
        dense::run(&pass, y);
        Ok(())
    }
}

/// Lanes of all blocks of weights of this shape.
fn lanes(shape: [usize; 4]) -> usize {
    (shape[0] / 2).div_ceil(HALF) * NR
}

/// Pixels that a kernel covers.
fn reach(k: usize, opts: ConvOptions) -> usize {
    opts.dilation * k.saturating_sub(1) + 1
}

/// The convolution into all lanes.
fn blocked(shape: [usize; 4], opts: ConvOptions, x: Nhwc) -> Result<Geometry> {
    Geometry::new(OP, x, [lanes(shape), shape[1], shape[2], shape[3]], opts)
}

fn check(shape: [usize; 4], opts: ConvOptions) -> Result<()> {
    if !shape[0].is_multiple_of(2) || shape[0] == 0 || opts.groups != 1 {
        return shape_error(OP, format!("weights {shape:?}: as many gates as features, one group"));
    }
    Ok(())
}

/// `y = act(f) * sigmoid(g)` from `halves` (`[pixel][2 o]`, before their activations).
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn gate<'a>(
    halves: impl Into<View<'a>>,
    channels: usize,
    features: Activation,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "gate";
    check_len(OP, "halves", halves.len(), 2 * y.len())?;
    check_len(OP, "channels", y.len() % channels.max(1), 0)?;
    match place(OP, &[&halves, &y])? {
        None => {
            let parts = y.host().par_chunks_mut(64 * channels).zip(halves.host().par_chunks(128 * channels));
            parts.for_each(|(y, halves)| gate_part(halves, channels, features, y));
        }
        Some(gpu) => {
            let n = y.len();
            let ((kind, parameter), halves, y) = (features.kind(), halves.device(), y.device());
            launch!(gpu, gate_kernel, units(n), halves.arg(), y.arg(), n, channels, parameter, kind);
        }
    }
    Ok(())
}

lanes_fn! {
    fn gate_part<L>(halves: &[f32], channels: usize, features: Activation, y: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (y, halves) in y.chunks_exact_mut(channels).zip(halves.chunks_exact(2 * channels)) {
            let (f, g) = halves.split_at(channels);
            by_registers!(L, channels, |part| {
                let (f, g) = (Wide(zero.read(&f[part.clone()])), Wide(zero.read(&g[part.clone()])));
                (features.wide(f) * wide::sigmoid(g)).0.write(&mut y[part]);
            });
        }
    }
}

#[cube(launch_unchecked)]
fn gate_kernel(
    halves: &Array<f32>,
    y: &mut Array<f32>,
    n: usize,
    channels: usize,
    parameter: f32,
    #[comptime] kind: Kind,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let from = at / channels * 2 * channels + at % channels;
        y[at] = activate(halves[from], parameter, kind) * sigmoid(halves[from + channels]);
    }
}

/// Gradient of [`gate()`]: writes that of both halves to `d_halves`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn gate_backward<'a>(
    halves: impl Into<View<'a>>,
    channels: usize,
    features: Activation,
    grad: impl Into<View<'a>>,
    d_halves: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "gate_backward";
    check_len(OP, "halves", halves.len(), 2 * grad.len())?;
    check_len(OP, "gradient", d_halves.len(), halves.len())?;
    check_len(OP, "channels", grad.len() % channels.max(1), 0)?;
    match place(OP, &[&halves, &grad, &d_halves])? {
        None => {
            let (halves, grad) = (halves.host(), grad.host());
            let parts = d_halves.host().par_chunks_mut(128 * channels).zip(halves.par_chunks(128 * channels));
            parts.zip(grad.par_chunks(64 * channels)).for_each(|((d, halves), grad)| {
                gate_backward_part(halves, grad, channels, features, d);
            });
        }
        Some(gpu) => {
            let n = grad.len();
            let (kind, parameter) = features.kind();
            let (halves, grad, d) = (halves.device(), grad.device(), d_halves.device());
            let shape = units(n);
            launch!(gpu, gate_backward_kernel, shape, halves.arg(), grad.arg(), d.arg(), n, channels, parameter, kind);
        }
    }
    Ok(())
}

lanes_fn! {
    fn gate_backward_part<L>(halves: &[f32], grad: &[f32], channels: usize, features: Activation, d: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        let pixels = d.chunks_exact_mut(2 * channels).zip(halves.chunks_exact(2 * channels));
        for ((d, halves), grad) in pixels.zip(grad.chunks_exact(channels)) {
            let ((df, dg), (f, g)) = (d.split_at_mut(channels), halves.split_at(channels));
            by_registers!(L, channels, |part| {
                let (f, g) = (Wide(zero.read(&f[part.clone()])), Wide(zero.read(&g[part.clone()])));
                let (grad, feature, gate) = (Wide(zero.read(&grad[part.clone()])), features.wide(f), wide::sigmoid(g));
                (grad * gate * features.wide_slope(feature)).0.write(&mut df[part.clone()]);
                (grad * feature * wide::sigmoid_slope(gate)).0.write(&mut dg[part]);
            });
        }
    }
}

#[cube(launch_unchecked)]
fn gate_backward_kernel(
    halves: &Array<f32>,
    grad: &Array<f32>,
    d_halves: &mut Array<f32>,
    n: usize,
    channels: usize,
    parameter: f32,
    #[comptime] kind: Kind,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let from = at / channels * 2 * channels + at % channels;
        let feature = activate(halves[from], parameter, kind);
        let gate = sigmoid(halves[from + channels]);
        d_halves[from] = grad[at] * gate * activation_slope(feature, parameter, kind);
        d_halves[from + channels] = grad[at] * feature * sigmoid_slope(gate);
    }
}
