//! The output-level ensemble: the members' image scores and anomaly maps, calibrated ([`super::calibration`]) and combined
//! ([`super::combination`]). Whatever is fitted is fitted to held-out normal images and synthetic defects on them
//! ([`super::evidence`]).

use std::collections::BTreeMap;

use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_kernels::device::HostBuffer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smallvec::SmallVec;

use super::calibration::{Rule, Scale};
use super::combination::{Combination, Combine, by_skill};
use super::evidence::{Sample, collect, scored};
use super::{common_image, require_members};
use crate::anomaly_map::AnomalyMap;
use crate::config::{Settings, checked, damaged, require, settings};
use crate::detector::{Detector, Score, Scores};
use crate::fit::FitContext;
use crate::member::Member;
use crate::method::{LoadContext, Method};

/// Weights of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MemberWeights {
    /// In order.
    Numbers(Vec<f64>),
    /// `"skill"`.
    Word(String),
}

settings! {
    /// Settings.
    pub struct Config {
        /// "mean", "weighted", "softmax" (mean by the softmax of the scores), "max", "majority" (the share of members above the
        /// 99 % quantile of their normal scores) or "stacking" (logistic regression on the scores, fitted to held-out normal
        /// images and synthetic defects)
        combine: Combine = Combine::Mean;
        /// how scores are brought to one scale: "logistic", "minmax" or "quantile" by held-out normal images, "platt" or
        /// "isotonic" by these and synthetic defects
        calibration: Rule = Rule::Logistic;
        /// for combine = "weighted": one number for each member, in order, or "skill" (CAWPE: area under the ROC curve of held-out
        /// normal images against synthetic defects, to the fourth power)
        weights: MemberWeights = MemberWeights::Numbers(Vec::new());
    }
}

impl Settings for Config {
    fn check_together(&self) -> Result<()> {
        let weighted = self.combine == Combine::Weighted;
        let allowed = "numbers of 0 or more or \"skill\" with combine = \"weighted\", else none";
        match &self.weights {
            MemberWeights::Word(word) => require(weighted && word == "skill", "weights", format!("{word:?}"), allowed),
            MemberWeights::Numbers(numbers) => {
                let positive = numbers.iter().all(|w| *w >= 0.0 && w.is_finite()) && numbers.iter().sum::<f64>() > 0.0;
                let fits = if weighted { positive } else { numbers.is_empty() };
                require(fits, "weights", format!("{numbers:?}"), allowed)
            }
        }
    }
}

impl Config {
    /// Whether something is fitted to synthetic defects.
    fn wants_defects(&self) -> bool {
        let skill = matches!(self.weights, MemberWeights::Word(_));
        skill || self.combine == Combine::Stacking || self.calibration.wants_defects()
    }

    /// The combination of members with these scales, and these scores of held-out images.
    fn combination(&self, scales: &[&Scale], samples: &[&Sample]) -> Combination {
        match (&self.combine, &self.weights) {
            (Combine::Stacking, _) => Combination::stacked(scales, samples),
            (Combine::Weighted, MemberWeights::Word(_)) => Combination::new(self.combine, &by_skill(samples)),
            (Combine::Weighted, MemberWeights::Numbers(numbers)) => Combination::new(self.combine, numbers),
            _ => Combination::new(self.combine, &vec![1.0; scales.len()]),
        }
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
    images: Combination,
    pixels: Combination,
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(deserialize_with = "checked")]
    settings: Config,
    members: Vec<(Value, Scales)>,
    images: Combination,
    pixels: Combination,
}

/// Prefix of a member's tensors.
fn prefix(member: usize) -> String {
    format!("member.{member}.")
}

impl Method for ScoreEnsemble {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "score-ensemble";
    const SUMMARY: &'static str = "calibrated scores of several trained models, combined";
    const ENSEMBLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        require_members(context, Self::NAME)?;
        if let MemberWeights::Numbers(numbers) = &config.weights
            && config.combine == Combine::Weighted
            && numbers.len() != context.members.len()
        {
            let (weights, members) = (numbers.len(), context.members.len());
            return Err(Error::Config(format!("setting weights: {weights} numbers for {members} members")));
        }
        let read = |path: &std::path::PathBuf| Member::read(path, &context.reading());
        let members: Vec<Member> = context.members.iter().map(read).collect::<Result<_>>()?;
        let image = common_image(members.iter().map(|m| m.model.detector.image()), context.gray);
        let (count, defects) = (context.holdout.len(), config.wants_defects());
        let more = if defects { " and synthetic defects on them" } else { "" };
        context.observer.say(&format!("calibrating {} members on {count} held-out images{more}", members.len()));
        let evidence = collect(&members, image, defects, context)?;
        if defects && evidence.iter().any(|e| e.images.defective.is_empty()) {
            let reason = "no synthetic defect shows on the held-out images; use calibration = \"logistic\" and combine = \"mean\"";
            return Err(Error::Config(reason.into()));
        }
        let scales = evidence.iter().map(|e| Scales {
            images: Scale::of(config.calibration, &e.images),
            pixels: Scale::of(config.calibration, &e.pixels),
        });
        let members: Vec<(Member, Scales)> = members.into_iter().zip(scales).collect();
        let of = |scale: fn(&Scales) -> &Scale, sample: fn(&super::evidence::Evidence) -> &Sample| {
            let scales: Vec<&Scale> = members.iter().map(|(_, s)| scale(s)).collect();
            config.combination(&scales, &evidence.iter().map(sample).collect::<Vec<_>>())
        };
        let (images, pixels) = (of(|s| &s.images, |e| &e.images), of(|s| &s.pixels, |e| &e.pixels));
        Ok(Self { config, image, members, images, pixels })
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone()).map_err(damaged)?;
        let count = saved.members.len();
        if !saved.images.is_whole(count) || !saved.pixels.is_whole(count) {
            return Err(damaged("a combination is not of all members"));
        }
        let mut members = Vec::with_capacity(count);
        for (i, (member, scales)) in saved.members.into_iter().enumerate() {
            if !scales.images.is_whole() || !scales.pixels.is_whole() {
                return Err(damaged("a scale is incomplete"));
            }
            members.push((Member::restore(&member, &prefix(i), &file.tensors, context)?, scales));
        }
        let (config, images, pixels) = (saved.settings, saved.images, saved.pixels);
        Ok(Self { config, image: file.image, members, images, pixels })
    }
}

/// Members whose scores are on the stack.
const MEMBERS: usize = 8;

impl ScoreEnsemble {
    /// The members' scores of one image as one.
    fn combined(&self, scores: &[&Score]) -> Score {
        let mut parts = SmallVec::<[_; MEMBERS]>::from_elem(0.0, scores.len());
        let mut of = |combination: &Combination, value: &dyn Fn(&Score) -> f32, scale: fn(&Scales) -> &Scale| {
            for ((part, score), (_, scales)) in parts.iter_mut().zip(scores).zip(&self.members) {
                *part = combination.part(scale(scales), value(score));
            }
            combination.of(&parts)
        };
        let value = of(&self.images, &|s| s.value, |s| &s.images);
        let ImageSpec { height, width, .. } = self.image;
        let pixel = |at: usize| of(&self.pixels, &|s| s.map.values[at], |s| &s.pixels);
        let values = HostBuffer::collect((0..height * width).map(pixel));
        Score { value, map: AnomalyMap { height, width, values } }
    }
}

impl Detector for ScoreEnsemble {
    fn image(&self) -> ImageSpec {
        self.image
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let size = (self.image.height, self.image.width);
        let all = self.members.iter().map(|(m, _)| scored(m, images, size));
        let all = all.collect::<Result<SmallVec<[Scores; MEMBERS]>>>()?;
        let of_image = |at: usize| all.iter().map(move |scores| &scores[at]).collect::<SmallVec<[_; MEMBERS]>>();
        let image = |at: usize| self.combined(&of_image(at));
        Ok((0..images.shape()[0]).map(image).collect())
    }

    fn config(&self) -> Value {
        let members = self.members.iter().map(|(m, s)| (m.saved(), s.clone())).collect();
        let (images, pixels) = (self.images.clone(), self.pixels.clone());
        let saved = Saved { settings: self.config.clone(), members, images, pixels };
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
