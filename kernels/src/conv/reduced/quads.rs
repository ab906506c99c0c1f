//! Expanded maps in quads, whose bytes the depthwise convolution takes.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::super::micro::NR;
use super::Quantiser;
use super::depthwise::{QUAD, QuadMap};
use super::panels::Int8;
use super::pixels::Pixels;
use super::requantise::Requantiser;
use super::tile::Lane;
use super::tiles::{Output, Windows, block_of, run};
use super::values::numbers;
use crate::simd::{Lanes, lanes_fn};

/// Four pixels, one above the other. Those that are not the image's are 0.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(in super::super) struct Quad {
    /// The number of their word in the map.
    pub place: usize,
    /// Ones in the bytes of those that are the image's.
    pub kept: usize,
    /// Where they begin in the input; anywhere if they are not the image's.
    pub from: [usize; QUAD],
}

/// What becomes of the values of a quad.
#[derive(Clone, Copy)]
pub(in super::super) struct ToQuads<'a> {
    /// How they become bytes.
    pub requantiser: &'a Requantiser,
    /// The bytes of what.
    pub quantiser: Quantiser,
    pub quads: &'a [Quad],
}

impl ToQuads<'_> {
    /// The words of [`NR`] channels from channel `at` on, from four pixels' values.
    ///
    /// # Safety
    /// The CPU has the set of `L`, and there are so many channels.
    #[inline(always)]
    unsafe fn put<L: Lanes, const V: usize>(&self, quad: Quad, at: usize, values: [[L; V]; QUAD], to: &mut [u32]) {
        let to = &mut to[..NR];
        let kept = quad.kept as u32;
        let zeros = u32::from_ne_bytes([self.quantiser.zero; QUAD]) & !kept;
        // SAFETY: NR words; the caller vouches for set and channels.
        unsafe {
            let (kept, zeros) = (L::splat(f32::from_bits(kept)), L::splat(f32::from_bits(zeros)));
            // A loop: the closure of a `map` is not compiled for the set.
            let mut bytes = values;
            for (bytes, values) in bytes.iter_mut().zip(values) {
                *bytes = self.requantiser.bits(at, values);
            }
            let [first, second, third, fourth] = bytes;
            for v in 0..V {
                let upper = third[v].bits_up(16).bits_add(fourth[v].bits_up(24));
                let word = first[v].bits_add(second[v].bits_up(8)).bits_add(upper);
                word.bits_and(kept).bits_add(zeros).store(to.as_mut_ptr().cast::<f32>().add(v * L::WIDTH));
            }
        }
    }
}

/// Sums to words.
struct Expanded<'a> {
    weights: &'a Int8,
    windows: &'a Windows,
    /// The block that goes to the place itself.
    first: usize,
    to: ToQuads<'a>,
    map: &'a mut QuadMap,
}

impl Output for Expanded<'_> {
    fn starts(&self, block: usize) -> Lane {
        block_of(&self.weights.starts, block).map(|start| start as u32)
    }

    #[inline(always)]
    unsafe fn take<L: Lanes, const V: usize>(&mut self, sums: &[Lane], window: usize, block: usize) {
        let quads = &self.to.quads[self.windows.list[window].pixel / QUAD..];
        for (sums, quad) in sums.as_chunks::<QUAD>().0.iter().zip(quads) {
            let to = &mut self.map.words[quad.place * self.map.channels + (block - self.first) * NR..];
            // SAFETY: all are NR values of 32 bits; the caller vouches for the set.
            unsafe {
                let mut values = [[L::splat(0.0); V]; QUAD];
                for (values, sums) in values.iter_mut().zip(sums) {
                    *values = numbers(sums);
                }
                self.to.put(*quad, block * NR, values, to);
            }
        }
    }
}

lanes_fn! {
    /// Pixels, four for each quad, times some blocks of weights, to the words of a map, whose channels begin with the first of these
    /// blocks.
    pub(in super::super) fn expand_quads<L, V, R>(
        x: &Pixels,
        weights: &Int8,
        blocks: Range<usize>,
        to: ToQuads,
        map: &mut QuadMap,
    ) {
        let (source, windows) = (x.source(&weights.panels, weights.products, 0), x.windows(QUAD));
        assert!(blocks.end * NR <= to.requantiser.channels(), "a channel for every lane");
        let mut output = Expanded { weights, windows: &windows, first: blocks.start, to, map };
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { run::<L, V>(&source, &windows, blocks, &mut output) };
    }
}

lanes_fn! {
    /// Pixels of `from` values as they are, some of their channels, to the words of a map, whose channels begin with these.
    pub(in super::super) fn copy_quads<L, V, R>(
        x: &[f32],
        from: usize,
        channels: Range<usize>,
        to: ToQuads,
        map: &mut QuadMap,
    ) {
        let whole = channels.len().is_multiple_of(NR);
        assert!(whole && channels.end <= to.requantiser.channels(), "a channel for every lane");
        for quad in to.quads {
            for at in channels.clone().step_by(NR) {
                // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`; channels as asserted above.
                unsafe {
                    let mut values = [[L::splat(0.0); V]; QUAD];
                    for (values, first) in values.iter_mut().zip(quad.from) {
                        let known = &x[first..][..from];
                        for (v, value) in values.iter_mut().enumerate() {
                            *value = value.read(&known[(at + v * L::WIDTH).min(from)..]);
                        }
                    }
                    let place = quad.place * map.channels + at - channels.start;
                    to.put(*quad, at, values, &mut map.words[place..]);
                }
            }
        }
    }
}
