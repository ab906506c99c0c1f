//! Settings of a distillation.

use serde::{Deserialize, Serialize};

use crate::config::{RATE, SHARE, Settings, settings};

/// Where student and teacher are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HintChoice {
    /// After every layer of every block up to the last cut, where layers follow each other and the student has the teacher's; else
    /// as [`HintChoice::Blocks`].
    Layers,
    /// After every one up to the last cut, so that each block has a target close by.
    Blocks,
    /// At the cuts alone.
    Cuts,
}

settings! {
    /// Settings: options of `hotad distill`.
    pub struct Config {
        /// blocks that the student will be cut after, separated by commas; none: where the network usually is. It ends at the
        /// last one
        cuts: Vec<String> = Vec::new();
        /// expansion factor of the student's inverted residuals: 6 for the teacher's layers; 1 to 5 for fewer channels within
        /// blocks, with efficientnet-lite0 as the teacher only
        expansion: usize = 6, in 1..=6;
        /// where student and teacher are compared; "layers" means "blocks" where the student has other layers than the teacher
        hints: HintChoice = HintChoice::Layers;
        /// share of the steps in which each part between two hints is given the teacher's map before it, so that all learn at
        /// once and apart; then they are fitted to each other
        apart: f64 = 0.5, in SHARE;
        /// optimiser steps, over which the learning rate falls to 0; may differ when resumed
        steps: u64 = 20_000, in 1..=100_000_000, for Length;
        /// views of one step
        batch: usize = 16, in 2..=1024;
        /// rows and columns of a view; the network's stride is 16 or 32
        crop: usize = 128, in 32..=512;
        /// largest learning rate (Adam)
        lr: f64 = 3e-3, in RATE;
    }
}

impl Settings for Config {}

impl Config {
    /// Whether parts learn apart in a step: under the statistics of each batch; afterwards under the running statistics, as the
    /// student is used later.
    pub fn is_apart(&self, step: u64) -> bool {
        (step as f64) < self.apart * self.steps as f64
    }

    /// Learning rate of a step: linear over the first fiftieth (at most 500 steps), then down to 0 along a cosine (Loshchilov
    /// and Hutter 2017).
    pub fn lr_at(&self, step: u64) -> f32 {
        let warm = (self.steps / 50).clamp(1, 500);
        let risen = ((step + 1) as f64 / warm as f64).min(1.0);
        let share = (step as f64 / self.steps as f64).min(1.0);
        (self.lr * risen * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())) as f32
    }
}
