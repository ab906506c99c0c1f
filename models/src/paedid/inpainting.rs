//! PAEDID's decomposition over a background that I3AD paints (contribution iii of the paper: the prior is a part that
//! can be exchanged).

use std::collections::BTreeMap;

use hotad_engine::Result;
use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use serde_json::Value;
use toml::Table;

use super::check_lambda;
use super::decomposition::{DecompositionSettings, complete};
use super::lambda::{Found, Trials, lambdas, lambdas_beside};
use crate::config::{Settings, damaged, settings};
use crate::detector::{Detector, Scores};
use crate::explanation::{Explainable, Explanation, Illustration};
use crate::fit::FitContext;
use crate::i3ad::{self, I3ad};
use crate::method::{LoadContext, Method};
use crate::prior::BackgroundPrior;
use crate::segmentation::{Aggregate, Aggregation};
use crate::synthetic::cracks;

/// Blur in pixels before the largest value of a map is taken.
const SCORE_BLUR: f64 = 1.0;

settings! {
    /// Settings.
    pub struct Config {
        ..decomposition: DecompositionSettings = DecompositionSettings::default();
        ..i3ad: i3ad::Config = i3ad::Config::default();
    }
}

impl Settings for Config {
    fn under(table: &Table) -> Result<Table> {
        i3ad::Config::under(table)
    }
}

/// A trained I3AD with a decomposition behind it.
pub struct InpaintedPaedid {
    config: Config,
    prior: I3ad,
    lambda: f32,
    device: Device,
}

impl Method for InpaintedPaedid {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "paedid-i3ad";
    const SUMMARY: &'static str = "PAEDID's decomposition over a background that I3AD paints";
    const WARM_START: bool = true;
    const EXPLAINABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let prior = I3ad::fit(config.i3ad.clone(), context)?;
        let mut model =
            InpaintedPaedid { lambda: lambdas(prior.image())[0], config, prior, device: context.device.clone() };
        model.lambda = match model.config.decomposition.lambda.fixed() {
            Some(lambda) => lambda as f32,
            None => model.choose(context)?,
        };
        Ok(model)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let mut settings = file.config["decomposition"].clone();
        settings.as_object_mut().map(complete);
        let config = Config::of_file(&settings)?;
        let lambda = file.config["lambda"].as_f64().ok_or_else(|| damaged("no lambda"))? as f32;
        check_lambda(lambda)?;
        Ok(Self { config, prior: I3ad::load(file, context)?, lambda, device: context.device.clone() })
    }
}

impl InpaintedPaedid {
    /// The lambda with the largest Dice on synthetic cracks over held-out normals.
    fn choose(&self, context: &FitContext) -> Result<f32> {
        let cracks = cracks(context.holdout, self.prior.image(), context.seed)?;
        let images = cracks.images.to(&self.device)?;
        let background = self.prior.background(&images)?;
        let trials = Trials { settings: &self.config.decomposition, cracks: &cracks, images: &images };
        let lambdas = lambdas(self.prior.image());
        let coarse = trials.best_of(&background, &lambdas, Found::nothing(self.lambda))?;
        let Found { dice, lambda } = trials.best_of(&background, &lambdas_beside(coarse.lambda), coarse)?;
        context
            .observer
            .say(&format!("chose lambda {lambda:.2e}: Dice {dice:.4} on {} synthetic cracks", cracks.len()));
        Ok(lambda)
    }
}

impl Detector for InpaintedPaedid {
    fn image(&self) -> ImageSpec {
        self.prior.image()
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        Until::interruptible(|until| self.score_until(images, until))
    }

    /// What is stopped is the decomposition, or the inpainting and all of the decomposition.
    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Scores> {
        let background = self.prior.background_until(images, until)?.to(&self.device)?;
        let images = images.to(&self.device)?;
        let maps = self.config.decomposition.with(self.lambda).maps_until(&images, &background, until)?;
        Aggregation::new(self.prior.image(), SCORE_BLUR, Aggregate::Max).of(maps)
    }

    fn config(&self) -> Value {
        let mut all = self.prior.config();
        all["decomposition"] = serde_json::json!(self.config);
        all["lambda"] = self.lambda.into();
        all
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        self.prior.tensors()
    }

    fn as_explainable(&self) -> Option<&dyn Explainable> {
        Some(self)
    }
}

impl Explainable for InpaintedPaedid {
    fn explanation(&self) -> Result<Explanation> {
        self.prior.explanation()
    }

    fn explain(&self, images: &Tensor) -> Result<Vec<Vec<Illustration>>> {
        self.prior.explain(images)
    }
}
