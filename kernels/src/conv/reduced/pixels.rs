//! Products of pixels with the weights of a 1x1 convolution, some of its channels at a time.

use std::ops::Range;

use half::bf16;

use super::super::aligned::Aligned;
use super::super::dense::Packed;
use super::super::micro::{NR, clamp, load, store};
use super::convert::{Convert, ToBf16};
use super::panels::{Panels, ROW};
use super::tile::Products;
use super::tiles::{Source, Windows, block_of, run};
use super::values::Scaled;
use crate::device::Rounding;
use crate::simd::lanes_fn;

/// Channels that fill a row of left operands: parts of a sum begin and end with so many.
pub(in super::super) fn granule(rounding: Rounding) -> usize {
    match rounding {
        Rounding::None => NR,
        Rounding::Bf16 => ROW / size_of::<bf16>(),
        Rounding::Int8(_) => ROW,
    }
}

/// Pixels as a product takes them, each padded to whole rows of left operands.
#[derive(Default)]
pub(in super::super) struct Pixels {
    bytes: Aligned<u8>,
    count: usize,
    /// Bytes of a pixel.
    stride: usize,
}

impl Pixels {
    /// The first `channels` values of each of some pixels, `from` values apart, for these weights.
    pub fn fill(&mut self, values: &[f32], from: usize, channels: usize, weights: &Packed) {
        self.count = values.len() / from.max(1);
        match weights {
            Packed::Bf16(_) => self.convert(values, from, channels, &ToBf16),
            Packed::Int8(weights) => self.convert(values, from, channels, &weights.quantiser),
            Packed::F32(_) | Packed::Rounded(_) => unreachable!("multiplied in f32"),
        }
    }

    fn convert<E: bytemuck::Pod>(&mut self, values: &[f32], from: usize, channels: usize, how: &impl Convert<E>) {
        self.stride = (channels * size_of::<E>()).next_multiple_of(ROW);
        self.bytes.resize(self.count * self.stride);
        let pixels = self.bytes.elements_mut().chunks_exact_mut(self.stride.max(1));
        for (to, from) in pixels.zip(values.chunks_exact(from.max(1))) {
            let to: &mut [E] = bytemuck::cast_slice_mut(to);
            how.convert(&from[..channels], &mut to[..channels]);
            to[channels..].fill(how.zero());
        }
    }

    fn windows(&self) -> Windows {
        Windows::row(self.count, self.stride)
    }

    /// Runs as long as those of the weights, of which `first_run` belongs to the first channels.
    fn source<'a>(&'a self, weights: &'a Packed, first_run: usize) -> Source<'a> {
        let (panels, products): (&Panels, _) = match weights {
            Packed::Bf16(panels) => (panels, Products::Bf16),
            Packed::Int8(weights) => (&weights.panels, Products::Int8),
            Packed::F32(_) | Packed::Rounded(_) => unreachable!("multiplied in f32"),
        };
        let run = panels.pieces * ROW;
        let runs = (0..self.stride).step_by(run).collect();
        Source { bytes: self.bytes.elements(), runs, run, panels, first_run, products }
    }
}

/// What the sums of a block begin with, and what leads to values: those that are added, in bf16 begin the sums.
#[inline(always)]
fn ends(weights: &Packed, added: [f32; NR], block: usize, first_run: usize) -> ([u32; NR], Option<Scaled>) {
    match weights {
        Packed::Int8(weights) => {
            let starts = if first_run == 0 { block_of(&weights.starts, block) } else { [0; NR] };
            (starts.map(|start| start as u32), Some(Scaled { scales: block_of(&weights.scales, block), added }))
        }
        _ => (added.map(f32::to_bits), None),
    }
}

lanes_fn! {
    /// Every pixel times some blocks of weights plus the bias, between bounds, to the pixel's place in `out`; the first of these
    /// blocks goes to the place itself.
    pub(in super::super) fn expand<L, V, R>(
        x: &Pixels,
        weights: &Packed,
        blocks: Range<usize>,
        bias: &[f32],
        bounds: Option<(f32, f32)>,
        places: &[usize],
        out: &mut [f32],
    ) {
        let windows = x.windows();
        let begin = |block: usize| ends(weights, block_of(bias, block), block, 0);
        run(&x.source(weights, 0), &windows, blocks.clone(), |block| begin(block).0, |sums, window, pixel, block| {
            let values = match begin(block).1 {
                // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
                Some(scaled) => unsafe { scaled.of::<L, V>(sums) },
                None => sums.map(f32::from_bits),
            };
            let at = places[windows.list[window].pixel + pixel] + (block - blocks.start) * NR;
            let to = &mut out[at..at + NR];
            // SAFETY: both have NR values; `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let mut values = load::<L, V>(values.as_ptr());
                clamp(&mut values, bounds);
                store(&values, to.as_mut_ptr());
            }
        });
    }
}

lanes_fn! {
    /// Adds every pixel times the weights of its channels, which begin with run `first_run`, to the pixel's `wide` sums.
    pub(in super::super) fn project<L, V, R>(x: &Pixels, weights: &Packed, first_run: usize, wide: usize, sums: &mut [f32]) {
        let windows = x.windows();
        let begin = |block: usize| ends(weights, [0.0; NR], block, first_run);
        run(&x.source(weights, first_run), &windows, 0..wide / NR, |block| begin(block).0, |lane, window, pixel, block| {
            let number = windows.list[window].pixel + pixel;
            // Pixels that the window before has had.
            let known = window > 0 && number < windows.list[window - 1].pixel + windows.pixels;
            if known {
                return;
            }
            let values = match begin(block).1 {
                // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
                Some(scaled) => unsafe { scaled.of::<L, V>(lane) },
                None => lane.map(f32::from_bits),
            };
            let to = &mut sums[number * wide + block * NR..][..NR];
            // SAFETY: both have NR values; `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let mut sums = load::<L, V>(to.as_ptr());
                for (sum, value) in sums.iter_mut().zip(load::<L, V>(values.as_ptr())) {
                    *sum = sum.add(value);
                }
                store(&sums, to.as_mut_ptr());
            }
        });
    }
}
