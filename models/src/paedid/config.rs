//! Settings of PAEDID and PAE.

use hotad_engine::{Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, json};

use crate::autoencoder::{ELPV, VGG, check_widths};
use crate::config::{
    BATCH, BLUR, BankType, Channels, Choice, EPOCHS, Interval, RATE, SHARE, Settings, Sides, checked, require, settings,
};
use crate::features::Augmentation;
use crate::prior::BankView;

use super::decomposition::{DecompositionSettings, complete};

/// Most images of the bank that a search may be limited to.
pub(super) const MOST_SIMILAR: u32 = 1_000_000;

/// Where the image score comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageScore {
    /// The mean of s = 1 - cosine over the replaced patches: how far they are from any normal one.
    Patch,
    /// The mean of the largest s, each measured against those of normal images at the same location.
    Standardised,
    /// The largest value of the blurred anomaly map.
    Map,
    /// That which tells synthetic defects over held-out normals best.
    Auto,
}

/// Widths of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NetworkChoice {
    /// `vgg` or `elpv`.
    Name(String),
    /// One width for each layer.
    Widths(Vec<usize>),
}

impl NetworkChoice {
    pub(super) fn widths(&self) -> Result<Vec<usize>> {
        match self {
            Self::Name(name) if name == "vgg" => Ok(VGG.to_vec()),
            Self::Name(name) if name == "elpv" => Ok(ELPV.to_vec()),
            Self::Name(name) => {
                Err(Error::Config(format!("setting network = {name:?}: use \"vgg\", \"elpv\" or a list of widths")))
            }
            Self::Widths(widths) => Ok(widths.clone()),
        }
    }
}

settings! {
    /// Settings of the patch autoencoder, its bank and the prior; shared with `pae`.
    pub struct Config {
        /// rows and columns the images are brought to, one number or [rows, columns]; multiples of 2 for each layer
        image_size: Sides = Sides::from(128);
        /// "auto" (1 when all images are gray, else 3), 1 or 3
        channels: Channels = Channels::auto(), for Shapes;
        /// "vgg" (64, 128), "elpv" (3, 9, 27, 81) or a list of widths, one for each layer
        network: NetworkChoice = NetworkChoice::Name("elpv".into()), for Shapes;
        /// most epochs of the autoencoder
        epochs: usize = 100, in EPOCHS, for Length;
        /// images of one step
        batch: usize = 16, in BATCH;
        /// learning rate of the autoencoder (Adam)
        lr: f64 = 1e-3, in RATE;
        /// epochs without a lower validation loss before stopping; 0 never stops early
        patience: usize = 20, for Length;
        /// share of patches that are replaced by their nearest normal one, 0 to 1 (paper: 0.03), or "auto": as lambda
        alpha: Choice = Choice::auto(), allowed "0 to 1, or \"auto\"" if |v| v.is_auto_or(SHARE), for Scoring;
        /// "f16" or "f32": precision of the memory bank
        bank: BankType = BankType::F16, for Scoring;
        /// further views of each image that enter the bank too: "flip-horizontal" (left and right exchanged), "flip-vertical" (top and
        /// bottom), "gain" (values times 0.9 and 1.1), "shift" (by half a patch up, down, left and right); [] for none (paper)
        bank_views: Vec<BankView> = Vec::new(), for Scoring;
        /// true: the held-out images enter the bank too (paper), after all thresholds and settings have been found without them
        bank_holdout: bool = false, for Scoring;
        /// rows and columns of patches around a patch that the bank is searched in too; 0 for its own location alone (paper), 1024
        /// for all of them
        reach: usize = 0, in 0..=1024, for Scoring;
        /// images of the bank, each view counted as one, that an image is aligned to by an affine motion before the bank is searched, those
        /// most like it; 0 aligns none (paper)
        align: usize = 0, in 0..=100, for Scoring;
        /// images of the bank that are searched, each view counted as one, those most like the image (largest mean cosine of patches);
        /// 0 for all (paper), or "auto": 0 or 10, as alpha
        similar: Choice = Choice::auto(), allowed "a whole number from 0 to 1000000, or \"auto\"" if |v| v.is_auto_or_count(MOST_SIMILAR), for Scoring;
        /// image score: "patch" (mean distance of the replaced patches to the bank), "standardised" (mean of the largest distances,
        /// each less its mean at that location over training images, over their standard deviation; independent of alpha), "map"
        /// (largest value of the blurred anomaly map) or "auto": the best on synthetic defects over held-out normals
        score: ImageScore = ImageScore::Standardised, for Scoring;
        /// for score = "standardised": share of the patches that are the largest, one at least
        top_share: f64 = 0.05, in Interval::LeftOpen(0.0, 1.0), for Scoring;
        /// for score = "map": blur in pixels before the largest value is taken; 0 for none
        score_blur: f64 = 1.0, in BLUR, for Scoring;
        ..decomposition: DecompositionSettings = DecompositionSettings::default();
        ..augmentation: Augmentation = Augmentation::default();
    }
}

impl Settings for Config {
    fn check_together(&self) -> Result<()> {
        let widths = self.network.widths()?;
        check_widths(&widths)?;
        let (size, multiple) = (self.image_size, 1 << widths.len());
        let fits = size == size.next_multiples_of(multiple) && size.are_in(&(16..=1024));
        require(fits, "image_size", size, format!("16 to 1024, a multiple of {multiple}"))?;
        let can_align = self.align == 0 || size.height == size.width;
        require(can_align, "align", self.align, format!("0 for images that are not square (image_size = {size})"))?;
        let views = &self.bank_views;
        let once = views.iter().enumerate().all(|(i, view)| !views[..i].contains(view));
        require(once, "bank_views", json!(views), "each view once")?;
        self.channels.resolve(true).map(drop)
    }
}

/// Settings of a model file, for a field of what it holds. What files of earlier versions may lack is what they scored by.
///
/// # Errors
/// Those of the settings.
pub(super) fn of_file<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Config, D::Error> {
    let mut all = Map::deserialize(from)?;
    for (key, earlier) in [("score", json!(ImageScore::Patch)), ("similar", json!(0)), ("augment", json!([]))] {
        all.entry(key).or_insert(earlier);
    }
    complete(&mut all);
    checked(serde_json::Value::Object(all)).map_err(D::Error::custom)
}
