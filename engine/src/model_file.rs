//! Model files: weights, memory bank, configuration, preprocessing, calibration and provenance in
//! one safetensors file.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::calibration::Calibration;
use crate::container::{self, Contents, Stored};
use crate::data::picture::ImageSpec;
use crate::data::roi::Roi;
use crate::device::InputRange;
use crate::error::{Error, Result};
use crate::input_file;
use crate::signature::PublicKey;

/// The newest format that this version reads and writes.
pub const FORMAT: u32 = 1;

/// The kind of the container.
const KIND: &str = "model";

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Seed of every random choice.
    pub seed: u64,
    /// Version of hotad that trained it.
    pub version: String,
    /// SHA-256 over the SHA-256 of each image that was learned from or calibrated with, in order.
    pub training_list_sha256: String,
    /// Images learned from.
    pub training_images: usize,
    /// SHA-256 of the images that it, or a model it is built on, was learned from; evaluation and calibration leave them out.
    #[serde(default, alias = "learned_test_images", skip_serializing_if = "Vec::is_empty")]
    pub learned_images: Vec<String>,
    /// Whether that list is of all of them; files of earlier versions list labelled test images alone.
    #[serde(default)]
    pub lists_all_images: bool,
    /// SHA-256 of the labelled images that thresholds were fitted to; evaluation leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threshold_images: Vec<String>,
    /// Images added to the bank after training: SHA-256 and name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added_images: BTreeMap<String, String>,
    /// Images of training that are entries of the bank: SHA-256 and names; none in files of earlier versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bank_images: BTreeMap<String, EntryNames>,
    /// The model whose weights training started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Box<Init>>,
}

/// Names of all entries of a bank that are images of one content. In files a single one is text, as in those of earlier versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "SavedNames", into = "SavedNames")]
pub struct EntryNames(pub Vec<String>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SavedNames {
    One(String),
    Several(Vec<String>),
}

impl From<SavedNames> for EntryNames {
    fn from(saved: SavedNames) -> Self {
        match saved {
            SavedNames::One(name) => Self(vec![name]),
            SavedNames::Several(names) => Self(names),
        }
    }
}

impl From<EntryNames> for SavedNames {
    fn from(EntryNames(mut names): EntryNames) -> Self {
        match names.len() {
            1 => Self::One(names.remove(0)),
            _ => Self::Several(names),
        }
    }
}

/// A model whose weights a training started from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// Name of its file.
    pub file: String,
    /// SHA-256 of its file.
    pub sha256: String,
}

impl Provenance {
    /// SHA-256 of the images that were learned from or added to the bank.
    pub fn known(&self) -> HashSet<&str> {
        self.learned_images.iter().chain(self.added_images.keys()).map(String::as_str).collect()
    }
}

/// A model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// Method, as `hotad train` names it.
    pub method: String,
    /// Size and channels of the images it takes.
    pub image: ImageSpec,
    /// The region of images that it looks at; none where it looks at all of them.
    pub roi: Option<Roi>,
    /// Settings of the method.
    pub config: Value,
    /// Thresholds.
    pub calibration: Calibration,
    /// Origin.
    pub provenance: Provenance,
    /// The range of inputs of each convolution, by layer, for scoring in int8; empty where none was measured.
    pub input_ranges: BTreeMap<String, InputRange>,
    /// Weights, and what else the method keeps.
    pub tensors: BTreeMap<String, Stored>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    method: String,
    image: ImageSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roi: Option<Roi>,
    config: Value,
    calibration: Calibration,
    provenance: Provenance,
    /// Smallest and largest input.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    input_ranges: BTreeMap<String, (f32, f32)>,
}

impl ModelFile {
    /// Fails for what no training writes, whatever the method.
    ///
    /// # Errors
    /// Says what it is.
    pub fn check(&self) -> Result<()> {
        self.image.check()?;
        self.calibration.check().map_err(|what| Error::Config(format!("damaged thresholds ({what})")))
    }

    /// Writes the model, whole or not at all.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = Header {
            format: FORMAT,
            method: self.method.clone(),
            image: self.image,
            roi: self.roi.clone(),
            config: self.config.clone(),
            calibration: self.calibration.clone(),
            provenance: self.provenance.clone(),
            input_ranges: self.input_ranges.iter().map(|(layer, range)| (layer.clone(), range.ends())).collect(),
        };
        let meta = serde_json::to_value(header).expect("the header is plain data");
        container::write(path, &Contents { kind: KIND.into(), meta, tensors: self.tensors.clone() })
    }

    /// Reads a model.
    ///
    /// # Errors
    /// When the file is not a model, is damaged, or of a newer format.
    pub fn load(path: &Path) -> Result<Self> {
        Self::of(container::read(path, KIND)?, path)
    }

    /// Reads a model that has to be signed by a key.
    ///
    /// # Errors
    /// As [`ModelFile::load`], and when it is not signed, or by another.
    pub fn load_signed(path: &Path, key: &PublicKey) -> Result<Self> {
        let bytes = input_file::read(path)?;
        key.verify(path, &bytes)?;
        Self::of(container::read_bytes(&bytes, path, KIND)?, path)
    }

    fn of(contents: Contents, path: &Path) -> Result<Self> {
        let refuse = |reason: String| Error::Model { path: path.into(), reason };
        let format = contents.meta["format"].as_u64().unwrap_or(0);
        if format > u64::from(FORMAT) {
            return Err(refuse(format!("format {format} is newer than this hotad reads ({FORMAT}); update hotad")));
        }
        let header: Header =
            serde_json::from_value(contents.meta).map_err(|e| refuse(format!("damaged header ({e}); train again")))?;
        let input_ranges = header.input_ranges.into_iter().map(|(layer, (least, most))| {
            Ok((layer, InputRange::new(least, most).map_err(|e| refuse(format!("damaged header ({e}); train again")))?))
        });
        Ok(Self {
            method: header.method,
            image: header.image,
            roi: header.roi,
            config: header.config,
            calibration: header.calibration,
            provenance: header.provenance,
            input_ranges: input_ranges.collect::<Result<_>>()?,
            tensors: contents.tensors,
        })
    }
}
