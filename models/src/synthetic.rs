//! Held-out normal images with synthetic cracks: what settings and pixel thresholds are chosen on.
//!
//! The paper chooses lambda and the threshold by cross-validation on such images (section 3.1); no
//! test image is ever looked at.

use std::path::PathBuf;

use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::data::synth::{Kind, draw};
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, random};

/// Most images that are drawn on.
const LIMIT: usize = 32;

/// Images with a crack each, at model size, and their masks.
pub struct Cracks {
    /// `[n, h, w, c]`.
    pub images: Tensor,
    /// `[n][h * w]`.
    pub masks: Vec<bool>,
}

/// Draws one crack on each of up to 32 held-out images.
///
/// # Errors
/// When an image cannot be read.
pub fn cracks(holdout: &[PathBuf], spec: ImageSpec, seed: u64) -> Result<Cracks> {
    let (mut values, mut masks) = (Vec::new(), Vec::new());
    for (i, path) in holdout.iter().take(LIMIT).enumerate() {
        let normal = Picture::read(path)?.fit(spec)?;
        let (cracked, mask) = draw(Kind::Crack, &normal, &mut random::stream(seed, "validation crack", i as u64));
        values.extend(cracked.values);
        masks.extend(mask.defect);
    }
    let n = holdout.len().min(LIMIT);
    Ok(Cracks { images: Tensor::new(values, &[n, spec.height, spec.width, spec.channels])?, masks })
}

impl Cracks {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.shape()[0]
    }

    /// Whether there was no held-out image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest Dice that any threshold reaches on anomaly maps of these images, and the threshold.
    pub fn best_dice(&self, maps: &[f32]) -> Option<(f64, f32)> {
        Ranking::new(maps.iter().copied().zip(self.masks.iter().copied())).f1_max()
    }
}
