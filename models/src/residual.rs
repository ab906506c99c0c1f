//! What is left between an image and its reconstruction: the anomaly map of all these baselines.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::ops::{loss, ssim_loss};
use hotad_engine::tensor::Tensor;
use hotad_kernels::loss::Loss;
use hotad_kernels::ssim::{SsimOptions, ssim_mask};
use serde::{Deserialize, Serialize};

use crate::detector::Score;
use crate::segmentation::{Aggregate, scores};

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

    /// Maps `[n, h, w]` of images and their reconstructions, on the host.
    ///
    /// # Errors
    /// When shapes or devices differ.
    pub fn maps(self, images: &Tensor, made: &Tensor) -> Result<Vec<f32>> {
        let (device, shape) = (images.device(), images.nhwc()?);
        let [n, h, w, c] = shape;
        match self {
            Self::L2 => {
                let (a, b) = (images.values()?, made.values()?);
                let pixels = a.chunks_exact(c).zip(b.chunks_exact(c));
                let square = |(a, b): (&f32, &f32)| (a - b) * (a - b);
                Ok(pixels.map(|(a, b)| a.iter().zip(b).map(square).sum::<f32>() / c as f32).collect())
            }
            Self::Ssim => {
                let (mut maps, mut mask) = (device.alloc(n * h * w)?, device.zeros(n * h * w)?);
                let (opts, mut changed) = (SsimOptions::default(), device.alloc(n)?);
                ssim_mask(images.view(), made.view(), shape, &opts, 1.0, &mut maps, &mut mask, &mut changed)?;
                Ok(maps.into_vec()?)
            }
        }
    }

    /// Scores of images by their reconstructions.
    ///
    /// # Errors
    /// When shapes or devices differ.
    pub fn scores(
        self,
        images: &Tensor,
        made: &Tensor,
        spec: ImageSpec,
        blur: f64,
        score: Aggregate,
    ) -> Result<Vec<Score>> {
        scores(self.maps(images, made)?, spec, blur as f32, score)
    }
}
