//! Training masks, 1 = hole: those of free-form inpainting, and those that a test image is looked at under.
//!
//! The paper trains under free-form masks alone, and expects "more fine structured masks" at test time (section 2.2): cells
//! of a checkerboard first, then what is left of them where SSIM is low. A short training has no time to carry over from
//! one to the other, so that all three are drawn.

mod free_form;

use hotad_engine::{Result, random};
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::window::Border;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use free_form::free_form;

/// Share of the mixed masks that are cells of a checkerboard, and share that are fragments; the others are free-form.
const CELLS: f32 = 0.4;
const FRAGMENTS: f32 = 0.4;

/// What images are learned under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskKinds {
    /// Free-form masks, cells of checkerboards and fragments.
    #[default]
    Mixed,
    /// Free-form masks alone (paper).
    FreeForm,
}

impl MaskKinds {
    /// The masks of a step: `n` of `side` x `side` pixels.
    ///
    /// # Errors
    /// When a blur is refused.
    pub fn of_step(self, n: usize, side: usize, rng: &mut ChaCha8Rng) -> Result<Vec<f32>> {
        let mut masks = Vec::with_capacity(n * side * side);
        for _ in 0..n {
            let kind: f32 = if self == Self::Mixed { rng.random() } else { 1.0 };
            masks.extend(match kind {
                k if k < CELLS => cells(side, rng),
                k if k < CELLS + FRAGMENTS => fragments(side, rng)?,
                _ => free_form(side, rng),
            });
        }
        Ok(masks)
    }
}

/// The masks of a step of one purpose.
pub fn of_step(kind: MaskKinds, n: usize, side: usize, seed: u64, (purpose, step): (&str, u64)) -> Result<Vec<f32>> {
    kind.of_step(n, side, &mut random::stream(seed, purpose, step))
}

/// One of the four masks of a checkerboard of 4 to 12 cells a side, moved by any number of pixels.
fn cells(side: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let cell = side.div_ceil(rng.random_range(4..=12));
    let (top, left) = (rng.random_range(0..2 * cell), rng.random_range(0..2 * cell));
    let is_hole =
        |at: usize| ((at / side + top) / cell).is_multiple_of(2) && ((at % side + left) / cell).is_multiple_of(2);
    (0..side * side).map(|at| f32::from(u8::from(is_hole(at)))).collect()
}

/// Blobs such as SSIM leaves: smooth noise above a threshold, 2 to 60 % of the image, the smaller the likelier.
fn fragments(side: usize, rng: &mut ChaCha8Rng) -> Result<Vec<f32>> {
    let noise: Vec<f32> = (0..side * side).map(|_| random::normal(rng)).collect();
    let sigma = rng.random_range(1.5..5.0) * side as f32 / 128.0;
    let share = 0.02 * 30.0_f32.powf(rng.random());
    let mut smooth = vec![0.0; side * side];
    let radius = (3.0 * sigma).ceil() as usize;
    gaussian_blur(&noise, [1, side, side, 1], sigma, radius, Border::Symmetric, &mut smooth)?;
    let mut sorted = smooth.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    let threshold = sorted[((1.0 - share) * (sorted.len() - 1) as f32) as usize];
    Ok(smooth.iter().map(|v| f32::from(u8::from(*v > threshold))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_masks_are_of_all_kinds_and_leave_something_known() {
        const SIDE: usize = 64;
        let share = |mask: &[f32]| mask.iter().sum::<f32>() / mask.len() as f32;
        let (mut small, mut cellular) = (0, 0);
        for step in 0..100 {
            let masks = of_step(MaskKinds::Mixed, 2, SIDE, 3, ("mask test", step)).expect("drawn");
            assert_eq!(masks, of_step(MaskKinds::Mixed, 2, SIDE, 3, ("mask test", step)).expect("drawn"));
            for mask in masks.chunks_exact(SIDE * SIDE) {
                assert!(mask.iter().all(|v| *v == 0.0 || *v == 1.0));
                assert!((0.01..1.0).contains(&share(mask)), "{}", share(mask));
                small += usize::from(share(mask) < 0.1);
                // Rows of cells: every row is empty or that of the others.
                let rows: std::collections::BTreeSet<Vec<u8>> =
                    mask.chunks_exact(SIDE).map(|row| row.iter().map(|v| *v as u8).collect()).collect();
                cellular += usize::from(rows.len() == 2 && (0.1..0.4).contains(&share(mask)));
            }
        }
        // Half of the fragments, which are four in ten, cover less than a tenth; a mask of cells is two kinds of rows.
        assert!((15..80).contains(&small) && (50..110).contains(&cellular), "{small} {cellular}");
    }
}
