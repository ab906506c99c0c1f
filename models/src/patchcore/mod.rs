//! PatchCore (Roth et al. 2022, "Towards total recall in industrial anomaly detection").
//!
//! 1. Features of normal images from the middle of a network, averaged over neighbourhoods, one vector a patch (equations 1
//!    to 3; [`crate::features`]).
//! 2. A memory bank of a coreset of them, and of those of each image changed in light, focus or noise (not in the paper; `augment`): greedily the vector farthest from those chosen (section 3.2), by distances after a
//!    random projection to 128 dimensions.
//! 3. A patch is as anomalous as its Euclidean distance to the nearest bank vector; the anomaly map is these
//!    distances, enlarged (bilinear) and blurred; the image score the largest, weighted on request (section 3.3, nearest.rs).
//!
//! `max_latency_ms` chooses the size of the bank by time, measured on the machine (latency.rs).
//!
//! Memory while the bank is built: `reservoir` mebibytes of vectors, as many of each part where all take more, and for
//! vectors of 1,024 elements an eighth of that for the projection. 4,000 images at 224 pixels have 3.1 million patches;
//! with vectors of 152 (EfficientNet-Lite0) all take 1.9 GB, as many changed ones again, and the default of 512 MiB holds 880,000 of them.

pub(crate) mod bank;
mod config;
mod latency;
pub mod nearest;
mod reservoir;

use std::collections::BTreeMap;

use hotad_engine::Result;
use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::planned::Planned;
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::Buffer;
use hotad_kernels::flat_bank::FlatBank;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smallvec::smallvec;

use crate::anomaly_map::AnomalyMap;
use crate::config::damaged;
use crate::detector::{Detector, EditableBank, Exportable, Score, Scores};
use crate::export::{self, Exported};
use crate::features::{Embedding, Extractor, augmentation};
use crate::fit::FitContext;
use crate::method::{BuiltOn, LoadContext, Method};
use crate::segmentation::{enlarged, of_patches};

use bank::PatchBank;
pub use config::Config;
use nearest::{Nearest, nearest, reweighted};

/// A trained PatchCore.
pub struct PatchCore {
    config: Config,
    embedding: Embedding,
    bank: PatchBank,
    planned: Planned,
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(deserialize_with = "augmentation::of_file")]
    settings: Config,
    embedding: Value,
    bank: Value,
}

impl Method for PatchCore {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "patchcore";
    const SUMMARY: &'static str = "distances to a coreset of normal patch features (PatchCore)";
    const BANK: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let mut embedding = config.features.embedding(context, Self::NAME)?;
        embedding.shorten(config.dimensions)?;
        let bank = PatchBank::build(&embedding, &config, context)?;
        Ok(Self { config, embedding, bank, planned: Planned::default() })
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone()).map_err(damaged)?;
        let embedding = Embedding::restore(&saved.embedding, file.image, &file.tensors, context)?;
        let bank = PatchBank::restore(&saved.bank, &file.tensors, embedding.dimensions(), context.device)?;
        Ok(Self { config: saved.settings, embedding, bank, planned: Planned::default() })
    }

    fn built_on(config: &Config) -> Vec<BuiltOn> {
        config.features.built_on()
    }
}

/// What scores images.
struct Scorer<'a> {
    embedding: &'a Embedding,
    bank: &'a FlatBank,
    config: &'a Config,
    planned: &'a Planned,
}

impl Scorer<'_> {
    fn scores(&self, images: &Tensor) -> Result<Scores> {
        if self.config.neighbours > 1 {
            return self.weighted(images);
        }
        let values = self.planned.run(images, self.embedding.device(), |images| {
            let distance = nearest(&self.embedding.embed(images)?, self.bank, 1)?.distance;
            let maps = self.maps(&distance)?;
            Ok(smallvec![distance, maps])
        })?;
        Ok(of_patches(&values[0], self.embedding.grid(), &values[1], self.embedding.image()))
    }

    /// Scores that weigh how dense the bank is around the vector nearest to the worst patch.
    fn weighted(&self, images: &Tensor) -> Result<Scores> {
        let vectors = self.embedding.embed(images)?;
        let Nearest { index, distance } = nearest(&vectors, self.bank, 1)?;
        let neighbours = self.config.neighbours;
        let values = reweighted(&vectors, self.bank, &distance.values()?, &index.values()?, neighbours)?;
        let maps = self.maps(&distance)?.into_host()?;
        let maps = AnomalyMap::of_batch(&maps, self.embedding.image());
        Ok(values.into_iter().zip(maps).map(|(value, map)| Score { value, map }).collect())
    }

    /// Anomaly maps of distances of patches.
    fn maps(&self, distance: &Buffer) -> Result<Buffer> {
        enlarged(distance, self.embedding.grid(), self.embedding.image(), self.config.blur as f32)
    }
}

impl Detector for PatchCore {
    fn image(&self) -> ImageSpec {
        self.embedding.image()
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let Self { config, embedding, bank, planned } = self;
        Scorer { embedding, bank: bank.vectors(), config, planned }.scores(images)
    }

    fn config(&self) -> Value {
        let (embedding, bank) = (self.embedding.saved(), self.bank.saved());
        let saved = Saved { settings: self.config.clone(), embedding, bank };
        serde_json::to_value(saved).expect("settings are plain data")
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = self.embedding.tensors()?;
        tensors.insert("bank".into(), self.bank.stored()?);
        Ok(tensors)
    }

    fn as_extractor(&self) -> Option<&dyn Extractor> {
        self.embedding.parts().first().map(|p| p.source.extractor())
    }

    fn as_bank(&mut self) -> Option<&mut dyn EditableBank> {
        Some(self)
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Exportable for PatchCore {
    fn export(&self) -> Result<Exported> {
        export::features(
            Self::NAME,
            &self.embedding,
            "averages over neighbourhoods, the memory bank and distances to it",
        )
    }
}

impl EditableBank for PatchCore {
    fn entries(&self) -> &[String] {
        self.bank.entries()
    }

    /// Adds the patches that are farther from the bank than any it was made of.
    fn add(&mut self, images: &Tensor, names: &[String]) -> Result<()> {
        let vectors = self.embedding.embed(images)?;
        self.bank.add(&vectors, names)
    }

    fn remove(&mut self, names: &[String]) -> Result<usize> {
        self.bank.remove(names)
    }
}
