//! 3x3 convolutions of stride 1 with a quarter of the products: F(4x4, 3x3) (transform.rs). For weights that are kept: what is
//! learned, and what is projected by gradients, is summed plainly. A value that is not finite spoils all outputs of its tiles.
//!
//! A task takes a band of output rows, and of it some tiles of 4x4 outputs at a time: it transforms their inputs, multiplies
//! them with the transformed weights, one product of matrices for each of the 36 places of a tile, two blocks of channels at
//! a time, and transforms these back before the epilogue. All of that stays in the second cache. Tiles of dilated
//! convolutions lie on the lattices of the dilation.

mod grid;
mod tasks;
mod transform;

pub(super) use grid::Grid;

use super::dense::{Pass, Target};
use super::micro::tiles;
use super::packed::Packed;
use grid::TILES;
use tasks::{TransformedTiles, compute};
use transform::weights;

/// Some channels of a band of image `n` from output row `row` on.
pub(super) fn run_band(pass: &Pass, grid: &Grid, n: usize, row: usize, target: &mut Target) {
    let [_, h, w, c] = pass.x_shape;
    let phase = &pass.phases[0];
    let (Packed::F32(packed), Some(transformed)) = (&phase.packed, &phase.transformed) else {
        unreachable!("no others are suited")
    };
    // Not in parallel: a thread that waits for others may take up another image, which needs the same weights.
    let weights = transformed.get_or_init(|| weights(packed, grid.channels.1));
    let image = &pass.x[n * h * w * c..(n + 1) * h * w * c];
    let rows = row..row + target.values.len() / (grid.y[1] * target.stride);
    let all = grid.tiles(&rows);
    for (first, count) in tiles(all.len(), TILES) {
        let inputs = TransformedTiles::new(grid, image, &all[first..first + count]);
        compute(pass, grid, &rows, &inputs, weights, target);
    }
}
