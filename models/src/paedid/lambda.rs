//! Lambda, the weight of the L1 term, by the Dice that it reaches on synthetic cracks.

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, interrupt};

use super::decomposition::DecompositionSettings;
use crate::synthetic::Cracks;

/// Lambdas that are tried first: spaced by half a decade around 1 / (number of elements), where both terms of
/// equation 3 pull equally.
pub fn lambdas(image: ImageSpec) -> Vec<f32> {
    let middle = 1.0 / image.len() as f32;
    (-1..=3).map(|e| middle * 10f32.powf(e as f32 * 0.5)).collect()
}

/// Lambdas that are tried then: a quarter of a decade below and above the best of these.
pub fn lambdas_beside(best: f32) -> [f32; 2] {
    [-0.25, 0.25].map(|e| best * 10f32.powf(e))
}

/// A lambda with its Dice.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The largest Dice of any threshold.
    pub dice: f64,
    /// The weight.
    pub lambda: f32,
}

impl Found {
    /// Before anything is tried.
    pub fn nothing(lambda: f32) -> Self {
        Self { dice: f64::NEG_INFINITY, lambda }
    }
}

/// What lambdas are tried with.
pub struct Trials<'a> {
    /// The decomposition.
    pub settings: &'a DecompositionSettings,
    /// What has to be found.
    pub cracks: &'a Cracks,
    /// The cracks on the device of the model, `[n, h, w, c]`.
    pub images: &'a Tensor,
}

impl Trials<'_> {
    /// The best of some lambdas against a background, or `best` where none is better.
    ///
    /// # Errors
    /// What goes wrong on the device, or an interruption.
    pub fn best_of(&self, background: &Tensor, lambdas: &[f32], best: Found) -> Result<Found> {
        lambdas.iter().try_fold(best, |best, lambda| {
            interrupt::check()?;
            let maps = self.settings.with(*lambda).maps(self.images, background)?;
            let dice = self.cracks.best_dice(&maps.into_vec()?).map_or(0.0, |(dice, _)| dice);
            Ok(if dice > best.dice { Found { dice, lambda: *lambda } } else { best })
        })
    }
}
