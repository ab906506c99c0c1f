//! The inverted residual on the CPU.
//!
//! A task takes a band of output rows and some blocks of expanded channels. Block by block it expands the
//! rows that the band sees into a zero-padded scratch in the second cache, runs the depthwise kernel over
//! it, and adds the block's part of the projection to the band's sums. Where an image has few bands, the
//! blocks are split over tasks too and their sums added in order. Tasks are cut by shape alone.

use rayon::prelude::*;

use super::super::Geometry;
use super::super::dense::{pack, pack_rows};
use super::stages::{self, Depthwise, Pixels};
use crate::activation::Activation;
use crate::device::HostBuffer;
use crate::simd::{LANES, simd_fn};

/// Expanded channels at a time at most: a multiple of the lanes that divides the widths of EfficientNet-Lite.
const BLOCK: usize = 48;
/// Elements of the expanded rows of a task: they stay in the second cache.
const SCRATCH: usize = 48 << 10;
/// Tasks that a call is cut into at least, where it has so many blocks.
const TASKS: usize = 8;

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
    /// Columns of the scratch.
    width: usize,
    /// Expanded channels at a time.
    block: usize,
    /// Expanded channels of a task, a multiple of those.
    channels: usize,
}

impl Plan {
    fn new(g: &Geometry) -> Self {
        let [n, oh, ow, e] = g.y;
        // A stride may leave the last columns of the map out; they are expanded all the same.
        let width = ((ow - 1) * g.opts.stride + g.w[2]).max(g.before[1] + g.x[2]);
        let block = BLOCK.min(e.next_multiple_of(LANES));
        let held = (SCRATCH / (width * block)).saturating_sub(g.w[1]) / g.opts.stride + 1;
        let bands = oh.div_ceil(held);
        let blocks = e.div_ceil(block);
        let parts = TASKS.div_ceil(n * bands).min(blocks);
        Self { rows: oh.div_ceil(bands), width, block, channels: blocks.div_ceil(parts) * block }
    }
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
                let first = band * plan.rows;
                let starts: Vec<usize> = (0..e).step_by(plan.channels).collect();
                let pixels = y.len() / self.to;
                let part = |start: &usize| self.part(&plan, x, first, pixels / ow, *start);
                let parts: Vec<HostBuffer<f32>> = match &starts[..] {
                    [one] => vec![part(one)],
                    more => more.par_iter().map(part).collect(),
                };
                let added = self.residual.then(|| &x[first * w * self.from..][..y.len()]);
                self.finish(&parts, added, y);
            });
        });
    }

    /// The sums of the projection of `rows` output rows from row `first` on, over the expanded channels
    /// from `start` on: `[pixel][to]`, `to` padded.
    fn part(&self, plan: &Plan, x: &[f32], first: usize, rows: usize, start: usize) -> HostBuffer<f32> {
        let (g, ow) = (self.g, self.g.y[2]);
        let seen = Seen::new(g, first, rows);
        let wide = self.to.next_multiple_of(LANES);
        let mut sums = HostBuffer::room(rows * ow * wide);
        sums.fill(0.0);
        let mut scratch = HostBuffer::room(seen.height * plan.width * plan.block);
        seen.clear(g, plan, &mut scratch);
        let mut mixed = HostBuffer::room(rows * ow * plan.block);
        let places = seen.places(g, plan);
        let corners = corners(g, rows, plan);
        let lines = &x[seen.from * g.x[2] * self.from..seen.to * g.x[2] * self.from];
        let e = g.y[3].next_multiple_of(LANES);
        for start in (start..(start + plan.channels).min(e)).step_by(plan.block) {
            let channels = plan.block.min(e - start);
            self.expand(lines, start, channels, &places, &mut scratch);
            self.depthwise(plan, start, channels, &scratch, &corners, &mut mixed);
            let pixels = Pixels { values: &mixed, channels: plan.block };
            let panels = &self.weights.project.0[start * LANES..];
            stages::project(pixels, panels, channels, e * LANES, wide, &mut sums);
        }
        sums
    }

    /// Writes `channels` expanded channels from `start` on of the pixels in `x` to their places.
    fn expand(&self, x: &[f32], start: usize, channels: usize, places: &[usize], scratch: &mut [f32]) {
        let Some((weights, bias)) = &self.weights.expand else {
            // Without an expansion the channels are those of the input.
            let known = channels.min(self.from - start);
            for (pixel, to) in x.chunks_exact(self.from).zip(places) {
                scratch[*to..to + known].copy_from_slice(&pixel[start..start + known]);
                scratch[to + known..to + channels].fill(0.0);
            }
            return;
        };
        let panels = &weights[start * self.from..(start + channels) * self.from];
        let pixels = Pixels { values: x, channels: self.from };
        stages::expand(pixels, panels, &bias[start..start + channels], self.activation.bounds(), places, scratch);
        if self.activation.bounds().is_none() {
            places.iter().for_each(|at| self.activation.apply_row(&mut scratch[*at..at + channels]));
        }
    }

    /// The depthwise kernel over the scratch, written to `[pixel][block]`.
    fn depthwise(
        &self,
        plan: &Plan,
        start: usize,
        channels: usize,
        scratch: &[f32],
        corners: &[usize],
        mixed: &mut [f32],
    ) {
        let (w, bias) = &self.weights.depthwise;
        let [_, kh, kw, _] = self.g.w;
        let e = bias.len();
        let tap = |t: usize| ((t / kw * plan.width + t % kw) * plan.block, t * e + start);
        let stage = Depthwise {
            taps: &(0..kh * kw).map(tap).collect::<Vec<_>>(),
            weights: w,
            bias: &bias[start..start + channels],
            bounds: self.activation.bounds(),
        };
        stages::depthwise(scratch, corners, &stage, plan.block, mixed);
        if self.activation.bounds().is_none() {
            mixed.chunks_exact_mut(plan.block).for_each(|pixel| self.activation.apply_row(&mut pixel[..channels]));
        }
    }

    /// Adds the parts in order, the bias, and the input where that is wanted.
    fn finish(&self, parts: &[HostBuffer<f32>], added: Option<&[f32]>, y: &mut [f32]) {
        let wide = self.to.next_multiple_of(LANES);
        let bias = &self.weights.project.1[..self.to];
        y.chunks_exact_mut(self.to).for_each(|out| out.copy_from_slice(bias));
        for part in parts {
            add_rows(part, wide, self.to, y);
        }
        if let Some(added) = added {
            add_rows(added, self.to, self.to, y);
        }
    }
}

simd_fn! {
    /// Adds the first `count` values of every row of `wide` values to a row of `count`.
    fn add_rows(rows: &[f32], wide: usize, count: usize, sums: &mut [f32]) {
        for (sums, row) in sums.chunks_exact_mut(count).zip(rows.chunks_exact(wide)) {
            for (sum, v) in sums.iter_mut().zip(row) {
                *sum += v;
            }
        }
    }
}

/// The input rows that a band of output rows sees.
struct Seen {
    /// Rows of the scratch, zeros included.
    height: usize,
    /// First row of the scratch that is one of the image's.
    top: usize,
    /// Rows of the image.
    from: usize,
    to: usize,
}

impl Seen {
    fn new(g: &Geometry, first: usize, rows: usize) -> Self {
        let height = (rows - 1) * g.opts.stride + g.w[1];
        let start = first * g.opts.stride; // in rows with zeros before them
        let from = start.saturating_sub(g.before[0]).min(g.x[1]);
        let to = (start + height).saturating_sub(g.before[0]).min(g.x[1]);
        Self { height, top: g.before[0].saturating_sub(start), from, to }
    }

    /// Where the seen pixels lie in the scratch.
    fn places(&self, g: &Geometry, plan: &Plan) -> Vec<usize> {
        let (rows, w) = (self.to - self.from, g.x[2]);
        let mut places = Vec::with_capacity(rows * w);
        for r in self.top..self.top + rows {
            let first = (r * plan.width + g.before[1]) * plan.block;
            places.extend((0..w).map(|c| first + c * plan.block));
        }
        places
    }

    /// Zeros around the seen pixels.
    fn clear(&self, g: &Geometry, plan: &Plan, scratch: &mut [f32]) {
        let seen = self.top..self.top + self.to - self.from;
        let (left, right) = (g.before[1] * plan.block, (g.before[1] + g.x[2]) * plan.block);
        for (r, line) in scratch.chunks_exact_mut(plan.width * plan.block).enumerate() {
            if seen.contains(&r) {
                line[..left].fill(0.0);
                line[right..].fill(0.0);
            } else {
                line.fill(0.0);
            }
        }
    }
}

/// Where the windows of `rows` output rows begin in the scratch.
fn corners(g: &Geometry, rows: usize, plan: &Plan) -> Vec<usize> {
    let step = g.opts.stride * plan.block;
    let mut corners = Vec::with_capacity(rows * g.y[2]);
    for r in 0..rows {
        corners.extend((0..g.y[2]).map(|c| (r * plan.width + c) * step));
    }
    corners
}
