//! PaDiM (Defard et al. 2021, "PaDiM: a patch distribution modeling framework for anomaly detection and localization").
//!
//! 1. Features of normal images from the middle of a network at one size ([`crate::features`]); of their channels a random
//!    subset (section III-A), all of them where there are no more than asked for.
//! 2. At each location a Gaussian: mean and covariance over the normal images, made regular (section III-B; factor.rs).
//!    Each image counts twice, as it is and changed in light, focus or noise (not in the paper; `augment`). Memory does not
//!    depend on their number (moments.rs).
//! 3. A patch is as anomalous as its Mahalanobis distance to the Gaussian of its location ([`hotad_kernels::mahalanobis`]);
//!    the anomaly map is these distances, enlarged (bilinear) and blurred; the image score its largest value (section III-C).
//!
//! No search: one product with a triangular matrix per patch. It asks for images in which a place means the same part, as
//! on a fixture; for parts in any rotation, PatchCore is the better one. Left open by the paper: the covariance of few
//! images. Its `eps = 0.01` is in units of ImageNet features; here it is relative to the features' own variance, beside
//! a shrinkage that follows from the number of images. Neighbourhoods are not averaged, as in the paper.

mod config;
pub mod factor;
pub mod moments;

use std::collections::BTreeMap;

use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::planned::Planned;
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::pooled;
use hotad_engine::{Error, Result, random};
use hotad_kernels::device::Buffer;
use hotad_kernels::mahalanobis::{Factors, LocationGaussians, halved, pack};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smallvec::smallvec;

use crate::anomaly_map::AnomalyMap;
use crate::config::{BankType, damaged};
use crate::detector::{Detector, Exportable, Score, Scores};
use crate::export::{self, Exported};
use crate::features::augmentation::{self, Augmentation};
use crate::features::{Embedding, Extractor};
use crate::fit::FitContext;
use crate::method::{BuiltOn, LoadContext, Method};
use crate::segmentation::enlarged;

pub use config::Config;
use factor::{Regular, factor};
use moments::{Limit, Moments};

/// `eps` as a share of the mean variance, where it is chosen.
const EPS_SHARE: f64 = 0.01;

/// A trained PaDiM.
pub struct Padim {
    config: Config,
    embedding: Embedding,
    gaussians: LocationGaussians,
    planned: Planned,
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(deserialize_with = "augmentation::of_file")]
    settings: Config,
    embedding: Value,
}

impl Method for Padim {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "padim";
    const SUMMARY: &'static str = "Mahalanobis distances to a Gaussian of normal features at each location (PaDiM)";
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let mut embedding = config.features.embedding(context, Self::NAME)?;
        let channels: usize = embedding.channels().iter().sum();
        if config.dimensions > 0 && config.dimensions < channels {
            let mut kept = random::shuffled(channels, context.seed, "channels", 0);
            kept.truncate(config.dimensions);
            kept.sort_unstable();
            embedding.select(&kept)?;
            context.observer.say(&format!("{} of {channels} channels, drawn at random", config.dimensions));
        }
        let regular = |mean_variance: f64| Regular {
            shrinkage: config.shrinkage.fixed(),
            eps: config.eps.fixed().unwrap_or(EPS_SHARE * mean_variance).max(f64::from(f32::MIN_POSITIVE)),
        };
        let limit = Limit { mebibytes: config.memory, reduces: "dimensions" };
        let gaussians = gaussians(&embedding, &config.augmentation, regular, config.factors, &limit, context)?;
        Ok(Self { config, embedding, gaussians, planned: Planned::default() })
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone()).map_err(damaged)?;
        let embedding = Embedding::restore(&saved.embedding, file.image, &file.tensors, context)?;
        let (h, w) = embedding.grid();
        let gaussians = restored(&file.tensors, h * w, embedding.dimensions())?;
        Ok(Self { config: saved.settings, embedding, gaussians, planned: Planned::default() })
    }

    fn built_on(config: &Config) -> Vec<BuiltOn> {
        config.features.built_on()
    }
}

/// The Gaussians of the patches of normal images at each location; `regular` says how covariances are made regular, from
/// their mean variance.
///
/// # Errors
/// More memory than is allowed; broken images, features that are not finite, interruption.
pub(crate) fn gaussians(
    embedding: &Embedding,
    augmentation: &Augmentation,
    regular: impl Fn(f64) -> Regular,
    kind: BankType,
    limit: &Limit,
    context: &FitContext,
) -> Result<LocationGaussians> {
    let ((h, w), d) = (embedding.grid(), embedding.dimensions());
    let mut moments = Moments::new(h * w, d, limit)?;
    let (images, note) = (context.train.len(), augmentation.note());
    context.observer.say(&format!("fitting {} Gaussians of {d} dimensions to {images} images{note}", h * w));
    embedding.for_each_augmented(context.train, augmentation.drawn_by(context.seed), |x| {
        let values = x.values()?;
        pooled(|| moments.add(&values));
        Ok(())
    })?;
    let regular = regular(moments.mean_variance());
    let whole = |location: usize| -> Option<(Vec<f32>, Vec<f32>)> {
        let of = moments.gaussian(location);
        let lower = factor(&of.covariance, d, images, regular)?;
        Some((of.mean.iter().map(|v| *v as f32).collect(), pack(d, |i, j| lower[(i, j)] as f32)))
    };
    let found: Option<Vec<_>> = pooled(|| (0..h * w).into_par_iter().map(whole).collect());
    let (mean, factors): (Vec<_>, Vec<_>) = found
        .ok_or_else(|| Error::Config("features of the training images are not finite; use another backbone".into()))?
        .into_iter()
        .unzip();
    let (mean, packed) = (mean.concat(), factors.concat());
    let (factors, scales) = match kind {
        BankType::F16 => halved(&packed, d),
        BankType::F32 => (Factors::F32(packed), vec![1.0; h * w]),
    };
    Ok(LocationGaussians::new(d, mean, factors, scales)?)
}

/// Distances of the vectors `[n, rows, columns, d]`, image by image in row order.
///
/// # Errors
/// When they are not those of the Gaussians' locations.
pub(crate) fn distances(gaussians: &LocationGaussians, vectors: &Tensor) -> Result<Buffer> {
    let mut y = vectors.device().alloc(vectors.len() / gaussians.shape().1)?;
    gaussians.distances(vectors.view(), &mut y)?;
    Ok(y)
}

/// Prefix of the Gaussians' tensors.
const PREFIX: &str = "gaussians.";

/// Gaussians as tensors of a model file.
pub(crate) fn stored(gaussians: &LocationGaussians) -> BTreeMap<String, Stored> {
    let (locations, d) = gaussians.shape();
    let name = |of: &str| format!("{PREFIX}{of}");
    let factors = match gaussians.factors() {
        Factors::F16(v) => Stored::F16(vec![locations, v.len() / locations], v.clone()),
        Factors::F32(v) => Stored::F32(vec![locations, v.len() / locations], v.clone()),
    };
    BTreeMap::from([
        (name("mean"), Stored::F32(vec![locations, d], gaussians.mean().to_vec())),
        (name("factors"), factors),
        (name("scales"), Stored::F32(vec![locations], gaussians.scales().to_vec())),
    ])
}

/// Reads what [`stored`] has given, of `locations` and `d` dimensions.
///
/// # Errors
/// When it is damaged.
pub(crate) fn restored(tensors: &BTreeMap<String, Stored>, locations: usize, d: usize) -> Result<LocationGaussians> {
    let damaged = |what: &str| Error::Config(format!("damaged Gaussians in the model file ({what})"));
    let single = |of: &str| match tensors.get(&format!("{PREFIX}{of}")) {
        Some(Stored::F32(_, v)) => Ok(v.clone()),
        _ => Err(damaged(&format!("tensor \"{PREFIX}{of}\" is missing"))),
    };
    let factors = match tensors.get(&format!("{PREFIX}factors")) {
        Some(Stored::F16(_, v)) => Factors::F16(v.clone()),
        Some(Stored::F32(_, v)) => Factors::F32(v.clone()),
        None => return Err(damaged("tensor \"gaussians.factors\" is missing")),
    };
    let mean = single("mean")?;
    if mean.len() != locations * d {
        return Err(damaged(&format!("{} values for {locations} means of {d}", mean.len())));
    }
    LocationGaussians::new(d, mean, factors, single("scales")?).map_err(|e| damaged(&e.to_string()))
}

impl Detector for Padim {
    fn image(&self) -> ImageSpec {
        self.embedding.image()
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let queued = |images: &Tensor| {
            let patches = distances(&self.gaussians, &self.embedding.embed(images)?)?;
            Ok(smallvec![enlarged(&patches, self.embedding.grid(), self.image(), self.config.blur as f32)?])
        };
        let values = self.planned.run(images, self.embedding.device(), queued)?;
        let largest = |map: &AnomalyMap| map.values.iter().copied().fold(0.0, f32::max);
        let maps = AnomalyMap::of_batch(&values[0], self.image());
        Ok(maps.map(|map| Score { value: largest(&map), map }).collect())
    }

    fn config(&self) -> Value {
        let saved = Saved { settings: self.config.clone(), embedding: self.embedding.saved() };
        serde_json::to_value(saved).expect("settings are plain data")
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = self.embedding.tensors()?;
        tensors.extend(stored(&self.gaussians));
        Ok(tensors)
    }

    fn as_extractor(&self) -> Option<&dyn Extractor> {
        self.embedding.parts().first().map(|p| p.source.extractor())
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Exportable for Padim {
    fn export(&self) -> Result<Exported> {
        export::features(
            Self::NAME,
            &self.embedding,
            "averages over neighbourhoods, the Gaussians and distances to them",
        )
    }
}
