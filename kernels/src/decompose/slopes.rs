//! Slopes of SSIM in the background, on the tile of a cube: windowed means, coefficients, and their adjoint.

use cubecl::prelude::*;

use super::kernels::StepVariant;
use crate::device::UNITS;
use crate::shape::pixel_at;
use crate::ssim::gpu::{GROUP, Shapes, TILE, Tile};
use crate::ssim::{Moments, ssim_slopes};

/// Three sums for each output of a group, all zero.
#[cube]
fn zeros() -> Array<f32> {
    let mut sums = Array::<f32>::new(comptime!(3 * GROUP));
    #[unroll]
    for k in 0..comptime!(3 * GROUP) {
        sums[k] = f32::new(0.0);
    }
    sums
}

/// Adds three weighted values to the sums of the `o`-th output of a group.
#[cube]
fn add(sums: &mut Array<f32>, #[comptime] o: usize, weight: f32, a: f32, b: f32, c: f32) {
    sums[comptime!(3 * o)] += weight * a;
    sums[comptime!(3 * o + 1)] += weight * b;
    sums[comptime!(3 * o + 2)] += weight * c;
}

/// Horizontal means of l, l^2 and l * prior over the square of background that a tile needs.
#[cube]
pub(super) fn background_means(
    tiles: &SharedMemory<f32>,
    window: &Array<f32>,
    rows: &mut SharedMemory<f32>,
    #[comptime] v: StepVariant,
) {
    let halo = comptime!(v.halo());
    let wide = comptime!(v.wide());
    let plane = comptime!(v.plane());
    let groups = comptime!(v.halo().div_ceil(GROUP));
    let mut i = UNIT_POS as usize;
    while i < comptime!(wide * groups) {
        let (row, first) = (i / groups, i % groups * GROUP);
        let mut sums = zeros();
        #[unroll]
        for t in 0..comptime!(v.size + GROUP - 1) {
            let l = tiles[row * wide + first + t];
            let prior = tiles[comptime!(wide * wide) + row * wide + first + t];
            let (square, product) = (l * l, l * prior);
            #[unroll]
            for o in 0..GROUP {
                if comptime!(t >= o && t < o + v.size) {
                    add(&mut sums, o, window[comptime!(t - o)], l, square, product);
                }
            }
        }
        #[unroll]
        for o in 0..GROUP {
            if first + o < halo {
                let place = row * halo + first + o;
                rows[place] = sums[3 * o];
                rows[plane + place] = sums[3 * o + 1];
                rows[2 * plane + place] = sums[3 * o + 2];
            }
        }
        i += comptime!(UNITS as usize);
    }
}

/// Whether the map of SSIM has row `y` and column `x`, both counted from `before` above and left of it.
#[cube]
fn on_map(y: usize, x: usize, s: Shapes, #[comptime] before: usize) -> bool {
    y >= before && x >= before && y < s.oh + before && x < s.ow + before
}

/// Means of the prior and of its square for each output of a group that begins at (`top`, `x`).
#[cube]
fn known_means(known: &Array<f32>, at: Tile, top: usize, x: usize, s: Shapes, #[comptime] before: usize) -> Array<f32> {
    let mut means = Array::<f32>::new(comptime!(2 * GROUP));
    #[unroll]
    for o in 0..GROUP {
        let y = top + o;
        let inside = on_map(y, x, s, before);
        let pixel = pixel_at(at.image, y - before, x - before, s.oh, s.ow) * s.c + at.channel;
        let place = select(inside, pixel, 0usize);
        means[2 * o] = known[place];
        means[2 * o + 1] = known[s.section + place];
    }
    means
}

/// Means of l, l^2 and l * prior for each output of a group, from their horizontal means.
#[cube]
fn vertical_means(
    rows: &SharedMemory<f32>,
    window: &Array<f32>,
    first: usize,
    column: usize,
    #[comptime] v: StepVariant,
) -> Array<f32> {
    let halo = comptime!(v.halo());
    let plane = comptime!(v.plane());
    let mut sums = zeros();
    #[unroll]
    for t in 0..comptime!(v.size + GROUP - 1) {
        let place = (first + t) * halo + column;
        let (l, square, product) = (rows[place], rows[plane + place], rows[2 * plane + place]);
        #[unroll]
        for o in 0..GROUP {
            if comptime!(t >= o && t < o + v.size) {
                add(&mut sums, o, window[comptime!(t - o)], l, square, product);
            }
        }
    }
    sums
}

/// Writes the coefficients of the adjoint over the square that a tile needs, three maps one after the other, in place of
/// the background; returns the sum of SSIM over this unit's share of the tile.
#[cube]
pub(super) fn coefficients(
    rows: &SharedMemory<f32>,
    window: &Array<f32>,
    known: &Array<f32>,
    tiles: &mut SharedMemory<f32>,
    at: Tile,
    s: Shapes,
    upstream: f32,
    #[comptime] v: StepVariant,
) -> f32 {
    let halo = comptime!(v.halo());
    let square = comptime!(v.square());
    let before = comptime!(v.before());
    let groups = comptime!(v.halo().div_ceil(GROUP));
    let mut likeness = f32::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < comptime!(halo * groups) {
        let (column, first) = (i % halo, i / halo * GROUP);
        let x = at.left + column;
        let means = known_means(known, at, at.top + first, x, s, before);
        let sums = vertical_means(rows, window, first, column, v);
        #[unroll]
        for o in 0..GROUP {
            let row = first + o;
            let inside = on_map(at.top + row, x, s, before);
            let mut p = f32::new(0.0);
            let mut q = f32::new(0.0);
            let mut r = f32::new(0.0);
            if inside && row < halo {
                let m = Moments {
                    x: sums[3 * o],
                    y: means[2 * o],
                    xx: sums[3 * o + 1],
                    yy: means[2 * o + 1],
                    xy: sums[3 * o + 2],
                };
                let slopes = ssim_slopes(m, s.k);
                p = upstream * slopes.x;
                q = upstream * slopes.squares;
                r = upstream * slopes.product;
                let own = row >= before && row < before + TILE && column >= before && column < before + TILE;
                likeness += select(own, slopes.value, f32::new(0.0));
            }
            if row < halo {
                let place = row * halo + column;
                tiles[place] = p;
                tiles[square + place] = q;
                tiles[2 * square + place] = r;
            }
        }
        i += comptime!(UNITS as usize);
    }
    likeness
}

/// Horizontal sums of the adjoint, for the columns of the tile.
#[cube]
pub(super) fn adjoint_rows(
    tiles: &SharedMemory<f32>,
    bands: &SharedMemory<f32>,
    rows: &mut SharedMemory<f32>,
    #[comptime] v: StepVariant,
) {
    let halo = comptime!(v.halo());
    let square = comptime!(v.square());
    let plane = comptime!(TILE * v.halo());
    let groups = comptime!(TILE / GROUP);
    let mut i = UNIT_POS as usize;
    while i < comptime!(halo * groups) {
        let (row, first) = (i / groups, i % groups * GROUP);
        let mut sums = zeros();
        #[unroll]
        for t in 0..comptime!(v.size + GROUP - 1) {
            let place = row * halo + first + t;
            let (p, q, r) = (tiles[place], tiles[square + place], tiles[2 * square + place]);
            #[unroll]
            for o in 0..GROUP {
                if comptime!(t >= o && t < o + v.size) {
                    let weight = bands[comptime!(TILE * v.size + t - o) + (first + o) * v.size];
                    add(&mut sums, o, weight, p, q, r);
                }
            }
        }
        #[unroll]
        for o in 0..GROUP {
            let place = row * TILE + first + o;
            rows[place] = sums[3 * o];
            rows[plane + place] = sums[3 * o + 1];
            rows[2 * plane + place] = sums[3 * o + 2];
        }
        i += comptime!(UNITS as usize);
    }
}

/// Slopes of SSIM in l, l^2 and l * prior at a pixel.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Slopes {
    pub l: f32,
    pub square: f32,
    pub product: f32,
}

/// The adjoint at the pixel of this unit.
#[cube]
pub(super) fn adjoint(rows: &SharedMemory<f32>, bands: &SharedMemory<f32>, #[comptime] v: StepVariant) -> Slopes {
    let plane = comptime!(TILE * v.halo());
    let (y, x) = (UNIT_POS as usize / TILE, UNIT_POS as usize % TILE);
    let mut l = f32::new(0.0);
    let mut square = f32::new(0.0);
    let mut product = f32::new(0.0);
    #[unroll]
    for d in 0..v.size {
        let weight = bands[y * v.size + d];
        let place = (y + d) * TILE + x;
        l += weight * rows[place];
        square += weight * rows[plane + place];
        product += weight * rows[2 * plane + place];
    }
    Slopes { l, square, product }
}
