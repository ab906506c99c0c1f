//! Depthwise convolutions of bytes, four rows of the map at a time.
//!
//! A word holds the bytes of one channel at one column of four rows, a quad; an instruction that adds four products of bytes takes
//! a column of the kernel. An output row whose kernel begins in row `p` of a quad (its phase) reads one quad of each column, or two;
//! weights of rows that are not its own are 0.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::ops::Range;

use smallvec::SmallVec;

#[cfg(target_arch = "x86_64")]
use super::super::micro::for_rows;
use super::super::micro::{NR, tiles};
use super::Quantiser;
use super::panels::Row;
use super::pixels::{Operand, Pixels};
use super::requantise::Requantiser;
#[cfg(target_arch = "x86_64")]
use super::tile::has_vnni;
use super::tile::{Lane, Products};
use super::values::numbers;
use crate::device::Reused;
use crate::simd::lanes_fn;

/// Rows of a quad.
pub(in super::super) const QUAD: usize = 4;
/// Pixels of a tile at most.
const PIXELS: usize = 8;
/// ToQuads that an output pixel reads at most: of two quads, a kernel of five columns.
const TAPS: usize = 10;

/// Weights as the tiles read them.
pub(in super::super) struct Depthwise {
    /// `[channels / NR][phase][quad][column]`: of [`NR`] channels the weights of four rows.
    rows: Vec<Row>,
    /// Where the sums begin: minus the zero point times the sum of the channel's weights.
    starts: Vec<i32>,
    /// The number of the first row of each phase, and at the end that of all.
    phases: [usize; QUAD + 1],
    kernel: (usize, usize),
    /// How sums become the bytes that the projection takes.
    requantiser: Requantiser,
    products: Products,
}

/// Quads that a kernel of some rows reads in a phase.
fn quads_of(kernel: usize, phase: usize) -> usize {
    (phase + kernel).div_ceil(QUAD)
}

impl Depthwise {
    /// From weights by tap, `[tap][channel]`, of which there is a multiple of [`NR`]; inputs are bytes of `from`, outputs bytes of
    /// `to`, with the bias added and between bounds.
    pub fn new(
        by_tap: &[f32],
        (kh, kw): (usize, usize),
        bias: &[f32],
        (from, to): (Quantiser, Quantiser),
        bounds: (f32, f32),
    ) -> Self {
        let channels = bias.len();
        let weights = |channel: usize| (0..kh * kw).map(move |tap| by_tap[tap * channels + channel]);
        let largest = |channel| weights(channel).fold(0.0f32, |most, w| most.max(w.abs()));
        let step = |channel| if largest(channel) > 0.0 { largest(channel) / 127.0 } else { 1.0 };
        let steps: Vec<f32> = (0..channels).map(step).collect();
        let rounded = |channel: usize, tap: usize| {
            (by_tap[tap * channels + channel] / steps[channel]).round().clamp(-127.0, 127.0) as i8
        };
        let mut phases = [0; QUAD + 1];
        for phase in 0..QUAD {
            phases[phase + 1] = phases[phase] + quads_of(kh, phase) * kw;
        }
        let mut rows = vec![Row([0; NR * QUAD]); channels / NR * phases[QUAD]];
        for (block, rows) in rows.chunks_exact_mut(phases[QUAD]).enumerate() {
            for (phase, tap) in (0..QUAD).flat_map(|phase| (0..kh * kw).map(move |tap| (phase, tap))) {
                let row = phase + tap / kw;
                let to = &mut rows[phases[phase] + row / QUAD * kw + tap % kw].0;
                for lane in 0..NR {
                    to[lane * QUAD + row % QUAD] = rounded(block * NR + lane, tap).cast_unsigned();
                }
            }
        }
        let sum = |channel| (0..kh * kw).map(|tap| i32::from(rounded(channel, tap))).sum::<i32>();
        let starts = (0..channels).map(|channel| -i32::from(from.zero) * sum(channel)).collect();
        let scales: Vec<f32> = steps.iter().map(|step| step * from.scale).collect();
        let requantiser = Requantiser::new(&scales, bias, to, bounds);
        Self { rows, starts, phases, kernel: (kh, kw), requantiser, products: Products::of_bytes() }
    }

    /// The weights of some channels in a phase.
    fn weights(&self, channel: usize, phase: usize) -> &[Row] {
        &self.rows[channel / NR * self.phases[QUAD]..][self.phases[phase]..self.phases[phase + 1]]
    }
}

/// A map in quads: `[row / 4][column][channel]`, zeros around it included.
pub(in super::super) struct QuadMap {
    /// Of each channel the bytes of four rows, the first one in the lowest bits.
    pub words: Reused<u32>,
    pub width: usize,
    pub channels: usize,
}

impl QuadMap {
    /// Where an output row whose kernel begins in `row` finds its first word, and from there the others.
    fn taps(&self, row: usize, (kh, kw): (usize, usize)) -> (usize, SmallVec<[usize; TAPS]>) {
        let line = self.width * self.channels;
        let tap = |at: usize| at / kw * line + at % kw * self.channels;
        (row / QUAD * line, (0..quads_of(kh, row % QUAD) * kw).map(tap).collect())
    }
}

/// What a tile of some pixels reads.
struct Tile<'a> {
    /// The first channel at the first word of the first pixel.
    words: *const u32,
    /// ToQuads from one pixel to the next.
    step: usize,
    taps: &'a [usize],
    /// Of each tap the weights of [`NR`] channels.
    weights: &'a [Row],
    starts: &'a [i32],
}

impl Tile<'_> {
    /// The sums of `count` pixels.
    ///
    /// # Safety
    /// All taps of all pixels are words of [`NR`] channels, and there are as many weights and starts.
    unsafe fn run(&self, products: Products, count: usize, sums: &mut [Lane; PIXELS]) {
        let _ = products;
        // SAFETY: the caller vouches for all of it; operands of 16 bits are made on CPUs with AVX2 alone, and VNNI is asked for.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            match products {
                Products::Int16 => return for_rows!(count, PIXELS, M => avx2::tile::<M>(self, sums)),
                Products::Int8 if has_vnni() => {
                    return for_rows!(count, PIXELS, M => vnni::tile::<M>(self, sums));
                }
                _ => {}
            }
            plain::tile(self, &mut sums[..count]);
        }
    }
}

lanes_fn! {
    /// The kernel at one output row, which begins in row `row` of the map, for some channels: for the output pixels from `first` on, whose
    /// channels begin with that of the range.
    pub(in super::super) fn depthwise[E: Operand][E]<L, V, R>(
        map: &QuadMap,
        kernel: &Depthwise,
        row: usize,
        stride: usize,
        channels: Range<usize>,
        first: usize,
        count: usize,
        to: &mut Pixels,
    ) {
        let (start, taps) = map.taps(row, kernel.kernel);
        let step = stride * map.channels;
        let farthest = start + (count.max(1) - 1) * step + taps.last().unwrap_or(&0) + channels.len();
        assert!(farthest <= map.words.len() && channels.len().is_multiple_of(NR), "a tap leads out of the map");
        assert!(channels.len() <= map.channels && channels.end <= kernel.requantiser.channels(), "channels");
        let mut sums = [[0; NR]; PIXELS];
        for channel in channels.clone().step_by(NR) {
            let (weights, starts) = (kernel.weights(channel, row % QUAD), &kernel.starts[channel..channel + NR]);
            for (pixel, some) in tiles(count, PIXELS) {
                let words = map.words[start + pixel * step + channel - channels.start..].as_ptr();
                let tile = Tile { words, step, taps: &taps, weights, starts };
                // SAFETY: words, channels and weights as asserted above; `lanes_fn` runs this only on CPUs with the set of `L`.
                unsafe {
                    tile.run(kernel.products, some, &mut sums);
                    for (sums, pixel) in sums[..some].iter().zip(first + pixel..) {
                        let bits = kernel.requantiser.bits(channel, numbers::<L, V>(sums));
                        E::store::<L, V>(bits, to.channels::<E>(pixel, channel - channels.start));
                    }
                }
            }
        }
    }
}
