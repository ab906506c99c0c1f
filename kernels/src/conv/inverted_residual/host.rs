//! The inverted residual on the CPU.
//!
//! A task takes a band of output rows and a part of the expanded channels. Block by block of these it
//! expands the rows that the band sees into a zero-padded scratch in the second cache, runs the depthwise
//! kernel over it, and adds the block's share of the projection to the band's sums. Where an image has few
//! bands, their channels are split into several parts, whose sums are added in order. Tasks are cut by
//! the shape of an image alone, so that its sums do not depend on how many others there are.

use std::ops::Range;

use rayon::prelude::*;

use super::super::Geometry;
use super::super::dense::{pack, pack_rows};
use super::stages::{self, Depthwise, Pixels};
use crate::activation::Activation;
use crate::device::HostBuffer;
use crate::elementwise::add_product;
use crate::simd::{LANES, lanes_fn};

/// Expanded channels at a time at most, a multiple of the lanes: weights and sums stay in the first cache.
const BLOCK: usize = 48;
/// Elements of the expanded rows of a task: they stay in the second cache.
const SCRATCH: usize = 48 << 10;
/// Tasks that an image is cut into at least, where it has channels for so many.
const TASKS: usize = 8;
/// Pixels whose parts are added at a time.
const PIXELS: usize = 64;

/// Weights as the stages read them; channels padded with zeros to whole blocks of lanes.
pub(super) struct Packed {
    /// `[expanded / lanes][from][lanes]` and a bias for each.
    pub expand: Option<(HostBuffer<f32>, Vec<f32>)>,
    /// `[tap][expanded]` and a bias for each.
    pub depthwise: (Vec<f32>, Vec<f32>),
    /// `[to / lanes][expanded][lanes]` and a bias for each.
    pub project: (HostBuffer<f32>, Vec<f32>),
}

/// `values` with zeros up to whole blocks of lanes.
fn padded(values: &[f32]) -> Vec<f32> {
    let mut padded = values.to_vec();
    padded.resize(values.len().next_multiple_of(LANES), 0.0);
    padded
}

impl Packed {
    /// Lays weights out: `[e, 1, 1, from]`, `[e, k, k, 1]` and `[to, 1, 1, e]`, each with its bias.
    pub fn new(expand: Option<(&[f32], &[f32])>, depthwise: (&[f32], &[f32]), project: (&[f32], &[f32])) -> Self {
        let (e, to) = (depthwise.1.len(), project.1.len());
        let (taps, wide) = (depthwise.0.len() / e.max(1), e.next_multiple_of(LANES));
        let mut by_tap = vec![0.0; taps * wide];
        for (channel, kernel) in depthwise.0.chunks_exact(taps.max(1)).enumerate() {
            kernel.iter().enumerate().for_each(|(tap, w)| by_tap[tap * wide + channel] = *w);
        }
        let row = |o: usize, _: usize, i: usize| if i < e { project.0[o * e + i] } else { 0.0 };
        Self {
            expand: expand.map(|(w, bias)| (pack_rows(w, e), padded(bias))),
            depthwise: (by_tap, padded(depthwise.1)),
            project: (pack(1, wide, to, row), padded(project.1)),
        }
    }
}

/// One call: the depthwise convolution's shapes, and what surrounds it.
pub(super) struct Call<'a> {
    pub g: &'a Geometry,
    /// Channels of the input.
    pub from: usize,
    /// Channels of the output.
    pub to: usize,
    pub activation: Activation,
    pub weights: &'a Packed,
    /// Whether the input is added to the output.
    pub residual: bool,
}

/// How a call is cut into tasks.
struct Plan {
    /// Output rows of a band.
    rows: usize,
    /// Shares of the expanded channels.
    parts: usize,
}

impl Plan {
    fn new(g: &Geometry) -> Self {
        let [_, oh, _, e] = g.y;
        let held = (SCRATCH / (scratch_width(g) * BLOCK.min(e))).saturating_sub(g.w[1]) / g.opts.stride + 1;
        let bands = oh.div_ceil(held);
        Self { rows: oh.div_ceil(bands), parts: TASKS.div_ceil(bands).min(e.div_ceil(LANES)) }
    }

    /// The expanded channels of a part, padded: whole blocks of lanes.
    fn channels(&self, part: usize, e: usize) -> Range<usize> {
        let first = |part: usize| e.div_ceil(LANES) * part / self.parts * LANES;
        first(part)..first(part + 1)
    }
}

/// Columns of the scratch. A stride may leave the last columns of the map out; they are expanded all the same.
fn scratch_width(g: &Geometry) -> usize {
    ((g.y[2] - 1) * g.opts.stride + g.w[2]).max(g.before[1] + g.x[2])
}

impl Call<'_> {
    pub fn run(&self, x: &[f32], y: &mut [f32]) {
        let [_, h, w, _] = self.g.x;
        let [_, oh, ow, e] = self.g.y;
        if y.is_empty() {
            return;
        }
        let plan = Plan::new(self.g);
        let images = y.par_chunks_mut(oh * ow * self.to).zip(x.par_chunks(h * w * self.from));
        images.for_each(|(y, x)| {
            y.par_chunks_mut(plan.rows * ow * self.to).enumerate().for_each(|(band, y)| {
                let (first, rows) = (band * plan.rows, y.len() / (ow * self.to));
                let part = |part: usize| self.part(x, first, rows, plan.channels(part, e));
                let added = self.residual.then(|| &x[first * w * self.from..][..y.len()]);
                if plan.parts == 1 {
                    self.finish(&[part(0)], 0, added, y);
                    return;
                }
                let parts: Vec<_> = (0..plan.parts).into_par_iter().map(part).collect();
                y.par_chunks_mut(PIXELS * self.to).enumerate().for_each(|(i, y)| {
                    self.finish(&parts, i * PIXELS, added, y);
                });
            });
        });
    }

    /// The sums of the projection of `rows` output rows from row `first` on, over some expanded channels:
    /// `[pixel][to]`, `to` padded.
    fn part(&self, x: &[f32], first: usize, rows: usize, all: Range<usize>) -> HostBuffer<f32> {
        let (g, pixels) = (self.g, rows * self.g.y[2]);
        let blocks = all.len().div_ceil(BLOCK);
        let block = all.len().div_ceil(blocks).next_multiple_of(LANES);
        let layout = Layout::new(g, first, rows, block);
        let wide = self.to.next_multiple_of(LANES);
        let mut sums = HostBuffer::room(pixels * wide);
        sums.fill(0.0);
        let mut scratch = HostBuffer::room(layout.height * layout.width * block);
        layout.clear(g, &mut scratch);
        let mut mixed = HostBuffer::room(pixels * block);
        let (places, corners) = (layout.places(g), layout.corners(g, rows));
        let lines = &x[layout.from * g.x[2] * self.from..layout.to * g.x[2] * self.from];
        let e = g.y[3].next_multiple_of(LANES);
        for start in all.clone().step_by(block) {
            let channels = start..(start + block).min(all.end);
            self.expand(lines, channels.clone(), &places, &mut scratch);
            self.depthwise(&layout, channels.clone(), &scratch, &corners, &mut mixed);
            let panels = &self.weights.project.0[start * LANES..];
            stages::project(
                Pixels { values: &mixed, channels: block },
                panels,
                channels.len(),
                e * LANES,
                wide,
                &mut sums,
            );
        }
        sums
    }

    /// Writes some expanded channels of the pixels in `x` to their places.
    fn expand(&self, x: &[f32], channels: Range<usize>, places: &[usize], scratch: &mut [f32]) {
        let Some((weights, bias)) = &self.weights.expand else {
            // Without an expansion the channels are those of the input.
            let known = channels.end.min(self.from) - channels.start;
            for (pixel, to) in x.chunks_exact(self.from).zip(places) {
                scratch[*to..to + known].copy_from_slice(&pixel[channels.start..channels.start + known]);
                scratch[to + known..to + channels.len()].fill(0.0);
            }
            return;
        };
        let panels = &weights[channels.start * self.from..channels.end * self.from];
        let pixels = Pixels { values: x, channels: self.from };
        stages::expand(pixels, panels, &bias[channels.clone()], self.activation.bounds(), places, scratch);
        if self.activation.bounds().is_none() {
            places.iter().for_each(|at| self.activation.apply_row(&mut scratch[*at..at + channels.len()]));
        }
    }

    /// The depthwise kernel over the scratch, written to `[pixel][block]`.
    fn depthwise(
        &self,
        layout: &Layout,
        channels: Range<usize>,
        scratch: &[f32],
        corners: &[usize],
        mixed: &mut [f32],
    ) {
        let (w, bias) = &self.weights.depthwise;
        let [_, kh, kw, _] = self.g.w;
        let tap = |t: usize| ((t / kw * layout.width + t % kw) * layout.block, t * bias.len() + channels.start);
        let stage = Depthwise {
            taps: &(0..kh * kw).map(tap).collect::<Vec<_>>(),
            weights: w,
            bias: &bias[channels.clone()],
            bounds: self.activation.bounds(),
        };
        stages::depthwise(scratch, corners, &stage, layout.block, mixed);
        if self.activation.bounds().is_none() {
            let pixels = mixed.chunks_exact_mut(layout.block);
            pixels.for_each(|pixel| self.activation.apply_row(&mut pixel[..channels.len()]));
        }
    }

    /// Adds the parts in order, the bias, and the band's input where that is wanted, for the pixels of `y`,
    /// which begin with pixel `first` of the band.
    fn finish(&self, parts: &[HostBuffer<f32>], first: usize, added: Option<&[f32]>, y: &mut [f32]) {
        let wide = self.to.next_multiple_of(LANES);
        let bias = &self.weights.project.1[..self.to];
        y.chunks_exact_mut(self.to).for_each(|out| out.copy_from_slice(bias));
        for part in parts {
            add_rows(&part[first * wide..], wide, self.to, y);
        }
        if let Some(added) = added {
            add_rows(&added[first * self.to..], self.to, self.to, y);
        }
    }
}

lanes_fn! {
    /// Adds the first `count` values of every row of `wide` values to a row of `count`.
    fn add_rows<L>(rows: &[f32], wide: usize, count: usize, sums: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let one = unsafe { L::splat(1.0) };
        for (sums, row) in sums.chunks_exact_mut(count).zip(rows.chunks_exact(wide)) {
            add_product(sums, one, row);
        }
    }
}

/// The scratch of a band, and the input rows that the band sees.
struct Layout {
    /// Rows and columns, zeros included, and the channels of each pixel.
    height: usize,
    width: usize,
    block: usize,
    /// First row that is one of the image's.
    top: usize,
    /// Rows of the image.
    from: usize,
    to: usize,
}

impl Layout {
    fn new(g: &Geometry, first: usize, rows: usize, block: usize) -> Self {
        let height = (rows - 1) * g.opts.stride + g.w[1];
        let start = first * g.opts.stride; // in rows with zeros before them
        let from = start.saturating_sub(g.before[0]).min(g.x[1]);
        let to = (start + height).saturating_sub(g.before[0]).min(g.x[1]);
        Self { height, width: scratch_width(g), block, top: g.before[0].saturating_sub(start), from, to }
    }

    /// Where the seen pixels lie.
    fn places(&self, g: &Geometry) -> Vec<usize> {
        let (rows, w) = (self.to - self.from, g.x[2]);
        let mut places = Vec::with_capacity(rows * w);
        for r in self.top..self.top + rows {
            let first = (r * self.width + g.before[1]) * self.block;
            places.extend((0..w).map(|c| first + c * self.block));
        }
        places
    }

    /// Where the windows of output rows begin.
    fn corners(&self, g: &Geometry, rows: usize) -> Vec<usize> {
        let step = g.opts.stride * self.block;
        let mut corners = Vec::with_capacity(rows * g.y[2]);
        for r in 0..rows {
            corners.extend((0..g.y[2]).map(|c| (r * self.width + c) * step));
        }
        corners
    }

    /// Zeros around the seen pixels.
    fn clear(&self, g: &Geometry, scratch: &mut [f32]) {
        let seen = self.top..self.top + self.to - self.from;
        let (left, right) = (g.before[1] * self.block, (g.before[1] + g.x[2]) * self.block);
        for (r, line) in scratch.chunks_exact_mut(self.width * self.block).enumerate() {
            if seen.contains(&r) {
                line[..left].fill(0.0);
                line[right..].fill(0.0);
            } else {
                line.fill(0.0);
            }
        }
    }
}
