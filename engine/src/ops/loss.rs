//! Element-wise losses.

use hotad_kernels::device::Buffer;
use hotad_kernels::elementwise;
use hotad_kernels::loss::Loss;

use crate::error::Result;
use crate::tape::Grad;
use crate::tensor::Tensor;

/// The gradient of a loss is computed with it; backward only scales it.
pub(super) struct KnownGrad(pub Buffer);

impl Grad for KnownGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<Vec<Option<Buffer>>> {
        let mut scaled = self.0.duplicate()?;
        elementwise::scale(&mut scaled, &grad)?;
        Ok(vec![Some(scaled)])
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
    Tensor::result(value, &[1], &[x], || Box::new(KnownGrad(dx)))
}
