//! Decomposition of images into background and defect (equation 3).

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_kernels::absolute_difference::mean_absolute_difference;
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::decompose::{DecomposeOptions, decompose_while};
use hotad_kernels::despeckle::despeckle;
use hotad_kernels::device::{Buffer, View};
use hotad_kernels::soft_threshold::soft_threshold;
use hotad_kernels::ssim::SsimOptions;
use hotad_kernels::window::{Border, Window};
use serde_json::{Map, Value};

use crate::config::{Choice, Interval, POSITIVE, RATE, Settings, settings};

/// Adam steps of the decomposition. At the default rate the objective has settled by then: on cracks over solar cells the last
/// ten of 100 steps change it by less than 0.1 %.
const STEPS: u32 = 100;

settings! {
    /// Settings of the decomposition.
    pub struct DecompositionSettings {
        /// weight of the L1 term (paper: 1e-5, 6e-4), or "auto": the best on synthetic cracks over held-out normals
        lambda: Choice = Choice::auto(), allowed "a number above 0, or \"auto\"" if |v| v.is_auto_or(POSITIVE), for Scoring;
        /// Adam steps of the decomposition
        steps: u32 = STEPS, in 1..=10_000, for Scoring;
        /// learning rate of the decomposition
        decompose_lr: f64 = 0.02, in RATE, for Scoring;
        /// whether a pixel of the defect counts no more than the fourth largest of the 3x3 pixels around it, so that single pixels and
        /// lines of one pixel go; false for the paper's
        despeckle: bool = true, for Scoring;
        /// values of the defect up to this (images are in 0 to 1) become 0 at the end, larger ones lose as much, so that few pixels
        /// are left; 0 for none (paper)
        shrink: f64 = 0.0, in Interval::RightOpen(0.0, 1.0), for Scoring;
    }
}

impl Settings for DecompositionSettings {}

impl DecompositionSettings {
    /// The decomposition with some lambda.
    pub fn with(&self, lambda: f32) -> Decomposition {
        let Self { steps, decompose_lr, despeckle, shrink, .. } = *self;
        Decomposition { lambda, steps, lr: decompose_lr as f32, despeckle, shrink: shrink as f32 }
    }
}

/// Puts into the settings of a model file what those of earlier versions lack.
pub fn complete(settings: &mut Map<String, Value>) {
    settings.entry("despeckle").or_insert(false.into());
}

/// How images are decomposed.
#[derive(Clone, Copy, Debug)]
pub struct Decomposition {
    /// Weight of the L1 term.
    pub lambda: f32,
    /// Adam steps.
    pub steps: u32,
    /// Learning rate.
    pub lr: f32,
    /// Whether X - L is despeckled at the end.
    pub despeckle: bool,
    /// Soft threshold of X - L after that; 0 for none.
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
        if self.despeckle {
            let decomposed = background;
            background = images.device().alloc(images.len())?;
            despeckle(images.view(), &decomposed, images.nhwc()?, &mut background)?;
        }
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
