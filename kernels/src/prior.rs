//! Which latent vectors the background prior replaces (PAEDID, algorithm 1, step 4).

use crate::error::{Result, check_len, shape_error};

/// Locations to replace: the `floor(alpha * n + 0.5)` of highest score; among equal scores the
/// first in row order. The result has one flag per location.
///
/// # Errors
/// When `alpha` is outside 0..=1.
pub fn replaced_locations(score: &[f32], alpha: f64) -> Result<Vec<bool>> {
    if !(0.0..=1.0).contains(&alpha) {
        return shape_error("prior", format!("alpha {alpha} is outside 0..1"));
    }
    let count = (alpha * score.len() as f64 + 0.5).floor() as usize;
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|a, b| score[*b].total_cmp(&score[*a]));
    let mut mask = vec![false; score.len()];
    for at in order.into_iter().take(count) {
        mask[at] = true;
    }
    Ok(mask)
}

/// Writes the vectors of `nearest` over those of `features` where `mask` says so.
///
/// # Errors
/// When the lengths do not fit.
pub fn replace_features(features: &mut [f32], nearest: &[f32], mask: &[bool]) -> Result<()> {
    check_len("prior", "nearest", nearest.len(), features.len())?;
    let dim = features.len() / mask.len().max(1);
    check_len("prior", "features", features.len(), dim * mask.len())?;
    for ((to, from), replace) in features.chunks_exact_mut(dim).zip(nearest.chunks_exact(dim)).zip(mask) {
        if *replace {
            to.copy_from_slice(from);
        }
    }
    Ok(())
}
