//! The decomposition on a GPU: all images of the batch together, one launch a step, or one for all steps.

use cubecl::prelude::*;

use super::kernels::{
    ReadLaunch, StepConstantsLaunch, StepOutputsLaunch, StepVariant, TablesLaunch, descend_kernel, known_kernel,
};
#[cfg(feature = "cuda")]
use super::steps;
use crate::adam::{AdamOptions, AdamStep};
use crate::device::{GpuBuffer, UNITS, copy, fill, grid, launch};
use crate::error::{Result, shape_error};
use crate::reduce::{add_group_sums, group_sums};
use crate::ssim::gpu::{Layout, QUARTER};

/// Largest window whose tile fits into 32 KiB of shared memory.
pub(super) const LARGEST_WINDOW: usize = 13;

/// Queues all steps; nothing is read in between. When losses are kept, two sums more a step.
pub(super) fn run(
    layout: &Layout,
    (x, prior): (&GpuBuffer, &GpuBuffer),
    lambda: f32,
    steps: &[AdamStep],
    l: &mut GpuBuffer,
    mut losses: Option<&mut GpuBuffer>,
) -> Result<()> {
    if layout.size > LARGEST_WINDOW {
        let detail = format!("a window of {} pixels; the GPU kernel takes up to {LARGEST_WINDOW}", layout.size);
        return shape_error("decompose", detail);
    }
    let gpu = &layout.gpu;
    let n = layout.shape[0];
    let elements = (layout.map_len() / n.max(1)) as f32;
    #[cfg(feature = "cuda")]
    if let Some(queue) = steps::queue_that_fits(layout).filter(|_| losses.is_none() && !steps.is_empty()) {
        return steps::run((queue, layout), (x, prior), (-1.0 / elements, lambda), steps, l);
    }
    let mut state = State {
        known: known_moments(layout, prior)?,
        adam: gpu.alloc(2 * l.len())?,
        sums: [gpu.alloc(layout.image_cubes())?, gpu.alloc(layout.image_cubes())?],
    };
    fill(&mut state.adam, 0.0);
    let still = AdamStep { rate: 0.0, ..AdamStep::new(&AdamOptions::default(), 1) };
    // The last round only measures.
    let rounds = steps.len() + usize::from(losses.is_some());
    let (mut from, mut to) = (gpu.alloc(l.len())?, l.clone());
    if rounds.is_multiple_of(2) {
        std::mem::swap(&mut from, &mut to);
    }
    copy(prior, &mut from);
    for at in 0..rounds {
        let step = steps.get(at).copied().unwrap_or(still);
        descend(layout, [x, prior, &from, &to], &state, (-1.0 / elements, lambda), step, losses.is_some());
        std::mem::swap(&mut from, &mut to);
        if let Some(losses) = losses.as_deref_mut() {
            let place = (steps.len() + 1, at);
            group_sums(&state.sums[0], n, (-1.0 / elements, 1.0), losses, place);
            add_group_sums(&state.sums[1], n, lambda, losses, place);
        }
    }
    Ok(())
}

/// What lives as long as a decomposition.
struct State {
    /// Means of the prior and of its square, one map after the other.
    known: GpuBuffer,
    /// First and second moments of Adam, one after the other.
    adam: GpuBuffer,
    /// Sums of SSIM and of |x - l|, one of each for every cube.
    sums: [GpuBuffer; 2],
}

/// Means of the prior and of its square.
fn known_moments(layout: &Layout, prior: &GpuBuffer) -> Result<GpuBuffer> {
    let cubes = layout.map_cubes();
    let known = layout.gpu.alloc(2 * layout.map_len())?;
    launch!(
        layout.gpu,
        known_kernel,
        (grid(cubes), CubeDim::new_1d(QUARTER)),
        prior.arg(),
        layout.weights.arg(),
        known.arg(),
        layout.arg(cubes),
        layout.variant()
    );
    Ok(known)
}

/// Queues one step from background `from` to `to`.
fn descend(
    layout: &Layout,
    [x, prior, from, to]: [&GpuBuffer; 4],
    state: &State,
    (upstream, lambda): (f32, f32),
    step: AdamStep,
    measured: bool,
) {
    let cubes = layout.image_cubes();
    launch!(
        layout.gpu,
        descend_kernel,
        (grid(cubes), CubeDim::new_1d(UNITS)),
        ReadLaunch::new(x.arg(), prior.arg(), from.arg(), state.known.arg()),
        TablesLaunch::new(layout.weights.arg(), layout.row_band.arg(), layout.column_band.arg()),
        StepOutputsLaunch::new(to.arg(), state.adam.arg(), state.sums[0].arg(), state.sums[1].arg()),
        layout.arg(cubes),
        StepConstantsLaunch::new(to.len(), upstream, lambda, step.arg()),
        StepVariant { measured, size: layout.size, border: layout.border }
    );
}
