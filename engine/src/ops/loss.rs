//! Losses: one number, whose gradient is computed with it.

use hotad_kernels::device::Buffer;
use hotad_kernels::discounted_l1;
use hotad_kernels::elementwise;
use hotad_kernels::hinge;
use hotad_kernels::loss::Loss;
use smallvec::smallvec;

use crate::error::Result;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

/// The gradient of a loss is computed with it; backward only scales it.
pub(super) struct KnownGrad(pub Buffer);

impl Grad for KnownGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut scaled = self.0.duplicate()?;
        elementwise::scale(&mut scaled, &grad)?;
        Ok(smallvec![Some(scaled)])
    }
}

/// Mean loss of `x` against `target`, one number; the target gets no gradient.
///
/// # Errors
/// When sizes or devices differ.
pub fn loss(kind: Loss, x: &Tensor, target: &Tensor) -> Result<Tensor> {
    let device = x.device();
    let (mut value, mut dx) = (device.alloc(1)?, device.alloc(x.len())?);
    kind.with_gradient(x.view(), target.view(), &mut value, &mut dx)?;
    Tensor::result(value, &[1], &[x], || KnownGrad(dx))
}

/// Mean of `weight * |x - target|`, one number; `weight` has one value for each pixel. Only `x` gets a
/// gradient.
///
/// # Errors
/// When sizes or devices differ.
pub fn weighted_l1(x: &Tensor, target: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let device = x.device();
    let (mut value, mut dx) = (device.alloc(1)?, device.alloc(x.len())?);
    discounted_l1::weighted_l1(x.view(), target.view(), weight.view(), &mut value, &mut dx)?;
    Tensor::result(value, &[1], &[x], || KnownGrad(dx))
}

/// `scale` times the mean of `max(0, margin - sign * d)`, one number.
///
/// # Errors
/// When the device is out of memory.
pub fn hinge_loss(d: &Tensor, margin: f32, sign: f32, scale: f32) -> Result<Tensor> {
    let device = d.device();
    let (mut value, mut dd) = (device.alloc(1)?, device.alloc(d.len())?);
    hinge::hinge_loss(d.view(), margin, sign, scale, &mut value, &mut dd)?;
    Tensor::result(value, &[1], &[d], || KnownGrad(dd))
}

/// `factor` times the mean of `x`, one number.
///
/// # Errors
/// When the device is out of memory.
pub fn mean(x: &Tensor, factor: f32) -> Result<Tensor> {
    let device = x.device();
    let share = factor / x.len().max(1) as f32;
    let mut value = device.alloc(1)?;
    elementwise::weighted_sum(x.view(), share, 0.0, &mut value)?;
    let dx = device.filled(x.len(), share)?;
    Tensor::result(value, &[1], &[x], || KnownGrad(dx))
}
