//! SimpleNet (Liu et al. 2023, "SimpleNet: a simple network for image anomaly detection and localization").
//!
//! 1. Features of patches as PatchCore has them (section 3.1; [`crate::features`]).
//! 2. An adapter, one linear layer, where one is wanted (section 3.2); its outputs, or the features themselves, with normal
//!    noise stand for anomalies (section 3.3).
//! 3. A discriminator, two linear layers with batch normalisation and LeakyReLU between, learns to tell them apart by the
//!    truncated L1 loss (section 3.4, equation 7). The negative of its verdict is the anomaly score of a patch;
//!    the anomaly map is these, enlarged and blurred, the image score the largest.
//!
//! Trained for a fixed number of epochs; the public code keeps the epoch that is best on the test images, which is not
//! done here. The noise of the paper (0.015) suits the scale of its backbone's features, which differs between networks;
//! here its deviation is drawn for each patch from a range in units of their own. Also other than in the paper, unless
//! settings say so: there is no adapter, a step takes some patches of its images, and the learning rate is higher and falls
//! along a cosine. After training, adapter, hidden layer, normalisation and whatever linear map made the features are
//! folded into one ([`folded`]); a model file keeps them as they were learned too, for training to start from.

pub mod folded;
pub mod head;

use std::collections::BTreeMap;

use hotad_engine::Result;
use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::planned::Planned;
use hotad_engine::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smallvec::smallvec;

use crate::config::{Choice, Interval, POSITIVE, Settings, checked, damaged, settings};
use crate::detector::{Detector, Exportable, Scores};
use crate::export::{self, Exported};
use crate::features::{Embedding, Extractor, FeatureSettings};
use crate::fit::FitContext;
use crate::method::{BuiltOn, LoadContext, Method};
use crate::segmentation::{enlarged, of_patches};

use folded::Folded;
use head::{HeadSettings, Noise, Plan};

/// Least and largest deviation of the noise, as shares of the features' own.
const NOISE: Noise = Noise::Share(0.25, 2.0);

/// Learning rates, and 0 for what is not there.
const RATE_OR_NONE: Interval<f64> = Interval::RightOpen(0.0, 1.0);

settings! {
    /// Settings.
    pub struct Config {
        /// learning rate of the adapter (AdamW; paper: 1e-4), 0 for no adapter
        adapter_lr: f64 = 0.0, in RATE_OR_NONE;
        /// deviation of the noise that stands for anomalies, or "auto": drawn for each patch from 0.25 to 2 times that of the
        /// features (paper: 0.015, at the scale of its backbone)
        noise: Choice = Choice::auto(), allowed "a number above 0, or \"auto\"" if |v| v.is_auto_or(POSITIVE);
        ..head: HeadSettings = HeadSettings::default();
        ..features: FeatureSettings = FeatureSettings::default();
    }
}

impl Settings for Config {}

impl Config {
    /// What the head is trained with.
    fn plan(&self) -> Plan {
        let fixed = self.noise.fixed().map(|noise| noise as f32);
        Plan {
            adapter: (self.adapter_lr > 0.0).then_some(self.adapter_lr),
            noise: fixed.map_or(NOISE, |noise| Noise::Fixed(noise, noise)),
        }
    }
}

/// A trained SimpleNet.
pub struct SimpleNet {
    config: Config,
    embedding: Embedding,
    folded: Folded,
    planned: Planned,
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(deserialize_with = "checked")]
    settings: Config,
    embedding: Value,
}

impl Method for SimpleNet {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "simplenet";
    const SUMMARY: &'static str = "a discriminator of normal patch features and noisy ones (SimpleNet)";
    const WARM_START: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let embedding = config.features.embedding(context, Self::NAME)?;
        let settings = config.learning();
        let (head, params) = head::train(&config.head, &config.plan(), &embedding, (Self::NAME, &settings), context)?;
        let folded = Folded::of(&params, &head, &embedding)?;
        Ok(Self { config, embedding, folded, planned: Planned::default() })
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone()).map_err(damaged)?;
        let embedding = Embedding::restore(&saved.embedding, file.image, &file.tensors, context)?;
        let folded = Folded::restore(&file.tensors, &embedding)?;
        Ok(Self { config: saved.settings, embedding, folded, planned: Planned::default() })
    }

    fn built_on(config: &Config) -> Vec<BuiltOn> {
        config.features.built_on()
    }
}

impl Detector for SimpleNet {
    fn image(&self) -> ImageSpec {
        self.embedding.image()
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let queued = |images: &Tensor| {
            let patches = self.folded.scores(&self.embedding.maps(images)?, &self.embedding)?;
            let maps = enlarged(&patches, self.embedding.grid(), self.image(), self.config.head.blur as f32)?;
            Ok(smallvec![patches, maps])
        };
        let values = self.planned.run(images, self.embedding.device(), queued)?;
        Ok(of_patches(&values[0], self.embedding.grid(), &values[1], self.image()))
    }

    fn config(&self) -> Value {
        let saved = Saved { settings: self.config.clone(), embedding: self.embedding.saved() };
        serde_json::to_value(saved).expect("settings are plain data")
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = self.embedding.tensors()?;
        tensors.extend(self.folded.tensors()?);
        Ok(tensors)
    }

    fn as_extractor(&self) -> Option<&dyn Extractor> {
        self.embedding.parts().first().map(|p| p.source.extractor())
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Exportable for SimpleNet {
    fn export(&self) -> Result<Exported> {
        export::features(Self::NAME, &self.embedding, "averages over neighbourhoods, adapter and discriminator")
    }
}
