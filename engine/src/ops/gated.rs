//! Gated convolutions on masked images, and what inpainting does around them.

use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{self as kernel, ConvOptions, MASKED_CHANNELS};
use hotad_kernels::device::Buffer;
use smallvec::smallvec;

use super::conv::{ConvParams, conv2d, upsample_conv2d};
use crate::error::Result;
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct GateGrad {
    halves: SharedBuffer,
    channels: usize,
    features: Activation,
}

impl Grad for GateGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut d = grad.device().alloc(self.halves.len())?;
        kernel::gate_backward(&*self.halves, self.channels, self.features, &grad, &mut d)?;
        Ok(smallvec![Some(d)])
    }
}

/// `act(f) * sigmoid(g)` of halves `[n, h, w, 2 c]`, features before gates.
///
/// # Errors
/// When the device is out of memory.
pub fn gate(halves: &Tensor, features: Activation) -> Result<Tensor> {
    let [n, h, w, both] = halves.nhwc()?;
    let channels = both / 2;
    let mut y = halves.device().alloc(halves.len() / 2)?;
    kernel::gate(halves.view(), channels, features, &mut y)?;
    Tensor::result(y, &[n, h, w, channels], &[halves], || GateGrad { halves: halves.buffer(), channels, features })
}

/// A gated convolution: weights and bias of both halves, `p.activation` for the features.
///
/// # Errors
/// When shapes and options do not fit together.
pub fn gated_conv2d(x: &Tensor, p: &ConvParams, opts: ConvOptions) -> Result<Tensor> {
    let halves = conv2d(x, &ConvParams { activation: Activation::Identity, ..p.clone() }, opts)?;
    gate(&halves, p.activation)
}

/// A gated 3x3 convolution after nearest x2 up-sampling.
///
/// # Errors
/// When shapes do not fit together.
pub fn gated_upsample_conv2d(x: &Tensor, p: &ConvParams) -> Result<Tensor> {
    gate(&upsample_conv2d(x, &ConvParams { activation: Activation::Identity, ..p.clone() })?, p.activation)
}

struct MaskedGrad {
    mask: Tensor,
}

impl Grad for MaskedGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut d = grad.device().alloc(3 * self.mask.len())?;
        kernel::masked_input_backward(&grad, self.mask.view(), &mut d)?;
        Ok(smallvec![Some(d)])
    }
}

/// `[rgb * (1 - mask), 1, mask]`: images `[n, h, w, 3]` and masks `[n, h, w, 1]` to `[n, h, w, 5]`.
///
/// # Errors
/// When sizes or devices differ.
pub fn masked_input(rgb: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let [n, h, w, _] = rgb.nhwc()?;
    let y = kernel::masked_input(rgb.view(), mask.view())?;
    Tensor::result(y, &[n, h, w, MASKED_CHANNELS], &[rgb], || MaskedGrad { mask: mask.clone() })
}

struct PasteGrad {
    mask: Tensor,
}

impl Grad for PasteGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut d = grad.device().alloc(grad.len())?;
        kernel::paste_backward(&grad, self.mask.view(), &mut d)?;
        Ok(smallvec![Some(d)])
    }
}

/// `made * mask + known * (1 - mask)`; only `made` gets a gradient.
///
/// # Errors
/// When sizes or devices differ.
pub fn paste(made: &Tensor, known: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mut y = made.device().alloc(made.len())?;
    kernel::paste(made.view(), known.view(), mask.view(), &mut y)?;
    Tensor::result(y, made.shape(), &[made], || PasteGrad { mask: mask.clone() })
}
