//! The largest bank that scores an image within a time, measured where the model is trained.
//!
//! Scoring takes the time of the features, of the maps, and about a time for each bank vector. It is measured at two sizes of
//! the bank, the size that just fits follows by a straight line, and is measured in turn.

use std::time::Instant;

use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::planned::Planned;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_kernels::flat_bank::FlatBank;

use super::Scorer;
use super::bank::in_precision;
use super::config::Config;
use crate::features::Embedding;
use crate::fit::FitContext;

/// Fewest vectors that a bank is given.
const FEWEST: usize = 100;

/// The second size that is measured: one that is searched as large banks are.
const SECOND: usize = 4_000;

/// Times a call is measured after [`WARM_UP`] calls.
const RUNS: usize = 9;

/// Calls before measuring.
const WARM_UP: usize = 2;

/// Attempts to come below the limit.
const ATTEMPTS: usize = 4;

/// Median milliseconds of a call.
fn median_ms(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(RUNS);
    for run in 0..WARM_UP + RUNS {
        let start = Instant::now();
        call()?;
        if run >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

/// What is measured: scoring one image with banks of some sizes.
struct Trial<'a> {
    embedding: &'a Embedding,
    config: &'a Config,
    /// `[1, height, width, channels]`.
    image: Tensor,
    /// Patches that a bank can be made of, `[m][d]`.
    patches: &'a [f32],
}

impl Trial<'_> {
    /// Milliseconds of the features alone.
    fn features(&self) -> Result<f64> {
        median_ms(|| self.embedding.embed(&self.image)?.values().map(drop))
    }

    /// Milliseconds of scoring with a bank of `n` vectors.
    fn scoring(&self, n: usize) -> Result<f64> {
        let d = self.embedding.dimensions();
        let m = self.patches.len() / d;
        let spread = (0..n).flat_map(|i| &self.patches[i * m / n * d..][..d]).copied().collect();
        let bank = FlatBank::new(in_precision(self.config.bank, spread), d, self.embedding.device())?;
        let planned = Planned::default();
        let scorer = Scorer { embedding: self.embedding, bank: &bank, config: self.config, planned: &planned };
        median_ms(|| scorer.scores(&self.image).map(drop))
    }
}

/// Vectors of the largest bank of the patches `[m][d]` with which an image is scored within `max_latency_ms`.
///
/// # Errors
/// When the features alone, or they and a search among 100 vectors, take longer: says how long.
pub(super) fn largest_in_time(
    embedding: &Embedding,
    config: &Config,
    patches: &[f32],
    context: &FitContext,
) -> Result<usize> {
    let (limit, m) = (config.max_latency_ms, patches.len() / embedding.dimensions());
    let mut image = None;
    for_each_batch(&Images::new(context.train, embedding.image()), &[0], 1, |batch| {
        image = Some(batch.images);
        Ok(())
    })?;
    let image = image.ok_or_else(|| Error::Config("no image to measure the latency with".into()))?;
    let trial = Trial { embedding, config, image, patches };
    let features = trial.features()?;
    let refused = |what: String| {
        Err(Error::Config(format!(
            "setting max_latency_ms = {limit}: {what} on this machine; allow more, or take a smaller image_size or backbone"
        )))
    };
    if features >= limit {
        return refused(format!("the features of an image alone take {features:.2} ms"));
    }
    let fewest = FEWEST.min(m);
    let least = trial.scoring(fewest)?;
    if least > limit {
        return refused(format!("{fewest} bank vectors take {least:.2} ms, {features:.2} ms of it for features"));
    }
    let Timed { vectors, ms } = largest(&trial, Timed { vectors: fewest, ms: least }, limit, m)?;
    context.observer.say(&format!(
        "max_latency_ms = {limit}: {vectors} bank vectors; an image takes {ms:.2} ms, {features:.2} ms of it for features"
    ));
    Ok(vectors)
}

/// A size of the bank, and how long an image takes with it.
#[derive(Clone, Copy)]
struct Timed {
    vectors: usize,
    ms: f64,
}

/// The largest size up to `m` within the limit; `fewest` is one that is.
fn largest(trial: &Trial, fewest: Timed, limit: f64, m: usize) -> Result<Timed> {
    let (mut within, mut vectors) = (fewest, SECOND.clamp(fewest.vectors, m));
    for _ in 0..ATTEMPTS {
        if vectors <= within.vectors {
            break;
        }
        let tried = Timed { vectors, ms: trial.scoring(vectors)? };
        let next = on_line(fewest, tried, limit).min(m);
        if tried.ms <= limit {
            within = tried;
        }
        // A size within 5 % is near enough.
        if next <= within.vectors + within.vectors / 20 {
            break;
        }
        vectors = next;
    }
    Ok(within)
}

/// The size at which a line through two measured ones comes to the limit.
fn on_line(a: Timed, b: Timed, limit: f64) -> usize {
    let per_vector = (b.ms - a.ms) / (b.vectors - a.vectors) as f64;
    if per_vector > 0.0 { a.vectors.saturating_add(((limit - a.ms) / per_vector) as usize) } else { usize::MAX }
}
