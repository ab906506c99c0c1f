//! Settings of I3AD, and the preset that two cores train in minutes.

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::augment::Augment;
use super::masks::Masks;
use super::standard::Standardise;
use crate::config::{Choice, Doc, Settings, require};
use crate::networks::inpainting::REACH;
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
    /// Share of the steps at the end over which the learning rates fall to 0.
    pub lr_decay: f64,
    /// Which generator is kept.
    pub keep: Kept,
    /// Share of the past in the moving average of the weights.
    pub average_decay: f64,
    /// Weight of the adversarial loss.
    pub adversarial: f64,
    /// Share of the steps before the discriminator takes part.
    pub adversarial_from: f64,
    /// What images are learned under.
    pub masks: Masks,
    /// How training images are varied.
    pub augment: Augment,
    /// Discount of the L1 loss for each pixel into the hole.
    pub discount: f64,
    /// Weight of the L1 loss of known pixels.
    pub known_weight: f64,
    /// Checkerboard patches along each side.
    pub patches: usize,
    /// Checkerboards, each moved by a part of a cell, whose reconstructions are averaged.
    pub shifts: usize,
    /// Threshold of the mask.
    pub u: Choice,
    /// Mean L1 on training normals that a threshold must reach.
    pub u_limit: f64,
    /// Reconstructions of a test image after the one under the checkerboards.
    pub test_iterations: usize,
    /// Change of the mask below which an image is done.
    pub stop: f64,
    /// The anomaly map.
    pub residual: Residual,
    /// What the map is measured against.
    pub standardise: Standardise,
    /// The image score.
    pub score: Aggregate,
    /// Blur in pixels before the score "max" or "top" is taken.
    pub score_blur: f64,
    /// Share of the pixels whose mean is the score "top".
    pub top_share: f64,
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
            lr_decay: 0.2,
            keep: Kept::Average,
            average_decay: 0.999,
            adversarial: 1.0,
            adversarial_from: 0.0,
            masks: Masks::FreeForm,
            augment: Augment::None,
            discount: 0.99,
            known_weight: 0.0,
            patches: 6,
            shifts: 1,
            u: Choice::Word("auto".into()),
            u_limit: 5e-4,
            test_iterations: 30,
            stop: 0.001,
            residual: Residual::Ssim,
            standardise: Standardise::None,
            score: Aggregate::Mean,
            score_blur: 1.0,
            top_share: TOP_SHARE,
        };
        let small = Self {
            image_size: 64,
            width: 16,
            discriminator_width: 16,
            iterations: 2500,
            batch: 4,
            lr: 1e-3,
            adversarial: 0.01,
            adversarial_from: 2.0 / 3.0,
            masks: Masks::Mixed,
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

    /// The images that the generator sees.
    pub fn image(&self) -> ImageSpec {
        ImageSpec { height: self.image_size, width: self.image_size, channels: 3 }
    }
}

impl Config {
    /// Keys that only scoring depends on.
    pub const SCORED: [&'static str; 11] = [
        "patches",
        "shifts",
        "u",
        "u_limit",
        "test_iterations",
        "stop",
        "residual",
        "standardise",
        "score",
        "score_blur",
        "top_share",
    ];

    /// What the keys mean.
    pub const ALL: [Doc; 28] = [
        (
            "preset",
            "defaults of all the others: \"paper\"; \"small\" (64 pixels, width 16; for parts that lie alike) or \"small-texture\", at most half an hour on two cores",
        ),
        ("image_size", "rows and columns the images are brought to, 64 or more"),
        ("width", "channels of the generator's convolutions, features and gates together (paper: 48; a multiple of 4)"),
        ("discriminator_width", "channels after the discriminator's first convolution (paper: 64)"),
        ("iterations", "steps of training (paper: 500000), rounded up to whole epochs"),
        ("batch", "images of one step (paper: 10)"),
        ("lr", "learning rate of the generator (Adam, betas 0.5 and 0.999; paper: 1e-4)"),
        ("discriminator_lr", "learning rate of the discriminator (paper: 4e-4)"),
        ("lr_decay", "share of the steps at the end over which both learning rates fall linearly to 0; 0 for none"),
        ("keep", "the generator that is kept: \"average\", the moving average of its weights over steps, or \"last\""),
        ("average_decay", "share of the past in that average; smaller in the first steps"),
        ("adversarial", "weight of the adversarial loss beside the L1 losses"),
        ("discount", "factor of the L1 loss for each pixel into the hole (0.99); 1 is plain L1"),
        (
            "adversarial_from",
            "share of the steps before the discriminator takes part; until then the L1 losses alone are learned",
        ),
        (
            "masks",
            "what images are learned under: \"free-form\" masks (paper), or \"mixed\": also cells of checkerboards and fragments, as at test time",
        ),
        (
            "augment",
            "\"none\", or \"turn\": training images are mirrored and turned by multiples of 90 degrees, for textures",
        ),
        ("known_weight", "weight of the L1 loss of known pixels (0: the loss is on what has to be painted)"),
        ("patches", "patches along each side of the first, checkerboard masks: 2 to 12 (paper: 6)"),
        ("shifts", "checkerboards, each moved by a part of a cell, whose reconstructions are averaged: 1 (paper) to 8"),
        (
            "u",
            "dissimilarity from which on a pixel is masked; \"auto\" takes the smallest of 0.10, 0.15 .. 0.50 that reaches u_limit",
        ),
        (
            "u_limit",
            "mean absolute difference, in 0..1, of training normals from their reconstruction after 10 iterations",
        ),
        (
            "test_iterations",
            "reconstructions of a test image after the one under the checkerboards (paper: 30; 0: that one alone)",
        ),
        ("stop", "an image is done when a smaller share of its mask changes; 0 stops when nothing does"),
        ("residual", "anomaly map: \"ssim\" (1 - SSIM) or \"l2\" (squared difference)"),
        (
            "standardise",
            "map less its mean over normal images, over their standard deviation: \"none\" (paper), \"pixel\" by pixel for objects that lie alike, or \"all\" pixels alike",
        ),
        (
            "score",
            "image score: \"mean\" of the map (paper); after a blur its largest value, \"max\", or the mean of its largest values, \"top\"",
        ),
        ("score_blur", "blur in pixels before \"max\" or \"top\" is taken; 0 for none"),
        ("top_share", "share of the pixels whose mean is \"top\""),
    ];
}

impl Default for Config {
    fn default() -> Self {
        Self::of(Preset::Paper)
    }
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &Self::ALL;

    const SCORING: &'static [&'static str] = &Self::SCORED;

    /// Phases of the training follow from its length, so that no run is continued for longer.
    const LENGTH: &'static [&'static str] = &[];

    fn under(table: &Table) -> Result<Table> {
        let Some(value) = table.get("preset") else { return Ok(Table::new()) };
        let preset: Preset = value.clone().try_into().map_err(|_| {
            Error::Config(format!(
                "setting preset = {value} is unknown; allowed: \"paper\", \"small\" or \"small-texture\""
            ))
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
        let share = |name, value: f64| require((0.0..=1.0).contains(&value), name, value, "0 to 1");
        share("lr_decay", self.lr_decay)?;
        share("adversarial_from", self.adversarial_from)?;
        let decays = (0.0..1.0).contains(&self.average_decay);
        require(decays, "average_decay", self.average_decay, "0 or more, below 1")?;
        require((0.0..=100.0).contains(&self.adversarial), "adversarial", self.adversarial, "0 to 100")?;
        require(self.discount > 0.0 && self.discount <= 1.0, "discount", self.discount, "above 0, 1 at most")?;
        require((0.0..=100.0).contains(&self.known_weight), "known_weight", self.known_weight, "0 to 100")?;
        require((2..=12).contains(&self.patches), "patches", self.patches, "2 to 12")?;
        require((1..=8).contains(&self.shifts), "shifts", self.shifts, "1 to 8")?;
        self.u.check("u", "\"auto\", or above 0 and below 2", |u| u > 0.0 && u < 2.0)?;
        require(self.u_limit > 0.0 && self.u_limit < 1.0, "u_limit", self.u_limit, "above 0, below 1")?;
        require(self.test_iterations <= 1000, "test_iterations", self.test_iterations, "0 to 1000")?;
        require((0.0..1.0).contains(&self.stop), "stop", self.stop, "0 or more, below 1")?;
        require((0.0..=20.0).contains(&self.score_blur), "score_blur", self.score_blur, "0 to 20")?;
        require(self.top_share > 0.0 && self.top_share <= 1.0, "top_share", self.top_share, "above 0, 1 at most")
    }
}
