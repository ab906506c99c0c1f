//! Depthwise convolution and its data gradient on the CPU.
//!
//! A tile of pixels and 16 channels is summed over all taps in registers: per tap one load of weights and
//! one multiply-add from memory for each pixel's register. Outputs are written once, with bias and
//! activation.

use rayon::prelude::*;

use super::super::Geometry;
use super::super::micro::{for_rows, tiles};
use super::runs::{Axis, Run, Tap, Taps};
use crate::activation::Activation;
use crate::device::HostBuffer;
use crate::simd::{LANES, Lanes, lanes_fn};

/// Multiply-adds of a task at least, so that small maps are not cut into tasks that take less than
/// starting them.
pub(super) const TASK: usize = 1 << 17;
/// Channels that are done for all pixels of a row before the next: their weights stay in the first cache.
const CHANNELS: usize = 192;

/// Weights as `[tap][channel]`.
pub(in crate::conv) fn by_tap(g: &Geometry, w: &[f32]) -> HostBuffer<f32> {
    let taps = g.w[1] * g.w[2];
    HostBuffer::collect((0..taps * g.w[0]).map(|i| w[(i % g.w[0]) * taps + i / g.w[0]]))
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
        let mut taps = Taps::new();
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
fn offsets(g: &Geometry, row_taps: &[Tap], run: &Run, width: usize, taps: &mut Taps) {
    let c = g.x[3];
    taps.clear();
    for (r, y) in row_taps {
        taps.extend(run.taps.iter().map(|(s, x)| ((y * width + x) * c, (r * g.w[2] + s) * c)));
    }
}

/// Outputs of a row that the same taps reach.
pub(super) struct Walk<'a> {
    /// Offsets in the source, for the first output, and in the weights.
    pub taps: &'a [Tap],
    pub channels: usize,
    pub count: usize,
    /// Elements from the source of one output to that of the next.
    pub source_step: usize,
    /// Where the first output lies, and how far apart they are.
    pub out_first: usize,
    pub out_step: usize,
}

impl Walk<'_> {
    /// # Panics
    /// When a tap leads out of the source or the weights, or an output out of its row.
    pub fn check(&self, source: usize, weights: usize, out: usize) {
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
        for part in (0..walk.channels).step_by(CHANNELS) {
            let channels = part..walk.channels.min(part + CHANNELS);
            for (done, pixels) in tiles(walk.count, R) {
                for first in channels.clone().step_by(LANES) {
                    let lanes = LANES.min(channels.end - first);
                    // SAFETY: `Walk::check` has every tap and output inside its slice, for `channels` elements
                    // each; `first + lanes` is at most that. `lanes_fn` runs this only on CPUs with the set of `L`.
                    unsafe {
                        let start: [L; V] = match bias {
                            [] => [L::splat(0.0); V],
                            some => load(some.as_ptr().add(first), lanes),
                        };
                        let (x, w) = (source.as_ptr().add(first), w.as_ptr().add(first));
                        let to = out.as_mut_ptr().add(walk.out_first + first);
                        for_rows!(pixels, R, P => tile::<L, V, P>(x, w, walk, done, start, bounds, to, lanes));
                    }
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
