//! Greedy coreset selection: the farthest point first (Gonzalez 1985; PatchCore, Roth et al. 2022,
//! section 3.2).
//!
//! Every step takes the point that is farthest from its nearest chosen one, the lowest index among
//! equals. One pass over the points a step would be `3 d` operations and `4 d` bytes per point and step, bound by memory. The
//! host is lazy instead, cluster by cluster (clusters.rs) or, where points vary in many directions alike, point by point (bounds.rs);
//! the result is the same, bit by bit. On a GPU every step is a pass, and the chosen index stays there, so that steps are queued
//! without waiting.

mod bounds;
mod cluster;
mod clusters;
mod distance;
mod gpu;
mod host;
mod outlines;

use std::ops::ControlFlow;

use crate::device::{View, ViewMut, place};
use crate::error::{KernelError, Result, check_len, shape_error};

const OP: &str = "coreset";

/// Looks on while points are chosen.
pub type Watch<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

fn go_on(watch: Watch, chosen: usize) -> Result<()> {
    if watch(chosen).is_break() { Err(KernelError::Stopped) } else { Ok(()) }
}

/// Chooses `index.len()` of the points `x` (`[m][d]`), beginning with `start`. Writes their indices in
/// the order they were chosen, and to `distance` how far each was from the nearest chosen one then (0
/// for the start). `watch` gets the number of chosen points before each choice and may break off.
///
/// # Errors
/// When more are asked for than there are, `start` is none of them, or lengths or devices do not fit;
/// [`KernelError::Stopped`] when `watch` breaks off.
pub fn greedy_coreset<'a>(
    x: impl Into<View<'a>>,
    d: usize,
    start: usize,
    index: impl Into<ViewMut<'a, u32>>,
    distance: impl Into<ViewMut<'a>>,
    watch: Watch,
) -> Result<()> {
    let (x, index, distance) = (x.into(), index.into(), distance.into());
    let (m, count) = (x.len() / d.max(1), index.len());
    if d == 0 || start >= m || count > m || m > u32::MAX as usize {
        return shape_error(OP, format!("{count} of {m} points of dimension {d}, from number {start}"));
    }
    check_len(OP, "points", x.len(), m * d)?;
    check_len(OP, "distance", distance.len(), count)?;
    match place(OP, &[&x, &index, &distance])? {
        None => host::on_host((x.host(), d), start, index.host(), distance.host(), watch),
        Some(gpu) => gpu::on_gpu(&gpu, (x.device(), d), start, index.device(), distance.device(), watch),
    }
}
