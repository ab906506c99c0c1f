//! Adding, and looking at the same values under another shape.

use hotad_kernels::device::Buffer;
use hotad_kernels::elementwise as kernel;
use smallvec::smallvec;

use crate::error::Result;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct AddGrad;

impl Grad for AddGrad {
    fn backward(&self, grad: Buffer, wanted: &[bool]) -> Result<InputGradients> {
        let other = wanted[0].then(|| grad.duplicate()).transpose()?;
        Ok(smallvec![other, Some(grad)])
    }
}

/// `a + b`, of the same shape.
///
/// # Errors
/// When lengths or devices differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut y = a.buffer().duplicate()?;
    kernel::add(&mut y, b.view())?;
    Tensor::result(y, a.shape(), &[a, b], || AddGrad)
}

struct ReshapeGrad;

impl Grad for ReshapeGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        Ok(smallvec![Some(grad)])
    }
}

/// The same values with another shape.
///
/// # Errors
/// When the number of elements differs.
pub fn reshape(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    Tensor::shared_result(x.buffer(), shape, &[x], || ReshapeGrad)
}
