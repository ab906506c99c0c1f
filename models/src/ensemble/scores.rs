//! The output-level ensemble: the members' image scores and anomaly maps, calibrated on held-out normal images
//! ([`super::calibration`]) and combined.

use std::collections::BTreeMap;

use hotad_engine::container::Stored;
use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result, interrupt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::calibration::{Rule, Scale};
use super::{common_image, require_members};
use crate::config::{Doc, Settings, require};
use crate::detector::{Detector, FitContext, Score};
use crate::evaluate::map_at;
use crate::features::fitted;
use crate::member::Member;

/// Images scored together.
const BATCH: usize = 8;

/// Pixels of a map that its scale is made of: every so many.
const STRIDE: usize = 17;

/// How calibrated scores are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// Their mean.
    Mean,
    /// Their mean by the weights.
    Weighted,
    /// The largest.
    Max,
    /// The share of members that vote for an anomaly.
    Majority,
}

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// How scores are combined.
    pub combine: Combine,
    /// How they are brought to one scale.
    pub calibration: Rule,
    /// Weights of the members, in order.
    pub weights: Vec<f64>,
}

impl Default for Config {
    fn default() -> Self {
        Self { combine: Combine::Mean, calibration: Rule::Logistic, weights: Vec::new() }
    }
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &[
        (
            "combine",
            "\"mean\", \"weighted\", \"max\" or \"majority\" (the share of members above the 99 % quantile of their normal scores)",
        ),
        (
            "calibration",
            "\"logistic\", \"minmax\" or \"quantile\": how scores are brought to one scale, by held-out normal images",
        ),
        ("weights", "for combine = \"weighted\": one number for each member, in order"),
    ];

    fn check(&self) -> Result<()> {
        let positive =
            self.weights.iter().all(|w| *w >= 0.0 && w.is_finite()) && self.weights.iter().sum::<f64>() > 0.0;
        let fits = if self.combine == Combine::Weighted { positive } else { self.weights.is_empty() };
        let allowed = "numbers of 0 or more with combine = \"weighted\", else none";
        require(fits, "weights", format!("{:?}", self.weights), allowed)
    }
}

/// Scales of one member: of its image scores, and of the pixels of its maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scales {
    images: Scale,
    pixels: Scale,
}

/// Members whose scores are combined.
pub struct ScoreEnsemble {
    config: Config,
    image: ImageSpec,
    members: Vec<(Member, Scales)>,
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    settings: Config,
    members: Vec<(Value, Scales)>,
}

/// Prefix of a member's tensors.
fn prefix(member: usize) -> String {
    format!("member.{member}.")
}

/// Calibrates members on the held-out normal images.
///
/// # Errors
/// Too few members, weights that are not as many; broken images, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<ScoreEnsemble> {
    require_members(context, "score-ensemble")?;
    if config.combine == Combine::Weighted && config.weights.len() != context.members.len() {
        let (weights, members) = (config.weights.len(), context.members.len());
        return Err(Error::Config(format!("setting weights: {weights} numbers for {members} members")));
    }
    let mut members = Vec::with_capacity(context.members.len());
    for path in context.members {
        let member = Member::read(path, context.device)?;
        (context.say)(&format!("calibrating {} on {} held-out images", member.name, context.holdout.len()));
        let scales = Scales::of(&member, context)?;
        members.push((member, scales));
    }
    let image = common_image(members.iter().map(|(m, _)| m.model.detector.image()), context.gray);
    Ok(ScoreEnsemble { config, image, members })
}

impl Scales {
    fn of(member: &Member, context: &FitContext) -> Result<Self> {
        let (mut values, mut pixels) = (Vec::new(), Vec::new());
        let order: Vec<usize> = (0..context.holdout.len()).collect();
        for_each_batch(&Images::new(context.holdout, member.model.detector.image()), &order, BATCH, |batch| {
            interrupt::check()?;
            for score in member.model.score_files(&batch, context.holdout)? {
                values.push(score.value);
                pixels.extend(score.map.iter().step_by(STRIDE));
            }
            Ok(())
        })?;
        Ok(Self { images: Scale::of(values), pixels: Scale::of(pixels) })
    }
}

impl ScoreEnsemble {
    /// Reads a model.
    pub(crate) fn load(file: &ModelFile, device: &Device) -> Result<Self> {
        let damaged = |what: String| Error::Config(format!("damaged settings in the model file ({what})"));
        let saved: Saved = serde_json::from_value(file.config.clone()).map_err(|e| damaged(e.to_string()))?;
        let mut members = Vec::with_capacity(saved.members.len());
        for (i, (member, scales)) in saved.members.into_iter().enumerate() {
            if !scales.images.is_whole() || !scales.pixels.is_whole() {
                return Err(damaged("a scale is not 101 quantiles".into()));
            }
            members.push((Member::restore(&member, &prefix(i), &file.tensors, device)?, scales));
        }
        Ok(Self { config: saved.settings, image: file.image, members })
    }

    /// The weight of a member.
    fn weight(&self, member: usize) -> f32 {
        match self.config.combine {
            Combine::Weighted => (self.config.weights[member] / self.config.weights.iter().sum::<f64>()) as f32,
            _ => 1.0 / self.members.len() as f32,
        }
    }

    /// What a member's score adds to a sum, or what the largest is taken of.
    fn part(&self, member: usize, scale: &Scale, score: f32) -> f32 {
        match self.config.combine {
            Combine::Mean | Combine::Weighted => self.weight(member) * scale.apply(self.config.calibration, score),
            Combine::Max => scale.apply(self.config.calibration, score),
            Combine::Majority => self.weight(member) * f32::from(u8::from(scale.votes(score))),
        }
    }

    fn combined(&self, known: f32, part: f32) -> f32 {
        if self.config.combine == Combine::Max { known.max(part) } else { known + part }
    }

    /// The value before any member has spoken.
    fn start(&self) -> f32 {
        if self.config.combine == Combine::Max { f32::NEG_INFINITY } else { 0.0 }
    }
}

impl Detector for ScoreEnsemble {
    fn method(&self) -> &'static str {
        "score-ensemble"
    }

    fn image(&self) -> ImageSpec {
        self.image
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        let (size, n) = ((self.image.height, self.image.width), images.shape()[0]);
        let start = Score { value: self.start(), map: vec![self.start(); size.0 * size.1] };
        let mut all = vec![start; n];
        for (i, (member, scales)) in self.members.iter().enumerate() {
            let spec = member.model.detector.image();
            let scores = member.model.score(&fitted(images, spec, &Device::Cpu)?)?;
            for (whole, score) in all.iter_mut().zip(scores) {
                whole.value = self.combined(whole.value, self.part(i, &scales.images, score.value));
                for (w, v) in whole.map.iter_mut().zip(map_at(score.map, (spec.height, spec.width), size)?) {
                    *w = self.combined(*w, self.part(i, &scales.pixels, v));
                }
            }
        }
        Ok(all)
    }

    fn config(&self) -> Value {
        let members = self.members.iter().map(|(m, s)| (m.saved(), s.clone())).collect();
        let saved = Saved { settings: self.config.clone(), members };
        serde_json::to_value(saved).expect("settings are plain data")
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = BTreeMap::new();
        for (i, (member, _)) in self.members.iter().enumerate() {
            tensors.extend(member.tensors(&prefix(i))?);
        }
        Ok(tensors)
    }
}
