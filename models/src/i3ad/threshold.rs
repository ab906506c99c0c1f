//! The threshold u of the mask, from training normals (I3AD, section 3.1).
//!
//! The paper takes the smallest of 0.10, 0.15 .. 0.50 with which training normals end close to themselves after 10
//! iterations, an L1 below "the order of 10". It does not say over what the L1 is summed; here it is the mean
//! absolute difference in 0..1, and the limit is 100 summed over a 256x256 RGB image, 5e-4.

use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::pooled;
use hotad_engine::until::Until;
use hotad_engine::{Result, interrupt, random};

use super::augment::seen;
use super::config::Config;
use super::iteration::{Painter, Reached, Search};
use crate::fit::FitContext;

/// Candidates, ascending.
pub const CANDIDATES: [f32; 9] = [0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50];

/// Iterations after which the difference is taken.
const ITERATIONS: usize = 10;

/// Training images, or tiles of as many, that are looked at, drawn by the seed.
const IMAGES: usize = 16;

/// The threshold of settings: fixed, or chosen on training normals; says which and why.
///
/// # Errors
/// When an image cannot be read.
pub fn resolve(config: &Config, painter: &Painter, context: &FitContext) -> Result<f32> {
    if let Some(u) = config.u.fixed() {
        return Ok(u as f32);
    }
    context.observer.say("choosing the threshold of the mask on training normals");
    let limit = config.u_limit;
    let (found, l1) = choose(config, painter, context)?;
    if let Some(u) = found {
        context
            .observer
            .say(&format!("u = {u}: mean L1 of training normals after {ITERATIONS} iterations is {l1:.1e}"));
        return Ok(u);
    }
    let largest = CANDIDATES[CANDIDATES.len() - 1];
    context.observer.warn(&format!(
        "no u brings training normals below an L1 of {limit:.1e} (at {largest} it is {l1:.1e}); took {largest}: train longer, or set u"
    ));
    Ok(largest)
}

/// The smallest candidate that stays below the limit and its mean L1; `None` with the L1 of the largest candidate
/// where none does.
fn choose(config: &Config, painter: &Painter, context: &FitContext) -> Result<(Option<f32>, f64)> {
    let order = drawn(context.train.len(), context.seed);
    let mut rng = random::stream(context.seed, "tiles that the threshold is chosen on", 0);
    let mut found = (None, f64::INFINITY);
    // All of them are one batch.
    for_each_batch(&Images::new(context.train, config.image()), &order, IMAGES, |batch| {
        let images = seen(config, &batch.images, &mut rng)?;
        let first = painter.first(&images, config.patches, config.shifts)?;
        found = pooled(|| smallest(painter, &images, &first, config.u_limit))?;
        Ok(())
    })?;
    Ok(found)
}

/// Which of `n` images are looked at.
fn drawn(n: usize, seed: u64) -> Vec<usize> {
    let mut order = random::shuffled(n, seed, "images that the threshold is chosen on", 0);
    order.truncate(IMAGES);
    order
}

/// [`choose`] over a batch.
fn smallest(painter: &Painter, images: &Tensor, first: &Tensor, limit: f64) -> Result<(Option<f32>, f64)> {
    let mut l1 = f64::INFINITY;
    for u in CANDIDATES {
        interrupt::check()?;
        let search = Search { u, iterations: ITERATIONS, stop: 0.0 };
        l1 = difference(images, &painter.iterate(images, first.clone(), &search, &Until::done(), None)?)?;
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
    let sum: f64 = values.iter().zip(made).map(|(a, b)| f64::from((a - b).abs())).sum();
    Ok(sum / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_drawn_from_all_by_the_seed() {
        let (one, other) = (drawn(1000, 1), drawn(1000, 2));
        assert_eq!((one.len(), &one), (IMAGES, &drawn(1000, 1)));
        assert!(one != other && one.iter().any(|i| *i > 500) && one.iter().any(|i| *i < 500), "{one:?}");
        assert_eq!(drawn(3, 1).len(), 3);
    }
}
