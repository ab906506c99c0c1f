//! Convolutions with fewer products: 3x3 of stride 1 with a quarter of them (four_by_three.rs), 4x4 of stride 2 with four ninths
//! (three_by_two.rs). For weights that are kept: what is learned, and what is projected by gradients, is summed plainly. A value
//! that is not finite spoils all outputs of its tiles.
//!
//! A task takes a band of output rows, and of it some tiles of outputs at a time: it transforms their inputs, multiplies
//! them with the transformed weights, one product of matrices for each place of a tile, two blocks of channels at
//! a time, and transforms these back before the epilogue. With 128 channels all of that stays in the second cache. Tiles of dilated
//! convolutions lie on the lattices of the dilation.

mod four_by_three;
mod grid;
mod tasks;
mod three_by_two;
mod transform;

pub(super) use grid::Grid;

use super::dense::{Pass, Target};
use super::micro::tiles;
use super::packed::Packed;
use four_by_three::FourByThree;
use grid::Scheme;
use tasks::{TransformedTiles, compute};
use three_by_two::ThreeByTwo;
use transform::{Transform, weights};

/// Some channels of a band of image `n` from output row `row` on.
pub(super) fn run_band(pass: &Pass, grid: &Grid, n: usize, row: usize, target: &mut Target) {
    match grid.scheme {
        Scheme::FourByThree => run_tiles::<FourByThree, 6, 4>(pass, grid, n, row, target),
        Scheme::ThreeByTwo => run_tiles::<ThreeByTwo, 4, 3>(pass, grid, n, row, target),
    }
}

fn run_tiles<T: Transform<IN, OUT>, const IN: usize, const OUT: usize>(
    pass: &Pass,
    grid: &Grid,
    n: usize,
    row: usize,
    target: &mut Target,
) {
    let [_, h, w, c] = pass.x_shape;
    let phase = &pass.phases[0];
    let (Packed::F32(packed), Some(transformed)) = (&phase.packed, &phase.transformed) else {
        unreachable!("no others are suited")
    };
    // Not in parallel: a thread that waits for others may take up another image, which needs the same weights.
    let weights = transformed.get_or_init(|| weights::<T, IN, OUT>(packed, grid.channels.1, grid.scheme.parities()));
    let image = &pass.x[n * h * w * c..(n + 1) * h * w * c];
    let rows = row..row + target.values.len() / (grid.y[1] * target.stride);
    let all = grid.tiles(&rows);
    for (first, count) in tiles(all.len(), grid.scheme.most_tiles(grid.channels.1)) {
        let inputs = TransformedTiles::new::<T, IN, OUT>(grid, image, &all[first..first + count]);
        compute::<T, IN, OUT>(pass, grid, &rows, &inputs, weights, target);
    }
}
