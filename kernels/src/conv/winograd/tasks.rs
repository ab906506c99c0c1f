//! Some tiles of a band: transformed inputs, products with the transformed weights, transformed outputs and the epilogue.

use std::ops::Range;

use super::grid::{Grid, Tile};
use super::transform::{Transform, input, output};
use crate::conv::band::finish;
use crate::conv::dense::{Pass, Target};
use crate::conv::micro::{NR, Sums, accumulate, for_rows, load, store, tiles};
use crate::device::{HostBuffer, Reused};
use crate::simd::{Lanes, lanes_fn};

/// Tiles and their transformed inputs: `[product][tile][part][channel]`.
pub(super) struct TransformedTiles<'a> {
    tiles: &'a [Tile],
    values: HostBuffer<f32>,
    products: usize,
    /// Of all parts.
    channels: usize,
}

impl<'a> TransformedTiles<'a> {
    /// The transformed inputs of some tiles of an image.
    pub fn new<T: Transform<IN, OUT>, const IN: usize, const OUT: usize>(
        grid: &Grid,
        image: &[f32],
        tiles: &'a [Tile],
    ) -> Self {
        let (products, channels) = (IN * IN, grid.parts() * grid.channels.1);
        let mut inputs = Self { tiles, values: HostBuffer::uninit(0), products, channels };
        inputs.values = HostBuffer::uninit(products * inputs.plane());
        transform::<T, IN, OUT>(grid, image, &mut inputs);
        inputs
    }

    /// Elements from a tile to the next: no power of two, so that the sets of the cache are used evenly.
    fn pitch(&self) -> usize {
        self.channels + NR
    }

    /// Elements from a product to the next; no power of two either.
    fn plane(&self) -> usize {
        self.tiles.len() * self.pitch() + NR
    }

    /// Writes the sums over all channels for `P` panels: `[product][tile][P][NR]`.
    ///
    /// # Safety
    /// The CPU has the set of `L`; the weights of `P` blocks can be read from `weights` on, and `sums` has room.
    #[inline(always)]
    unsafe fn products<L: Lanes, const V: usize, const P: usize, const R: usize>(
        &self,
        weights: *const f32,
        sums: *mut f32,
    ) {
        let (count, c) = (self.tiles.len(), self.channels);
        for k in 0..self.products {
            let mut panels = [weights; P];
            for (p, panel) in panels.iter_mut().enumerate() {
                // SAFETY: panel `k` of block `p`.
                *panel = unsafe { weights.add((p * self.products + k) * c * NR) };
            }
            for (first, rows) in tiles(count, R) {
                // SAFETY: tiles `first..first + rows` are some of `count`, for which `new` has made room and the caller has.
                unsafe {
                    let from = self.values.as_ptr().add(k * self.plane() + first * self.pitch());
                    let to = sums.add((k * count + first) * P * NR);
                    for_rows!(rows, R, M => self.tile::<L, V, P, M>(from, &panels, to));
                }
            }
        }
    }

    /// [`TransformedTiles::products`] for one place of `M` tiles.
    ///
    /// # Safety
    /// The CPU has the set of `L`; `from` are inputs of `M` tiles, the panels have a row for each channel, `to` has room for
    /// `M * P` rows.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const V: usize, const P: usize, const M: usize>(
        &self,
        from: *const f32,
        panels: &[*const f32; P],
        to: *mut f32,
    ) {
        // SAFETY: the caller vouches for inputs, panels and room.
        unsafe {
            let mut rows = [from; M];
            for (m, row) in rows.iter_mut().enumerate() {
                *row = from.add(m * self.pitch());
            }
            let mut sums: Sums<L, V, P, M> = [[[L::splat(0.0); V]; P]; M];
            accumulate(&rows, 1, panels, self.channels, &mut sums);
            for (i, sums) in sums.as_flattened().iter().enumerate() {
                store(sums, to.add(i * NR));
            }
        }
    }
}

lanes_fn! {
    /// Fills transformed inputs.
    fn transform[T: Transform<IN, OUT>, const IN: usize, const OUT: usize][T, IN, OUT]<L>(
        grid: &Grid,
        image: &[f32],
        inputs: &mut TransformedTiles,
    ) {
        let c = grid.channels.1;
        assert!(c.is_multiple_of(L::WIDTH), "whole registers of channels");
        let zeros = Reused::filled(c, 0.0);
        let (pitch, plane) = (inputs.pitch(), inputs.plane());
        for (i, tile) in inputs.tiles.iter().enumerate() {
            for part in 0..grid.parts() {
                let mut pixels = [[zeros.as_ptr(); IN]; IN];
                for (pixel, at) in pixels.as_flattened_mut().iter_mut().zip(grid.reads::<IN>(*tile, part).as_flattened()) {
                    if let Some(at) = *at {
                        *pixel = image[at..at + c].as_ptr();
                    }
                }
                for channel in (0..c).step_by(L::WIDTH) {
                    let to = i * pitch + part * c + channel;
                    // SAFETY: every pixel has `c` channels, a whole number of registers, and `TransformedTiles::new` has taken memory for all.
                    unsafe { input::<L, T, IN, OUT>(&pixels, channel, inputs.values.as_mut_ptr().add(to), plane) };
                }
            }
        }
    }
}

lanes_fn! {
    /// The target's blocks of channels in output rows `rows`, for all tiles of `inputs`.
    ///
    /// # Panics
    /// When weights are missing.
    pub(super) fn compute[T: Transform<IN, OUT>, const IN: usize, const OUT: usize][T, IN, OUT]<L, V, R>(
        pass: &Pass,
        grid: &Grid,
        rows: &Range<usize>,
        inputs: &TransformedTiles,
        weights: &[f32],
        target: &mut Target,
    ) {
        let block_len = IN * IN * inputs.channels * NR;
        assert!(target.blocks.end * block_len <= weights.len(), "weights of all blocks");
        let mut sums = HostBuffer::uninit(IN * IN * inputs.tiles.len() * L::PANELS * NR);
        let mut block = target.blocks.start;
        while block < target.blocks.end {
            let panels = if block + 1 < target.blocks.end { L::PANELS } else { 1 };
            let from = weights[block * block_len..].as_ptr();
            // SAFETY: the blocks are there, and room for the sums of two where two are taken; `lanes_fn` runs this only on
            // CPUs with the set of `L`.
            unsafe {
                if panels == 2 {
                    inputs.products::<L, V, 2, R>(from, sums.as_mut_ptr());
                } else {
                    inputs.products::<L, V, 1, R>(from, sums.as_mut_ptr());
                }
            }
            for (i, tile) in inputs.tiles.iter().enumerate() {
                let pixels = grid.writes::<OUT>(*tile, rows);
                for p in 0..panels {
                    let at = (i * panels + p) * NR;
                    // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
                    unsafe {
                        let plane = inputs.tiles.len() * panels * NR;
                        outputs::<L, V, T, IN, OUT>(pass, &sums[at..], plane, &pixels, block + p, target);
                    }
                }
            }
            block += panels;
        }
    }
}

/// The outputs of a tile for one block of channels, whose products lie `plane` elements apart.
///
/// # Safety
/// The CPU has the set of `L`.
///
/// # Panics
/// When there are fewer products.
#[inline(always)]
unsafe fn outputs<L: Lanes, const V: usize, T: Transform<IN, OUT>, const IN: usize, const OUT: usize>(
    pass: &Pass,
    products: &[f32],
    plane: usize,
    pixels: &[[Option<usize>; OUT]; OUT],
    block: usize,
    target: &mut Target,
) {
    assert!((IN * IN - 1) * plane + NR <= products.len(), "all products");
    let mut bias = [0.0; NR];
    let known = pass.epilogue.bias.unwrap_or(&[]).iter().skip(block * NR);
    bias.iter_mut().zip(known).for_each(|(to, from)| *to = *from);
    let mut values = [[[0.0; NR]; OUT]; OUT];
    // SAFETY: the caller vouches for the set; `V` registers are a row of NR values, of which all products have been asserted.
    unsafe {
        let bias: [L; V] = load(bias.as_ptr());
        for (v, bias) in bias.into_iter().enumerate() {
            let rows = output::<L, T, IN, OUT>(products.as_ptr().add(v * L::WIDTH), plane, bias);
            for (to, value) in values.as_flattened_mut().iter_mut().zip(rows.as_flattened()) {
                value.store(to.as_mut_ptr().add(v * L::WIDTH));
            }
        }
        for (values, pixel) in values.as_flattened().iter().zip(pixels.as_flattened()) {
            if let Some(pixel) = *pixel {
                finish::<L, V>(pass, values, pixel, block, target);
            }
        }
    }
}
