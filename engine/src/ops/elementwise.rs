//! Adding, and looking at the same values under another shape.

use hotad_kernels::device::Buffer;
use hotad_kernels::elementwise as kernel;

use crate::error::Result;
use crate::tape::Grad;
use crate::tensor::Tensor;

struct AddGrad;

impl Grad for AddGrad {
    fn backward(&self, grad: Buffer, wanted: &[bool]) -> Result<Vec<Option<Buffer>>> {
        let other = wanted[0].then(|| grad.duplicate()).transpose()?;
        Ok(vec![other, Some(grad)])
    }
}

/// `a + b`, of the same shape.
///
/// # Errors
/// When lengths or devices differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut y = a.buffer().duplicate()?;
    kernel::add(&mut y, b.view())?;
    Tensor::result(y, a.shape(), &[a, b], || Box::new(AddGrad))
}

struct ReshapeGrad;

impl Grad for ReshapeGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<Vec<Option<Buffer>>> {
        Ok(vec![Some(grad)])
    }
}

/// The same values with another shape.
///
/// # Errors
/// When the number of elements differs.
pub fn reshape(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    Tensor::shared_result(x.buffer(), shape, &[x], || Box::new(ReshapeGrad))
}
