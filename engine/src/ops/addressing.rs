//! Addressing of a memory (MemAE, equations 3 to 9).

use hotad_kernels::addressing as kernel;
use hotad_kernels::device::Buffer;
use smallvec::smallvec;

use super::loss::KnownGrad;
use crate::error::Result;
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

fn last(x: &Tensor) -> usize {
    x.shape().last().copied().unwrap_or(1)
}

struct NormaliseGrad {
    y: SharedBuffer,
    norms: Buffer,
}

impl Grad for NormaliseGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut dx = grad.device().alloc(grad.len())?;
        kernel::normalise_rows_backward(&*self.y, &self.norms, &grad, &mut dx)?;
        Ok(smallvec![Some(dx)])
    }
}

/// Every vector along the last axis over its Euclidean norm.
///
/// # Errors
/// When the device is out of memory.
pub fn normalise_rows(x: &Tensor) -> Result<Tensor> {
    let (device, columns) = (x.device(), last(x));
    let (mut y, mut norms) = (device.alloc(x.len())?, device.alloc(x.len() / columns.max(1))?);
    kernel::normalise_rows(x.view(), columns, &mut y, &mut norms)?;
    let y = SharedBuffer::new(y);
    let kept = y.clone();
    Tensor::shared_result(y, x.shape(), &[x], || NormaliseGrad { y: kept, norms })
}

struct AddressGrad {
    probabilities: Buffer,
    weights: SharedBuffer,
    slots: usize,
}

impl Grad for AddressGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut d = grad.device().alloc(grad.len())?;
        kernel::address_backward(&self.probabilities, &*self.weights, self.slots, &grad, &mut d)?;
        Ok(smallvec![Some(d)])
    }
}

/// Softmax over the last axis, cut below a threshold, summing to 1 again.
///
/// # Errors
/// When the device is out of memory.
pub fn address(similarities: &Tensor, threshold: f32) -> Result<Tensor> {
    let (device, slots) = (similarities.device(), last(similarities));
    let (mut probabilities, mut weights) = (device.alloc(similarities.len())?, device.alloc(similarities.len())?);
    kernel::address(similarities.view(), slots, threshold, &mut probabilities, &mut weights)?;
    let weights = SharedBuffer::new(weights);
    let kept = weights.clone();
    Tensor::shared_result(weights, similarities.shape(), &[similarities], || AddressGrad {
        probabilities,
        weights: kept,
        slots,
    })
}

/// Mean over rows of the entropy of weights along the last axis, one number.
///
/// # Errors
/// When the device is out of memory.
pub fn weight_entropy(weights: &Tensor) -> Result<Tensor> {
    let device = weights.device();
    let (mut value, mut dw) = (device.alloc(1)?, device.alloc(weights.len())?);
    kernel::entropy(&weights.buffer(), last(weights), &mut value, &mut dw)?;
    Tensor::result(value, &[1], &[weights], || KnownGrad(dw))
}
