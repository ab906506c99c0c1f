//! Coefficient maps of the SSIM gradient, and the adjoint of the windowed mean over them.

use cubecl::prelude::*;

use super::super::gradient::ssim_slopes;
use super::{GROUP, Layout, Pair, QUARTER, Shapes, TILE, Tile, WindowVariant, moment, moments, spot, tile};
use crate::device::{GpuBuffer, UNITS, grid, launch};
use crate::shape::pixel_at;
use crate::window::lead;

/// The SSIM map, and coefficient maps of its gradient, one after the other: p, q, r and p of y.
#[cube(launch_unchecked)]
fn slopes_kernel(
    pair: &Pair,
    upstream: &Array<f32>,
    map: &mut Array<f32>,
    coefficients: &mut Array<f32>,
    s: Shapes,
    #[comptime] v: WindowVariant,
) {
    if CUBE_POS < s.cubes {
        let at = tile(s.oh, s.ow, s.c);
        let found = moments(&pair.x, &pair.y, &pair.weights, at, s, v);
        #[unroll]
        for o in 0..GROUP {
            let (row, column) = spot(o);
            let (j, i) = (at.top + row, at.left + column);
            if j < s.oh && i < s.ow {
                let slopes = ssim_slopes(moment(&found, o), s.k);
                let to = pixel_at(at.image, j, i, s.oh, s.ow) * s.c + at.channel;
                let g = upstream[to];
                map[to] = slopes.value;
                coefficients[to] = g * slopes.x;
                coefficients[s.section + to] = g * slopes.squares;
                coefficients[2 * s.section + to] = g * slopes.product;
                coefficients[3 * s.section + to] = g * slopes.y;
            }
        }
    }
}

/// Queues the SSIM map and the coefficient maps of its gradient.
pub(crate) fn slopes(
    l: &Layout,
    (x, y): (&GpuBuffer, &GpuBuffer),
    upstream: &GpuBuffer,
    map: &mut GpuBuffer,
    coefficients: &mut GpuBuffer,
) {
    let cubes = l.map_cubes();
    launch!(
        l.gpu,
        slopes_kernel,
        (grid(cubes), CubeDim::new_1d(QUARTER)),
        l.pair(x, y),
        upstream.arg(),
        map.arg(),
        coefficients.arg(),
        l.arg(cubes),
        l.variant()
    );
}

/// The images of a gradient, coefficient maps, and the adjoint of the windowed mean along rows and columns.
#[derive(CubeType, CubeLaunch)]
struct GradientInputs {
    x: Array<f32>,
    y: Array<f32>,
    coefficients: Array<f32>,
    row_band: Array<f32>,
    column_band: Array<f32>,
}

/// Sums of the three coefficient maps.
#[derive(CubeType, Clone, Copy)]
struct Sums {
    p: f32,
    q: f32,
    r: f32,
}

/// `F'(p) + 2 x F'(q) + y F'(r)` on a tile, one unit for each pixel: coefficients of the tile and its surroundings,
/// horizontal sums, vertical sums. p begins at `first`, q and r after one and two sections.
#[cube(launch_unchecked)]
fn gradient_kernel(
    inputs: &GradientInputs,
    dx: &mut Array<f32>,
    s: Shapes,
    first: usize,
    #[comptime] v: WindowVariant,
) {
    if CUBE_POS < s.cubes {
        let at = tile(s.h, s.w, s.c);
        let mut maps = SharedMemory::<f32>::new(comptime!(3 * v.halo() * v.halo()));
        let mut rows = SharedMemory::<f32>::new(comptime!(3 * TILE * v.halo()));
        load_coefficients(&inputs.coefficients, &mut maps, at, first, s, v);
        sync_cube();
        horizontal_sums(&maps, &inputs.column_band, &mut rows, at, s, v);
        sync_cube();
        let unit = UNIT_POS as usize;
        let (j, i) = (at.top + unit / TILE, at.left + unit % TILE);
        let band = usize::min(j, s.h - 1) * v.size;
        let sums = weighted(&rows, unit, TILE, comptime!(TILE * v.halo()), &inputs.row_band, band, v.size);
        if j < s.h && i < s.w {
            let to = pixel_at(at.image, j, i, s.h, s.w) * s.c + at.channel;
            dx[to] = sums.p + 2.0 * inputs.x[to] * sums.q + inputs.y[to] * sums.r;
        }
    }
}

/// Sums over three maps that lie `plane` elements apart, of elements `step` apart beginning with `from`.
#[cube]
fn weighted(
    maps: &SharedMemory<f32>,
    from: usize,
    #[comptime] step: usize,
    #[comptime] plane: usize,
    weights: &Array<f32>,
    first_weight: usize,
    #[comptime] size: usize,
) -> Sums {
    let mut p = f32::new(0.0);
    let mut q = f32::new(0.0);
    let mut r = f32::new(0.0);
    #[unroll]
    for d in 0..size {
        let weight = weights[first_weight + d];
        let at = from + comptime!(d * step);
        p += weight * maps[at];
        q += weight * maps[plane + at];
        r += weight * maps[2 * plane + at];
    }
    Sums { p, q, r }
}

/// Coefficients of a tile and its surroundings, zeros outside the map. All loads of a unit are under way before the first
/// is waited for.
#[cube]
fn load_coefficients(
    coefficients: &Array<f32>,
    maps: &mut SharedMemory<f32>,
    at: Tile,
    first: usize,
    s: Shapes,
    #[comptime] v: WindowVariant,
) {
    let halo = comptime!(v.halo());
    let square = comptime!(v.halo() * v.halo());
    let before = comptime!(lead(v.size, v.border));
    let each = comptime!(square.div_ceil(UNITS as usize));
    let unit = UNIT_POS as usize;
    let mut found = Array::<f32>::new(comptime!(3 * each));
    #[unroll]
    for k in 0..each {
        let i = unit + k * comptime!(UNITS as usize);
        let row = at.top + i / halo;
        let column = at.left + i % halo;
        let inside = row >= before && column >= before && row - before < s.oh && column - before < s.ow;
        let pixel = pixel_at(at.image, row - before, column - before, s.oh, s.ow) * s.c + at.channel;
        let from = select(inside, pixel, 0usize);
        found[3 * k] = select(inside, coefficients[first + from], f32::new(0.0));
        found[3 * k + 1] = select(inside, coefficients[s.section + from], f32::new(0.0));
        found[3 * k + 2] = select(inside, coefficients[2 * s.section + from], f32::new(0.0));
    }
    #[unroll]
    for k in 0..each {
        let i = unit + k * comptime!(UNITS as usize);
        if i < square {
            maps[i] = found[3 * k];
            maps[square + i] = found[3 * k + 1];
            maps[2 * square + i] = found[3 * k + 2];
        }
    }
}

/// Horizontal sums for the columns of the tile.
#[cube]
fn horizontal_sums(
    maps: &SharedMemory<f32>,
    column_band: &Array<f32>,
    rows: &mut SharedMemory<f32>,
    at: Tile,
    s: Shapes,
    #[comptime] v: WindowVariant,
) {
    let halo = comptime!(v.halo());
    let plane = comptime!(TILE * v.halo());
    let mut i = UNIT_POS as usize;
    while i < plane {
        let band = usize::min(at.left + i % TILE, s.w - 1) * v.size;
        let from = (i / TILE) * halo + i % TILE;
        let sums = weighted(maps, from, 1usize, comptime!(halo * halo), column_band, band, v.size);
        rows[i] = sums.p;
        rows[plane + i] = sums.q;
        rows[2 * plane + i] = sums.r;
        i += comptime!(UNITS as usize);
    }
}

/// Queues the gradient with respect to `x` from its coefficient maps; p begins at section `first`.
pub(crate) fn gradient(
    l: &Layout,
    (x, y): (&GpuBuffer, &GpuBuffer),
    coefficients: &GpuBuffer,
    first: usize,
    dx: &mut GpuBuffer,
) {
    let cubes = l.image_cubes();
    launch!(
        l.gpu,
        gradient_kernel,
        (grid(cubes), CubeDim::new_1d(UNITS)),
        GradientInputsLaunch::new(x.arg(), y.arg(), coefficients.arg(), l.row_band.arg(), l.column_band.arg()),
        dx.arg(),
        l.arg(cubes),
        first * l.map_len(),
        l.variant()
    );
}
