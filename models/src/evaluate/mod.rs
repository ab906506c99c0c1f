//! Metrics of a model on a labelled data set.
//!
//! Maps are added to running counts image by image and dropped (pixels.rs); of each, some ten kilobytes of counts stay, from which
//! intervals are resampled.

mod against_f32;
mod confusion;
mod images;
mod intervals;
mod kept_maps;
mod kinds;
mod loco;
pub(crate) mod looked_at;
mod metrics;
mod observe;
mod pixels;
pub mod shards;
mod totals;
mod truth;

use std::path::PathBuf;

use hotad_engine::data::corrupt::Corrupt;
use hotad_engine::data::groups::Grouping;
use hotad_engine::data::{Dataset, Item};
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::{Error, Result};

use crate::model::Model;
pub use against_f32::AgainstF32;
pub use confusion::Confusion;
pub use kept_maps::KeptMaps;
use metrics::KINDS;
pub use metrics::{ByKind, KindMetrics, Metrics};
use observe::{observe, unseen};
use totals::{Drawn, Subject, Totals};

/// A test image and its score.
#[derive(Clone, Debug)]
pub struct ScoredImage {
    /// Image and label.
    pub item: Item,
    /// Raw score.
    pub score: f32,
    /// Rows and columns of the file.
    pub size: (usize, usize),
    /// Time to score it, in milliseconds: that of its batch, shared out evenly.
    pub ms: f64,
    /// Overlap with the mask at the pixel threshold, for a defective image with a mask.
    pub overlap: Option<Overlap>,
}

/// How to evaluate.
pub struct EvaluateOptions<'a> {
    /// Images scored together.
    pub batch: usize,
    /// A change of the test images.
    pub corrupt: Option<Corrupt>,
    /// Which images are of one part; intervals draw parts.
    pub grouping: &'a Grouping,
    /// Seed of the resamples.
    pub seed: u64,
    /// Anomaly maps that are kept of each kind that a report shows: good images by highest score, defective ones by highest and by
    /// lowest.
    pub keep_maps: usize,
    /// Called after each batch with the images done so far.
    pub seen: &'a dyn Fn(usize),
}

/// Metrics and what they come from.
pub struct Evaluation {
    /// Results.
    pub metrics: Metrics,
    /// Image by image, in the order of the data set.
    pub scored: Vec<ScoredImage>,
    /// Ranking of image scores.
    pub images: Ranking,
    /// Ranking of pixels.
    pub pixels: Option<Ranking>,
    /// What [`EvaluateOptions::keep_maps`] asks for.
    pub maps: KeptMaps,
}

/// Refuses a data set without test images.
fn check_tests(data: &Dataset) -> Result<()> {
    if data.test.is_empty() {
        let reason = "no test images; eval wants test/good and test/DEFECT, or positive/ and negative/ (score takes plain folders)";
        return Err(Error::Data { path: data.root.clone(), reason: reason.into() });
    }
    Ok(())
}

/// Evaluates a model on the test images of a data set.
///
/// # Errors
/// When there are none, an image or mask cannot be used, or a score is not finite.
pub fn evaluate(model: &Model, data: &Dataset, options: &EvaluateOptions) -> Result<Evaluation> {
    check_tests(data)?;
    let is_unseen = unseen(model, &data.test, options.grouping)?;
    let test: Vec<Item> =
        data.test.iter().zip(&is_unseen).filter(|(_, unseen)| **unseen).map(|(i, _)| i.clone()).collect();
    let learned = data.test.len() - test.len();
    let paths: Vec<&PathBuf> = test.iter().map(|i| &i.path).collect();
    // What names say of parts is known before anything is scored.
    let drawn = Drawn { groups: options.grouping.by_names(&paths)?, seed: options.seed };
    let subject = Subject::new(model, data);
    let truths = subject.truths(data, options.corrupt)?;
    let mut totals = Totals::new(&subject, options.keep_maps);
    observe(model, &test, options, truths.as_ref(), |observed| totals.take(observed))?;
    let changed = |c: Corrupt| format!("test images were changed: {}, seed {}", c.kind.name(), c.seed);
    totals.finish(options.corrupt.map(changed), learned, drawn)
}
