//! The tiles of a convolution: which pixels they read and write, and when they are worth it.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::conv::dense::Pass;
use crate::conv::micro::NR;
use crate::conv::packed::Packed;
use crate::device::Reused;

/// Channels in and out from which on the transforms cost little beside the products.
const LEAST_CHANNELS: usize = 32;
/// Tiles of an image from which on it pays to read four times as many weights (docs/speed.md has the measurements).
const LEAST_TILES: usize = 16;

/// Kernels that there are transforms for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// 3x3 of stride 1 (four_by_three.rs).
    FourByThree,
    /// 4x4 of stride 2 (three_by_two.rs).
    ThreeByTwo,
}

impl Scheme {
    /// That of taps along an axis, and the pixels of a lattice from tap to tap.
    fn of(offsets: &[isize], in_step: usize) -> Option<(Self, usize)> {
        match (offsets, in_step) {
            ([a, b, c], 1) if b - a == c - b => Some((Self::FourByThree, usize::try_from(b - a).ok()?)),
            ([a, b, c, d], 2) if (b - a, c - a, d - a) == (1, 2, 3) => Some((Self::ThreeByTwo, 1)),
            _ => None,
        }
    }

    /// Outputs of a tile along an axis.
    fn outputs(self) -> usize {
        match self {
            Self::FourByThree => 4,
            Self::ThreeByTwo => 3,
        }
    }

    /// Kernels along an axis, each of the rows or columns of one parity: their inputs are like further channels.
    pub fn parities(self) -> usize {
        match self {
            Self::FourByThree => 1,
            Self::ThreeByTwo => 2,
        }
    }

    /// Tiles at a time at most of an input of so many channels. Each weight is read once for all of them; with 256 channels their
    /// transformed inputs take 1.2 MB, those of 4x4 kernels 2.1 MB.
    pub fn most_tiles(self, channels: usize) -> usize {
        match self {
            Self::ThreeByTwo if channels <= 128 => 64,
            _ => 32,
        }
    }
}

/// The shapes of a convolution that is cut into tiles.
pub struct Grid {
    pub(super) scheme: Scheme,
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

impl Grid {
    /// That of a pass with weights that are kept, if it is faster in tiles. Its shapes alone decide, so that an image gives the same in every batch.
    pub fn suited(pass: &Pass) -> Option<Self> {
        let ([phase], None, 1) = (pass.phases, pass.mask, pass.out_step) else { return None };
        let (Packed::F32(_), Some(_)) = (&phase.packed, &phase.transformed) else { return None };
        let along = |offsets| Scheme::of(offsets, pass.in_step);
        let (scheme, step) = along(&phase.rows).filter(|rows| along(&phase.cols) == Some(*rows))?;
        let ([_, h, w, c], [_, oh, ow, _]) = (pass.x_shape, pass.y_shape);
        let corner = [pass.in_start[0] + phase.rows[0], pass.in_start[1] + phase.cols[0]];
        let grid = Self { scheme, x: [h, w, c], channels: pass.x_channels, y: [oh, ow], corner, step };
        let (from, to) = (pass.x_channels.1, pass.y_channels.1);
        let worth = from.min(to) >= LEAST_CHANNELS && from.is_multiple_of(NR) && grid.count() >= LEAST_TILES;
        worth.then_some(grid)
    }

    /// Output rows of a task: whole strips of tiles.
    pub fn band(&self) -> usize {
        let strips = self.y[0].div_ceil(self.strip());
        strips.div_ceil(self.count().div_ceil(self.scheme.most_tiles(self.channels.1))) * self.strip()
    }

    /// Output rows of a strip of tiles: none reaches into the next.
    fn strip(&self) -> usize {
        self.scheme.outputs() * self.step
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

    /// Parts of the input with kernels of their own, by the parities of row and column.
    pub(super) fn parts(&self) -> usize {
        self.scheme.parities().pow(2)
    }

    /// Where the channels of a tile's input pixels of a part begin in an image; none outside it.
    pub(super) fn reads<const IN: usize>(&self, tile: Tile, part: usize) -> [[Option<usize>; IN]; IN] {
        let parities = self.scheme.parities();
        let at = |place: usize, parity: usize, corner: isize, n: usize| {
            (place * parities + parity).checked_add_signed(corner).filter(|at| *at < n)
        };
        let [h, w, c] = self.x;
        let row = |r: usize| at(tile.row + r * self.step, part / parities, self.corner[0], h);
        let col = |s: usize| at(tile.col + s * self.step, part % parities, self.corner[1], w);
        std::array::from_fn(|r| std::array::from_fn(|s| Some((row(r)? * w + col(s)?) * c + self.channels.0)))
    }

    /// The output pixels of a tile in a band of output rows, numbered in the band; none outside it.
    pub(super) fn writes<const OUT: usize>(&self, tile: Tile, band: &Range<usize>) -> [[Option<usize>; OUT]; OUT] {
        let at = |r: usize, s: usize| {
            let (row, col) = (tile.row + r * self.step, tile.col + s * self.step);
            (row < band.end && col < self.y[1]).then(|| (row - band.start) * self.y[1] + col)
        };
        std::array::from_fn(|r| std::array::from_fn(|s| at(r, s)))
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
        let scheme = |k: usize, x: [usize; 4], outputs, opts, kept: bool, rounding| {
            let g = Geometry::new("test", x, [outputs, k, k, x[3]], opts).expect("fits");
            let phase =
                forward_phase(&g, &vec![0.0; outputs * k * k * x[3]], 0).rounded(x[3], rounding).expect("few terms");
            let phases = [if kept { phase.kept() } else { phase }];
            let image = vec![0.0; x.iter().product()];
            Grid::suited(&forward_pass(&g, 0, &image, &phases, Epilogue::default())).map(|grid| grid.scheme)
        };
        let suited =
            |x, outputs, opts, kept, rounding| scheme(3, x, outputs, opts, kept, rounding) == Some(Scheme::FourByThree);
        let (same, map) = (ConvOptions::same(3), [1, 16, 16, 32]);
        assert!(suited(map, 32, same, true, Rounding::None));
        assert!(suited([3, 16, 16, 512], 35, ConvOptions { dilation: 2, ..same }, true, Rounding::None));
        assert!(!suited(map, 32, same, false, Rounding::None));
        assert!(!suited(map, 32, same, true, Rounding::Bf16));
        assert!(!suited(map, 32, ConvOptions { stride: 2, ..same }, true, Rounding::None));
        assert!(!suited(map, 16, same, true, Rounding::None));
        assert!(!suited([1, 16, 16, 40], 32, same, true, Rounding::None));
        assert!(!suited([1, 12, 12, 32], 32, same, true, Rounding::None));
        let halved = ConvOptions { stride: 2, padding: 1.into(), ..ConvOptions::default() };
        let four = |size, opts| scheme(4, [1, size, size, 32], 32, opts, true, Rounding::None);
        assert_eq!(four(20, halved), Some(Scheme::ThreeByTwo));
        assert_eq!(four(20, ConvOptions { dilation: 2, ..halved }), None);
        assert_eq!(four(20, ConvOptions { stride: 1, ..halved }), None);
        assert_eq!(four(18, halved), None);
    }

    #[test]
    fn tiles_of_all_bands_write_every_pixel_once() {
        let three = [([1, 1], 1), ([8, 4], 1), ([9, 13], 1), ([13, 9], 2), ([30, 17], 3), ([5, 40], 16)];
        let two = [([1, 1], 1), ([6, 3], 1), ([11, 13], 1)];
        let cases = three.map(|case| (Scheme::FourByThree, case)).into_iter();
        for (scheme, ([h, w], step)) in cases.chain(two.map(|case| (Scheme::ThreeByTwo, case))) {
            let grid = Grid { scheme, x: [h, w, 16], channels: (0, 16), y: [h, w], corner: [0, 0], step };
            let mut written = vec![0; h * w];
            let mut tiles = 0;
            for first in (0..h).step_by(2 * grid.strip()) {
                let band = first..h.min(first + 2 * grid.strip());
                for tile in grid.tiles(&band).iter().copied() {
                    let mut count = |at: usize| written[first * w + at] += 1;
                    match scheme {
                        Scheme::FourByThree => {
                            grid.writes::<4>(tile, &band).iter().flatten().flatten().for_each(|at| count(*at))
                        }
                        Scheme::ThreeByTwo => {
                            grid.writes::<3>(tile, &band).iter().flatten().flatten().for_each(|at| count(*at))
                        }
                    }
                    tiles += 1;
                }
            }
            assert_eq!((written, tiles), (vec![1; h * w], grid.count()), "{h}x{w} in steps of {step}");
        }
    }

    #[test]
    fn tiles_read_the_pixels_around_them_and_none_outside() {
        let scheme = Scheme::FourByThree;
        let grid = Grid { scheme, x: [5, 6, 48], channels: (16, 32), y: [5, 6], corner: [-2, -2], step: 2 };
        let reads = grid.reads::<6>(Tile { row: 1, col: 0 }, 0);
        // Rows -1, 1, 3, 5, 7, 9 and columns -2, 0, 2, 4, 6, 8, of which 1 and 3, and 0 to 4 are in the image.
        let inside = |r: usize, s: usize| matches!(r, 1 | 2) && matches!(s, 1..=3);
        for (r, s) in (0..6).flat_map(|r| (0..6).map(move |s| (r, s))) {
            let pixel = || (2 * r - 1) * 6 + 2 * s - 2;
            assert_eq!(reads[r][s], inside(r, s).then(|| pixel() * 48 + 16), "place {r}, {s}");
        }
    }

    #[test]
    fn tiles_of_stride_2_read_the_pixels_of_one_parity() {
        let scheme = Scheme::ThreeByTwo;
        let grid = Grid { scheme, x: [8, 12, 64], channels: (0, 64), y: [4, 6], corner: [-1, -1], step: 1 };
        for part in 0..4 {
            let reads = grid.reads::<4>(Tile { row: 1, col: 0 }, part);
            for (r, s) in (0..4).flat_map(|r| (0..4).map(move |s| (r, s))) {
                // Output row 1 begins at input row 1, column 0 at -1.
                let (row, col) = (1 + 2 * r + part / 2, (2 * s + part % 2).checked_sub(1));
                let inside = col.filter(|_| row < 8).map(|col| (row * 12 + col) * 64);
                assert_eq!(reads[r][s], inside, "place {r}, {s} of part {part}");
            }
        }
    }
}
