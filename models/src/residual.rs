//! What is left between an image and its reconstruction: the anomaly map of all these baselines.

use hotad_engine::Result;
use hotad_engine::ops::{loss, ssim_loss};
use hotad_engine::tensor::Tensor;
use hotad_kernels::absolute_difference::mean_squared_difference;
use hotad_kernels::device::Buffer;
use hotad_kernels::loss::Loss;
use hotad_kernels::ssim::{SsimOptions, ssim_mask};
use serde::{Deserialize, Serialize};

/// How images are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Residual {
    /// Squared difference, averaged over channels.
    L2,
    /// 1 - SSIM (Gaussian window 11), averaged over channels.
    Ssim,
}

/// Which [`Residual`] is the anomaly map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// What the method learns with.
    #[default]
    Auto,
    /// Squared difference.
    L2,
    /// 1 - SSIM.
    Ssim,
}

impl Measure {
    /// The residual, for a method that learns with `own`.
    pub fn or(self, own: Residual) -> Residual {
        match self {
            Self::Auto => own,
            Self::L2 => Residual::L2,
            Self::Ssim => Residual::Ssim,
        }
    }
}

impl Residual {
    /// Mean over the batch, one number; only `x` gets a gradient.
    ///
    /// # Errors
    /// When shapes differ.
    pub fn loss(self, x: &Tensor, target: &Tensor) -> Result<Tensor> {
        match self {
            Self::L2 => loss(Loss::Mse, x, target),
            Self::Ssim => ssim_loss(x, target, &SsimOptions::default()),
        }
    }

    /// Maps `[n, h, w]` of images and their reconstructions, on their device.
    ///
    /// # Errors
    /// When shapes or devices differ.
    pub fn maps(self, images: &Tensor, made: &Tensor) -> Result<Buffer> {
        let (device, shape) = (images.device(), images.nhwc()?);
        let [n, h, w, _] = shape;
        let mut maps = device.alloc(n * h * w)?;
        match self {
            Self::L2 => mean_squared_difference(images.view(), made.view(), shape, &mut maps)?,
            Self::Ssim => {
                let (opts, mut mask, mut counts) =
                    (SsimOptions::default(), device.zeros(n * h * w)?, device.alloc(2 * n)?);
                ssim_mask(images.view(), made.view(), shape, &opts, 1.0, &mut maps, &mut mask, &mut counts)?;
            }
        }
        Ok(maps)
    }
}
