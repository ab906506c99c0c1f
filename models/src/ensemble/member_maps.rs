//! Members' own anomaly maps as features.
//!
//! Each map is brought to the grid of patches and standardised by the mean and deviation of normal images. A member knows
//! the images it was trained on: a memory bank holds their very patches, and its distances to them are too small. So there are
//! two pairs of numbers. While the head learns, on images that members have mostly been trained on, maps are standardised by
//! these images' own mean and deviation; from then on by those of the held-out normal images, which no member has seen if all
//! were trained with the same seed and share. Either way normal patches are around 0 with deviation 1.

use hotad_engine::Result;
use hotad_engine::data::files::ImageFiles;

use crate::features::Embedding;
use crate::features::embedding::Standard;
use crate::fit::FitContext;

/// Smallest deviation that is divided by.
const LEAST: f64 = 1e-12;

/// Mean and deviation of each member's map, none for a member without one.
type Standards = Vec<Option<Standard>>;

/// By the training images, and by the held-out ones.
///
/// # Errors
/// Broken images, what members report, interruption.
pub fn standards(embedding: &Embedding, context: &FitContext) -> Result<(Standards, Standards)> {
    Ok((of(embedding, context.train)?, of(embedding, context.holdout)?))
}

fn of(embedding: &Embedding, files: ImageFiles) -> Result<Standards> {
    // Count, sum and sum of squares of each member.
    let mut sums = vec![None::<(f64, f64, f64)>; embedding.parts().len()];
    embedding.for_each_member_map(files, |member, map| {
        let (n, sum, squares) = sums[member].get_or_insert((0.0, 0.0, 0.0));
        for v in map {
            *n += 1.0;
            *sum += f64::from(*v);
            *squares += f64::from(*v).powi(2);
        }
    })?;
    let standard = |(n, sum, squares): (f64, f64, f64)| {
        let mean = sum / n;
        let deviation = (squares / n - mean * mean).max(0.0).sqrt().max(LEAST);
        Standard { mean: mean as f32, deviation: deviation as f32 }
    };
    Ok(sums.into_iter().map(|s| s.map(standard)).collect())
}
