//! Some tiles of a band: transformed inputs, products with the transformed weights, transformed outputs and the epilogue.

use std::ops::Range;

use super::grid::{Grid, Tile};
use super::transform::{OUT, PRODUCTS, input, output};
use crate::conv::band::finish;
use crate::conv::dense::{Pass, Target};
use crate::conv::micro::{NR, Sums, accumulate, for_rows, load, store, tiles};
use crate::device::{HostBuffer, Reused};
use crate::simd::{Lanes, lanes_fn};

/// Tiles and their transformed inputs: `[product][tile][channel]`.
pub(super) struct TransformedTiles<'a> {
    tiles: &'a [Tile],
    values: HostBuffer<f32>,
    channels: usize,
}

impl<'a> TransformedTiles<'a> {
    /// The transformed inputs of some tiles of an image.
    pub fn new(grid: &Grid, image: &[f32], tiles: &'a [Tile]) -> Self {
        let mut inputs = Self { tiles, values: HostBuffer::uninit(0), channels: grid.channels.1 };
        inputs.values = HostBuffer::uninit(PRODUCTS * inputs.plane());
        transform(grid, image, &mut inputs);
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
        for k in 0..PRODUCTS {
            let mut panels = [weights; P];
            for (p, panel) in panels.iter_mut().enumerate() {
                // SAFETY: panel `k` of block `p`.
                *panel = unsafe { weights.add((p * PRODUCTS + k) * c * NR) };
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
    fn transform<L>(grid: &Grid, image: &[f32], inputs: &mut TransformedTiles) {
        let c = inputs.channels;
        assert!(c.is_multiple_of(L::WIDTH), "whole registers of channels");
        let zeros = Reused::filled(c, 0.0);
        let (pitch, plane) = (inputs.pitch(), inputs.plane());
        for (i, tile) in inputs.tiles.iter().enumerate() {
            let mut pixels = [zeros.as_ptr(); PRODUCTS];
            for (pixel, at) in pixels.iter_mut().zip(grid.reads(*tile)) {
                if let Some(at) = at {
                    *pixel = image[at..at + c].as_ptr();
                }
            }
            for channel in (0..c).step_by(L::WIDTH) {
                // SAFETY: every pixel has `c` channels, a whole number of registers, and `TransformedTiles::new` has made room.
                unsafe { input::<L>(&pixels, channel, inputs.values.as_mut_ptr().add(i * pitch + channel), plane) };
            }
        }
    }
}

lanes_fn! {
    /// The target's blocks of channels in output rows `rows`, for all tiles of `inputs`.
    ///
    /// # Panics
    /// When weights are missing.
    pub(super) fn compute<L, V, R>(
        pass: &Pass,
        grid: &Grid,
        rows: &Range<usize>,
        inputs: &TransformedTiles,
        weights: &[f32],
        target: &mut Target,
    ) {
        let block_len = PRODUCTS * inputs.channels * NR;
        assert!(target.blocks.end * block_len <= weights.len(), "weights of all blocks");
        let mut sums = HostBuffer::uninit(PRODUCTS * inputs.tiles.len() * L::PANELS * NR);
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
                let pixels = grid.writes(*tile, rows);
                for p in 0..panels {
                    let at = (i * panels + p) * NR;
                    // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
                    unsafe {
                        outputs::<L, V>(pass, &sums[at..], inputs.tiles.len() * panels * NR, &pixels, block + p, target);
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
unsafe fn outputs<L: Lanes, const V: usize>(
    pass: &Pass,
    products: &[f32],
    plane: usize,
    pixels: &[Option<usize>; OUT * OUT],
    block: usize,
    target: &mut Target,
) {
    assert!((PRODUCTS - 1) * plane + NR <= products.len(), "all products");
    let mut bias = [0.0; NR];
    let known = pass.epilogue.bias.unwrap_or(&[]).iter().skip(block * NR);
    bias.iter_mut().zip(known).for_each(|(to, from)| *to = *from);
    let mut values = [[0.0; NR]; OUT * OUT];
    // SAFETY: the caller vouches for the set; `V` registers are a row of NR values, of which all products have been asserted.
    unsafe {
        let bias: [L; V] = load(bias.as_ptr());
        for (v, bias) in bias.into_iter().enumerate() {
            let rows = output(products.as_ptr().add(v * L::WIDTH), plane, bias);
            for (to, value) in values.iter_mut().zip(rows.as_flattened()) {
                value.store(to.as_mut_ptr().add(v * L::WIDTH));
            }
        }
        for (values, pixel) in values.iter().zip(pixels) {
            if let Some(pixel) = *pixel {
                finish::<L, V>(pass, values, pixel, block, target);
            }
        }
    }
}
