//! Gaussian noise.

use hotad_kernels::device::Buffer;
use hotad_kernels::noise as kernel;
use smallvec::smallvec;

use crate::error::Result;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct NoiseGrad;

impl Grad for NoiseGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        Ok(smallvec![Some(grad)])
    }
}

/// `x` with normal noise of deviation `sigma`; the seed says which.
///
/// # Errors
/// When there are more than 2^32 values.
pub fn add_noise(x: &Tensor, sigma: f32, seed: u32) -> Result<Tensor> {
    let mut y = x.buffer().duplicate()?;
    kernel::add_noise(&mut y, sigma, seed)?;
    Tensor::result(y, x.shape(), &[x], || NoiseGrad)
}
