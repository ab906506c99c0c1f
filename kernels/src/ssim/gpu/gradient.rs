//! Coefficient maps of the SSIM gradient, and the adjoint of the windowed mean over them.

use cubecl::prelude::*;

use super::super::gradient::ssim_slopes;
use super::{Layout, QUARTER, Shapes, moment, moments, spot, tile};
use crate::border::Border;
use crate::device::{GpuBuffer, UNITS, grid, launch};
use crate::window::lead;

/// The SSIM map, and coefficient maps of its gradient, one after the other: p, q, r and p of y.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, maps and their shape
fn slopes_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    upstream: &Array<f32>,
    map: &mut Array<f32>,
    coefficients: &mut Array<f32>,
    s: Shapes,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < s.cubes {
        let at = tile(s.oh, s.ow, s.c);
        let found = moments(x, y, weights, at, s, size, border);
        #[unroll]
        for o in 0..4usize {
            let (row, column) = spot(o);
            let (j, i) = (at.top + row, at.left + column);
            if j < s.oh && i < s.ow {
                let slopes = ssim_slopes(moment(&found, o), s.k);
                let to = ((at.image * s.oh + j) * s.ow + i) * s.c + at.channel;
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
        x.arg(),
        y.arg(),
        l.weights.arg(),
        upstream.arg(),
        map.arg(),
        coefficients.arg(),
        l.arg(cubes),
        l.size,
        l.border
    );
}

/// `F'(p) + 2 x F'(q) + y F'(r)` on a tile of 16x16, one unit for each pixel: coefficients of the tile
/// and its surroundings, horizontal sums, vertical sums. p begins at `first`, q and r after one and two
/// sections.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, maps and their shape
fn gradient_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    coefficients: &Array<f32>,
    row_band: &Array<f32>,
    column_band: &Array<f32>,
    dx: &mut Array<f32>,
    s: Shapes,
    first: usize,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < s.cubes {
        let at = tile(s.h, s.w, s.c);
        let halo = comptime!(15 + size);
        let before = comptime!(lead(size, border));
        let square = comptime!((15 + size) * (15 + size));
        let plane = comptime!(16 * (15 + size));
        let mut maps = SharedMemory::<f32>::new(comptime!(3 * square));
        let mut rows = SharedMemory::<f32>::new(comptime!(3 * plane));
        let unit = UNIT_POS as usize;
        // All loads of a unit are under way before the first is waited for.
        let each = comptime!(square.div_ceil(UNITS as usize));
        let mut found = Array::<f32>::new(comptime!(3 * each));
        #[unroll]
        for k in 0..each {
            let i = unit + k * comptime!(UNITS as usize);
            let row = at.top + i / halo;
            let column = at.left + i % halo;
            let inside = row >= before && column >= before && row - before < s.oh && column - before < s.ow;
            let pixel = ((at.image * s.oh + row - before) * s.ow + column - before) * s.c + at.channel;
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
        sync_cube();
        let mut i = unit;
        while i < plane {
            let from = (i / 16) * halo + i % 16;
            let band = usize::min(at.left + i % 16, s.w - 1) * size;
            let mut p = f32::new(0.0);
            let mut q = f32::new(0.0);
            let mut r = f32::new(0.0);
            #[unroll]
            for d in 0..size {
                let weight = column_band[band + d];
                p += weight * maps[from + d];
                q += weight * maps[square + from + d];
                r += weight * maps[2 * square + from + d];
            }
            rows[i] = p;
            rows[plane + i] = q;
            rows[2 * plane + i] = r;
            i += 256;
        }
        sync_cube();
        let (j, i) = (at.top + unit / 16, at.left + unit % 16);
        let band = usize::min(j, s.h - 1) * size;
        let mut p = f32::new(0.0);
        let mut q = f32::new(0.0);
        let mut r = f32::new(0.0);
        #[unroll]
        for d in 0..size {
            let weight = row_band[band + d];
            let from = (unit / 16 + d) * 16 + unit % 16;
            p += weight * rows[from];
            q += weight * rows[plane + from];
            r += weight * rows[2 * plane + from];
        }
        if j < s.h && i < s.w {
            let to = ((at.image * s.h + j) * s.w + i) * s.c + at.channel;
            dx[to] = p + 2.0 * x[to] * q + y[to] * r;
        }
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
        x.arg(),
        y.arg(),
        coefficients.arg(),
        l.row_band.arg(),
        l.column_band.arg(),
        dx.arg(),
        l.arg(cubes),
        first * l.map_len(),
        l.size,
        l.border
    );
}
