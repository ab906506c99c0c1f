//! Which latent vectors the background prior replaces (PAEDID, algorithm 1, step 4).
//!
//! Of every image the `floor(alpha * n + 0.5)` locations of highest score take their nearest normal
//! vector; among equal scores the first in row order. Bytes: 8 read and 4 written per element;
//! operations: n comparisons per location on a GPU, a sort on the CPU. The same choice is made among
//! any other scores of images.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;

use crate::device::{Reused, UNITS, View, ViewMut, grid, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::reduce::cube_sum;

/// Replaces in `features` (`[image][location][dim]`) the vectors of the locations of highest `score`
/// (`[image][location]`) by those of `nearest`. Writes to `mask` 1 where it did, else 0, and to
/// `image_scores` (`[image]`) the mean score of the replaced locations, or the highest score when none
/// is replaced.
///
/// # Errors
/// When `alpha` is outside 0..=1, or lengths or devices do not fit together.
#[outlined]
pub fn replace_farthest<'a>(
    features: impl Into<ViewMut<'a>>,
    nearest: impl Into<View<'a>>,
    score: impl Into<View<'a>>,
    alpha: f64,
    mask: impl Into<ViewMut<'a, u32>>,
    image_scores: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "prior";
    if !(0.0..=1.0).contains(&alpha) {
        return shape_error(OP, format!("alpha {alpha} is outside 0..1"));
    }
    let images = image_scores.len();
    let locations = score.len() / images.max(1);
    let dim = features.len() / score.len().max(1);
    check_len(OP, "score", score.len(), images * locations)?;
    check_len(OP, "mask", mask.len(), score.len())?;
    check_len(OP, "nearest", nearest.len(), features.len())?;
    check_len(OP, "features", features.len(), dim * score.len())?;
    let count = (alpha * locations as f64 + 0.5).floor() as usize;
    match place(OP, &[&features, &nearest, &score, &mask, &image_scores])? {
        None => {
            let (features, nearest, mask) = (features.host(), nearest.host(), mask.host());
            let per_image = score.host().chunks_exact(locations).zip(mask.chunks_exact_mut(locations));
            for ((score, mask), image_score) in per_image.zip(image_scores.host()) {
                *image_score = choose(score, count, mask);
            }
            let pairs = features.chunks_exact_mut(dim).zip(nearest.chunks_exact(dim));
            for ((to, from), _) in pairs.zip(mask).filter(|(_, replace)| **replace == 1) {
                to.copy_from_slice(from);
            }
        }
        Some(gpu) => {
            let (features, nearest, score) = (features.device(), nearest.device(), score.device());
            let (mask, image_scores) = (mask.device(), image_scores.device());
            let shape = (grid(images), CubeDim::new_1d(UNITS));
            launch!(gpu, choose_kernel, shape, score.arg(), mask.arg(), image_scores.arg(), images, locations, count);
            let n = features.len();
            launch!(gpu, replace_kernel, units(n), features.arg(), nearest.arg(), mask.arg(), n, dim);
        }
    }
    Ok(())
}

/// Writes to `mask` (`[image][score]`) 1 for the `count` highest of `scores` of each image, the first among equals, else 0.
///
/// # Errors
/// When the scores are no whole images of `of_image` each, or lengths or devices do not fit together.
#[outlined]
pub fn mark_highest<'a>(
    scores: impl Into<View<'a>>,
    of_image: usize,
    count: usize,
    mask: impl Into<ViewMut<'a, u32>>,
) -> Result<()> {
    const OP: &str = "highest";
    let images = scores.len() / of_image.max(1);
    check_len(OP, "scores", scores.len(), images * of_image)?;
    check_len(OP, "mask", mask.len(), scores.len())?;
    match place(OP, &[&scores, &mask])? {
        None => {
            let per_image = scores.host().chunks_exact(of_image).zip(mask.host().chunks_exact_mut(of_image));
            per_image.for_each(|(scores, mask)| {
                choose(scores, count.min(of_image), mask);
            });
        }
        Some(gpu) => {
            let (scores, mask, means) = (scores.device(), mask.device(), gpu.alloc::<f32>(images)?);
            let shape = (grid(images), CubeDim::new_1d(UNITS));
            launch!(gpu, choose_kernel, shape, scores.arg(), mask.arg(), means.arg(), images, of_image, count);
        }
    }
    Ok(())
}

/// Marks the `count` highest scores of one image; returns their mean, or the highest score.
fn choose(score: &[f32], count: usize, mask: &mut [u32]) -> f32 {
    let mut order = Reused::collect(0..score.len());
    order.sort_unstable_by(|a, b| score[*b].total_cmp(&score[*a]).then(a.cmp(b)));
    mask.fill(0);
    let chosen = &order[..count];
    chosen.iter().for_each(|at| mask[*at] = 1);
    if count == 0 {
        return order.first().map_or(0.0, |at| score[*at]);
    }
    chosen.iter().map(|at| score[*at]).sum::<f32>() / count as f32
}

/// One cube for each image: a location is chosen when fewer than `count` others come before it.
#[cube(launch_unchecked)]
fn choose_kernel(
    score: &Array<f32>,
    mask: &mut Array<u32>,
    image_scores: &mut Array<f32>,
    images: usize,
    locations: usize,
    count: usize,
) {
    let image = CUBE_POS;
    if image < images {
        let base = image * locations;
        let mut sum = f32::new(0.0);
        let mut at = UNIT_POS as usize;
        while at < locations {
            let own = score[base + at];
            let mut before = 0usize;
            for i in 0..locations {
                let other = score[base + i];
                if other > own || (other == own && i < at) {
                    before += 1;
                }
            }
            let chosen = before < count;
            mask[base + at] = select(chosen, 1u32, 0u32);
            let counts = chosen || (count == 0 && before == 0);
            sum += select(counts, own, f32::new(0.0));
            at += CUBE_DIM as usize;
        }
        let total = cube_sum(sum);
        if UNIT_POS == 0 {
            image_scores[image] = total / f32::cast_from(usize::max(count, 1));
        }
    }
}

#[cube(launch_unchecked)]
fn replace_kernel(features: &mut Array<f32>, nearest: &Array<f32>, mask: &Array<u32>, n: usize, dim: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        // Nested: on a GPU both sides of `&&` are evaluated.
        if mask[at / dim] == 1 {
            features[at] = nearest[at];
        }
    }
}
