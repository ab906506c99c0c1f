//! Coefficient maps of the SSIM gradient, and the adjoint of the windowed mean over them.

use cubecl::prelude::*;

use super::super::SsimConstants;
use super::super::gradient::ssim_slopes;
use super::{Layout, Tile, moments, tile};
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
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    section: usize,
    c1: f32,
    c2: f32,
    scale: f32,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let at = tile(oh, ow, c);
        let m = moments(x, y, weights, at, h, w, c, size, border);
        let s = ssim_slopes(m, SsimConstants { c1, c2, scale });
        let (j, i) = (at.top + at.y, at.left + at.x);
        if j < oh && i < ow {
            let to = ((at.image * oh + j) * ow + i) * c + at.channel;
            let g = upstream[to];
            map[to] = s.value;
            coefficients[to] = g * s.x;
            coefficients[section + to] = g * s.squares;
            coefficients[2 * section + to] = g * s.product;
            coefficients[3 * section + to] = g * s.y;
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
    let ([_, h, w, c], (oh, ow), cubes) = (l.shape, l.out, l.map_cubes());
    let section = l.map_len();
    launch!(
        l.gpu,
        slopes_kernel,
        (grid(cubes), CubeDim::new_1d(UNITS)),
        x.arg(),
        y.arg(),
        l.weights.arg(),
        upstream.arg(),
        map.arg(),
        coefficients.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        section,
        l.k.c1,
        l.k.c2,
        l.k.scale,
        l.size,
        l.border
    );
}

/// Shapes of an image and its map, and where coefficient maps begin.
#[derive(CubeType, Clone, Copy)]
struct Shapes {
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    /// Where p begins; q and r begin after one and two sections.
    first: usize,
    section: usize,
}

/// Gradient of this unit's pixel: `F'(p) + 2 x F'(q) + y F'(r)`; the shapes say where p begins.
#[cube]
fn adjoint(
    coefficients: &Array<f32>,
    row_band: &Array<f32>,
    column_band: &Array<f32>,
    own: f32,
    other: f32,
    at: Tile,
    s: Shapes,
    #[comptime] size: usize,
    #[comptime] border: Border,
) -> f32 {
    let halo = comptime!(15 + size);
    let before = comptime!(lead(size, border));
    let square = comptime!(halo * halo);
    let plane = comptime!(halo * 16);
    let mut maps = SharedMemory::<f32>::new(comptime!(3 * square));
    let mut rows = SharedMemory::<f32>::new(comptime!(3 * plane));
    let unit = UNIT_POS as usize;
    let mut i = unit;
    while i < square {
        let row = at.top + i / halo;
        let column = at.left + i % halo;
        let inside = row >= before && column >= before && row - before < s.oh && column - before < s.ow;
        let mut p = f32::new(0.0);
        let mut q = f32::new(0.0);
        let mut r = f32::new(0.0);
        if inside {
            let from = ((at.image * s.oh + row - before) * s.ow + column - before) * s.c + at.channel;
            p = coefficients[s.first + from];
            q = coefficients[s.section + from];
            r = coefficients[2 * s.section + from];
        }
        maps[i] = p;
        maps[square + i] = q;
        maps[2 * square + i] = r;
        i += 256;
    }
    sync_cube();
    let mut i = unit;
    while i < plane {
        let from = (i / 16) * halo + i % 16;
        let column = usize::min(at.left + i % 16, s.w - 1);
        let mut p = f32::new(0.0);
        let mut q = f32::new(0.0);
        let mut r = f32::new(0.0);
        for d in 0..size {
            let weight = column_band[column * size + d];
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
    let row = usize::min(at.top + at.y, s.h - 1);
    let mut p = f32::new(0.0);
    let mut q = f32::new(0.0);
    let mut r = f32::new(0.0);
    for d in 0..size {
        let weight = row_band[row * size + d];
        let from = (at.y + d) * 16 + at.x;
        p += weight * rows[from];
        q += weight * rows[plane + from];
        r += weight * rows[2 * plane + from];
    }
    p + 2.0 * own * q + other * r
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, maps and their shape
fn gradient_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    coefficients: &Array<f32>,
    row_band: &Array<f32>,
    column_band: &Array<f32>,
    dx: &mut Array<f32>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    first: usize,
    section: usize,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let at = tile(h, w, c);
        let (j, i) = (at.top + at.y, at.left + at.x);
        let inside = j < h && i < w;
        let to = select(inside, ((at.image * h + j) * w + i) * c + at.channel, 0usize);
        let s = Shapes { h, w, c, oh, ow, first, section };
        let g = adjoint(coefficients, row_band, column_band, x[to], y[to], at, s, size, border);
        if inside {
            dx[to] = g;
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
    let ([_, h, w, c], (oh, ow), cubes) = (l.shape, l.out, l.image_cubes());
    let section = l.map_len();
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
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        first * section,
        section,
        l.size,
        l.border
    );
}
