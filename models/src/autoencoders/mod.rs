//! The baselines that reconstruct an image and look at what is left (I3AD, tables 1 to 5; PAEDID's tables).
//!
//! One network (network.rs), one set of shared settings, one file for each method: [`plain`] (`l2-ae`, `ssim-ae`),
//! [`projection`] (`iterative-projection`), [`adversarial`] (`ae-gan`), [`anogan`] (`anogan`, `f-anogan`) and
//! [`memory`] (`mem-ae`).

pub mod adversarial;
pub mod anogan;
mod gan;
pub mod generator;
pub mod memory;
pub mod network;
pub mod plain;
pub mod projection;

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_kernels::adam::AdamOptions;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::{BATCH, BLUR, Channels, EPOCHS, RATE, Settings, settings};
use crate::fit::Schedule;
use crate::residual::Measure;
use crate::segmentation::{Aggregate, Aggregation};

/// A set of defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Those of the autoencoders' own paper, but for image size and batch.
    #[default]
    Bergmann,
    /// Those that the paper of I3AD trains autoencoders with (section 3.1).
    I3ad,
}

settings! {
    /// Settings that all of them share.
    pub struct Shared {
        /// defaults of some of the others: "bergmann" (Bergmann et al. 2018), or "i3ad", as the paper of I3AD trains autoencoders: 256
        /// pixels, 20000 iterations with a batch of 10, lr 1e-4, no early stop, score "mean"
        preset: Preset = Preset::Bergmann;
        /// rows and columns the images are brought to
        image_size: usize = 128, allowed "128, 256 or 512" if |v| network::SIZES.contains(v), for Shapes;
        /// "auto" (1 when all images are gray, else 3), 1 or 3
        channels: Channels = Channels::auto(), for Shapes;
        /// elements of the latent vector (paper: 100)
        latent: usize = 100, in 1..=4096, for Shapes;
        /// most epochs
        epochs: usize = 200, in EPOCHS, for Length;
        /// steps of training, rounded up to whole epochs, in place of epochs; 0: epochs counts
        iterations: u64 = 0, in 0..=1_000_000_000, for Length;
        /// images of one step
        batch: usize = 16, in BATCH;
        /// learning rate (Adam; paper: 2e-4)
        lr: f64 = 2e-4, in RATE;
        /// epochs without a lower validation loss before stopping; 0 never stops early
        patience: usize = 20, for Length;
        /// anomaly map: "l2", "ssim", or "auto": what the method learns with
        residual: Measure = Measure::Auto, for Scoring;
        /// image score: after a blur "max" of the map or "top", the mean of its largest 1 %; or its "mean"
        score: Aggregate = Aggregate::Max, for Scoring;
        /// blur in pixels before the largest value of the anomaly map is taken as score; 0 for none
        score_blur: f64 = 1.0, in BLUR, for Scoring;
    }
}

impl Settings for Shared {
    fn under(table: &Table) -> Result<Table> {
        if table.get("preset").and_then(Value::as_str) != Some("i3ad") {
            return Ok(Table::new());
        }
        let mut paper = toml::toml! {
            image_size = 256
            iterations = 20_000
            batch = 10
            lr = 1e-4
            patience = 0
            score = "mean"
        };
        if table.contains_key("epochs") {
            paper.remove("iterations");
        }
        Ok(paper)
    }

    fn check_together(&self) -> Result<()> {
        self.channels.resolve(true).map(drop)
    }
}

impl Shared {
    fn image(&self, gray: bool) -> Result<ImageSpec> {
        let channels = self.channels.resolve(gray)?;
        Ok(ImageSpec { height: self.image_size, width: self.image_size, channels })
    }

    /// How image scores are taken from anomaly maps.
    fn aggregation(&self, image: ImageSpec) -> Aggregation {
        Aggregation::new(image, self.score_blur, self.score)
    }

    fn network(&self, image: ImageSpec) -> network::Autoencoder {
        network::Autoencoder::new(image.height, image.channels, self.latent)
    }

    fn adam(&self) -> AdamOptions {
        AdamOptions { lr: self.lr as f32, ..AdamOptions::default() }
    }

    /// Of a training on some number of images.
    fn schedule(&self, images: usize) -> Schedule {
        let steps = images.div_ceil(self.batch).max(1) as u64;
        let epochs = if self.iterations == 0 { self.epochs } else { self.iterations.div_ceil(steps) as usize };
        Schedule { epochs, batch: self.batch, patience: self.patience }
    }
}
