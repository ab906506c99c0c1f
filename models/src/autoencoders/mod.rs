//! The baselines that reconstruct an image and look at what is left (I3AD, tables 1 to 5; PAEDID's tables).
//!
//! One network (network.rs), one set of shared settings, one file for each method: [`plain`] (`l2-ae`, `ssim-ae`),
//! [`projection`] (`iterative-projection`), [`adversarial`] (`ae-gan`), [`anogan`] (`anogan`, `f-anogan`) and
//! [`memory`] (`mem-ae`).

pub mod adversarial;
pub mod anogan;
mod gan;
pub mod memory;
pub mod network;
pub mod plain;
pub mod projection;

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_kernels::adam::AdamOptions;
use serde::{Deserialize, Serialize};

use crate::config::{Doc, check_epochs, require};
use crate::detector::Schedule;
use crate::paedid::Channels;
use crate::residual::Measure;
use crate::segmentation::Aggregate;

/// Settings that all of them share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shared {
    /// 128, 256 or 512.
    pub image_size: usize,
    /// `auto`, 1 or 3.
    pub channels: Channels,
    /// Elements of the latent vector.
    pub latent: usize,
    /// Most epochs.
    pub epochs: usize,
    /// Images of one step.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Epochs without improvement before stopping.
    pub patience: usize,
    /// The anomaly map.
    pub residual: Measure,
    /// The image score.
    pub score: Aggregate,
    /// Blur of the anomaly map before its maximum is taken, in pixels.
    pub score_blur: f64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            image_size: 128,
            channels: Channels::Word("auto".into()),
            latent: 100,
            epochs: 200,
            batch: 16,
            lr: 2e-4,
            patience: 20,
            residual: Measure::Auto,
            score: Aggregate::Max,
            score_blur: 1.0,
        }
    }
}

impl Shared {
    /// What the keys mean.
    pub const DOCS: [Doc; 10] = [
        ("image_size", "rows and columns the images are brought to: 128, 256 or 512"),
        ("channels", "\"auto\" (1 when all images are gray, else 3), 1 or 3"),
        ("latent", "elements of the latent vector (paper: 100)"),
        ("epochs", "most epochs"),
        ("batch", "images of one step"),
        ("lr", "learning rate (Adam; paper: 2e-4)"),
        ("patience", "epochs without a lower validation loss before stopping; 0 never stops early"),
        ("residual", "anomaly map: \"l2\", \"ssim\", or \"auto\": what the method learns with"),
        (
            "score",
            "image score: after a blur \"max\" of the map or \"top\", the mean of its largest 1 %; or its \"mean\"",
        ),
        ("score_blur", "blur in pixels before the largest value of the anomaly map is taken as score; 0 for none"),
    ];

    fn check(&self) -> Result<()> {
        require(network::SIZES.contains(&self.image_size), "image_size", self.image_size, "128, 256 or 512")?;
        self.channels.resolve(true)?;
        require((1..=4096).contains(&self.latent), "latent", self.latent, "1 to 4096")?;
        check_epochs("epochs", self.epochs)?;
        require((1..=1024).contains(&self.batch), "batch", self.batch, "1 to 1024")?;
        require(self.lr > 0.0 && self.lr < 1.0, "lr", self.lr, "above 0, below 1")?;
        require((0.0..=20.0).contains(&self.score_blur), "score_blur", self.score_blur, "0 to 20")
    }

    fn image(&self, gray: bool) -> Result<ImageSpec> {
        let channels = self.channels.resolve(gray)?;
        Ok(ImageSpec { height: self.image_size, width: self.image_size, channels })
    }

    fn network(&self, image: ImageSpec) -> network::Autoencoder {
        network::Autoencoder::new(image.height, image.channels, self.latent)
    }

    fn adam(&self) -> AdamOptions {
        AdamOptions { lr: self.lr as f32, ..AdamOptions::default() }
    }

    fn schedule(&self) -> Schedule {
        Schedule { epochs: self.epochs, batch: self.batch, patience: self.patience }
    }
}
