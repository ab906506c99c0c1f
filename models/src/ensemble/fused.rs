//! The trained feature-level ensemble: fused features under a head.

use std::collections::BTreeMap;

use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::planned::Planned;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_kernels::device::Buffer;
use hotad_kernels::mahalanobis::{Factors, LocationGaussians, pack};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smallvec::smallvec;

use super::features::{Config, HeadKind, fit};
use crate::config::{BankType, Settings, damaged};
use crate::detector::{Detector, Scores};
use crate::features::Embedding;
use crate::features::augmentation::{self, Augmentation};
use crate::features::pca::Covariance;
use crate::fit::FitContext;
use crate::method::{LoadContext, Method};
use crate::padim::factor::{Regular, factor};
use crate::padim::moments::Limit;
use crate::padim::{self, distances};
use crate::patchcore::bank::PatchBank;
use crate::patchcore::nearest::nearest;
use crate::segmentation::{enlarged, of_patches};
use crate::simplenet::folded::Folded;
use crate::simplenet::head::{self, Noise, Plan};

/// `eps` of the Gaussians, as a share of the mean variance.
const EPS_SHARE: f64 = 0.01;

/// What location-wise covariances may take.
const LIMIT: Limit = Limit { mebibytes: 8192, reduces: "maps" };

/// What tells normal patches from others, fitted.
pub enum Head {
    /// SimpleNet's discriminator.
    Discriminator(Folded),
    /// A Gaussian at each location, or one for all.
    Gaussians(LocationGaussians),
    /// Normal patches.
    Bank(PatchBank),
}

impl Head {
    /// Fits the head that the settings name.
    ///
    /// # Errors
    /// Broken images, divergence, interruption, too little memory.
    pub fn fit(config: &Config, embedding: &Embedding, context: &FitContext) -> Result<Self> {
        match config.head {
            HeadKind::Discriminator => {
                let [least, most] = config.noise_range.map(|v| v as f32);
                let noise = if config.whiten { Noise::Fixed(least, most) } else { Noise::Share(least, most) };
                let settings = config.learning();
                let plan = Plan { adapter: None, noise };
                let about = (FeatureEnsemble::NAME, &settings);
                let (head, params) = head::train(&config.discriminator, &plan, embedding, about, context)?;
                Ok(Self::Discriminator(Folded::of(&params, &head, embedding)?))
            }
            HeadKind::Mahalanobis => {
                let regular = |variance: f64| Regular {
                    shrinkage: None,
                    eps: (EPS_SHARE * variance).max(f64::from(f32::MIN_POSITIVE)),
                };
                Ok(Self::Gaussians(padim::gaussians(
                    embedding,
                    &augmentation(config),
                    regular,
                    BankType::F16,
                    &LIMIT,
                    context,
                )?))
            }
            HeadKind::GlobalMahalanobis => {
                Ok(Self::Gaussians(one_gaussian(embedding, &augmentation(config), context)?))
            }
            HeadKind::Nearest => Ok(Self::Bank(PatchBank::build(embedding, &bank_settings(config), context)?)),
        }
    }

    /// Anomaly scores of the patches of images, image by image in row order.
    fn scores(&self, embedding: &Embedding, images: &Tensor) -> Result<Buffer> {
        match self {
            Self::Discriminator(folded) => folded.scores(&embedding.maps(images)?, embedding),
            Self::Gaussians(gaussians) => distances(gaussians, &embedding.embed(images)?),
            Self::Bank(bank) => {
                let vectors = embedding.embed(images)?;
                Ok(nearest(&vectors, bank.vectors(), 1)?.distance)
            }
        }
    }
}

/// Settings of a bank, of which the ensemble has the size and what images it is of.
fn bank_settings(config: &Config) -> crate::patchcore::Config {
    let augmentation = augmentation(config);
    crate::patchcore::Config { coreset: config.coreset, augmentation, ..crate::patchcore::Config::default() }
}

/// Changed views, but where members' own maps are features: those of changes that a member has not seen are large.
fn augmentation(config: &Config) -> Augmentation {
    if config.member_maps { Augmentation::none() } else { config.augmentation.clone() }
}

/// One Gaussian of the patches at all locations.
fn one_gaussian(embedding: &Embedding, augmentation: &Augmentation, context: &FitContext) -> Result<LocationGaussians> {
    let mut covariance = Covariance::new(embedding.device());
    embedding.for_each_augmented(context.train, augmentation.drawn_by(context.seed), |x| covariance.add(&x))?;
    let (d, variances) = (embedding.dimensions(), covariance.variances());
    let eps = EPS_SHARE * variances.iter().sum::<f64>() / d as f64;
    let regular = Regular { shrinkage: Some(0.0), eps: eps.max(f64::from(f32::MIN_POSITIVE)) };
    let lower = factor(&covariance.lower(), d, covariance.rows(), regular)
        .ok_or_else(|| Error::Config("features of the training images are not finite; use other members".into()))?;
    let packed = pack(d, |i, j| lower[(i, j)] as f32);
    Ok(LocationGaussians::new(d, covariance.mean(), Factors::F32(packed), vec![1.0])?)
}

/// Fused features under a head.
pub struct FeatureEnsemble {
    config: Config,
    embedding: Embedding,
    head: Head,
    planned: Planned,
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(deserialize_with = "augmentation::of_file")]
    settings: Config,
    embedding: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bank: Option<Value>,
}

impl FeatureEnsemble {
    /// Of fitted parts.
    pub(super) fn new(config: Config, embedding: Embedding, head: Head) -> Self {
        Self { config, embedding, head, planned: Planned::default() }
    }
}

impl Method for FeatureEnsemble {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "ensemble";
    const SUMMARY: &'static str = "features of several trained models, fused, under one head";
    const ENSEMBLE: bool = true;
    const WARM_START: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        fit(config, context)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone()).map_err(damaged)?;
        let embedding = Embedding::restore(&saved.embedding, file.image, &file.tensors, context)?;
        let (d, (h, w)) = (embedding.dimensions(), embedding.grid());
        let head = match saved.settings.head {
            HeadKind::Discriminator => Head::Discriminator(Folded::restore(&file.tensors, &embedding)?),
            HeadKind::Mahalanobis => Head::Gaussians(padim::restored(&file.tensors, h * w, d)?),
            HeadKind::GlobalMahalanobis => Head::Gaussians(padim::restored(&file.tensors, 1, d)?),
            HeadKind::Nearest => {
                let bank = saved.bank.ok_or_else(|| damaged("there is no bank"))?;
                Head::Bank(PatchBank::restore(&bank, &file.tensors, d, context.device)?)
            }
        };
        Ok(Self { config: saved.settings, embedding, head, planned: Planned::default() })
    }
}

impl Detector for FeatureEnsemble {
    fn image(&self) -> ImageSpec {
        self.embedding.image()
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let queued = |images: &Tensor| {
            let patches = self.head.scores(&self.embedding, images)?;
            let maps = enlarged(&patches, self.embedding.grid(), self.image(), self.config.discriminator.blur as f32)?;
            Ok(smallvec![patches, maps])
        };
        let values = self.planned.run(images, self.embedding.device(), queued)?;
        Ok(of_patches(&values[0], self.embedding.grid(), &values[1], self.image()))
    }

    fn config(&self) -> Value {
        let bank = match &self.head {
            Head::Bank(bank) => Some(bank.saved()),
            Head::Discriminator(_) | Head::Gaussians(_) => None,
        };
        let saved = Saved { settings: self.config.clone(), embedding: self.embedding.saved(), bank };
        serde_json::to_value(saved).expect("settings are plain data")
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = self.embedding.tensors()?;
        match &self.head {
            Head::Discriminator(folded) => tensors.extend(folded.tensors()?),
            Head::Gaussians(gaussians) => tensors.extend(padim::stored(gaussians)),
            Head::Bank(bank) => {
                tensors.insert("bank".into(), bank.stored()?);
            }
        }
        Ok(tensors)
    }
}
