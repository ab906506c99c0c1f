//! Weights divided by their largest singular value.

use std::sync::{Mutex, PoisonError};

use hotad_kernels::device::Buffer;
use hotad_kernels::spectral_norm as kernel;
use smallvec::smallvec;

use crate::error::Result;
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct SpectralGrad {
    normal: SharedBuffer,
    u: Buffer,
    v: Buffer,
    sigma: Buffer,
}

impl Grad for SpectralGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut dw = grad.device().alloc(grad.len())?;
        kernel::spectral_norm_backward(&*self.normal, &self.u, &self.v, &self.sigma, &grad, &mut dw)?;
        Ok(smallvec![Some(dw)])
    }
}

/// `weight / sigma` after some power iterations, which move the vectors u (rows: the first axis) and v
/// (columns: the others) that are kept from step to step.
///
/// # Errors
/// When the vectors have other lengths.
pub fn spectral_norm(weight: &Tensor, [u, v]: [&Mutex<Buffer>; 2], iterations: usize) -> Result<Tensor> {
    let device = weight.device();
    let (mut sigma, mut normal) = (device.alloc(1)?, device.alloc(weight.len())?);
    // A poisoned lock only says that another thread has panicked; the vectors are whole.
    let [mut u, mut v] = [u, v].map(|m| m.lock().unwrap_or_else(PoisonError::into_inner));
    kernel::spectral_norm(weight.view(), iterations, &mut u, &mut v, &mut sigma, &mut normal)?;
    let normal = SharedBuffer::new(normal);
    let (kept, u, v) = (normal.clone(), u.duplicate()?, v.duplicate()?);
    Tensor::shared_result(normal, weight.shape(), &[weight], || SpectralGrad { normal: kept, u, v, sigma })
}
