//! Iterative projection (Dehaene et al. 2020, "Iterative energy-based projection on a normal data manifold"): the
//! image itself is moved by gradient steps until an autoencoder reconstructs it well.
//!
//! `E(x_t) = L(x_t, f(x_t)) + lambda |x_t - x_0|`, `x_(t+1) = x_t - alpha grad E * (x_t - f(x_t))^2` (equations 7 and 10), sums over
//! pixels; L is what the autoencoder f was trained with. The anomaly map is what is left between x_0 and the last x_t.
//! alpha 0.5, lambda 0.05, 50 steps (I3AD, section 3.1). Values are kept in 0..1, which the papers do not say.

use std::collections::BTreeMap;

use hotad_engine::Result;
use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::ops::add;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_kernels::projection::{Step, projection_step};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Shared;
use super::plain::Trained;
use crate::config::{Settings, join, require};
use crate::detector::{Detector, FitContext, Score};
use crate::export::Exported;
use crate::residual::Residual;

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Loss of the autoencoder.
    pub loss: Residual,
    /// Gradient steps.
    pub steps: usize,
    /// Step size.
    pub step_size: f64,
    /// Weight of the distance from the image.
    pub l1: f64,
    /// The autoencoder's.
    #[serde(flatten)]
    pub autoencoder: Shared,
}

impl Default for Config {
    fn default() -> Self {
        Self { loss: Residual::L2, steps: 50, step_size: 0.5, l1: 0.05, autoencoder: Shared::default() }
    }
}

impl Settings for Config {
    const DOCS: &'static [(&'static str, &'static str)] = &join::<4, 10, 14>(
        [
            ("loss", "what the autoencoder learns with: \"l2\" or \"ssim\""),
            ("steps", "gradient steps on a test image"),
            ("step_size", "size of a step"),
            ("l1", "weight of the distance from the image"),
        ],
        Shared::DOCS,
    );

    const SCORING: &'static [&'static str] = &["steps", "step_size", "l1", "residual", "score", "score_blur"];

    fn check(&self) -> Result<()> {
        require((1..=10_000).contains(&self.steps), "steps", self.steps, "1 to 10000")?;
        require(self.step_size > 0.0 && self.step_size <= 100.0, "step_size", self.step_size, "above 0, 100 at most")?;
        require((0.0..=100.0).contains(&self.l1), "l1", self.l1, "0 to 100")?;
        self.autoencoder.check()
    }
}

/// A trained autoencoder that test images are projected with.
pub struct Projection {
    config: Config,
    trained: Trained,
}

/// Trains the autoencoder.
///
/// # Errors
/// Bad settings or images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<Projection> {
    let trained = Trained::fit(config.autoencoder.clone(), config.loss, context, "iterative-projection")?;
    Ok(Projection { config, trained })
}

impl Projection {
    /// Reads a model.
    pub(crate) fn load(file: &ModelFile, device: &Device) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        let trained = Trained::load(config.autoencoder.clone(), config.loss, file, device)?;
        Ok(Self { config, trained })
    }

    /// Where the steps lead from an image, until a moment.
    fn project(&self, images: &Tensor, until: &Until) -> Result<Tensor> {
        let Trained { network, params, loss, .. } = &self.trained;
        let step = Step { size: self.config.step_size as f32, l1: self.config.l1 as f32 };
        let mut x = images.detached();
        for _ in (0..self.config.steps as u32).take_while(|taken| until.goes_on(*taken)) {
            let seen = x.leaf();
            let made = network.reconstruct(params, &seen, false)?;
            // The loss depends on the image on both sides.
            let energy = add(&loss.loss(&made, &seen.detached())?, &loss.loss(&seen, &made.detached())?)?;
            let shape = seen.shape().to_vec();
            let Some(grad) = backward(&energy)?.take(&seen) else { break };
            let mut next = x.into_buffer()?;
            // The loss is a mean, the energy a sum.
            let scale = next.len() as f32;
            projection_step(&mut next, &grad, scale, made.view(), images.view(), step)?;
            x = Tensor::from_buffer(next, &shape)?;
        }
        Ok(x)
    }
}

impl Detector for Projection {
    fn method(&self) -> &'static str {
        "iterative-projection"
    }

    fn image(&self) -> ImageSpec {
        self.trained.image
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        self.score_until(images, &Until::done())
    }

    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Vec<Score>> {
        let images = images.to(self.trained.params.device())?;
        self.trained.compare(&images, &self.project(&images, until)?)
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.trained.params.values()?, "network.")
    }

    fn export(&self) -> Result<Exported> {
        self.trained.export(
            "the steps on an image, which follow gradients of the autoencoder, and the comparison of image and result",
        )
    }
}
