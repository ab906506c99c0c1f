//! An inverted residual in bytes: products of bytes are summed in 32 bits, and become the bytes of the next product in the pass that
//! writes them.

use std::ops::Range;

use super::super::packed::Packed as Weights;
use super::super::reduced::{
    self, Depthwise, Int8, Operand, Pixels, QUAD, Quad, QuadMap, Quantiser, Requantiser, ToQuads, copy_quads,
    depthwise, expand_quads,
};
use super::band::Band;
use super::host::{Call, Packed};
use crate::device::{HostBuffer, InputRange, Reused};
use crate::simd::LANES;

/// What leads from one of the three convolutions to the next.
pub(super) struct Bytes {
    /// What the expanded map becomes.
    expanded: Quantiser,
    /// How the sums of the expansion become that, or without one the values of the input.
    requantiser: Requantiser,
    depthwise: Depthwise,
}

impl Bytes {
    /// For a depthwise convolution of inputs in a range and an activation between bounds; nothing where not all products are of
    /// bytes.
    pub fn new(packed: &Packed, range: InputRange, kernel: (usize, usize), bounds: (f32, f32)) -> Option<Self> {
        let (Weights::Int8(project), _) = &packed.project else { return None };
        let expanded = Quantiser::new(range);
        let requantiser = match &packed.expand {
            None => {
                let (all, wide) = ((f32::NEG_INFINITY, f32::INFINITY), packed.wide());
                Requantiser::new(&vec![1.0; wide], &vec![0.0; wide], expanded, all)
            }
            Some((Weights::Int8(weights), bias)) => weights.requantiser(bias, expanded, bounds),
            Some(_) => return None,
        };
        let (by_tap, bias) = &packed.depthwise;
        let depthwise = Depthwise::new(by_tap, kernel, bias, (expanded, project.quantiser), bounds);
        Some(Self { expanded, requantiser, depthwise })
    }

    /// The input of a band, whose lines are `x`, as the expansion takes it.
    pub fn seen(&self, call: &Call, x: &[f32], band: &Band) -> Seen {
        let quads = quads(band, call);
        let mut pixels = Pixels::default();
        if let Some((weights, _)) = &call.weights.expand {
            let pixel = |number: usize| &x[quads[number / QUAD].from[number % QUAD]..][..call.from];
            pixels.gather(quads.len() * QUAD, call.from, weights, pixel);
        }
        Seen { quads, pixels }
    }

    /// The sums of the projection of a band, whose lines are `x`, over some expanded channels, `block` at a time.
    pub fn part(
        &self,
        call: &Call,
        x: &[f32],
        seen: &Seen,
        band: &Band,
        channels: (Range<usize>, usize),
    ) -> HostBuffer<f32> {
        let (Weights::Int8(project), bias) = &call.weights.project else { unreachable!("found when it was made") };
        match project.is_widened() {
            true => self.in_blocks::<u16>(call, (x, seen), band, channels, (project, bias)),
            false => self.in_blocks::<u8>(call, (x, seen), band, channels, (project, bias)),
        }
    }

    fn in_blocks<E: Operand>(
        &self,
        call: &Call,
        (x, seen): (&[f32], &Seen),
        band: &Band,
        (all, block): (Range<usize>, usize),
        (project, bias): (&Int8, &[f32]),
    ) -> HostBuffer<f32>
    where
        Quantiser: reduced::Convert<E>,
    {
        let (wide, ow, stride) = (bias.len(), call.g.y[2], call.g.opts.stride);
        let mut sums = HostBuffer::uninit(band.rows * ow * wide);
        let zeros = u32::from_ne_bytes([self.expanded.zero; QUAD]);
        let words = Reused::filled(band.height.div_ceil(QUAD) * band.width * block, zeros);
        let mut map = QuadMap { words, width: band.width, channels: block };
        let mut mixed = Pixels::default();
        let to = ToQuads { requantiser: &self.requantiser, quantiser: self.expanded, quads: &seen.quads };
        for start in all.clone().step_by(block) {
            let channels = start..(start + block).min(all.end);
            match &call.weights.expand {
                Some((Weights::Int8(weights), _)) => {
                    expand_quads(&seen.pixels, weights, start / LANES..channels.end / LANES, to, &mut map);
                }
                _ => copy_quads(x, call.from, channels.clone(), to, &mut map),
            }
            mixed.prepare::<E>(band.rows * ow, channels.len(), project);
            for row in 0..band.rows {
                depthwise::<E>(&map, &self.depthwise, row * stride, stride, channels.clone(), row * ow, ow, &mut mixed);
            }
            let run = start / call.weights.granule;
            reduced::project(&mixed, &call.weights.project.0, run, wide, start == all.start, &mut sums);
        }
        sums
    }
}

/// The input of a band: its quads, and their pixels as the expansion takes them.
pub(super) struct Seen {
    quads: Reused<Quad>,
    pixels: Pixels,
}

/// The quads of a band that hold pixels of the image: column by column, those of the first four rows first. None where all that the
/// band sees are zeros around the image.
fn quads(band: &Band, call: &Call) -> Reused<Quad> {
    let (columns, left) = (call.g.x[2], call.g.before[1]);
    let (top, end) = (band.top, band.top + band.to - band.from);
    let groups = if end > top { top / QUAD..end.div_ceil(QUAD) } else { 0..0 };
    let quad = |number: usize| {
        let (group, column) = (groups.start + number / columns, number % columns);
        let (mut kept, mut from) = (0, [0; QUAD]);
        for (row, from) in from.iter_mut().enumerate() {
            let line = group * QUAD + row;
            if (top..end).contains(&line) {
                kept |= 0xff << (8 * row);
                *from = ((line - top) * columns + column) * call.from;
            }
        }
        Quad { place: group * band.width + left + column, kept, from }
    };
    Reused::collect((0..groups.len() * columns).map(quad))
}
