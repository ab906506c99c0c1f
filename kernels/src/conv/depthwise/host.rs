//! Depthwise convolution and its gradients on the CPU.
//!
//! A tile of pixels and 16 channels is summed over all taps in registers: per tap one load of weights and
//! one multiply-add from memory for each pixel's register. Outputs are written once, with bias and
//! activation.

use rayon::prelude::*;

use super::super::Geometry;
use super::runs::{Axis, Run, Tap};
use crate::activation::Activation;
use crate::simd::{LANES, Lanes, lanes_fn};

/// Multiply-adds of a task at least, so that small maps are not cut into tasks that take less than
/// starting them.
const TASK: usize = 1 << 17;
/// Most tasks of a weight gradient; each has sums of its own.
const WEIGHT_TASKS: usize = 32;
/// Taps of a weight gradient that are summed at a time: with the gradient they fit into 16 registers.
const TAPS: usize = 9;

/// Weights as `[tap][channel]`.
pub(in crate::conv) fn by_tap(g: &Geometry, w: &[f32]) -> Vec<f32> {
    let taps = g.w[1] * g.w[2];
    (0..taps * g.w[0]).map(|i| w[(i % g.w[0]) * taps + i / g.w[0]]).collect()
}

pub(in crate::conv) fn forward(
    g: &Geometry,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    act: Activation,
    y: &mut [f32],
) {
    forward_by_tap(g, x, &by_tap(g, w), bias, act, y);
}

/// [`forward()`] with weights laid out by [`by_tap`].
pub(in crate::conv) fn forward_by_tap(
    g: &Geometry,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    act: Activation,
    y: &mut [f32],
) {
    let axes = [Axis::new(g, 0, true), Axis::new(g, 1, true)];
    run(g, axes, (g.x[1], g.x[2]), (g.y[1], g.y[2]), x, w, (bias.unwrap_or(&[]), act), y);
}

pub(in crate::conv) fn backward_data(g: &Geometry, grad: &[f32], w: &[f32], dx: &mut [f32]) {
    let axes = [Axis::new(g, 0, false), Axis::new(g, 1, false)];
    let epilogue = (&[][..], Activation::Identity);
    run(g, axes, (g.y[1], g.y[2]), (g.x[1], g.x[2]), grad, &by_tap(g, w), epilogue, dx);
}

/// Gathers every output of all images, some rows at a time.
#[allow(clippy::too_many_arguments)] // sizes and values of source and output
fn run(
    g: &Geometry,
    axes: [Axis; 2],
    (h, wd): (usize, usize),
    (oh, ow): (usize, usize),
    source: &[f32],
    w: &[f32],
    (bias, act): (&[f32], Activation),
    out: &mut [f32],
) {
    let c = g.x[3];
    if out.is_empty() {
        return;
    }
    let columns = axes[1].runs();
    let rows = TASK.div_ceil(ow * c * g.w[1] * g.w[2]);
    out.par_chunks_mut(rows * ow * c).enumerate().for_each(|(task, part)| {
        let mut taps = Vec::new();
        for (row, line) in part.chunks_exact_mut(ow * c).enumerate() {
            let (n, j) = ((task * rows + row) / oh, (task * rows + row) % oh);
            let image = &source[n * h * wd * c..(n + 1) * h * wd * c];
            let row_taps = axes[0].taps(j);
            for run in &columns {
                offsets(g, &row_taps, run, wd, &mut taps);
                let walk = Walk {
                    taps: &taps,
                    channels: c,
                    count: run.count,
                    source_step: axes[1].source_step() * c,
                    out_first: run.first * c,
                    out_step: axes[1].step() * c,
                };
                gather(image, w, bias, act.bounds(), &walk, line);
            }
            if act.bounds().is_none() {
                act.apply_row(line);
            }
        }
    });
}

/// Offsets of every tap of a run in the source (`[row][column][channel]`, `width` columns) and in weights
/// laid out by [`by_tap`].
fn offsets(g: &Geometry, row_taps: &[Tap], run: &Run, width: usize, taps: &mut Vec<Tap>) {
    let c = g.x[3];
    taps.clear();
    for (r, y) in row_taps {
        taps.extend(run.taps.iter().map(|(s, x)| ((y * width + x) * c, (r * g.w[2] + s) * c)));
    }
}

/// Outputs of a row that the same taps reach.
struct Walk<'a> {
    /// Offsets in the source, for the first output, and in the weights.
    taps: &'a [Tap],
    channels: usize,
    count: usize,
    /// Elements from the source of one output to that of the next.
    source_step: usize,
    /// Where the first output lies, and how far apart they are.
    out_first: usize,
    out_step: usize,
}

impl Walk<'_> {
    /// # Panics
    /// When a tap leads out of the source or the weights, or an output out of its row.
    fn check(&self, source: usize, weights: usize, out: usize) {
        let last = self.count - 1;
        let inside = |(from, to): &Tap| {
            from + last * self.source_step + self.channels <= source && to + self.channels <= weights
        };
        assert!(self.taps.iter().all(inside), "a tap leads out of its map");
        assert!(self.out_first + last * self.out_step + self.channels <= out, "an output leads out of its row");
    }
}

lanes_fn! {
    /// Writes the outputs of a walk: bias and products, between the bounds where there are any.
    fn gather<L, V, R>(
        source: &[f32],
        w: &[f32],
        bias: &[f32],
        bounds: Option<(f32, f32)>,
        walk: &Walk,
        out: &mut [f32],
    ) {
        walk.check(source.len(), w.len(), out.len());
        assert!(bias.is_empty() || bias.len() == walk.channels, "one bias for each channel");
        for first in (0..walk.channels).step_by(LANES) {
            let lanes = LANES.min(walk.channels - first);
            // SAFETY: `Walk::check` has every tap and output inside its slice, for `channels` elements each;
            // `first + lanes` is at most that. `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let start = if bias.is_empty() { [L::splat(0.0); V] } else { load(bias.as_ptr().add(first), lanes) };
                let (x, w) = (source.as_ptr().add(first), w.as_ptr().add(first));
                let to = out.as_mut_ptr().add(walk.out_first + first);
                let mut done = 0;
                while walk.count - done >= R {
                    tile::<L, V, R>(x, w, walk, done, start, bounds, to, lanes);
                    done += R;
                }
                while done < walk.count {
                    tile::<L, V, 1>(x, w, walk, done, start, bounds, to, lanes);
                    done += 1;
                }
            }
        }
    }
}

/// `lanes` values, at most [`LANES`].
///
/// # Safety
/// The CPU has the set of `L`, and so many values can be read there.
#[inline(always)]
unsafe fn load<L: Lanes, const V: usize>(from: *const f32, lanes: usize) -> [L; V] {
    // SAFETY: register `v` reads the values from `v * WIDTH` on that are below `lanes`.
    unsafe {
        let mut values = [L::splat(0.0); V];
        for (v, value) in values.iter_mut().enumerate() {
            let at = v * L::WIDTH;
            *value = if lanes >= at + L::WIDTH {
                L::load(from.add(at))
            } else {
                L::load_part(from.wrapping_add(at), lanes.saturating_sub(at))
            };
        }
        values
    }
}

/// Writes `lanes` values, at most [`LANES`].
///
/// # Safety
/// So many values can be written there.
#[inline(always)]
unsafe fn store<L: Lanes, const V: usize>(values: [L; V], to: *mut f32, lanes: usize) {
    for (v, value) in values.into_iter().enumerate() {
        let at = v * L::WIDTH;
        // SAFETY: register `v` writes the values from `v * WIDTH` on that are below `lanes`.
        unsafe {
            if lanes >= at + L::WIDTH {
                value.store(to.add(at));
            } else {
                value.store_part(to.wrapping_add(at), lanes.saturating_sub(at));
            }
        }
    }
}

/// Outputs `first` to `first + P` of a walk, for `lanes` channels.
///
/// # Safety
/// The CPU has the set of `L`; `x`, `w` and `to` point at the first of `lanes` channels of slices that
/// passed [`Walk::check`], and the walk has these outputs.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // pointers that are made once per block of channels
unsafe fn tile<L: Lanes, const V: usize, const P: usize>(
    x: *const f32,
    w: *const f32,
    walk: &Walk,
    first: usize,
    start: [L; V],
    bounds: Option<(f32, f32)>,
    to: *mut f32,
    lanes: usize,
) {
    // SAFETY: see above; a full block of lanes reads and writes LANES values, another `lanes` of them.
    unsafe {
        let x = x.add(first * walk.source_step);
        let mut sums = if lanes == LANES {
            products::<L, V, P, true>(x, w, walk, start, lanes)
        } else {
            products::<L, V, P, false>(x, w, walk, start, lanes)
        };
        if let Some((least, most)) = bounds {
            let (least, most) = (L::splat(least), L::splat(most));
            for sum in sums.iter_mut().flatten() {
                *sum = sum.max(least).min(most);
            }
        }
        for (p, sum) in sums.into_iter().enumerate() {
            store(sum, to.add((first + p) * walk.out_step), lanes);
        }
    }
}

/// Sums over the taps for `P` outputs; `FULL` where all lanes are used.
///
/// # Safety
/// As for [`tile`]; `x` points at the source of the first output.
#[inline(always)]
unsafe fn products<L: Lanes, const V: usize, const P: usize, const FULL: bool>(
    x: *const f32,
    w: *const f32,
    walk: &Walk,
    start: [L; V],
    lanes: usize,
) -> [[L; V]; P] {
    let lanes = if FULL { LANES } else { lanes };
    let mut sums = [start; P];
    for (from, weight) in walk.taps {
        // SAFETY: the caller vouches for every tap of these outputs.
        unsafe {
            let factors = load::<L, V>(w.add(*weight), lanes);
            let x = x.add(*from);
            for (p, sum) in sums.iter_mut().enumerate() {
                let values = load::<L, V>(x.add(p * walk.source_step), lanes);
                for v in 0..V {
                    sum[v] = values[v].mul_add(factors[v], sum[v]);
                }
            }
        }
    }
    sums
}

/// Adds the weight gradient to `dw`: rows are split into tasks by shape alone, whose sums are added in
/// order.
pub(in crate::conv) fn backward_weight(g: &Geometry, x: &[f32], grad: &[f32], dw: &mut [f32]) {
    let [n, h, wd, c] = g.x;
    let [_, oh, ow, _] = g.y;
    let taps = g.w[1] * g.w[2];
    let axes = [Axis::new(g, 0, true), Axis::new(g, 1, true)];
    let columns = axes[1].runs();
    let per_task = (n * oh).div_ceil(WEIGHT_TASKS).max(TASK.div_ceil(ow * c * taps));
    let task = |first: usize| {
        let (mut sums, mut list) = (vec![0.0; taps * c], Vec::new());
        for row in first..(first + per_task).min(n * oh) {
            let image = &x[row / oh * h * wd * c..(row / oh + 1) * h * wd * c];
            let row_taps = axes[0].taps(row % oh);
            for run in &columns {
                offsets(g, &row_taps, run, wd, &mut list);
                let walk = Walk {
                    taps: &list,
                    channels: c,
                    count: run.count,
                    source_step: g.opts.stride * c,
                    out_first: run.first * c,
                    out_step: c,
                };
                tap_sums(image, &grad[row * ow * c..(row + 1) * ow * c], &walk, &mut sums);
            }
        }
        sums
    };
    let starts: Vec<usize> = (0..n * oh).step_by(per_task).collect();
    let parts: Vec<Vec<f32>> = starts.into_par_iter().map(task).collect();
    for (channel, out) in dw.chunks_exact_mut(taps).enumerate() {
        for (tap, d) in out.iter_mut().enumerate() {
            *d += parts.iter().map(|sums| sums[tap * c + channel]).sum::<f32>();
        }
    }
}

lanes_fn! {
    /// Adds the products of a walk's outputs in `grad` and their sources to the sums of its taps.
    fn tap_sums<L, V, R>(source: &[f32], grad: &[f32], walk: &Walk, sums: &mut [f32]) {
        walk.check(source.len(), sums.len(), grad.len());
        for first in (0..walk.channels).step_by(L::WIDTH) {
            let lanes = L::WIDTH.min(walk.channels - first);
            for taps in walk.taps.chunks(TAPS) {
                // SAFETY: `Walk::check` has every tap and output inside its slice, for `channels` elements
                // each; `first + lanes` is at most that. `lanes_fn` runs this only on CPUs with the set of `L`.
                unsafe {
                    let (x, g) = (source.as_ptr().add(first), grad.as_ptr().add(walk.out_first + first));
                    let to = sums.as_mut_ptr().add(first);
                    if lanes == L::WIDTH {
                        some_taps::<L, true>(x, g, walk, taps, to, lanes);
                    } else {
                        some_taps::<L, false>(x, g, walk, taps, to, lanes);
                    }
                }
            }
        }
    }
}

/// Sums of at most [`TAPS`] taps for one register of channels, `lanes` of them used.
///
/// # Safety
/// The CPU has the set of `L`; the pointers lead to the first of `lanes` channels of slices that passed
/// [`Walk::check`], and `taps` are some of the walk's.
#[inline(always)]
unsafe fn some_taps<L: Lanes, const FULL: bool>(
    x: *const f32,
    grad: *const f32,
    walk: &Walk,
    taps: &[Tap],
    sums: *mut f32,
    lanes: usize,
) {
    // SAFETY: see above. Missing taps repeat the first, and their sums are dropped.
    unsafe {
        let mut sources = [x.add(taps[0].0); TAPS];
        for (source, (from, _)) in sources.iter_mut().zip(taps) {
            *source = x.add(*from);
        }
        let mut products = [L::splat(0.0); TAPS];
        for i in 0..walk.count {
            let g = read::<L, FULL>(grad.add(i * walk.out_step), lanes);
            let at = i * walk.source_step;
            for t in 0..TAPS {
                products[t] = read::<L, FULL>(sources[t].add(at), lanes).mul_add(g, products[t]);
            }
        }
        for (product, (_, to)) in products.into_iter().zip(taps) {
            let to = sums.add(*to);
            read::<L, FULL>(to, lanes).add(product).store_part(to, lanes);
        }
    }
}

/// A register of `lanes` values, all where `FULL`.
///
/// # Safety
/// The CPU has the set of `L`, and so many values can be read there.
#[inline(always)]
unsafe fn read<L: Lanes, const FULL: bool>(from: *const f32, lanes: usize) -> L {
    // SAFETY: the caller vouches for it.
    unsafe { if FULL { L::load(from) } else { L::load_part(from, lanes) } }
}
