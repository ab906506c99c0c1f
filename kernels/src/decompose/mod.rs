//! Deep image decomposition: X = L + S by Adam on SSIM plus L1 (PAEDID, section 2.2, equation 3).
//!
//! Minimises, image by image, `(1 - mean SSIM(L, prior)) + lambda * sum |X - L|` over L, which
//! starts at the prior. One step is two passes over the rows: moments of L and slopes of SSIM, then
//! adjoint, L1 slope and Adam update. Moments of the prior are computed once. Per element and step:
//! about 44 bytes moved in cache and `26 * window` operations; images share nothing, and within an
//! image only the two passes wait for each other.

mod gpu;
mod kernels;
mod slopes;
#[cfg(feature = "cuda")]
mod steps;

use rayon::prelude::*;
use smallvec::SmallVec;

use crate::adam::wide::{AdamState, adam_update};
use crate::adam::{AdamOptions, AdamStep};
use crate::device::{HostBuffer, Reused, View, ViewMut, place};
use crate::error::{Result, check_len};
use crate::loss::wide::absolute_error_slope;
use crate::shape::Nhwc;
use crate::simd::{Wide, by_registers, lanes_fn};
use crate::ssim::gpu::Layout;
use crate::ssim::{AdjointScratch, Scratch, SsimConstants, SsimOptions, adjoint_into, check_pair, slopes_row};
use crate::window::WindowPlan;

/// Rows that one task takes at a time.
const ROWS: usize = 16;

/// Tasks of an image that are in it: those of 512 rows.
const TASKS: usize = 32;

/// Steps that are on the stack.
const STEPS: usize = 256;

/// Settings of the decomposition.
#[derive(Clone, Copy, Debug)]
pub struct DecomposeOptions {
    /// Weight of the L1 term; a sum over all elements of the image.
    pub lambda: f32,
    /// Adam steps.
    pub steps: u32,
    /// Learning rate, betas and eps; no weight decay.
    pub adam: AdamOptions,
    /// SSIM between background and prior.
    pub ssim: SsimOptions,
}

/// State of one image while it is decomposed.
struct Image<'a> {
    plan: &'a WindowPlan,
    x: &'a [f32],
    prior: &'a [f32],
    /// Means of prior and of its square.
    prior_moments: [HostBuffer<f32>; 2],
    coefficients: [HostBuffer<f32>; 3],
    first: HostBuffer<f32>,
    second: HostBuffer<f32>,
    tasks: SmallVec<[Task; TASKS]>,
}

/// What [`ROWS`] rows need in a step.
struct Task {
    moments: Scratch,
    adjoint: AdjointScratch,
    grad: Reused<f32>,
    /// Sum of the SSIM of its rows, or of their |x - l|.
    sum: f64,
}

impl Task {
    fn new(plan: &WindowPlan) -> Self {
        Self {
            moments: Scratch::new(plan),
            adjoint: AdjointScratch::new(plan),
            grad: Reused::filled(plan.row_len(), 0.0),
            sum: 0.0,
        }
    }
}

fn zeros(len: usize) -> HostBuffer<f32> {
    let mut zeros = HostBuffer::uninit(len);
    zeros.fill(0.0);
    zeros
}

impl<'a> Image<'a> {
    fn new(plan: &'a WindowPlan, x: &'a [f32], prior: &'a [f32]) -> Self {
        let map = plan.out_h * plan.out_len();
        let mut prior_moments = [HostBuffer::uninit(map), HostBuffer::uninit(map)];
        let [mean, square] = &mut prior_moments;
        let mut scratch = Scratch::new(plan);
        let n = plan.out_len();
        for (j, (mean, square)) in mean.chunks_exact_mut(n).zip(square.chunks_exact_mut(n)).enumerate() {
            scratch.y_moments(plan, prior, j);
            mean.copy_from_slice(&scratch.rows[1]);
            square.copy_from_slice(&scratch.rows[3]);
        }
        Self {
            plan,
            x,
            prior,
            prior_moments,
            coefficients: std::array::from_fn(|_| HostBuffer::uninit(map)),
            first: zeros(x.len()),
            second: zeros(x.len()),
            tasks: (0..plan.h.max(plan.out_h).div_ceil(ROWS)).map(|_| Task::new(plan)).collect(),
        }
    }

    /// Writes the coefficient maps of the gradient at `l`; returns 1 - mean SSIM.
    fn slopes(&mut self, l: &[f32], k: SsimConstants) -> f64 {
        let (plan, prior, n) = (self.plan, self.prior, self.plan.out_len());
        let count = (plan.out_h * n) as f64;
        let upstream = (-1.0 / count) as f32;
        let [mean, square] = &self.prior_moments;
        let [p, q, r] = &mut self.coefficients;
        let chunk = ROWS * n;
        let maps = (p.par_chunks_mut(chunk), q.par_chunks_mut(chunk), r.par_chunks_mut(chunk));
        maps.into_par_iter().zip(self.tasks.par_iter_mut()).enumerate().for_each(|(c, ((p, q, r), task))| {
            let scratch = &mut task.moments;
            let rows = p.chunks_exact_mut(n).zip(q.chunks_exact_mut(n).zip(r.chunks_exact_mut(n)));
            let similar = rows.enumerate().map(|(i, (p, (q, r)))| {
                let j = c * ROWS + i;
                scratch.x_moments(plan, l, prior, j);
                let [x, _, xx, _, xy] = &scratch.rows;
                let known = j * n..(j + 1) * n;
                let moments: [&[f32]; 5] = [x, &mean[known.clone()], xx, &square[known], xy];
                slopes_row(moments, k, upstream, p, q, r)
            });
            task.sum = similar.sum();
        });
        1.0 - self.sum(plan.out_h) / count
    }

    /// One Adam step on `l` from the coefficient maps; returns the sum of |x - l| before it.
    fn update(&mut self, l: &mut [f32], lambda: f32, step: AdamStep) -> f64 {
        let (plan, x, prior, n) = (self.plan, self.x, self.prior, self.plan.row_len());
        let [p, q, r] = &self.coefficients;
        let chunk = ROWS * n;
        let state = (l.par_chunks_mut(chunk), self.first.par_chunks_mut(chunk), self.second.par_chunks_mut(chunk));
        state.into_par_iter().zip(self.tasks.par_iter_mut()).enumerate().for_each(|(c, ((l, first, second), task))| {
            let Task { adjoint, grad, sum, .. } = task;
            let moments = first.chunks_exact_mut(n).zip(second.chunks_exact_mut(n));
            *sum = 0.0;
            for (i, (l, (first, second))) in l.chunks_exact_mut(n).zip(moments).enumerate() {
                let j = c * ROWS + i;
                let part = j * n..(j + 1) * n;
                adjoint_into(plan, adjoint, [p, q, r], j, (l, &prior[part.clone()]), grad);
                *sum += update_row(l, first, second, &x[part], grad, lambda, step);
            }
        });
        self.sum(plan.h)
    }

    /// The sums of the tasks of so many rows, in order.
    fn sum(&self, rows: usize) -> f64 {
        self.tasks[..rows.div_ceil(ROWS)].iter().map(|task| task.sum).sum()
    }
}

lanes_fn! {
    /// Adds the slope of the L1 term and takes the Adam step; returns the sum of |x - l| before it.
    fn update_row<L>(
        l: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        x: &[f32],
        grad: &[f32],
        lambda: f32,
        step: AdamStep,
    ) -> f64 {
        let n = l.len();
        let (first, second, x, grad) = (&mut first[..n], &mut second[..n], &x[..n], &grad[..n]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        let mut distance = Wide(zero);
        by_registers!(L, n, |part| {
            let (p, m, v) = (zero.read(&l[part.clone()]), zero.read(&first[part.clone()]), zero.read(&second[part.clone()]));
            let (p, x, g) = (Wide(p), Wide(zero.read(&x[part.clone()])), Wide(zero.read(&grad[part.clone()])));
            distance = distance + (p - x).abs();
            let slope = g + lambda * absolute_error_slope(p, x);
            let next = adam_update(AdamState { p, m: Wide(m), v: Wide(v) }, slope, step);
            next.p.0.write(&mut l[part.clone()]);
            next.m.0.write(&mut first[part.clone()]);
            next.v.0.write(&mut second[part]);
        });
        f64::from(distance.0.sum())
    }
}

/// Decomposes a batch: writes the background to `l` (same shape as `x` and `prior`, NHWC) and, when
/// asked for, to `losses` (`[n, steps + 1]`), image by image, the objective before every step and
/// after the last.
///
/// # Errors
/// When the window does not fit, or lengths or devices differ.
pub fn decompose<'a>(
    x: impl Into<View<'a>>,
    prior: impl Into<View<'a>>,
    shape: Nhwc,
    opts: &DecomposeOptions,
    l: impl Into<ViewMut<'a>>,
    losses: Option<ViewMut<'a>>,
) -> Result<()> {
    decompose_while(x, prior, shape, opts, l, losses, &|_| true)
}

/// [`decompose`] for as long as `go_on(step)`, steps counted from 0, says so. A GPU is given all steps at once and is not asked.
/// Losses of steps that were not taken are those of the last.
///
/// # Errors
/// As [`decompose`].
pub fn decompose_while<'a>(
    x: impl Into<View<'a>>,
    prior: impl Into<View<'a>>,
    shape: Nhwc,
    opts: &DecomposeOptions,
    l: impl Into<ViewMut<'a>>,
    losses: Option<ViewMut<'a>>,
    go_on: &(dyn Fn(u32) -> bool + Sync),
) -> Result<()> {
    const OP: &str = "decompose";
    let (x, prior, l) = (x.into(), prior.into(), l.into());
    let plan = WindowPlan::new(OP, shape, opts.ssim.window, opts.ssim.border)?;
    check_pair(OP, x, prior, shape)?;
    check_len(OP, "background", l.len(), x.len())?;
    if let Some(losses) = &losses {
        place(OP, &[&x, losses])?;
        check_len(OP, "losses", losses.len(), shape[0] * (opts.steps as usize + 1))?;
    }
    let steps: SmallVec<[AdamStep; STEPS]> = (1..=opts.steps).map(|t| AdamStep::new(&opts.adam, t)).collect();
    match place(OP, &[&x, &prior, &l])? {
        Some(gpu) => {
            let layout = Layout::new(&gpu, shape, &opts.ssim)?;
            let pair = (x.device(), prior.device());
            gpu::run(&layout, pair, opts.lambda, &steps, l.device(), losses.map(ViewMut::device))
        }
        None => {
            let found = on_host(&plan, (x.host(), prior.host()), (opts, &steps), l.host(), go_on);
            if let Some(losses) = losses {
                losses.host().copy_from_slice(&found);
            }
            Ok(())
        }
    }
}

/// Returns the losses, `[n, steps + 1]`.
fn on_host(
    plan: &WindowPlan,
    (x, prior): (&[f32], &[f32]),
    (opts, steps): (&DecomposeOptions, &[AdamStep]),
    l: &mut [f32],
    go_on: &(dyn Fn(u32) -> bool + Sync),
) -> Reused<f32> {
    let (k, size) = (opts.ssim.constants(), plan.h * plan.row_len());
    let mut losses = Reused::uninit(l.len() / size * (steps.len() + 1));
    let images = l.par_chunks_mut(size).zip(x.par_chunks(size).zip(prior.par_chunks(size)));
    images.zip(losses.par_chunks_exact_mut(steps.len() + 1)).for_each(|((l, (x, prior)), losses)| {
        l.copy_from_slice(prior);
        let mut image = Image::new(plan, x, prior);
        let mut taken = 0;
        for (_, step) in (0..).zip(steps).take_while(|(i, _)| go_on(*i)) {
            let dissimilarity = image.slopes(l, k);
            let distance = image.update(l, opts.lambda, *step);
            losses[taken] = (dissimilarity + f64::from(opts.lambda) * distance) as f32;
            taken += 1;
        }
        let distance: f64 = x.iter().zip(l.iter()).map(|(x, l)| f64::from((x - l).abs())).sum();
        losses[taken..].fill((image.slopes(l, k) + f64::from(opts.lambda) * distance) as f32);
    });
    losses
}
