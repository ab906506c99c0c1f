//! The tiles of a convolution: which pixels they read and write, and when they are worth it.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::transform::{IN, OUT, PRODUCTS};
use crate::conv::dense::Pass;
use crate::conv::micro::NR;
use crate::conv::packed::Packed;
use crate::device::Reused;

/// Channels in and out from which on the transforms cost little beside the products (docs/speed.md has the measurements).
const LEAST_CHANNELS: usize = 32;
/// Tiles of an image from which on it pays to read four times as many weights.
const LEAST_TILES: usize = 16;
/// Tiles at a time at most: with 256 channels their transformed inputs take 1.2 MB, and a weight that is read is used so
/// often.
pub(super) const TILES: usize = 32;

/// The shapes of a convolution that is cut into tiles.
pub struct Grid {
    /// Rows, columns and channels of the input.
    pub(super) x: [usize; 3],
    /// First channel that is read, and how many are.
    pub(super) channels: (usize, usize),
    /// Rows and columns of the output.
    pub(super) y: [usize; 2],
    /// Row and column of the input where the window of the first output begins.
    pub(super) corner: [isize; 2],
    /// Pixels from tap to tap; tiles lie on the lattices of that step.
    pub(super) step: usize,
}

/// The first output pixel of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Tile {
    row: usize,
    col: usize,
}

/// The distance of three taps.
fn distance(offsets: &[isize]) -> Option<usize> {
    match offsets {
        [a, b, c] if b - a == c - b => usize::try_from(b - a).ok(),
        _ => None,
    }
}

impl Grid {
    /// That of a pass with weights that are kept, if it is faster in tiles. Its shapes alone decide, so that an image gives the same in every batch.
    pub fn suited(pass: &Pass) -> Option<Self> {
        let ([phase], None, 1, 1) = (pass.phases, pass.mask, pass.in_step, pass.out_step) else { return None };
        let (Packed::F32(_), Some(_)) = (&phase.packed, &phase.transformed) else { return None };
        let step = distance(&phase.rows).filter(|step| distance(&phase.cols) == Some(*step))?;
        let ([_, h, w, c], [_, oh, ow, _]) = (pass.x_shape, pass.y_shape);
        let corner = [pass.in_start[0] + phase.rows[0], pass.in_start[1] + phase.cols[0]];
        let grid = Self { x: [h, w, c], channels: pass.x_channels, y: [oh, ow], corner, step };
        let (from, to) = (pass.x_channels.1, pass.y_channels.1);
        let worth = from.min(to) >= LEAST_CHANNELS && from.is_multiple_of(NR) && grid.count() >= LEAST_TILES;
        worth.then_some(grid)
    }

    /// Output rows of a task: whole strips of tiles.
    pub fn band(&self) -> usize {
        let strips = self.y[0].div_ceil(self.strip());
        strips.div_ceil(self.count().div_ceil(TILES)) * self.strip()
    }

    /// Output rows of a strip of tiles: none reaches into the next.
    fn strip(&self) -> usize {
        OUT * self.step
    }

    /// Tiles along `n` output pixels.
    fn along(&self, n: usize) -> impl Iterator<Item = usize> + Clone {
        let (step, strip) = (self.step, self.strip());
        (0..n.div_ceil(strip)).flat_map(move |s| s * strip..n.min(s * strip + step))
    }

    /// The tiles of a band of output rows that begins with a strip.
    pub(super) fn tiles(&self, band: &Range<usize>) -> Reused<Tile> {
        let columns = self.along(self.y[1]);
        let row = |row: usize| columns.clone().map(move |col| Tile { row: band.start + row, col });
        self.along(band.len()).flat_map(row).collect()
    }

    /// Number of tiles of an image.
    fn count(&self) -> usize {
        self.along(self.y[0]).count() * self.along(self.y[1]).count()
    }

    /// Where the channels of a tile's input pixels begin in an image; none outside it.
    pub(super) fn reads(&self, tile: Tile) -> [Option<usize>; PRODUCTS] {
        let at = |first: usize, i: usize, corner: isize, n: usize| {
            (first + i * self.step).checked_add_signed(corner).filter(|at| *at < n)
        };
        let [h, w, c] = self.x;
        std::array::from_fn(|k| {
            let row = at(tile.row, k / IN, self.corner[0], h)?;
            let col = at(tile.col, k % IN, self.corner[1], w)?;
            Some((row * w + col) * c + self.channels.0)
        })
    }

    /// The output pixels of a tile in a band of output rows, numbered in the band; none outside it.
    pub(super) fn writes(&self, tile: Tile, band: &Range<usize>) -> [Option<usize>; OUT * OUT] {
        std::array::from_fn(|k| {
            let (row, col) = (tile.row + k / OUT * self.step, tile.col + k % OUT * self.step);
            (row < band.end && col < self.y[1]).then(|| (row - band.start) * self.y[1] + col)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::conv2d::{forward_pass, forward_phase};
    use super::super::super::dense::Epilogue;
    use super::super::super::{ConvOptions, Geometry};
    use super::*;
    use crate::device::Rounding;

    #[test]
    fn kept_weights_in_f32_of_large_enough_maps_run_in_tiles() {
        let suited = |x: [usize; 4], outputs, opts, kept: bool, rounding| {
            let g = Geometry::new("test", x, [outputs, 3, 3, x[3]], opts).expect("fits");
            let phase =
                forward_phase(&g, &vec![0.0; outputs * 9 * x[3]], 0).rounded(x[3], rounding).expect("few terms");
            let phases = [if kept { phase.kept() } else { phase }];
            let image = vec![0.0; x.iter().product()];
            Grid::suited(&forward_pass(&g, 0, &image, &phases, Epilogue::default())).is_some()
        };
        let (same, map) = (ConvOptions::same(3), [1, 16, 16, 32]);
        assert!(suited(map, 32, same, true, Rounding::None));
        assert!(suited([3, 16, 16, 512], 35, ConvOptions { dilation: 2, ..same }, true, Rounding::None));
        assert!(!suited(map, 32, same, false, Rounding::None));
        assert!(!suited(map, 32, same, true, Rounding::Bf16));
        assert!(!suited(map, 32, ConvOptions { stride: 2, ..same }, true, Rounding::None));
        assert!(!suited(map, 16, same, true, Rounding::None));
        assert!(!suited([1, 16, 16, 40], 32, same, true, Rounding::None));
        assert!(!suited([1, 12, 12, 32], 32, same, true, Rounding::None));
    }

    #[test]
    fn tiles_of_all_bands_write_every_pixel_once() {
        for ([h, w], step) in [([1, 1], 1), ([8, 4], 1), ([9, 13], 1), ([13, 9], 2), ([30, 17], 3), ([5, 40], 16)] {
            let grid = Grid { x: [h, w, 16], channels: (0, 16), y: [h, w], corner: [0, 0], step };
            let mut written = vec![0; h * w];
            let mut tiles = 0;
            for first in (0..h).step_by(2 * grid.strip()) {
                let band = first..h.min(first + 2 * grid.strip());
                for tile in grid.tiles(&band).iter().copied() {
                    grid.writes(tile, &band).iter().flatten().for_each(|at| written[first * w + at] += 1);
                    tiles += 1;
                }
            }
            assert_eq!((written, tiles), (vec![1; h * w], grid.count()), "{h}x{w} in steps of {step}");
        }
    }

    #[test]
    fn tiles_read_the_pixels_around_them_and_none_outside() {
        let grid = Grid { x: [5, 6, 48], channels: (16, 32), y: [5, 6], corner: [-2, -2], step: 2 };
        let reads = grid.reads(Tile { row: 1, col: 0 });
        // Rows -1, 1, 3, 5, 7, 9 and columns -2, 0, 2, 4, 6, 8, of which 1 and 3, and 0 to 4 are in the image.
        let inside = |k: usize| matches!(k / IN, 1 | 2) && matches!(k % IN, 1..=3);
        for (k, at) in reads.into_iter().enumerate() {
            let pixel = || (2 * (k / IN) - 1) * 6 + 2 * (k % IN) - 2;
            assert_eq!(at, inside(k).then(|| pixel() * 48 + 16), "place {k}");
        }
    }
}
