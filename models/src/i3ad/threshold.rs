//! The threshold u of the mask, from training normals (I3AD, section 3.1).
//!
//! The paper takes the smallest of 0.10, 0.15 .. 0.50 with which training normals end close to themselves after 10
//! iterations, an L1 below "the order of 10". It does not say over what the L1 is summed; here it is the mean
//! absolute difference in 0..1, and the limit is 100 summed over a 256x256 RGB image, 5e-4.

use std::path::PathBuf;

use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::threads::pooled;
use hotad_engine::{Result, interrupt};

use super::iteration::{Painter, Search};
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
    let mut differences = [0.0; CANDIDATES.len()];
    for_each_batch(&Images::new(paths, spec), &order, IMAGES, |batch| {
        interrupt::check()?;
        let images = seen(&batch.images, painter.side)?;
        pooled(|| -> Result<()> {
            let first = painter.first(&images, patches)?;
            for (difference, u) in differences.iter_mut().zip(CANDIDATES) {
                let search = Search { u, iterations: ITERATIONS, stop: 0.0 };
                *difference += l1(painter, &images, &first, &search)?;
                // Larger thresholds mask less, so the first that stays below is the smallest.
                if *difference / paths.len() as f64 <= limit {
                    break;
                }
            }
            Ok(())
        })
    })?;
    let means = differences.map(|d| d / paths.len() as f64);
    let found = CANDIDATES.iter().zip(means).find(|(_, mean)| *mean <= limit && *mean >= 0.0);
    Ok(found.map_or((None, means[CANDIDATES.len() - 1]), |(u, mean)| (Some(*u), mean)))
}

/// Sum over images of the mean absolute difference in 0..1 after iterating.
fn l1(
    painter: &Painter,
    images: &hotad_engine::tensor::Tensor,
    first: &hotad_engine::tensor::Tensor,
    search: &Search,
) -> Result<f64> {
    let reached = painter.iterate(images, first.clone(), search, None)?;
    let values = images.values()?;
    let per_image = values.len() / reached.len().max(1);
    let mean = |(image, r): (&[f32], &super::iteration::Reached)| {
        let pairs = image.iter().zip(&r.reconstruction);
        pairs.map(|(a, b)| f64::from((a - b).abs()) / 2.0).sum::<f64>() / per_image as f64
    };
    Ok(values.chunks_exact(per_image.max(1)).zip(&reached).map(mean).sum())
}
