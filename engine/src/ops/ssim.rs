//! SSIM as a loss.

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
    let upstream = vec![-1.0 / shape[0] as f32; shape[0]];
    let mut dx = vec![0.0; x.data().len()];
    let means = ssim_mean_with_gradient(x.data(), target.data(), shape, opts, &upstream, &mut dx)?;
    let value = 1.0 - means.iter().sum::<f32>() / shape[0] as f32;
    Tensor::result(vec![value], &[1], &[x], || Box::new(KnownGrad(dx)))
}
