//! Decomposition of images into background and defect (equation 3).

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_kernels::absolute_difference::mean_absolute_difference;
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::decompose::{DecomposeOptions, decompose_while};
use hotad_kernels::device::{Buffer, View};
use hotad_kernels::soft_threshold::soft_threshold;
use hotad_kernels::ssim::SsimOptions;
use hotad_kernels::window::{Border, Window};

/// How images are decomposed.
#[derive(Clone, Copy, Debug)]
pub struct Decomposition {
    /// Weight of the L1 term.
    pub lambda: f32,
    /// Adam steps.
    pub steps: u32,
    /// Learning rate.
    pub lr: f32,
    /// Soft threshold of X - L at the end; 0 for none.
    pub shrink: f32,
}

impl Decomposition {
    /// |X - L| averaged over channels, L the decomposed background, on the device of the images.
    ///
    /// # Errors
    /// When shapes or devices differ.
    pub fn maps(&self, images: &Tensor, prior: &Tensor) -> Result<Buffer> {
        self.maps_until(images, prior, &Until::done())
    }

    /// [`Decomposition::maps`] with what is reached at a moment.
    ///
    /// # Errors
    /// When shapes or devices differ.
    pub fn maps_until(&self, images: &Tensor, prior: &Tensor, until: &Until) -> Result<Buffer> {
        residual(images, self.backgrounds(images, prior, until)?.view())
    }

    /// The decomposed backgrounds L, or what is reached of them at a moment.
    ///
    /// # Errors
    /// When shapes or devices differ.
    pub fn backgrounds(&self, images: &Tensor, prior: &Tensor, until: &Until) -> Result<Tensor> {
        let mut background = images.device().alloc(images.len())?;
        let opts = DecomposeOptions {
            lambda: self.lambda,
            steps: self.steps,
            adam: AdamOptions { lr: self.lr, ..AdamOptions::default() },
            ssim: SsimOptions {
                window: Window::Gaussian { size: 11, sigma: 1.5 },
                border: Border::Symmetric,
                ..SsimOptions::default()
            },
        };
        let go_on = |taken| until.goes_on(taken);
        decompose_while(images.view(), prior.view(), images.nhwc()?, &opts, &mut background, None, &go_on)?;
        if self.shrink > 0.0 {
            soft_threshold(images.view(), &mut background, self.shrink)?;
        }
        Tensor::from_buffer(background, images.shape())
    }
}

/// |X - L| averaged over channels, on the device of the images.
///
/// # Errors
/// When shapes or devices differ.
pub fn residual(images: &Tensor, background: View) -> Result<Buffer> {
    let shape = images.nhwc()?;
    let mut map = images.device().alloc(shape[0] * shape[1] * shape[2])?;
    mean_absolute_difference(images.view(), background, shape, &mut map)?;
    Ok(map)
}

/// Lambdas that are tried: spaced by half a decade around 1 / (number of elements), where both terms of
/// equation 3 pull equally.
pub fn lambdas(image: ImageSpec) -> Vec<f32> {
    let middle = 1.0 / image.len() as f32;
    (-1..=3).map(|e| middle * 10f32.powf(e as f32 * 0.5)).collect()
}
