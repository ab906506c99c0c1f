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
use hotad_engine::model_file::ModelFile;
use hotad_engine::ops::add;
use hotad_engine::planned::Outputs;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_kernels::projection::{Step, projection_step};
use serde_json::Value;
use toml::Table;

use super::Shared;
use super::plain::Trained;
use crate::config::{Interval, Settings, WEIGHT, settings};
use crate::detector::{Detector, Exportable, Scores};
use crate::export::Exported;
use crate::fit::FitContext;
use crate::method::{LoadContext, Method};
use crate::residual::Residual;

settings! {
    /// Settings.
    pub struct Config {
        /// what the autoencoder learns with: "l2" or "ssim"
        loss: Residual = Residual::L2;
        /// gradient steps on a test image
        steps: usize = 50, in 1..=10_000, for Scoring;
        /// size of a step
        step_size: f64 = 0.5, in Interval::LeftOpen(0.0, 100.0), for Scoring;
        /// weight of the distance from the image
        l1: f64 = 0.05, in WEIGHT, for Scoring;
        ..autoencoder: Shared = Shared::default();
    }
}

impl Settings for Config {
    fn under(table: &Table) -> Result<Table> {
        Shared::under(table)
    }
}

/// A trained autoencoder that test images are projected with.
pub struct Projection {
    config: Config,
    trained: Trained,
}

impl Method for Projection {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "iterative-projection";
    const SUMMARY: &'static str = "autoencoder, test images moved until it reconstructs them (baseline)";
    const WARM_START: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let trained = Trained::fit(config.autoencoder.clone(), config.loss, context, Self::NAME)?;
        Ok(Self { config, trained })
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        let trained = Trained::load(config.autoencoder.clone(), config.loss, file, context.device)?;
        Ok(Self { config, trained })
    }
}

impl Projection {
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
            let Some(grad) = backward(&energy)?.take(&seen) else { break };
            let mut next = x.into_buffer()?;
            // The loss is a mean, the energy a sum.
            let scale = next.len() as f32;
            projection_step(&mut next, &grad, scale, made.view(), images.view(), step)?;
            x = Tensor::from_buffer(next, images.shape())?;
        }
        Ok(x)
    }

    /// What scores are taken from, on the device.
    fn queued(&self, images: &Tensor, until: &Until) -> Result<Outputs> {
        let images = images.to(self.trained.params.device())?;
        self.trained.compared(&images, &self.project(&images, until)?)
    }
}

impl Detector for Projection {
    fn image(&self) -> ImageSpec {
        self.trained.image
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        Until::interruptible(|until| self.score_until(images, until))
    }

    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Scores> {
        let Trained { planned, params, .. } = &self.trained;
        let values = planned.run_until(images, params.device(), until, |images| self.queued(images, until))?;
        Ok(self.trained.scores(&values))
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.trained.params.values()?, "network.")
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Exportable for Projection {
    fn export(&self) -> Result<Exported> {
        self.trained.export(
            "the steps on an image, which follow gradients of the autoencoder, and the comparison of image and result",
        )
    }
}
