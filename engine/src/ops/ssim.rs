//! SSIM as a loss.

use hotad_kernels::elementwise;
use hotad_kernels::ssim::{SsimOptions, ssim_mean_with_gradient};

use super::loss::KnownGrad;
use crate::error::Result;
use crate::tensor::Tensor;

/// 1 - mean SSIM over images, pixels and channels, one number; the target gets no gradient.
///
/// # Errors
/// When the window does not fit or the shapes differ.
pub fn ssim_loss(x: &Tensor, target: &Tensor, opts: &SsimOptions) -> Result<Tensor> {
    let shape = x.nhwc()?;
    let (n, device) = (shape[0], x.device());
    let upstream = device.filled(n, -1.0 / n as f32)?;
    let (mut means, mut dx) = (device.alloc(n)?, device.alloc(x.len())?);
    ssim_mean_with_gradient(x.view(), target.view(), shape, opts, &upstream, &mut means, &mut dx)?;
    let mut value = device.alloc(1)?;
    elementwise::weighted_sum(&means, -1.0 / n as f32, 1.0, &mut value)?;
    Tensor::result(value, &[1], &[x], || KnownGrad(dx))
}
