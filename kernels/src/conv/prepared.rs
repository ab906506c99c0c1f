//! Convolutions for inference: weights laid out once, and an epilogue that spares the passes after.
//!
//! `y = activation(conv(x) + bias + residual) * (1 + attention)`: the bias holds a folded batch
//! normalisation ([`crate::batch_norm::fold`]), the residual is what a residual block adds, the
//! attention is that of [`crate::attention`] (LEA-Net, equation 3). Laying the weights of ResNet-18 out
//! moves 90 MB, which is as long as a third of its forward pass of one image.

use super::conv2d::{forward_pass, forward_phase, is_narrow, on_gpu, scatter, scatter_pass, scatter_phases};
use super::dense::{self, Epilogue};
use super::packed::Phase;
use super::pass::{Direction, Operands};
use super::{ConvOptions, Geometry, Padding, conv_transpose2d_shape, depthwise, upsampled};
use crate::activation::Activation;
use crate::attention::attend;
use crate::device::{Buffer, GpuBuffer, HostBuffer, Rounding, View, ViewMut, place};
use crate::error::{Result, check_len, shape_error};
use crate::shape::Nhwc;

const OP: &str = "prepared convolution";

/// What follows a convolution in the pass that writes.
#[derive(Clone, Copy, Default)]
pub struct Extra<'a> {
    /// A map of the output's shape, added before the activation.
    pub residual: Option<View<'a>>,
    /// One value for each output pixel; the result is multiplied by 1 + it.
    pub attention: Option<View<'a>>,
}

/// A convolution, or a transposed one, with weights as its device wants them.
pub struct PreparedConv {
    weights: Weights,
    shape: [usize; 4],
    bias: Buffer,
    opts: ConvOptions,
    activation: Activation,
    transposed: bool,
}

enum Weights {
    /// Packed, group by group.
    Packed(Vec<Vec<Phase>>),
    /// Depthwise, by tap.
    ByTap(HostBuffer<f32>),
    /// As given: a transposed convolution into few channels.
    Plain(Vec<f32>),
    Gpu(GpuBuffer),
}

impl PreparedConv {
    /// A convolution with OHWI weights.
    ///
    /// # Errors
    /// When lengths and options do not fit together.
    pub fn new(
        weight: Buffer,
        shape: [usize; 4],
        bias: Buffer,
        opts: ConvOptions,
        activation: Activation,
    ) -> Result<Self> {
        // Any map that the kernel fits into: only the channels matter for the layout.
        let reach = |k: usize| opts.dilation * k.saturating_sub(1) + 1;
        let x = [1, reach(shape[1]), reach(shape[2]), shape[3] * opts.groups];
        let g = Geometry::new(OP, x, shape, opts)?;
        g.check_w(OP, weight.len())?;
        check_len(OP, "bias", bias.len(), shape[0])?;
        let weights = match weight {
            Buffer::Gpu(w) => Weights::Gpu(w),
            Buffer::Host(w) if g.is_depthwise() => Weights::ByTap(depthwise::by_tap(&g, &w)),
            Buffer::Host(w) => {
                Weights::Packed((0..opts.groups).map(|i| vec![forward_phase(&g, &w, i).kept()]).collect())
            }
        };
        Ok(Self { weights, shape, bias, opts, activation, transposed: false })
    }

    /// A transposed convolution with IHWO weights.
    ///
    /// # Errors
    /// When lengths and options do not fit together.
    pub fn transposed(
        weight: Buffer,
        shape: [usize; 4],
        bias: Buffer,
        opts: ConvOptions,
        activation: Activation,
    ) -> Result<Self> {
        if opts.padding == Padding::Same {
            return shape_error(OP, "a transposed convolution needs a padding given in pixels, not SAME");
        }
        let bare = ConvOptions { padding: Padding::Each(0), ..opts };
        let y = conv_transpose2d_shape([1, 1, 1, shape[0]], shape, bare)?;
        let g = Geometry::new(OP, y, shape, opts)?;
        g.check_w(OP, weight.len())?;
        check_len(OP, "bias", bias.len(), shape[3])?;
        let weights = match weight {
            Buffer::Gpu(w) => Weights::Gpu(w),
            Buffer::Host(w) if is_narrow(&g) => Weights::Plain(w.into_vec()),
            Buffer::Host(w) => Weights::Packed(vec![scatter_phases(&g, 0, &w).into_vec()]),
        };
        Ok(Self { weights, shape, bias, opts, activation, transposed: true })
    }

    /// A 3x3 convolution of padding 1 over a map enlarged twofold by nearest neighbours ([`super::upsample_conv2d`]), with
    /// OHWI weights.
    ///
    /// # Errors
    /// When lengths do not fit together.
    pub fn upsampled(weight: Buffer, shape: [usize; 4], bias: Buffer, activation: Activation) -> Result<Self> {
        let wide = upsampled::check(OP, shape[3], weight.len(), shape)?;
        Self::transposed(upsampled::expand(weight.view(), wide)?, wide, bias, upsampled::TRANSPOSED, activation)
    }

    /// With the operands of its products rounded, on the CPU; a GPU's handle says what it rounds. Depthwise convolutions and
    /// transposed ones into few channels stay in f32.
    ///
    /// # Errors
    /// When so many terms overflow the integers that sum them.
    pub fn rounded(self, rounding: Rounding) -> Result<Self> {
        let channels = if self.transposed { self.shape[0] } else { self.shape[3] };
        let weights = match self.weights {
            Weights::Packed(groups) => Weights::Packed(
                groups
                    .into_iter()
                    .map(|phases| phases.into_iter().map(|phase| phase.rounded(channels, rounding)).collect())
                    .collect::<Result<_>>()?,
            ),
            other => other,
        };
        Ok(Self { weights, ..self })
    }

    /// The shape of the output for an input of shape `x`.
    ///
    /// # Errors
    /// When the input does not fit.
    pub fn output(&self, x: Nhwc) -> Result<Nhwc> {
        match self.transposed {
            true => conv_transpose2d_shape(x, self.shape, self.opts),
            false => Ok(Geometry::new(OP, x, self.shape, self.opts)?.y),
        }
    }

    /// The convolution that this is, or that this is the adjoint of.
    fn geometry(&self, x: Nhwc) -> Result<Geometry> {
        let input = if self.transposed { self.output(x)? } else { x };
        Geometry::new(OP, input, self.shape, self.opts)
    }

    /// Writes `y`; returns its shape. Only a plain convolution that is not depthwise takes a residual or
    /// an attention map into its epilogue.
    ///
    /// # Errors
    /// When shapes, lengths or devices do not fit together.
    pub fn run<'a>(
        &self,
        x: impl Into<View<'a>>,
        x_shape: Nhwc,
        extra: Extra<'a>,
        y: impl Into<ViewMut<'a>>,
    ) -> Result<Nhwc> {
        let (x, y) = (x.into(), y.into());
        let g = self.geometry(x_shape)?;
        let y_shape = if self.transposed { g.x } else { g.y };
        check_len(OP, "input", x.len(), x_shape.iter().product())?;
        check_len(OP, "output", y.len(), y_shape.iter().product())?;
        let Extra { residual, attention } = extra;
        if (self.transposed || g.is_depthwise()) && (residual.is_some() || attention.is_some()) {
            return shape_error(OP, "a residual or attention map follows plain convolutions only");
        }
        let any = |view: Option<View<'a>>| view.unwrap_or(x);
        check_len(OP, "residual", residual.map_or(y.len(), |r| r.len()), y.len())?;
        let pixels = y.len() / y_shape[3].max(1);
        check_len(OP, "attention map", attention.map_or(pixels, |a| a.len()), pixels)?;
        place(OP, &[&x, &self.bias.view(), &any(residual), &any(attention), &y])?;
        match &self.weights {
            Weights::Gpu(w) => {
                let operands = Operands {
                    residual: residual.map(View::device),
                    attention: attention.map(View::device),
                    ..Operands::new(x.device(), w, Some(self.bias.view().device()), y.device())
                };
                let direction = if self.transposed { Direction::Scatter } else { Direction::Gather };
                on_gpu(w.gpu(), &g, direction, &operands, self.activation)?;
            }
            host => {
                let epilogue = Epilogue {
                    bias: Some(self.bias.view().host()),
                    residual: residual.map(View::host),
                    activation: self.activation,
                    attention: attention.map(View::host),
                    gated: false,
                };
                self.on_host(host, &g, x.host(), epilogue, y.host());
            }
        }
        Ok(y_shape)
    }

    fn on_host(&self, weights: &Weights, g: &Geometry, x: &[f32], epilogue: Epilogue, y: &mut [f32]) {
        match weights {
            Weights::Packed(groups) if self.transposed => {
                dense::run(&scatter_pass(g, 0, x, &groups[0], epilogue), y);
            }
            Weights::Packed(groups) => {
                for (group, phases) in groups.iter().enumerate() {
                    dense::run(&forward_pass(g, group, x, phases, epilogue), y);
                }
            }
            Weights::Plain(w) => scatter(g, 0, x, w, epilogue, y),
            Weights::ByTap(w) => depthwise::forward_by_tap(g, x, w, epilogue.bias, self.activation, y),
            Weights::Gpu(_) => unreachable!("all operands were found to be on the host"),
        }
    }

    /// Runs with a 2x2 max pooling of stride 2 in the epilogue: writes `y` of shape
    /// `[n, oh / 2, ow / 2, o]` and returns it. An attention map has that many pixels. One group, not
    /// transposed.
    ///
    /// # Errors
    /// When shapes, lengths or devices do not fit together.
    pub fn run_pooled<'a>(
        &self,
        x: impl Into<View<'a>>,
        x_shape: Nhwc,
        attention: Option<View<'a>>,
        y: &mut Buffer,
    ) -> Result<Nhwc> {
        let x = x.into();
        let g = self.geometry(x_shape)?;
        if self.transposed || self.opts.groups != 1 {
            return shape_error(OP, "pooling follows plain convolutions of one group only");
        }
        let shape = [g.y[0], g.y[1] / 2, g.y[2] / 2, g.y[3]];
        check_len(OP, "input", x.len(), x_shape.iter().product())?;
        check_len(OP, "output", y.len(), shape.iter().product())?;
        place(OP, &[&x, &self.bias.view(), &y.view()])?;
        match &self.weights {
            Weights::Gpu(w) => {
                let operands = Operands::new(x.device(), w, Some(self.bias.view().device()), y.view().device());
                super::conv2d::pooled_on_gpu(&g, self.activation, &operands)?;
            }
            Weights::Packed(groups) => {
                let epilogue = Epilogue::new(Some(self.bias.view().host()), self.activation);
                dense::run_pooled(&forward_pass(&g, 0, x.host(), &groups[0], epilogue), y.view_mut().host());
            }
            Weights::ByTap(_) | Weights::Plain(_) => unreachable!("kept for depthwise and transposed ones only"),
        }
        if let Some(map) = attention {
            let plain = std::mem::replace(y, y.device().alloc(y.len())?);
            attend(&plain, map, y)?;
        }
        Ok(shape)
    }
}
