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

use crate::config::{BATCH, BLUR, Channels, EPOCHS, RATE, Settings, settings};
use crate::fit::Schedule;
use crate::residual::Measure;
use crate::segmentation::Aggregate;

settings! {
    /// Settings that all of them share.
    pub struct Shared {
        /// rows and columns the images are brought to
        image_size: usize = 128, allowed "128, 256 or 512" if |v| network::SIZES.contains(v), for Shapes;
        /// "auto" (1 when all images are gray, else 3), 1 or 3
        channels: Channels = Channels::auto(), for Shapes;
        /// elements of the latent vector (paper: 100)
        latent: usize = 100, in 1..=4096, for Shapes;
        /// most epochs
        epochs: usize = 200, in EPOCHS, for Length;
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
    fn check_together(&self) -> Result<()> {
        self.channels.resolve(true).map(drop)
    }
}

impl Shared {
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
