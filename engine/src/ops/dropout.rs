//! Dropout.

use hotad_kernels::device::Buffer;
use hotad_kernels::dropout as kernel;
use smallvec::smallvec;

use crate::error::Result;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct DropoutGrad {
    p: f32,
    seed: u32,
}

impl Grad for DropoutGrad {
    fn backward(&self, mut grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        kernel::dropout(&mut grad, self.p, self.seed)?;
        Ok(smallvec![Some(grad)])
    }
}

/// Values of `x`, each dropped with probability `p`, the others divided by 1 - p; the seed says which.
///
/// # Errors
/// When `p` is not in 0..1.
pub fn dropout(x: &Tensor, p: f32, seed: u32) -> Result<Tensor> {
    let mut y = x.buffer().duplicate()?;
    kernel::dropout(&mut y, p, seed)?;
    Tensor::result(y, x.shape(), &[x], || DropoutGrad { p, seed })
}
