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
    let mut sums = vec![None::<Sums>; embedding.parts().len()];
    embedding.for_each_member_map(files, |member, map| sums[member].get_or_insert_default().add(map))?;
    Ok(sums.into_iter().map(|s| s.map(Sums::standard)).collect())
}

/// Sums over the values of a member's maps.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: f64,
    values: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, map: &[f32]) {
        for v in map {
            self.count += 1.0;
            self.values += f64::from(*v);
            self.squares += f64::from(*v).powi(2);
        }
    }

    fn standard(self) -> Standard {
        let mean = self.values / self.count;
        let deviation = (self.squares / self.count - mean * mean).max(0.0).sqrt().max(LEAST);
        Standard { mean: mean as f32, deviation: deviation as f32 }
    }
}
