//! Settings of PAEDID and PAE.

use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::autoencoder::{ELPV, VGG, check_widths};
use crate::config::{Choice, Settings, check_epochs, require};
use crate::prior::BankType;

/// Settings of the patch autoencoder, its bank and the prior; shared with `pae`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Rows and columns of the images, a multiple of 2 for each layer.
    pub image_size: usize,
    /// `auto`, 1 or 3.
    pub channels: Channels,
    /// `vgg`, `elpv`, or a list of widths.
    pub network: Network,
    /// Most epochs.
    pub epochs: usize,
    /// Images of one step.
    pub batch: usize,
    /// Learning rate of the autoencoder.
    pub lr: f64,
    /// Epochs without improvement before stopping.
    pub patience: usize,
    /// Share of locations that are replaced.
    pub alpha: Choice,
    /// Precision of the memory bank.
    pub bank: BankType,
    /// Weight of the L1 term.
    pub lambda: Choice,
    /// Adam steps of the decomposition. At the default rate the objective has settled by then: on
    /// cracks over solar cells the last ten of 100 steps change it by less than 0.1 %.
    pub steps: u32,
    /// Learning rate of the decomposition.
    pub decompose_lr: f64,
    /// Where the image score comes from.
    pub score: ImageScore,
    /// Blur of the anomaly map before its maximum is taken, in pixels.
    pub score_blur: f64,
}

/// Where the image score comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageScore {
    /// The mean of s = 1 - cosine over the replaced patches: how far they are from any normal one.
    #[default]
    Patch,
    /// The largest value of the blurred anomaly map.
    Map,
}

/// Number of channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Channels {
    /// 1 or 3.
    Count(usize),
    /// `"auto"`: 1 when all images are gray.
    Word(String),
}

impl Channels {
    /// The number, once it is known whether the images are gray.
    ///
    /// # Errors
    /// For anything but `auto`, 1 and 3.
    pub fn resolve(&self, gray: bool) -> Result<usize> {
        match self {
            Self::Word(word) if word == "auto" => Ok(if gray { 1 } else { 3 }),
            Self::Count(n @ (1 | 3)) => Ok(*n),
            Self::Word(word) => Err(Error::Config(format!("setting channels = {word:?}: use \"auto\", 1 or 3"))),
            Self::Count(n) => Err(Error::Config(format!("setting channels = {n}: use \"auto\", 1 or 3"))),
        }
    }
}

/// Widths of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Network {
    /// `vgg` or `elpv`.
    Name(String),
    /// One width for each layer.
    Widths(Vec<usize>),
}

impl Network {
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

impl Default for Config {
    fn default() -> Self {
        Self {
            image_size: 128,
            channels: Channels::Word("auto".into()),
            network: Network::Name("elpv".into()),
            epochs: 100,
            batch: 16,
            lr: 1e-3,
            patience: 20,
            alpha: Choice::Word("auto".into()),
            bank: BankType::F16,
            lambda: Choice::Word("auto".into()),
            steps: 100,
            decompose_lr: 0.02,
            score: ImageScore::Patch,
            score_blur: 1.0,
        }
    }
}

impl Settings for Config {
    const DOCS: &'static [(&'static str, &'static str)] = &[
        ("image_size", "rows and columns the images are brought to; a multiple of 2 for each layer"),
        ("channels", "\"auto\" (1 when all images are gray, else 3), 1 or 3"),
        ("network", "\"vgg\" (64, 128), \"elpv\" (3, 9, 27, 81) or a list of widths, one for each layer"),
        ("epochs", "most epochs of the autoencoder"),
        ("batch", "images of one step"),
        ("lr", "learning rate of the autoencoder (Adam)"),
        ("patience", "epochs without a lower validation loss before stopping; 0 never stops early"),
        (
            "alpha",
            "share of patches that are replaced by their nearest normal one, 0 to 1 (paper: 0.03), or \"auto\": as lambda",
        ),
        ("bank", "\"f16\" or \"f32\": precision of the memory bank"),
        (
            "lambda",
            "weight of the L1 term (paper: 1e-5, 6e-4), or \"auto\": the best on synthetic cracks over held-out normals",
        ),
        ("steps", "Adam steps of the decomposition"),
        ("decompose_lr", "learning rate of the decomposition"),
        (
            "score",
            "image score: \"patch\" (mean distance of the replaced patches to the bank) or \"map\" (largest value of the blurred anomaly map)",
        ),
        ("score_blur", "for score = \"map\": blur in pixels before the largest value is taken; 0 for none"),
    ];

    const SCORING: &'static [&'static str] =
        &["alpha", "bank", "lambda", "steps", "decompose_lr", "score", "score_blur"];

    fn check(&self) -> Result<()> {
        let widths = self.network.widths()?;
        check_widths(&widths)?;
        let layers = widths.len();
        require(
            self.image_size.is_multiple_of(1 << layers) && (16..=1024).contains(&self.image_size),
            "image_size",
            self.image_size,
            &format!("16 to 1024, a multiple of {}", 1 << layers),
        )?;
        self.channels.resolve(true)?;
        check_epochs("epochs", self.epochs)?;
        require((1..=1024).contains(&self.batch), "batch", self.batch, "1 to 1024")?;
        require(self.lr > 0.0 && self.lr < 1.0, "lr", self.lr, "above 0, below 1")?;
        self.alpha.check("alpha", "0 to 1, or \"auto\"", |v| (0.0..=1.0).contains(&v))?;
        self.lambda.check("lambda", "a number above 0, or \"auto\"", |v| v > 0.0 && v.is_finite())?;
        require((1..=10_000).contains(&self.steps), "steps", self.steps, "1 to 10000")?;
        require(
            self.decompose_lr > 0.0 && self.decompose_lr < 1.0,
            "decompose_lr",
            self.decompose_lr,
            "above 0, below 1",
        )?;
        require((0.0..=20.0).contains(&self.score_blur), "score_blur", self.score_blur, "0 to 20")
    }
}
