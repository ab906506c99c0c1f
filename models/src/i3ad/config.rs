//! Settings of I3AD, and the preset that two cores train in minutes.

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::config::{Choice, Doc, Settings, require};
use crate::networks::inpainting::REACH;
use crate::residual::Residual;
use crate::segmentation::Aggregate;

/// Most steps of training; more than any that ends.
const MOST_ITERATIONS: u64 = 1_000_000_000;

/// A set of defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The paper's numbers.
    #[default]
    Paper,
    /// Small enough for two cores and about 20 minutes.
    Small,
}

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Defaults of all the others.
    pub preset: Preset,
    /// Rows and columns.
    pub image_size: usize,
    /// Channels of the generator's convolutions, features and gates together.
    pub width: usize,
    /// Channels after the discriminator's first convolution.
    pub discriminator_width: usize,
    /// Steps of training.
    pub iterations: u64,
    /// Images of one step.
    pub batch: usize,
    /// Learning rate of the generator.
    pub lr: f64,
    /// Learning rate of the discriminator.
    pub discriminator_lr: f64,
    /// Weight of the adversarial loss.
    pub adversarial: f64,
    /// Discount of the L1 loss for each pixel into the hole.
    pub discount: f64,
    /// Weight of the L1 loss of known pixels.
    pub known_weight: f64,
    /// Checkerboard patches along each side.
    pub patches: usize,
    /// Threshold of the mask.
    pub u: Choice,
    /// Mean L1 on training normals that a threshold must reach.
    pub u_limit: f64,
    /// Reconstructions of a test image.
    pub test_iterations: usize,
    /// Change of the mask below which an image is done.
    pub stop: f64,
    /// The anomaly map.
    pub residual: Residual,
    /// The image score.
    pub score: Aggregate,
}

impl Config {
    fn of(preset: Preset) -> Self {
        let paper = Self {
            preset,
            image_size: 256,
            width: 48,
            discriminator_width: 64,
            iterations: 500_000,
            batch: 10,
            lr: 1e-4,
            discriminator_lr: 4e-4,
            adversarial: 1.0,
            discount: 0.99,
            known_weight: 1.0,
            patches: 6,
            u: Choice::Word("auto".into()),
            u_limit: 5e-4,
            test_iterations: 30,
            stop: 0.001,
            residual: Residual::Ssim,
            score: Aggregate::Mean,
        };
        match preset {
            Preset::Paper => paper,
            Preset::Small => Self {
                image_size: 128,
                width: 16,
                discriminator_width: 16,
                iterations: 2_500,
                batch: 4,
                lr: 1e-3,
                discriminator_lr: 4e-4,
                adversarial: 0.01,
                test_iterations: 15,
                ..paper
            },
        }
    }

    /// The images that the generator sees.
    pub fn image(&self) -> ImageSpec {
        ImageSpec { height: self.image_size, width: self.image_size, channels: 3 }
    }
}

impl Config {
    /// What the keys mean.
    pub const ALL: [Doc; 18] = [
        (
            "preset",
            "defaults of all the others: \"paper\", or \"small\" (128 pixels, width 16; about 20 minutes on two cores)",
        ),
        ("image_size", "rows and columns the images are brought to, 64 or more"),
        ("width", "channels of the generator's convolutions, features and gates together (paper: 48; a multiple of 4)"),
        ("discriminator_width", "channels after the discriminator's first convolution (paper: 64)"),
        ("iterations", "steps of training (paper: 500000), rounded up to whole epochs"),
        ("batch", "images of one step (paper: 10)"),
        ("lr", "learning rate of the generator (Adam, betas 0.5 and 0.999; paper: 1e-4)"),
        ("discriminator_lr", "learning rate of the discriminator (paper: 4e-4)"),
        ("adversarial", "weight of the adversarial loss beside the L1 losses"),
        ("discount", "factor of the L1 loss for each pixel into the hole (0.99); 1 is plain L1"),
        ("known_weight", "weight of the L1 loss of known pixels"),
        ("patches", "patches along each side of the first, checkerboard masks: 2 to 12 (paper: 6)"),
        (
            "u",
            "dissimilarity from which on a pixel is masked; \"auto\" takes the smallest of 0.10, 0.15 .. 0.50 that reaches u_limit",
        ),
        (
            "u_limit",
            "mean absolute difference, in 0..1, of training normals from their reconstruction after 10 iterations",
        ),
        ("test_iterations", "reconstructions of a test image (paper: 30)"),
        ("stop", "an image is done when a smaller share of its mask changes; 0 stops when nothing does"),
        ("residual", "anomaly map: \"ssim\" (1 - SSIM) or \"l2\" (squared difference)"),
        ("score", "image score: \"mean\" of the map (paper) or \"max\", its largest value after a blur of one pixel"),
    ];
}

impl Default for Config {
    fn default() -> Self {
        Self::of(Preset::Paper)
    }
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &Self::ALL;

    const SCORING: &'static [&'static str] =
        &["patches", "u", "u_limit", "test_iterations", "stop", "residual", "score"];

    fn under(table: &Table) -> Result<Table> {
        let Some(value) = table.get("preset") else { return Ok(Table::new()) };
        let preset: Preset = value.clone().try_into().map_err(|_| {
            Error::Config(format!("setting preset = {value} is unknown; allowed: \"paper\" or \"small\""))
        })?;
        Ok(Table::try_from(Self::of(preset)).expect("settings are plain data"))
    }

    fn check(&self) -> Result<()> {
        require(
            (REACH..=1024).contains(&self.image_size),
            "image_size",
            self.image_size,
            "64 (what the generator's dilations reach) to 1024",
        )?;
        let widths = (8..=256).contains(&self.width) && self.width.is_multiple_of(4);
        require(widths, "width", self.width, "a multiple of 4 from 8 to 256")?;
        require(
            (4..=256).contains(&self.discriminator_width),
            "discriminator_width",
            self.discriminator_width,
            "4 to 256",
        )?;
        let most = MOST_ITERATIONS;
        require((1..=most).contains(&self.iterations), "iterations", self.iterations, &format!("1 to {most}"))?;
        require((1..=1024).contains(&self.batch), "batch", self.batch, "1 to 1024")?;
        let rate = |name, value: f64| require(value > 0.0 && value < 1.0, name, value, "above 0, below 1");
        rate("lr", self.lr)?;
        rate("discriminator_lr", self.discriminator_lr)?;
        require((0.0..=100.0).contains(&self.adversarial), "adversarial", self.adversarial, "0 to 100")?;
        require(self.discount > 0.0 && self.discount <= 1.0, "discount", self.discount, "above 0, 1 at most")?;
        require((0.0..=100.0).contains(&self.known_weight), "known_weight", self.known_weight, "0 to 100")?;
        require((2..=12).contains(&self.patches), "patches", self.patches, "2 to 12")?;
        self.u.check("u", "\"auto\", or above 0 and below 2", |u| u > 0.0 && u < 2.0)?;
        require(self.u_limit > 0.0 && self.u_limit < 1.0, "u_limit", self.u_limit, "above 0, below 1")?;
        require((1..=1000).contains(&self.test_iterations), "test_iterations", self.test_iterations, "1 to 1000")?;
        require((0.0..1.0).contains(&self.stop), "stop", self.stop, "0 or more, below 1")
    }
}
