//! One phase of a band of the dense pass: register tiles (micro.rs) over its pixels and blocks of channels, and the
//! epilogue.

use bytemuck::{Pod, Zeroable};

use super::dense::{Epilogue, Pass, Target};
use super::micro::{HALF, MOST_ROWS, NR, Sums, accumulate, clamp, for_rows, load, store, tiles};
use super::packed::Phase;
use super::slab::Slab;
use crate::activation::{Activation, wide::sigmoid};
use crate::attention::lift;
use crate::device::Reused;
use crate::simd::{Lanes, Wide, by_registers, lanes_fn};

/// An output pixel: where its window begins in the slab, and its number in the band.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Place {
    slab: usize,
    pixel: usize,
}

/// Rows and columns of the output pixels of a phase in a band.
pub(super) fn lattice(pass: &Pass, phase: &Phase, target: &Target) -> (usize, usize) {
    let (ow, (py, px)) = (pass.y_shape[2], phase.start);
    let count = |n: usize, first: usize| n.saturating_sub(first).div_ceil(pass.out_step);
    (count(target.values.len() / (ow * target.stride), py), count(ow, px))
}

/// The output pixels of a phase in a band, row by row.
fn places(pass: &Pass, phase: &Phase, slab: &Slab, target: &Target) -> Reused<Place> {
    let (ow, (py, px)) = (pass.y_shape[2], phase.start);
    let (height, width) = lattice(pass, phase, target);
    let mut places = Reused::uninit(height * width);
    for (j, row) in places.chunks_exact_mut(width.max(1)).enumerate() {
        for (i, place) in row.iter_mut().enumerate() {
            *place = Place {
                slab: (j * slab.width + i) * pass.in_step * slab.channels,
                pixel: (j * pass.out_step + py) * ow + i * pass.out_step + px,
            };
        }
    }
    places
}

/// What the tiles of a phase read: every tap, or every row of adjacent taps, is a run of elements side by side.
struct Source<'a> {
    slab: &'a [f32],
    /// Where the runs begin, from the beginning of a window.
    runs: Reused<usize>,
    /// Elements of a run.
    run: usize,
    /// Weights as [`super::packed::pack`] lays them out.
    packed: &'a [f32],
}

impl<'a> Source<'a> {
    /// `origin` is the row and column of the first tap in the slab.
    ///
    /// # Panics
    /// When a window leads out of the slab, or a block of the target out of the weights.
    fn new(
        phase: &Phase,
        packed: &'a [f32],
        slab: &'a Slab,
        origin: (isize, isize),
        places: &[Place],
        blocks: usize,
    ) -> Self {
        let (runs, run) = phase.runs(origin, slab.width, slab.channels);
        let farthest = places.iter().map(|p| p.slab).max().unwrap_or(0) + runs.iter().max().unwrap_or(&0);
        assert!(farthest + run <= slab.data().len(), "a window leads out of the slab");
        assert!(blocks * runs.len() * run * NR <= packed.len(), "weights of all blocks");
        Self { slab: slab.data(), runs, run, packed }
    }

    /// Elements of a panel.
    fn panel(&self) -> usize {
        self.runs.len() * self.run * NR
    }

    /// The sums of `M` pixels for the `P` blocks of channels from `block` on: between bounds to the output, or as they are
    /// to a tile in the cache.
    ///
    /// # Safety
    /// The CPU has the set of `L`; `places` are `M` of those that [`Source::new`] was given, and the blocks are there. An
    /// output has [`NR`] values for every block of every pixel.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const V: usize, const P: usize, const M: usize>(
        &self,
        places: &[Place],
        block: usize,
        bias: &[[f32; NR]; P],
        output: Option<Output>,
        to: &mut Tile<P>,
    ) {
        let places: &[Place; M] = places.first_chunk().expect("a place for each pixel");
        let (mut windows, mut panels) = ([self.slab.as_ptr(); M], [self.packed.as_ptr(); P]);
        // SAFETY: windows and panels lie in slab and weights, as `Source::new` asserts.
        unsafe {
            for (m, window) in windows.iter_mut().enumerate() {
                *window = window.add(places[m].slab);
            }
            let mut start = [[L::splat(0.0); V]; P];
            for (p, panel) in panels.iter_mut().enumerate() {
                *panel = panel.add((block + p) * self.panel());
                start[p] = load(bias[p].as_ptr());
            }
            let mut sums: Sums<L, V, P, M> = [start; M];
            for from in &*self.runs {
                let mut rows = windows;
                for row in &mut rows {
                    *row = row.add(*from);
                }
                accumulate(&rows, 1, &panels, self.run, &mut sums);
                for panel in &mut panels {
                    *panel = panel.add(self.run * NR);
                }
            }
            let Some(Output { first, stride, bounds }) = output else {
                for (to, sums) in to.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                    store(sums, to.as_mut_ptr());
                }
                return;
            };
            for (m, sums) in sums.iter_mut().enumerate() {
                let to = first.add(places[m].pixel * stride);
                for (p, sums) in sums.iter_mut().enumerate() {
                    clamp(sums, bounds);
                    store(sums, to.add(p * NR));
                }
            }
        }
    }
}

/// Where whole blocks go that need no more than bounds.
#[derive(Clone, Copy)]
struct Output {
    /// The first channel of the band's first pixel.
    first: *mut f32,
    /// Channels of a pixel.
    stride: usize,
    bounds: Option<(f32, f32)>,
}

impl Output {
    /// That of `P` blocks from `block` on, if their channels are all there and the epilogue is no more than that.
    ///
    /// # Panics
    /// When a pixel lies beyond the target.
    fn new<const P: usize>(pass: &Pass, places: &[Place], block: usize, target: &mut Target) -> Option<Self> {
        let Epilogue { residual, activation, attention, gated, .. } = pass.epilogue;
        let bounded = activation == Activation::Identity || activation.bounds().is_some();
        let whole = (block + P) * NR <= pass.y_channels.1;
        if gated || residual.is_some() || attention.is_some() || !bounded || !whole {
            return None;
        }
        let first = target.first + (block - target.blocks.start) * NR;
        let last = places.iter().map(|p| p.pixel).max().unwrap_or(0) * target.stride + first;
        assert!(last + P * NR <= target.values.len(), "an output leads out of the band");
        Some(Self { first: target.values[first..].as_mut_ptr(), stride: target.stride, bounds: activation.bounds() })
    }
}

/// Sums of a tile in the cache.
type Tile<const P: usize> = [[[f32; NR]; P]; MOST_ROWS];

lanes_fn! {
    /// One phase of one band; `origin` is the row and column of its first tap in the slab.
    pub(super) fn compute<L, V, R>(
        pass: &Pass,
        phase: &Phase,
        packed: &[f32],
        slab: &Slab,
        origin: (isize, isize),
        target: &mut Target,
    ) {
        let places = places(pass, phase, slab, target);
        let source = Source::new(phase, packed, slab, origin, &places, target.blocks.end);
        let mut block = target.blocks.start;
        while block < target.blocks.end {
            let pair = L::PANELS == 2 && block + 1 < target.blocks.end;
            // SAFETY: the blocks are there; `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                if pair {
                    blocks::<L, V, 2, R>(pass, &source, &places, block, target);
                } else {
                    blocks::<L, V, 1, R>(pass, &source, &places, block, target);
                }
            }
            block += 1 + usize::from(pair);
        }
    }
}

/// `P` blocks of channels of all pixels.
///
/// # Safety
/// The CPU has the set of `L`; `places` are those that the source was made with, and it has these blocks.
#[inline(always)]
unsafe fn blocks<L: Lanes, const V: usize, const P: usize, const R: usize>(
    pass: &Pass,
    source: &Source,
    places: &[Place],
    block: usize,
    target: &mut Target,
) {
    let mut bias = [[0.0; NR]; P];
    let known = pass.epilogue.bias.unwrap_or(&[]).iter().skip(block * NR);
    bias.as_flattened_mut().iter_mut().zip(known).for_each(|(to, from)| *to = *from);
    let mut tile: Tile<P> = [[[0.0; NR]; P]; MOST_ROWS];
    let output = Output::new::<P>(pass, places, block, target);
    for (first, rows) in tiles(places.len(), R) {
        let places = &places[first..first + rows];
        // SAFETY: the caller vouches for the set, the places and the blocks.
        unsafe {
            for_rows!(rows, R, M => source.tile::<L, V, P, M>(places, block, &bias, output, &mut tile));
            if output.is_some() {
                continue;
            }
            for (sums, place) in tile.iter().zip(places) {
                for (p, sums) in sums.iter().enumerate() {
                    finish::<L, V>(pass, sums, place.pixel, block + p, target);
                }
            }
        }
    }
}

/// The epilogue of one pixel and block of channels, and its place in the output.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
pub(super) unsafe fn finish<L: Lanes, const V: usize>(
    pass: &Pass,
    sums: &[f32; NR],
    pixel: usize,
    block: usize,
    target: &mut Target,
) {
    let Epilogue { residual, activation, attention, gated, .. } = pass.epilogue;
    if gated {
        // SAFETY: the caller vouches for the set.
        let features = features(activation, sums, unsafe { L::splat(0.0) });
        let (to, channel) = (pixel * target.stride, (block - target.blocks.start) * HALF);
        let count = HALF.min(target.stride - channel);
        target.values[to + channel..to + channel + count].copy_from_slice(&features[..count]);
        return;
    }
    let channel = block * NR;
    let count = NR.min(pass.y_channels.1 - channel);
    let residual = residual.map(|r| {
        let at = (target.pixel + pixel) * pass.y_shape[3] + pass.y_channels.0 + channel;
        &r[at..at + count]
    });
    let factor = attention.map(|a| lift(a[target.pixel + pixel]));
    let to = pixel * target.stride + target.first + (block - target.blocks.start) * NR;
    let to = &mut target.values[to..to + count];
    if count == NR && (activation == Activation::Identity || activation.bounds().is_some()) {
        // SAFETY: sums, residual and output are NR long; the caller vouches for the set.
        unsafe {
            let mut sums = load::<L, V>(sums.as_ptr());
            if let Some(residual) = residual {
                for (sum, r) in sums.iter_mut().zip(load::<L, V>(residual.as_ptr())) {
                    *sum = sum.add(r);
                }
            }
            clamp(&mut sums, activation.bounds());
            if let Some(factor) = factor {
                let factor = L::splat(factor);
                for sum in &mut sums {
                    *sum = sum.mul(factor);
                }
            }
            store(&sums, to.as_mut_ptr());
        }
        return;
    }
    let mut values = *sums;
    values.iter_mut().zip(residual.unwrap_or(&[])).for_each(|(v, r)| *v += r);
    // SAFETY: the caller vouches for the set.
    activation.apply_lanes(unsafe { L::splat(0.0) }, &mut values);
    if let Some(factor) = factor {
        values.iter_mut().for_each(|v| *v *= factor);
    }
    to.copy_from_slice(&values[..count]);
}

/// Features times gates of one pixel's block; `zero` is any register.
#[inline(always)]
fn features<L: Lanes>(activation: Activation, sums: &[f32; NR], zero: L) -> [f32; HALF] {
    let mut gated = [0.0; HALF];
    let (features, gates) = sums.split_at(HALF);
    by_registers!(L, HALF, |part| {
        let (feature, gate) = (zero.read(&features[part.clone()]), zero.read(&gates[part.clone()]));
        (activation.wide(Wide(feature)) * sigmoid(Wide(gate))).0.write(&mut gated[part]);
    });
    gated
}
