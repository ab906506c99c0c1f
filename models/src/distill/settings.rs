//! Settings of a distillation.

use hotad_engine::Result;
use serde::Serialize;

use crate::config::{Interval, RATE, SHARE};

/// Where student and teacher are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HintChoice {
    /// After every layer of every block up to the last cut, where layers follow each other; else as [`HintChoice::Blocks`].
    Layers,
    /// After every one up to the last cut, so that each block has a target close by.
    Blocks,
    /// At the cuts alone.
    Cuts,
}

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Where the student will be cut; empty for the network's usual cuts. It ends at the last one.
    pub cuts: Vec<String>,
    /// Half the channels within blocks; then layers have no hints.
    pub narrow: bool,
    /// Where it is compared with the teacher.
    pub hints: HintChoice,
    /// Share of the steps in which what lies between two hints is given the teacher's map before it, not the student's own, so
    /// that all parts learn at once and apart, under the statistics of each batch. In the other steps they are fitted to each
    /// other, under the running statistics, as the student is used later.
    pub apart: f64,
    /// Optimiser steps, over which the learning rate falls to 0.
    pub steps: u64,
    /// Views of one step.
    pub batch: usize,
    /// Rows and columns of a view.
    pub crop: usize,
    /// Largest learning rate (Adam).
    pub lr: f64,
}

impl Settings {
    /// Fails for values out of range.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        SHARE.require("apart", self.apart)?;
        Interval::Closed(1, 100_000_000).require("steps", self.steps)?;
        Interval::Closed(2, 1024).require("batch", self.batch)?;
        Interval::Closed(32, 512).require("crop", self.crop)?;
        RATE.require("lr", self.lr)
    }

    /// Whether parts learn apart in a step.
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
