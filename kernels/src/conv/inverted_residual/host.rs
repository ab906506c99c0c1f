//! The inverted residual on the CPU.
//!
//! A task takes a band of output rows and a part of the expanded channels. Block by block of these it
//! expands the rows that the band sees into a zero-padded scratch in the second cache, runs the depthwise
//! kernel over it, and adds the block's share of the projection to the band's sums. Where an image has few
//! bands, their channels are split into several parts, whose sums are added in order. Tasks are cut by
//! the shape of an image alone, so that its sums do not depend on how many others there are.

use std::ops::Range;

use rayon::prelude::*;
use smallvec::SmallVec;

use super::super::Geometry;
use super::super::packed::{Packed as Weights, pack};
use super::super::reduced::{self, Convert, Rounded, granule, round};
use super::band::{self, Band};
use super::bytes::{self, Bytes};
use super::stages::{self, Bounds, Depthwise, Pixels};
use crate::activation::Activation;
use crate::device::{HostBuffer, Reused, Rounding};
use crate::error::Result;
use crate::simd::{LANES, by_registers, lanes_fn};

/// Expanded channels at a time at most, a multiple of the lanes: weights and sums stay in the first cache.
const BLOCK: usize = 48;
/// Elements of the expanded rows of a task: they stay in the second cache.
const SCRATCH: usize = 48 << 10;
/// Likewise where they are bytes. Rows are computed by fours then, of which a narrow band would waste more.
const BYTES: usize = 112 << 10;
/// Tasks that an image is cut into at least, where it has channels for so many.
const TASKS: usize = 8;
/// Pixels whose parts are added at a time.
const PIXELS: usize = 64;

/// Weights as the stages read them; channels padded with zeros to whole blocks of lanes.
pub(super) struct Packed {
    /// `[expanded / lanes][from][lanes]`, if in f32, and a bias for each.
    pub expand: Option<(Weights, Vec<f32>)>,
    /// `[tap][expanded]` and a bias for each.
    pub depthwise: (HostBuffer<f32>, Vec<f32>),
    /// `[to / lanes][expanded][lanes]`, if in f32, and a bias for each.
    pub project: (Weights, Vec<f32>),
    /// Of a block in bytes from the expansion to the projection.
    bytes: Option<Bytes>,
    /// Tasks and blocks begin and end with a multiple of so many expanded channels.
    pub granule: usize,
}

/// Weights of a convolution, its bias, and what the operands of its products are rounded to.
pub(super) struct Given<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub rounding: Rounding,
}

/// `values` with zeros up to `len`.
fn padded(values: &[f32], len: usize) -> Vec<f32> {
    let mut padded = values.to_vec();
    padded.resize(len, 0.0);
    padded
}

impl Packed {
    /// Lays weights out: `[e, 1, 1, from]`, `[e, kernel rows, kernel columns, 1]` and `[to, 1, 1, e]`, each with its bias; the activation is
    /// between bounds, or another one. The terms of the projection are padded with zeros to whole granules.
    ///
    /// # Errors
    /// When so many terms overflow the integers that sum them.
    pub fn new(
        expand: Option<Given>,
        depthwise: Given,
        kernel: (usize, usize),
        project: Given,
        bounds: Bounds,
    ) -> Result<Self> {
        let (e, to, granule) = (depthwise.bias.len(), project.bias.len(), granule(project.rounding));
        let (taps, wide, terms) =
            (depthwise.weight.len() / e.max(1), e.next_multiple_of(LANES), e.next_multiple_of(granule));
        let mut by_tap = HostBuffer::uninit(taps * wide);
        by_tap.fill(0.0);
        for (channel, kernel) in depthwise.weight.chunks_exact(taps.max(1)).enumerate() {
            kernel.iter().enumerate().for_each(|(tap, w)| by_tap[tap * wide + channel] = *w);
        }
        let row = |o: usize, _: usize, i: usize| if i < e { project.weight[o * e + i] } else { 0.0 };
        let expand = expand.map(|given| {
            let from = given.weight.len() / e.max(1);
            let row = |o: usize, _: usize, i: usize| if o < e { given.weight[o * from + i] } else { 0.0 };
            let weights = Weights::F32(pack(1, from, wide, row)).rounded((1, from), given.rounding)?;
            Ok((weights, padded(given.bias, wide)))
        });
        let weights = Weights::F32(pack(1, terms, to, row)).rounded((terms / granule, granule), project.rounding)?;
        let mut packed = Self {
            expand: expand.transpose()?,
            depthwise: (by_tap, padded(depthwise.bias, wide)),
            project: (weights, padded(project.bias, to.next_multiple_of(LANES))),
            bytes: None,
            granule,
        };
        if let (Rounding::Int8(range), Some(bounds)) = (depthwise.rounding, bounds) {
            packed.bytes = Bytes::new(&packed, range, kernel, bounds);
        }
        Ok(packed)
    }

    /// Expanded channels, padded to whole blocks of lanes.
    pub fn wide(&self) -> usize {
        self.depthwise.1.len()
    }

    /// Terms of the projection.
    fn terms(&self) -> usize {
        self.wide().next_multiple_of(self.granule)
    }
}

/// The input of a band as the expansion takes it.
enum Seen<'a> {
    F32(&'a [f32]),
    Rounded(Reused<f32>),
    Reduced(reduced::Pixels),
    Quads(bytes::Seen),
}

impl Seen<'_> {
    /// Values in f32, if it is of such.
    fn values(&self) -> &[f32] {
        match self {
            Self::F32(x) => x,
            Self::Rounded(x) => x,
            Self::Reduced(_) | Self::Quads(_) => &[],
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
struct BlockSplit {
    /// Output rows of a band.
    rows: usize,
    /// Shares of the expanded channels.
    parts: usize,
    /// Channels that a share, and a block of it, is a multiple of.
    granule: usize,
}

impl BlockSplit {
    fn new(g: &Geometry, weights: &Packed) -> Self {
        let ([_, oh, _, e], granule) = (g.y, weights.granule);
        let scratch = if weights.bytes.is_some() { BYTES } else { SCRATCH };
        let held = (scratch / (band::width(g) * BLOCK.max(granule).min(e))).saturating_sub(g.w[1]) / g.opts.stride + 1;
        let bands = oh.div_ceil(held);
        Self { rows: oh.div_ceil(bands), parts: TASKS.div_ceil(bands).min(e.div_ceil(granule)), granule }
    }

    /// The expanded channels of a part, of `wide` in all: whole granules but for the last one.
    fn channels(&self, part: usize, wide: usize) -> Range<usize> {
        let first = |part: usize| wide.div_ceil(self.granule) * part / self.parts * self.granule;
        first(part)..first(part + 1).min(wide)
    }
}

impl Call<'_> {
    pub fn run(&self, x: &[f32], y: &mut [f32]) {
        let [_, h, w, _] = self.g.x;
        let [_, oh, ow, _] = self.g.y;
        if y.is_empty() {
            return;
        }
        let plan = BlockSplit::new(self.g, self.weights);
        let images = y.par_chunks_mut(oh * ow * self.to).zip(x.par_chunks(h * w * self.from));
        images.for_each(|(y, x)| {
            y.par_chunks_mut(plan.rows * ow * self.to).enumerate().for_each(|(band, y)| {
                let (first, rows) = (band * plan.rows, y.len() / (ow * self.to));
                let view = Band::new(self.g, first, rows);
                let lines = &x[view.from * w * self.from..view.to * w * self.from];
                let seen = self.seen(lines, &view);
                let part = |part: usize| self.part(lines, &seen, &view, plan.channels(part, self.weights.wide()));
                let added = self.residual.then(|| &x[first * w * self.from..][..y.len()]);
                let bias = &self.weights.project.1[..self.to];
                if plan.parts == 1 {
                    finish(bias, &[&part(0)], added, 0, y);
                    return;
                }
                let mut parts: SmallVec<[_; TASKS]> = (0..plan.parts).map(|_| HostBuffer::default()).collect();
                parts.par_iter_mut().enumerate().for_each(|(i, sums)| *sums = part(i));
                let parts: SmallVec<[&[f32]; TASKS]> = parts.iter().map(|part| &part[..]).collect();
                y.par_chunks_mut(PIXELS * self.to).enumerate().for_each(|(i, y)| {
                    finish(bias, &parts, added, i * PIXELS, y);
                });
            });
        });
    }

    /// The sums of the projection of a band, whose lines are `x`, over some expanded channels: `[pixel][to]`, `to` padded.
    fn part(&self, x: &[f32], seen: &Seen, band: &Band, all: Range<usize>) -> HostBuffer<f32> {
        let (g, pixels) = (self.g, band.rows * self.g.y[2]);
        let granule = self.weights.granule;
        let blocks = all.len().div_ceil(BLOCK.max(granule));
        let block = all.len().div_ceil(blocks).next_multiple_of(granule);
        if let (Some(bytes), Seen::Quads(seen)) = (&self.weights.bytes, seen) {
            return bytes.part(self, x, seen, band, (all, block));
        }
        let wide = self.to.next_multiple_of(LANES);
        let mut sums = HostBuffer::uninit(pixels * wide);
        let mut scratch = Reused::uninit(band.height * band.width * block);
        band.clear(g, block, &mut scratch);
        let mut mixed = Reused::uninit(pixels * block);
        let (places, corners) = (band.places(g, block), band.corners(g, block));
        let mut rounded = reduced::Pixels::default();
        for start in all.clone().step_by(block) {
            let channels = start..(start + block).min(all.end);
            self.expand(seen, channels.clone(), &places, &mut scratch);
            self.depthwise((band, block), channels.clone(), &scratch, &corners, &mut mixed);
            self.project(&mut mixed, block, channels, &mut rounded, (start == all.start, &mut sums));
        }
        sums
    }

    /// The input of a band, whose lines are `x`, as the expansion takes it.
    fn seen<'a>(&self, x: &'a [f32], band: &Band) -> Seen<'a> {
        if let Some(bytes) = &self.weights.bytes {
            return Seen::Quads(bytes.seen(self, x, band));
        }
        match self.weights.expand.as_ref().map(|(weights, _)| weights) {
            None | Some(Weights::F32(_)) => Seen::F32(x),
            Some(Weights::Rounded(_)) => {
                let mut rounded = Reused::uninit(x.len());
                Rounded.convert(x, &mut rounded);
                Seen::Rounded(rounded)
            }
            Some(weights) => {
                let mut pixels = reduced::Pixels::default();
                pixels.fill(x, self.from, self.from, weights);
                Seen::Reduced(pixels)
            }
        }
    }

    /// Adds some channels' share of the projection of `mixed`, `[pixel][block]`, to the sums, or overwrites them where `begins` says that
    /// there are none yet.
    fn project(
        &self,
        mixed: &mut [f32],
        block: usize,
        channels: Range<usize>,
        rounded: &mut reduced::Pixels,
        (begins, sums): (bool, &mut [f32]),
    ) {
        let (weights, bias) = &self.weights.project;
        match weights {
            Weights::F32(panels) | Weights::Rounded(panels) => {
                if matches!(weights, Weights::Rounded(_)) {
                    round(mixed);
                }
                let (panels, panel) = (&panels[channels.start * LANES..], self.weights.terms() * LANES);
                let pixels = Pixels { values: mixed, channels: block };
                stages::project(pixels, panels, channels.len(), panel, bias.len(), begins, sums);
            }
            weights => {
                rounded.fill(mixed, block, channels.len(), weights);
                let first = channels.start / self.weights.granule;
                reduced::project(rounded, weights, first, bias.len(), begins, sums);
            }
        }
    }

    /// Writes some expanded channels of the pixels that are seen to their places.
    fn expand(&self, seen: &Seen, channels: Range<usize>, places: &[usize], scratch: &mut [f32]) {
        let bounds = self.activation.bounds();
        match (&self.weights.expand, seen) {
            (None, Seen::F32(x)) => return self.copy(x, channels, places, scratch),
            (Some((Weights::F32(weights) | Weights::Rounded(weights), bias)), seen) => {
                let panels = &weights[channels.start * self.from..channels.end * self.from];
                let pixels = Pixels { values: seen.values(), channels: self.from };
                stages::expand(pixels, panels, &bias[channels.clone()], bounds, places, scratch);
            }
            (Some((weights, bias)), Seen::Reduced(pixels)) => {
                let blocks = channels.start / LANES..channels.end / LANES;
                reduced::expand(pixels, weights, blocks, bias, bounds, places, scratch);
            }
            _ => unreachable!("the input is as the weights want it"),
        }
        if self.activation.bounds().is_none() {
            places.iter().for_each(|at| self.activation.apply_row(&mut scratch[*at..at + channels.len()]));
        }
    }

    /// Without an expansion the channels are those of the input.
    fn copy(&self, x: &[f32], channels: Range<usize>, places: &[usize], scratch: &mut [f32]) {
        let known = channels.end.min(self.from).saturating_sub(channels.start);
        for (pixel, to) in x.chunks_exact(self.from).zip(places) {
            scratch[*to..to + known].copy_from_slice(&pixel[channels.start..channels.start + known]);
            scratch[to + known..to + channels.len()].fill(0.0);
        }
    }

    /// The depthwise kernel over the scratch, written to `[pixel][block]`.
    fn depthwise(
        &self,
        (band, block): (&Band, usize),
        channels: Range<usize>,
        scratch: &[f32],
        corners: &[usize],
        mixed: &mut [f32],
    ) {
        let (w, bias) = &self.weights.depthwise;
        let [_, kh, kw, _] = self.g.w;
        let tap = |t: usize| [(t / kw * band.width + t % kw) * block, t * bias.len() + channels.start];
        let stage = Depthwise {
            taps: &Reused::collect((0..kh * kw).map(tap)),
            weights: w,
            bias: &bias[channels.clone()],
            bounds: self.activation.bounds(),
        };
        stages::depthwise(scratch, corners, &stage, block, mixed);
        if self.activation.bounds().is_none() {
            let pixels = mixed.chunks_exact_mut(block);
            pixels.for_each(|pixel| self.activation.apply_row(&mut pixel[..channels.len()]));
        }
    }
}

lanes_fn! {
    /// The bias and the parts of the sums in order, and the band's input where that is `added`, for the pixels of `y`, which
    /// begin with pixel `first` of the band.
    fn finish<L>(bias: &[f32], parts: &[&[f32]], added: Option<&[f32]>, first: usize, y: &mut [f32]) {
        let (to, wide) = (bias.len(), bias.len().next_multiple_of(LANES));
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (pixel, out) in (first..).zip(y.chunks_exact_mut(to)) {
            by_registers!(L, to, |lanes| {
                let mut sum = zero.read(&bias[lanes.clone()]);
                for part in parts {
                    sum = sum.add(zero.read(&part[pixel * wide..][lanes.clone()]));
                }
                if let Some(added) = added {
                    sum = sum.add(zero.read(&added[pixel * to..][lanes.clone()]));
                }
                sum.write(&mut out[lanes]);
            });
        }
    }
}
