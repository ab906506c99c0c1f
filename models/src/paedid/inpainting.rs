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
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Table;

use super::check_lambda;
use super::decomposition::{Decomposition, lambdas};
use crate::config::{Choice, Doc, Settings, concatenated, damaged, join, require};
use crate::detector::{Detector, Explanation, FitContext, Illustration, Score};
use crate::i3ad::{self, I3ad};
use crate::prior::{Background, BackgroundPrior};
use crate::segmentation::{Aggregate, scores};
use crate::synthetic::cracks;

/// Blur in pixels before the largest value of a map is taken.
const SCORE_BLUR: f32 = 1.0;

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Weight of the L1 term.
    pub lambda: Choice,
    /// Adam steps of the decomposition.
    pub steps: u32,
    /// Learning rate of the decomposition.
    pub decompose_lr: f64,
    /// Those of the generator and of its iterations.
    #[serde(flatten)]
    pub i3ad: i3ad::Config,
}

impl Default for Config {
    fn default() -> Self {
        let i3ad = i3ad::Config::default();
        Self { lambda: Choice::Word("auto".into()), steps: 100, decompose_lr: 0.02, i3ad }
    }
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &join::<3, 28, 31>(
        [
            ("lambda", "weight of the L1 term, or \"auto\": the best on synthetic cracks over held-out normals"),
            ("steps", "Adam steps of the decomposition"),
            ("decompose_lr", "learning rate of the decomposition"),
        ],
        i3ad::Config::ALL,
    );

    const SCORING: &'static [&'static str] =
        &concatenated::<&str, 3, 11, 14>(["lambda", "steps", "decompose_lr"], i3ad::Config::SCORED);

    const LENGTH: &'static [&'static str] = i3ad::Config::LENGTH;

    fn under(table: &Table) -> Result<Table> {
        i3ad::Config::under(table)
    }

    fn check(&self) -> Result<()> {
        self.lambda.check("lambda", "a number above 0, or \"auto\"", |v| v > 0.0 && v.is_finite())?;
        require((1..=10_000).contains(&self.steps), "steps", self.steps, "1 to 10000")?;
        let rate = self.decompose_lr;
        require(rate > 0.0 && rate < 1.0, "decompose_lr", rate, "above 0, below 1")?;
        self.i3ad.check()
    }
}

/// A trained I3AD with a decomposition behind it.
pub struct InpaintedPaedid {
    config: Config,
    prior: I3ad,
    lambda: f32,
    device: Device,
}

/// Trains I3AD and chooses lambda.
///
/// # Errors
/// Bad settings or images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<InpaintedPaedid> {
    let prior = i3ad::fit(config.i3ad.clone(), context)?;
    let mut model =
        InpaintedPaedid { lambda: lambdas(prior.image())[0], config, prior, device: context.device.clone() };
    model.lambda = match model.config.lambda.fixed() {
        Some(lambda) => lambda as f32,
        None => model.choose(context)?,
    };
    Ok(model)
}

impl InpaintedPaedid {
    fn decomposition(&self, lambda: f32) -> Decomposition {
        Decomposition { lambda, steps: self.config.steps, lr: self.config.decompose_lr as f32 }
    }

    /// The lambda with the largest Dice on synthetic cracks over held-out normals.
    fn choose(&self, context: &FitContext) -> Result<f32> {
        let cracks = cracks(context.holdout, self.prior.image(), context.seed)?;
        let images = cracks.images.to(&self.device)?;
        let background = self.prior.background(&images)?.images;
        let mut best = (f64::NEG_INFINITY, self.lambda);
        for lambda in lambdas(self.prior.image()) {
            interrupt::check()?;
            let maps = self.decomposition(lambda).maps(&images, &background)?;
            let dice = cracks.best_dice(&maps).map_or(0.0, |(dice, _)| dice);
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

    /// Reads a model.
    pub(crate) fn load(file: &ModelFile, device: &Device) -> Result<Self> {
        let config = Config::of_file(&file.config["decomposition"])?;
        let lambda = file.config["lambda"].as_f64().ok_or_else(|| damaged("no lambda"))? as f32;
        check_lambda(lambda)?;
        Ok(Self { config, prior: I3ad::load(file, device)?, lambda, device: device.clone() })
    }
}

impl Detector for InpaintedPaedid {
    fn method(&self) -> &'static str {
        "paedid-i3ad"
    }

    fn image(&self) -> ImageSpec {
        self.prior.image()
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        self.score_until(images, &Until::done())
    }

    /// What is stopped is the decomposition, or the inpainting and all of the decomposition.
    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Vec<Score>> {
        let images = images.to(&self.device)?;
        let Background { images: background, .. } = self.prior.background_until(&images, until)?;
        let maps = self.decomposition(self.lambda).maps_until(&images, &background, until)?;
        scores(maps, self.prior.image(), SCORE_BLUR, Aggregate::Max)
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

    fn explanation(&self) -> Result<Explanation> {
        self.prior.explanation()
    }

    fn explain(&self, images: &Tensor) -> Result<Vec<Vec<Illustration>>> {
        self.prior.explain(images)
    }
}
