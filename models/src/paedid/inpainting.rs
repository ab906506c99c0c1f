//! PAEDID's decomposition over a background that I3AD paints (contribution iii of the paper: the prior is a part that
//! can be exchanged).

use std::collections::BTreeMap;

use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Result, interrupt};
use serde_json::Value;
use toml::Table;

use super::check_lambda;
use super::config::SHRINK;
use super::decomposition::{Decomposition, lambdas};
use crate::config::{Choice, POSITIVE, RATE, Settings, damaged, settings};
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
        /// weight of the L1 term, or "auto": the best on synthetic cracks over held-out normals
        lambda: Choice = Choice::auto(), allowed "a number above 0, or \"auto\"" if |v| v.is_auto_or(POSITIVE), for Scoring;
        /// Adam steps of the decomposition
        steps: u32 = 100, in 1..=10_000, for Scoring;
        /// learning rate of the decomposition
        decompose_lr: f64 = 0.02, in RATE, for Scoring;
        /// values of the defect up to this (images are in 0 to 1) become 0 at the end, larger ones lose as much, so that few pixels
        /// are left; 0 for none (paper)
        shrink: f64 = 0.0, in SHRINK, for Scoring;
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
        model.lambda = match model.config.lambda.fixed() {
            Some(lambda) => lambda as f32,
            None => model.choose(context)?,
        };
        Ok(model)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let config = Config::of_file(&file.config["decomposition"])?;
        let lambda = file.config["lambda"].as_f64().ok_or_else(|| damaged("no lambda"))? as f32;
        check_lambda(lambda)?;
        Ok(Self { config, prior: I3ad::load(file, context)?, lambda, device: context.device.clone() })
    }
}

impl InpaintedPaedid {
    fn decomposition(&self, lambda: f32) -> Decomposition {
        let Config { steps, decompose_lr, shrink, .. } = self.config;
        Decomposition { lambda, steps, lr: decompose_lr as f32, shrink: shrink as f32 }
    }

    /// The lambda with the largest Dice on synthetic cracks over held-out normals.
    fn choose(&self, context: &FitContext) -> Result<f32> {
        let cracks = cracks(context.holdout, self.prior.image(), context.seed)?;
        let images = cracks.images.to(&self.device)?;
        let background = self.prior.background(&images)?;
        let mut best = (f64::NEG_INFINITY, self.lambda);
        for lambda in lambdas(self.prior.image()) {
            interrupt::check()?;
            let maps = self.decomposition(lambda).maps(&images, &background)?;
            let dice = cracks.best_dice(&maps.into_vec()?).map_or(0.0, |(dice, _)| dice);
            if dice > best.0 {
                best = (dice, lambda);
            }
        }
        let (dice, lambda) = best;
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
        self.score_until(images, &Until::done())
    }

    /// What is stopped is the decomposition, or the inpainting and all of the decomposition.
    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Scores> {
        let images = images.to(&self.device)?;
        let background = self.prior.background_until(&images, until)?;
        let maps = self.decomposition(self.lambda).maps_until(&images, &background, until)?;
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
