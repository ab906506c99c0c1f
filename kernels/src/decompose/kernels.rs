//! One step of the decomposition in one launch.
//!
//! A cube of 256 units takes a tile of 16x16 pixels of one channel through a whole step: windowed means
//! of the background over the tile and its surroundings, slopes of SSIM there, their adjoint back on
//! the tile, slope of the L1 term, Adam. What two neighbouring tiles both need is computed twice (28 %
//! more operations than two passes for a window of 11), so that nothing but the background is exchanged
//! through memory and no step waits for a second launch. Backgrounds alternate between two buffers.
//! Bytes per element and step: 36 and the surroundings; a unit makes four neighbouring means at a time,
//! reading each value of its window once.

use cubecl::prelude::*;

use crate::adam::{AdamState, AdamStep, adam_update};
use crate::border::Border;
use crate::device::UNITS;
use crate::loss::absolute_error_slope;
use crate::reduce::cube_sum;
use crate::ssim::gpu::{Shapes, load_square, moment, moments, spot, tile};
use crate::ssim::{Moments, ssim_slopes};
use crate::window::lead;

/// Means of the prior and of its square on one tile.
#[cube(launch_unchecked)]
pub(super) fn known_kernel(
    prior: &Array<f32>,
    weights: &Array<f32>,
    known: &mut Array<f32>,
    s: Shapes,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < s.cubes {
        let at = tile(s.oh, s.ow, s.c);
        let found = moments(prior, prior, weights, at, s, size, border);
        #[unroll]
        for o in 0..4usize {
            let (row, column) = spot(o);
            let (j, i) = (at.top + row, at.left + column);
            if j < s.oh && i < s.ow {
                let m = moment(&found, o);
                let to = ((at.image * s.oh + j) * s.ow + i) * s.c + at.channel;
                known[to] = m.y;
                known[s.section + to] = m.yy;
            }
        }
    }
}

/// One step on one tile. Sizes for a window of `size`: the adjoint on 16x16 pixels needs coefficients on
/// `halo` x `halo`, and those need the background on `wide` x `wide`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // images, state, tables, shapes and the figures of a step
pub(super) fn descend_kernel(
    x: &Array<f32>,
    prior: &Array<f32>,
    from: &Array<f32>,
    to: &mut Array<f32>,
    adam: &mut Array<f32>,
    known: &Array<f32>,
    weights: &Array<f32>,
    row_band: &Array<f32>,
    column_band: &Array<f32>,
    similar: &mut Array<f32>,
    distance: &mut Array<f32>,
    s: Shapes,
    len: usize,
    upstream: f32,
    lambda: f32,
    step: AdamStep,
    #[comptime] measured: bool,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < s.cubes {
        let at = tile(s.h, s.w, s.c);
        let halo = comptime!(15 + size);
        let wide = comptime!(14 + 2 * size);
        let groups = comptime!((15 + size).div_ceil(4));
        let square = comptime!((14 + 2 * size) * (14 + 2 * size));
        let plane = comptime!((14 + 2 * size) * (15 + size));
        let before = comptime!(lead(size, border));
        let reach = comptime!(lead(size, border) + if border == Border::Valid { 0 } else { size / 2 });
        // Background and prior, then the coefficient maps; a group at the edge reads a little beyond.
        let mut tiles = SharedMemory::<f32>::new(comptime!(tiles_len(size)));
        // Horizontal means of l, l^2 and l * prior, then of the coefficients.
        let mut rows = SharedMemory::<f32>::new(comptime!(rows_len(size)));
        let unit = UNIT_POS as usize;

        // All that a unit reads from memory is under way before the first of it is waited for.
        let (ty, tx) = (unit / 16, unit % 16);
        let (py, px) = (at.top + ty, at.left + tx);
        let inside = py < s.h && px < s.w;
        let pixel = ((at.image * s.h + py) * s.w + px) * s.c + at.channel;
        // Outside the image the corner of the tile, which no other cube writes.
        let corner = ((at.image * s.h + at.top) * s.w + at.left) * s.c + at.channel;
        let place = select(inside, pixel, corner);
        let (own, target, anchor) = (from[place], x[place], prior[place]);
        let (first_moment, second_moment) = (adam[place], adam[len + place]);
        let band = usize::min(unit, comptime!(16 * size - 1));
        let (line, tap) = (band / size, band % size);
        let row_weight = row_band[usize::min(at.top + line, s.h - 1) * size + tap];
        let column_weight = column_band[usize::min(at.left + line, s.w - 1) * size + tap];
        load_square(from, prior, &mut tiles, at, s, wide, comptime!(reach as i32), UNITS, border);
        // What groups at the edge read beyond; their sums there are dropped.
        if unit < 4 {
            tiles[2 * square + unit] = 0.0;
        }
        if unit < comptime!(3 * halo) {
            rows[3 * plane + unit] = 0.0;
        }
        // Weights of the adjoint for the rows, then for the columns of the tile.
        let mut bands = SharedMemory::<f32>::new(comptime!(32 * size));
        if unit < comptime!(16 * size) {
            bands[unit] = row_weight;
            bands[comptime!(16 * size) + unit] = column_weight;
        }
        let mut window = Array::<f32>::new(size);
        #[unroll]
        for t in 0..size {
            window[t] = weights[t];
        }
        sync_cube();

        let mut i = unit;
        while i < comptime!(wide * groups) {
            let (row, first) = (i / groups, i % groups * 4);
            let mut sums = Array::<f32>::new(12usize);
            #[unroll]
            for k in 0..12usize {
                sums[k] = f32::new(0.0);
            }
            #[unroll]
            for t in 0..comptime!(size + 3) {
                let a = tiles[row * wide + first + t];
                let b = tiles[square + row * wide + first + t];
                let (aa, ab) = (a * a, a * b);
                #[unroll]
                for o in 0..4usize {
                    if comptime!(t >= o && t < o + size) {
                        let weight = window[comptime!(t - o)];
                        sums[3 * o] += weight * a;
                        sums[3 * o + 1] += weight * aa;
                        sums[3 * o + 2] += weight * ab;
                    }
                }
            }
            #[unroll]
            for o in 0..4usize {
                if first + o < halo {
                    let place = row * halo + first + o;
                    rows[place] = sums[3 * o];
                    rows[plane + place] = sums[3 * o + 1];
                    rows[2 * plane + place] = sums[3 * o + 2];
                }
            }
            i += 256;
        }
        sync_cube();

        let mut likeness = f32::new(0.0);
        let mut i = unit;
        while i < comptime!(halo * groups) {
            let (column, first) = (i % halo, i / halo * 4);
            let px = at.left + column;
            let mut means = Array::<f32>::new(8usize); // of the prior and of its square
            #[unroll]
            for o in 0..4usize {
                let py = at.top + first + o;
                let inside = py >= before && px >= before && py < s.oh + before && px < s.ow + before;
                let pixel = ((at.image * s.oh + py - before) * s.ow + px - before) * s.c + at.channel;
                let place = select(inside, pixel, 0usize);
                means[2 * o] = known[place];
                means[2 * o + 1] = known[s.section + place];
            }
            let mut sums = Array::<f32>::new(12usize);
            #[unroll]
            for k in 0..12usize {
                sums[k] = f32::new(0.0);
            }
            #[unroll]
            for t in 0..comptime!(size + 3) {
                let place = (first + t) * halo + column;
                let (a, aa, ab) = (rows[place], rows[plane + place], rows[2 * plane + place]);
                #[unroll]
                for o in 0..4usize {
                    if comptime!(t >= o && t < o + size) {
                        let weight = window[comptime!(t - o)];
                        sums[3 * o] += weight * a;
                        sums[3 * o + 1] += weight * aa;
                        sums[3 * o + 2] += weight * ab;
                    }
                }
            }
            #[unroll]
            for o in 0..4usize {
                let row = first + o;
                let py = at.top + row;
                let inside = py >= before && px >= before && py < s.oh + before && px < s.ow + before;
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
                    let own = row >= before && row < before + 16 && column >= before && column < before + 16;
                    likeness += select(own, slopes.value, f32::new(0.0));
                }
                if row < halo {
                    let place = row * halo + column;
                    tiles[place] = p;
                    tiles[comptime!(halo * halo) + place] = q;
                    tiles[comptime!(2 * halo * halo) + place] = r;
                }
            }
            i += 256;
        }
        sync_cube();

        let mut i = unit;
        while i < comptime!(halo * 4) {
            let (row, first) = (i / 4, i % 4 * 4);
            let mut sums = Array::<f32>::new(12usize);
            #[unroll]
            for k in 0..12usize {
                sums[k] = f32::new(0.0);
            }
            #[unroll]
            for t in 0..comptime!(size + 3) {
                let place = row * halo + first + t;
                let p = tiles[place];
                let q = tiles[comptime!(halo * halo) + place];
                let r = tiles[comptime!(2 * halo * halo) + place];
                #[unroll]
                for o in 0..4usize {
                    if comptime!(t >= o && t < o + size) {
                        let weight = bands[comptime!(16 * size + t - o) + (first + o) * size];
                        sums[3 * o] += weight * p;
                        sums[3 * o + 1] += weight * q;
                        sums[3 * o + 2] += weight * r;
                    }
                }
            }
            #[unroll]
            for o in 0..4usize {
                let place = row * 16 + first + o;
                rows[place] = sums[3 * o];
                rows[comptime!(16 * halo) + place] = sums[3 * o + 1];
                rows[comptime!(32 * halo) + place] = sums[3 * o + 2];
            }
            i += 256;
        }
        sync_cube();

        let mut p = f32::new(0.0);
        let mut q = f32::new(0.0);
        let mut r = f32::new(0.0);
        #[unroll]
        for d in 0..size {
            let weight = bands[ty * size + d];
            let place = (ty + d) * 16 + tx;
            p += weight * rows[place];
            q += weight * rows[comptime!(16 * halo) + place];
            r += weight * rows[comptime!(32 * halo) + place];
        }
        let mut apart = f32::new(0.0);
        if inside {
            let slope = p + 2.0 * own * q + anchor * r + lambda * absolute_error_slope(own, target);
            let next = adam_update(AdamState { p: own, m: first_moment, v: second_moment }, slope, step);
            to[place] = next.p;
            adam[place] = next.m;
            adam[len + place] = next.v;
            apart = (own - target).abs();
        }
        if comptime!(measured) {
            let alike = cube_sum(likeness);
            let far = cube_sum(apart);
            if UNIT_POS == 0 {
                similar[CUBE_POS] = alike;
                distance[CUBE_POS] = far;
            }
        }
    }
}

/// Floats for the background and the prior of a tile, or for three coefficient maps.
fn tiles_len(size: usize) -> usize {
    let (wide, halo) = (14 + 2 * size, 15 + size);
    (2 * wide * wide + 4).max(3 * halo * halo)
}

/// Floats for three horizontal means of a tile; the last group of rows reads two lines beyond.
fn rows_len(size: usize) -> usize {
    let (wide, halo) = (14 + 2 * size, 15 + size);
    3 * wide * halo + 3 * halo
}
