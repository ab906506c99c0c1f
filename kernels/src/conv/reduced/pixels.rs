//! Products of pixels with the weights of a 1x1 convolution, some of its channels at a time.

use std::ops::Range;

use half::bf16;

use super::super::micro::{NR, clamp, load, store};
use super::super::packed::Packed;
use super::Quantiser;
use super::convert::{Convert, ToBf16};
use super::panels::{Int8, Panels, ROW};
use super::tile::{Lane, Products};
use super::tiles::{Output, Source, Windows, block_of, run};
use super::values::Values;
use crate::device::{Reused, Rounding};
use crate::simd::{Lanes, lanes_fn};

/// Channels that fill a row of left operands: parts of a sum begin and end with so many.
pub(in super::super) fn granule(rounding: Rounding) -> usize {
    match rounding {
        Rounding::None => NR,
        Rounding::Bf16 => ROW / size_of::<bf16>(),
        Rounding::Int8(_) => ROW,
    }
}

/// The type of a byte as products take it: itself, or widened.
pub(in super::super) trait Operand: bytemuck::Pod {
    /// Writes the bytes that are the bits of [`NR`] lanes.
    ///
    /// # Safety
    /// The CPU has the set of `L`.
    unsafe fn store<L: Lanes, const V: usize>(bits: [L; V], to: &mut [Self; NR]);
}

impl Operand for u8 {
    #[inline(always)]
    unsafe fn store<L: Lanes, const V: usize>(bits: [L; V], to: &mut [Self; NR]) {
        for (v, bits) in bits.iter().enumerate() {
            // SAFETY: `V` registers of `WIDTH` are NR bytes.
            unsafe { bits.store_u8(to.as_mut_ptr().add(v * L::WIDTH)) };
        }
    }
}

impl Operand for u16 {
    #[inline(always)]
    unsafe fn store<L: Lanes, const V: usize>(bits: [L; V], to: &mut [Self; NR]) {
        for (v, bits) in bits.iter().enumerate() {
            // SAFETY: `V` registers of `WIDTH` are NR words.
            unsafe { bits.store_u16(to.as_mut_ptr().add(v * L::WIDTH)) };
        }
    }
}

/// Pixels as a product takes them, each padded to whole runs of the weights.
#[derive(Default)]
pub(in super::super) struct Pixels {
    bytes: Reused<u8>,
    count: usize,
    /// Bytes of a pixel, and of its channels.
    stride: usize,
    filled: usize,
}

impl Pixels {
    /// The first `channels` values of each of some pixels, `from` values apart, for these weights.
    pub fn fill(&mut self, values: &[f32], from: usize, channels: usize, weights: &Packed) {
        let count = values.len() / from.max(1);
        let whole = (from == channels).then_some(values);
        self.converted(count, channels, weights, whole, |pixel| &values[pixel * from..][..channels]);
    }

    /// `channels` values of each of some pixels, to which `pixel` leads, for these weights.
    pub fn gather<'a>(&mut self, count: usize, channels: usize, weights: &Packed, pixel: impl Fn(usize) -> &'a [f32]) {
        self.converted(count, channels, weights, None, pixel);
    }

    /// `whole` is the values of all pixels where they lie one after the other.
    fn converted<'a>(
        &mut self,
        count: usize,
        channels: usize,
        weights: &Packed,
        whole: Option<&[f32]>,
        pixel: impl Fn(usize) -> &'a [f32],
    ) {
        self.count = count;
        match weights {
            Packed::Bf16(panels) => self.convert(channels, panels, &ToBf16, whole, pixel),
            Packed::Int8(weights) if weights.is_widened() => {
                self.convert::<u16>(channels, &weights.panels, &weights.quantiser, whole, pixel);
            }
            Packed::Int8(weights) => {
                self.convert::<u8>(channels, &weights.panels, &weights.quantiser, whole, pixel);
            }
            Packed::F32(_) | Packed::Rounded(_) => unreachable!("multiplied in f32"),
        }
    }

    fn convert<'a, E: bytemuck::Pod>(
        &mut self,
        channels: usize,
        weights: &Panels,
        how: &impl Convert<E>,
        whole: Option<&[f32]>,
        pixel: impl Fn(usize) -> &'a [f32],
    ) {
        self.resize::<E>(channels, weights);
        if let Some(values) = whole
            && self.filled == self.stride
        {
            return how.convert(values, bytemuck::cast_slice_mut(&mut self.bytes));
        }
        let pixels = self.bytes.chunks_exact_mut(self.stride.max(1));
        for (number, to) in pixels.enumerate().take(self.count) {
            let to: &mut [E] = bytemuck::cast_slice_mut(to);
            how.convert(pixel(number), &mut to[..channels]);
            to[channels..].fill(how.zero());
        }
    }

    /// Makes it hold some pixels of bytes for these weights; channels beyond are those of 0, the others not defined.
    pub fn prepare<E: Operand>(&mut self, count: usize, channels: usize, weights: &Int8)
    where
        Quantiser: Convert<E>,
    {
        self.count = count;
        self.resize::<E>(channels, &weights.panels);
        if self.filled < self.stride {
            for pixel in self.bytes.chunks_exact_mut(self.stride).take(count) {
                let pixel: &mut [E] = bytemuck::cast_slice_mut(pixel);
                pixel[channels..].fill(weights.quantiser.zero());
            }
        }
    }

    fn resize<E>(&mut self, channels: usize, weights: &Panels) {
        self.filled = channels * size_of::<E>();
        self.stride = self.filled.next_multiple_of(weights.run());
        self.bytes.resize(self.count * self.stride);
    }

    /// [`NR`] channels of a pixel from channel `at` on.
    pub(super) fn channels<E: Operand>(&mut self, pixel: usize, at: usize) -> &mut [E; NR] {
        let pixel = &mut self.bytes[pixel * self.stride..][..self.stride];
        let pixel: &mut [E] = bytemuck::cast_slice_mut(pixel);
        pixel[at..].first_chunk_mut().expect("whole blocks of channels")
    }

    /// Windows over all of them, of a multiple of `unit` pixels, as all are.
    pub(super) fn windows(&self, unit: usize) -> Windows {
        Windows::row(self.count, self.stride, unit)
    }

    /// Runs as long as those of the weights, of which `first_run` belongs to the first channels.
    pub(super) fn source<'a>(&'a self, panels: &'a Panels, products: Products, first_run: usize) -> Source<'a> {
        let runs = Reused::collect((0..self.stride).step_by(panels.run()));
        let run = panels.run().min(self.filled);
        Source { bytes: &self.bytes, runs, run, panels, first_run, products }
    }
}

/// Weights as tiles read them, and how they are multiplied.
fn operands(weights: &Packed) -> (&Panels, Products) {
    match weights {
        Packed::Bf16(panels) => (panels, Products::Bf16),
        Packed::Int8(weights) => (&weights.panels, weights.products),
        Packed::F32(_) | Packed::Rounded(_) => unreachable!("multiplied in f32"),
    }
}

/// How the sums of a block become values: those in bytes are scaled, and something is added.
#[inline(always)]
fn values_of(weights: &Packed, added: [f32; NR], block: usize) -> Values {
    match weights {
        Packed::Int8(weights) => Values::Scaled { scales: block_of(&weights.scales, block), added },
        _ => Values::Sums,
    }
}

/// Sums plus the bias, between bounds, to the places of pixels.
struct Expanded<'a> {
    weights: &'a Packed,
    windows: &'a Windows,
    /// The block that goes to the place itself.
    first: usize,
    bias: &'a [f32],
    bounds: Option<(f32, f32)>,
    places: &'a [usize],
    out: &'a mut [f32],
}

impl Output for Expanded<'_> {
    fn starts(&self, block: usize) -> Lane {
        match self.weights {
            Packed::Int8(weights) => block_of(&weights.starts, block).map(|start| start as u32),
            _ => block_of(self.bias, block).map(f32::to_bits),
        }
    }

    #[inline(always)]
    unsafe fn take<L: Lanes, const V: usize>(&mut self, sums: &[Lane], window: usize, block: usize) {
        let values = values_of(self.weights, block_of(self.bias, block), block);
        let places = &self.places[self.windows.list[window].pixel..];
        for (sums, place) in sums.iter().zip(places) {
            let to = &mut self.out[place + (block - self.first) * NR..][..NR];
            // SAFETY: NR values are written; the caller vouches for the set.
            unsafe {
                let mut values = values.of::<L, V>(sums);
                clamp(&mut values, self.bounds);
                store(&values, to.as_mut_ptr());
            }
        }
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
        let (panels, products) = operands(weights);
        let (source, windows) = (x.source(panels, products, 0), x.windows(1));
        let mut output = Expanded { weights, windows: &windows, first: blocks.start, bias, bounds, places, out };
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { run::<L, V>(&source, &windows, blocks, &mut output) };
    }
}

/// Sums that are added to those of pixels.
struct Added<'a> {
    weights: &'a Packed,
    windows: &'a Windows,
    first_run: usize,
    /// Sums of a pixel.
    wide: usize,
    /// Whether they are overwritten: there are none yet.
    begins: bool,
    sums: &'a mut [f32],
}

impl Output for Added<'_> {
    /// What belongs to all terms of a sum goes with the first.
    fn starts(&self, block: usize) -> Lane {
        match self.weights {
            Packed::Int8(weights) if self.first_run == 0 => block_of(&weights.starts, block).map(|start| start as u32),
            _ => [0; NR],
        }
    }

    #[inline(always)]
    unsafe fn take<L: Lanes, const V: usize>(&mut self, products: &[Lane], window: usize, block: usize) {
        let (values, list) = (values_of(self.weights, [0.0; NR], block), &self.windows.list);
        let first = list[window].pixel;
        // Pixels that the window before, which may overlap this one, has written.
        let known = window.checked_sub(1).map_or(0, |before| list[before].pixel + self.windows.pixels - first);
        let rows = self.sums[(first + known) * self.wide..].chunks_exact_mut(self.wide);
        for (products, row) in products[known..].iter().zip(rows) {
            let to = &mut row[block * NR..][..NR];
            // SAFETY: both have NR values; the caller vouches for the set.
            unsafe {
                let mut sums = values.of::<L, V>(products);
                if !self.begins {
                    for (sum, before) in sums.iter_mut().zip(load::<L, V>(to.as_ptr())) {
                        *sum = before.add(*sum);
                    }
                }
                store(&sums, to.as_mut_ptr());
            }
        }
    }
}

lanes_fn! {
    /// Adds every pixel times the weights of its channels, which begin with run `first_run`, to the pixel's `wide` sums, or
    /// overwrites them where `begins` says that there are none yet.
    pub(in super::super) fn project<L, V, R>(
        x: &Pixels,
        weights: &Packed,
        first_run: usize,
        wide: usize,
        begins: bool,
        sums: &mut [f32],
    ) {
        let (panels, products) = operands(weights);
        let (source, windows) = (x.source(panels, products, first_run), x.windows(1));
        let mut output = Added { weights, windows: &windows, first_run, wide, begins, sums };
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { run::<L, V>(&source, &windows, 0..wide / NR, &mut output) };
    }
}
