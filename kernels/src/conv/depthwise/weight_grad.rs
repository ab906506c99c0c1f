//! The weight gradient of a depthwise convolution on the CPU.
//!
//! `dw[r, s, c] = sum over images and outputs of x[tap(r, s), c] * grad[pixel, c]`: for a register of channels
//! the sums of up to nine taps stay in registers along a row.

use std::ops::Range;

use rayon::prelude::*;

use super::super::Geometry;
use super::host::{TASK, Walk};
use super::runs::{Axis, Tap, Taps};
use crate::simd::{Lanes, lanes_fn};

/// Most tasks; each has sums of its own.
const TASKS: usize = 32;
/// Taps that are summed at a time: with the gradient they fit into 16 registers.
const TAPS: usize = 9;

/// Adds the weight gradient to `dw`: rows are split into tasks by shape alone, whose sums are added in
/// order.
pub(in crate::conv) fn backward_weight(g: &Geometry, x: &[f32], grad: &[f32], dw: &mut [f32]) {
    let [_, oh, ow, c] = g.y;
    let (rows, taps) = (g.y[0] * oh, g.w[1] * g.w[2]);
    let per_task = rows.div_ceil(TASKS).max(TASK.div_ceil(ow * c * taps));
    let starts: Vec<usize> = (0..rows).step_by(per_task).collect();
    let sums = |first: &usize| rows_gradient(g, x, grad, *first..(first + per_task).min(rows));
    let parts: Vec<Vec<f32>> = starts.par_iter().map(sums).collect();
    for (channel, out) in dw.chunks_exact_mut(taps).enumerate() {
        for (tap, d) in out.iter_mut().enumerate() {
            *d += parts.iter().map(|sums| sums[tap * c + channel]).sum::<f32>();
        }
    }
}

/// The weight gradient, `[tap][channel]`, of some output rows, counted over all images. The input rows that
/// an output row sees wait in a ring, with zeros around them, so that every tap reaches every column.
fn rows_gradient(g: &Geometry, x: &[f32], grad: &[f32], rows: Range<usize>) -> Vec<f32> {
    let ([_, h, w, c], [_, oh, ow, _], [_, kh, kw, _]) = (g.x, g.y, g.w);
    let (axis, dilation) = (Axis::new(g, 0, true), g.opts.dilation);
    let width = g.before[1] + w + g.after[1];
    let mut ring = Ring { held: vec![None; dilation * (kh - 1) + 1], line: width * c, values: Vec::new() };
    ring.values.resize(ring.held.len() * ring.line, 0.0);
    let (mut sums, mut taps) = (vec![0.0; kh * kw * c], Taps::new());
    for row in rows {
        taps.clear();
        for (r, y) in axis.taps(row % oh) {
            let y = row / oh * h + y;
            let line = ring.hold(y, g.before[1] * c, &x[y * w * c..(y + 1) * w * c]);
            taps.extend((0..kw).map(|s| (line + s * dilation * c, (r * kw + s) * c)));
        }
        let walk =
            Walk { taps: &taps, channels: c, count: ow, source_step: g.opts.stride * c, out_first: 0, out_step: c };
        tap_sums(&ring.values, &grad[row * ow * c..(row + 1) * ow * c], &walk, &mut sums);
    }
    sums
}

/// The last rows of the input, zeros before and after each.
struct Ring {
    /// Which row, counted over all images, lies in each place.
    held: Vec<Option<usize>>,
    /// Elements of a place.
    line: usize,
    values: Vec<f32>,
}

impl Ring {
    /// Where row `y` lies; copied behind `left` zeros if it is not there yet.
    fn hold(&mut self, y: usize, left: usize, row: &[f32]) -> usize {
        let place = y % self.held.len();
        if self.held[place] != Some(y) {
            self.values[place * self.line + left..][..row.len()].copy_from_slice(row);
            self.held[place] = Some(y);
        }
        place * self.line
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
            let sum = read::<L, FULL>(to, lanes).add(product);
            if FULL { sum.store(to) } else { sum.store_part(to, lanes) }
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
