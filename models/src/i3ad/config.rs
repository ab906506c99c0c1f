//! Settings of I3AD, and the preset that two cores train in minutes.

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::augment::Augment;
use super::masks::MaskKinds;
use super::standard::Standardise;
use super::tiles::Tiles;
use crate::config::{BATCH, BLUR, Choice, Interval, RATE, SHARE, Settings, WEIGHT, require, settings};
use crate::networks::inpainting::{REACH, STRIDE};
use crate::residual::Residual;
use crate::segmentation::{Aggregate, TOP_SHARE};

/// Most steps of training; more than any that ends.
const MOST_ITERATIONS: u64 = 1_000_000_000;

/// A set of defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The paper's numbers.
    #[default]
    Paper,
    /// Small enough for two cores and half an hour, for parts that lie alike.
    Small,
    /// The same for textures.
    SmallTexture,
}

/// Which generator is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// The moving average of its weights.
    #[default]
    Average,
    /// The last weights.
    Last,
}

settings! {
    /// Settings.
    pub struct Config {
        /// defaults of all the others: "paper"; "small" (64 pixels, width 16; for parts that lie alike) or "small-texture", at
        /// most half an hour on two cores
        preset: Preset = Preset::Paper;
        /// rows and columns the images are brought to
        image_size: usize = 256, allowed "64 (what the generator's dilations reach) to 1024" if |v| (REACH..=1024).contains(v);
        /// rows and columns of what the generator sees at a time: in training a random part of an image, in scoring tiles of it that
        /// overlap, for textures at their own resolution; 0: all of the image
        tile: usize = 0, allowed "0, or a multiple of 4 from 64 to image_size" if |v| is_tile(*v);
        /// channels of the generator's convolutions, features and gates together (paper: 48)
        width: usize = 48, allowed "a multiple of 4 from 8 to 256" if |v| (8..=256).contains(v) && v.is_multiple_of(4), for Shapes;
        /// channels after the discriminator's first convolution (paper: 64)
        discriminator_width: usize = 64, in 4..=256;
        /// steps of training (paper: 500000), rounded up to whole epochs
        iterations: u64 = 500_000, in 1..=MOST_ITERATIONS;
        /// images of one step (paper: 10)
        batch: usize = 10, in BATCH;
        /// learning rate of the generator (Adam, betas 0.5 and 0.999; paper: 1e-4)
        lr: f64 = 1e-4, in RATE;
        /// learning rate of the discriminator (paper: 4e-4)
        discriminator_lr: f64 = 4e-4, in RATE;
        /// share of the steps at the end over which both learning rates fall linearly to 0; 0 for none
        lr_decay: f64 = 0.2, in SHARE;
        /// the generator that is kept: "average", the moving average of its weights over steps, or "last"
        keep: Kept = Kept::Average;
        /// share of the past in that average; smaller in the first steps
        average_decay: f64 = 0.999, in Interval::RightOpen(0.0, 1.0);
        /// weight of the adversarial loss beside the L1 losses
        adversarial: f64 = 1.0, in WEIGHT;
        /// factor of the L1 loss for each pixel into the hole (0.99); 1 is plain L1
        discount: f64 = 0.99, in Interval::LeftOpen(0.0, 1.0);
        /// share of the steps before the discriminator takes part; until then the L1 losses alone are learned
        adversarial_from: f64 = 0.0, in SHARE;
        /// what images are learned under: "free-form" masks (paper), or "mixed": also cells of checkerboards and fragments, as
        /// at test time
        masks: MaskKinds = MaskKinds::FreeForm;
        /// "none", or "turn": training images are mirrored and turned by multiples of 90 degrees, for textures
        augment: Augment = Augment::None;
        /// weight of the L1 loss of known pixels (0: the loss is on what has to be painted)
        known_weight: f64 = 0.0, in WEIGHT;
        /// patches along each side of the first, checkerboard masks (paper: 6); of a tile where there are tiles
        patches: usize = 6, in 2..=12, for Scoring;
        /// checkerboards, each moved by a part of a cell, whose reconstructions are averaged (paper: 1)
        shifts: usize = 1, in 1..=8, for Scoring;
        /// dissimilarity from which on a pixel is masked; "auto" takes the smallest of 0.10, 0.15 .. 0.50 that reaches u_limit
        u: Choice = Choice::auto(), allowed "\"auto\", or above 0 and below 2" if |v| v.is_auto_or(Interval::Open(0.0, 2.0)), for Scoring;
        /// mean absolute difference, in 0..1, of training normals from their reconstruction after 10 iterations
        u_limit: f64 = 5e-4, in Interval::Open(0.0, 1.0), for Scoring;
        /// reconstructions of a test image after the one under the checkerboards (paper: 30; 0: that one alone)
        test_iterations: usize = 30, in 0..=1000, for Scoring;
        /// an image is done when a smaller share of its mask changes; 0 stops when nothing does
        stop: f64 = 0.001, in Interval::RightOpen(0.0, 1.0), for Scoring;
        /// anomaly map: "ssim" (1 - SSIM) or "l2" (squared difference)
        residual: Residual = Residual::Ssim, for Scoring;
        /// map less its mean over normal images, over their standard deviation: "none" (paper), "pixel" by pixel for objects that
        /// lie alike, or "all" pixels alike
        standardise: Standardise = Standardise::None, for Scoring;
        /// image score: "mean" of the map (paper); after a blur its largest value, "max", or the mean of its largest values,
        /// "top"
        score: Aggregate = Aggregate::Mean, for Scoring;
        /// blur in pixels before "max" or "top" is taken; 0 for none
        score_blur: f64 = 1.0, in BLUR, for Scoring;
        /// share of the pixels whose mean is "top"
        top_share: f64 = TOP_SHARE, in Interval::LeftOpen(0.0, 1.0), for Scoring;
    }
}

/// Whether the generator can see tiles of this size, in some image; 0 stands for none.
fn is_tile(side: usize) -> bool {
    side == 0 || (side >= REACH && side.is_multiple_of(STRIDE))
}

impl Config {
    fn of(preset: Preset) -> Self {
        let paper = Self { preset, ..Self::default() };
        let small = Self {
            image_size: 64,
            width: 16,
            discriminator_width: 16,
            iterations: 2500,
            batch: 4,
            lr: 1e-3,
            adversarial: 0.01,
            adversarial_from: 2.0 / 3.0,
            masks: MaskKinds::Mixed,
            test_iterations: 15,
            standardise: Standardise::Pixel,
            score: Aggregate::Top,
            ..paper.clone()
        };
        match preset {
            Preset::Paper => paper,
            Preset::Small => small,
            Preset::SmallTexture => {
                Self { iterations: 3000, augment: Augment::Turn, standardise: Standardise::All, ..small }
            }
        }
    }

    /// The images that are scored.
    pub fn image(&self) -> ImageSpec {
        ImageSpec { height: self.image_size, width: self.image_size, channels: 3 }
    }

    /// Rows and columns of what the generator sees.
    pub fn side(&self) -> usize {
        if self.tile == 0 { self.image_size.next_multiple_of(STRIDE) } else { self.tile }
    }

    /// The tiles of an image; one, where the generator sees all of it.
    pub fn tiles(&self) -> Tiles {
        Tiles::new(self.image_size, self.side())
    }
}

impl Settings for Config {
    fn check_together(&self) -> Result<()> {
        let most = self.image_size;
        require(self.tile <= most, "tile", self.tile, format!("0, or a multiple of 4 from 64 to image_size = {most}"))
    }

    fn under(table: &Table) -> Result<Table> {
        let Some(value) = table.get("preset") else { return Ok(Table::new()) };
        let preset: Preset = value.clone().try_into().map_err(|_| {
            Error::Config(format!(
                "setting preset = {value} is unknown; allowed: \"paper\", \"small\" or \"small-texture\""
            ))
        })?;
        Ok(Table::try_from(Self::of(preset)).expect("settings are plain data"))
    }
}
