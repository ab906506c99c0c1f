//! The decomposition on a GPU: all images of the batch together, two launches a step.

use cubecl::prelude::*;

use crate::adam::{AdamOptions, AdamState, AdamStep, adam_update};
use crate::border::Border;
use crate::device::{GpuBuffer, UNITS, grid, launch};
use crate::elementwise::{copy, fill};
use crate::error::Result;
use crate::loss::absolute_error_slope;
use crate::reduce::{add_group_sums, cube_sum, group_sums};
use crate::ssim::gpu::{Layout, Shapes, adjoint, slopes, tile};

/// Two launches a step for the whole batch, nothing read in between; two more when losses are kept.
pub(super) fn run(
    layout: &Layout,
    (x, prior): (&GpuBuffer, &GpuBuffer),
    lambda: f32,
    steps: &[AdamStep],
    l: &mut GpuBuffer,
    mut losses: Option<&mut GpuBuffer>,
) -> Result<()> {
    let gpu = &layout.gpu;
    let [n, ..] = layout.shape;
    let elements = (layout.map_len() / n.max(1)) as f32;
    let (mut first, mut second) = (gpu.alloc(l.len())?, gpu.alloc(l.len())?);
    fill(&mut first, 0.0);
    fill(&mut second, 0.0);
    copy(prior, l);
    let mut coefficients = gpu.alloc(3 * layout.map_len())?;
    let mut similar = gpu.alloc(layout.map_cubes())?;
    let mut distance = gpu.alloc(layout.image_cubes())?;
    let stride = steps.len() + 1;
    let still = AdamStep { rate: 0.0, ..AdamStep::new(&AdamOptions::default(), 1) };
    // The last round only measures.
    let rounds = steps.len() + usize::from(losses.is_some());
    for at in 0..rounds {
        let step = steps.get(at).copied().unwrap_or(still);
        slopes(layout, (l, prior), (None, -1.0 / elements), &mut similar, &mut coefficients);
        let mut state = Descent { l: &mut *l, first: &mut first, second: &mut second, distance: &mut distance };
        descend(layout, (x, prior), &coefficients, &mut state, lambda, step);
        if let Some(losses) = losses.as_deref_mut() {
            group_sums(&similar, n, (-1.0 / elements, 1.0), losses, (stride, at));
            add_group_sums(&distance, n, lambda, losses, (stride, at));
        }
    }
    Ok(())
}

/// One step of the decomposition: gradient of SSIM, slope of the L1 term, Adam, all in one pass; the
/// sum of |x - l| before the step goes to `distance`, one for each cube.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // three images, moments, maps, their shape and a step
fn descend_kernel(
    x: &Array<f32>,
    prior: &Array<f32>,
    l: &mut Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    coefficients: &Array<f32>,
    row_band: &Array<f32>,
    column_band: &Array<f32>,
    distance: &mut Array<f32>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    section: usize,
    lambda: f32,
    rate: f32,
    correction: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let at = tile(h, w, c);
        let (j, i) = (at.top + at.y, at.left + at.x);
        let inside = j < h && i < w;
        let to = select(inside, ((at.image * h + j) * w + i) * c + at.channel, 0usize);
        let own = l[to];
        let s = Shapes { h, w, c, oh, ow, first: 0usize, section };
        let g = adjoint(coefficients, row_band, column_band, own, prior[to], at, s, size, border);
        let target = x[to];
        if inside {
            let step = AdamStep { rate, correction, beta1, one_minus_beta1, beta2, one_minus_beta2, eps };
            let slope = g + lambda * absolute_error_slope(own, target);
            let next = adam_update(AdamState { p: own, m: m[to], v: v[to] }, slope, step);
            l[to] = next.p;
            m[to] = next.m;
            v[to] = next.v;
        }
        let total = cube_sum(select(inside, (own - target).abs(), f32::new(0.0)));
        if UNIT_POS == 0 {
            distance[CUBE_POS] = total;
        }
    }
}

/// Buffers of a decomposition that change with every step.
struct Descent<'a> {
    l: &'a mut GpuBuffer,
    first: &'a mut GpuBuffer,
    second: &'a mut GpuBuffer,
    distance: &'a mut GpuBuffer,
}

/// Queues one step of the decomposition.
fn descend(
    layout: &Layout,
    (x, prior): (&GpuBuffer, &GpuBuffer),
    coefficients: &GpuBuffer,
    state: &mut Descent,
    lambda: f32,
    step: AdamStep,
) {
    let ([_, h, w, c], (oh, ow), cubes) = (layout.shape, layout.out, layout.image_cubes());
    let section = layout.map_len();
    launch!(
        layout.gpu,
        descend_kernel,
        (grid(cubes), CubeDim::new_1d(UNITS)),
        x.arg(),
        prior.arg(),
        state.l.arg(),
        state.first.arg(),
        state.second.arg(),
        coefficients.arg(),
        layout.row_band.arg(),
        layout.column_band.arg(),
        state.distance.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        section,
        lambda,
        step.rate,
        step.correction,
        step.beta1,
        step.one_minus_beta1,
        step.beta2,
        step.one_minus_beta2,
        step.eps,
        layout.size,
        layout.border
    );
}
