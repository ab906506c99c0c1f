//! The threshold u of the mask, from training normals (I3AD, section 3.1).
//!
//! The paper takes the smallest of 0.10, 0.15 .. 0.50 with which training normals end close to themselves after 10
//! iterations, an L1 below "the order of 10". It does not say over what the L1 is summed; here it is the mean
//! absolute difference in 0..1, and the limit is 100 summed over a 256x256 RGB image, 5e-4.

use std::path::PathBuf;

use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::pooled;
use hotad_engine::{Result, interrupt};

use super::iteration::{Painter, Reached, Search};
use super::picture::seen;

/// Candidates, ascending.
pub const CANDIDATES: [f32; 9] = [0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50];

/// Iterations after which the difference is taken.
const ITERATIONS: usize = 10;

/// Training images that are looked at.
const IMAGES: usize = 8;

/// The smallest candidate that stays below the limit and its mean L1; `None` with the L1 of the largest candidate
/// where none does.
///
/// # Errors
/// When an image cannot be read.
pub fn choose(
    painter: &Painter,
    train: &[PathBuf],
    spec: ImageSpec,
    patches: usize,
    limit: f64,
) -> Result<(Option<f32>, f64)> {
    let paths = &train[..train.len().min(IMAGES)];
    let order: Vec<usize> = (0..paths.len()).collect();
    let mut found = (None, f64::INFINITY);
    // All of them are one batch.
    for_each_batch(&Images::new(paths, spec), &order, IMAGES, |batch| {
        let images = seen(&batch.images, painter.side)?;
        found = pooled(|| smallest(painter, &images, patches, limit))?;
        Ok(())
    })?;
    Ok(found)
}

/// [`choose`] over a batch.
fn smallest(painter: &Painter, images: &Tensor, patches: usize, limit: f64) -> Result<(Option<f32>, f64)> {
    let first = painter.first(images, patches)?;
    let mut l1 = f64::INFINITY;
    for u in CANDIDATES {
        interrupt::check()?;
        let search = Search { u, iterations: ITERATIONS, stop: 0.0 };
        l1 = difference(images, &painter.iterate(images, first.clone(), &search, None)?)?;
        if l1 <= limit {
            return Ok((Some(u), l1));
        }
    }
    Ok((None, l1))
}

/// Mean absolute difference in 0..1 between images and where they have got to.
fn difference(images: &Tensor, reached: &[Reached]) -> Result<f64> {
    let values = images.values()?;
    let made = reached.iter().flat_map(|r| &r.reconstruction);
    let sum: f64 = values.iter().zip(made).map(|(a, b)| f64::from((a - b).abs()) / 2.0).sum();
    Ok(sum / values.len() as f64)
}
