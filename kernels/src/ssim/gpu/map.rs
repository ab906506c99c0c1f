//! The SSIM map, and the mask of pixels that differ.

use cubecl::prelude::*;

use super::super::{SsimConstants, ssim};
use super::{Layout, QUARTER, Tile, moment, moments, spot, tile};
use crate::border::Border;
use crate::device::{GpuBuffer, grid, launch};

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, a map and their shape
fn ssim_map_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    map: &mut Array<f32>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    c1: f32,
    c2: f32,
    scale: f32,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let at = tile(oh, ow, c);
        let found = moments(x, y, weights, at, h, w, c, size, border);
        #[unroll]
        for o in 0..4usize {
            let (row, column) = spot(o);
            let (j, i) = (at.top + row, at.left + column);
            if j < oh && i < ow {
                let value = ssim(moment(&found, o), SsimConstants { c1, c2, scale });
                map[((at.image * oh + j) * ow + i) * c + at.channel] = value;
            }
        }
    }
}

/// Queues the SSIM map.
pub(crate) fn map(l: &Layout, x: &GpuBuffer, y: &GpuBuffer, map: &mut GpuBuffer) {
    let ([_, h, w, c], (oh, ow), cubes) = (l.shape, l.out, l.map_cubes());
    let shape = (grid(cubes), CubeDim::new_1d(QUARTER));
    launch!(
        l.gpu,
        ssim_map_kernel,
        shape,
        x.arg(),
        y.arg(),
        l.weights.arg(),
        map.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        l.k.c1,
        l.k.c2,
        l.k.scale,
        l.size,
        l.border
    );
}

/// All channels of a tile, one after the other; the mask is updated in place.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, two maps and their shape
fn ssim_mask_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    dissimilarity: &mut Array<f32>,
    mask: &mut Array<f32>,
    changed: &mut Array<Atomic<u32>>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    c1: f32,
    c2: f32,
    scale: f32,
    threshold: f32,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let place = tile(oh, ow, 1usize);
        let mut sums = Array::<f32>::new(4usize);
        #[unroll]
        for o in 0..4usize {
            sums[o] = f32::new(0.0);
        }
        for channel in 0..c {
            let at = Tile { image: place.image, channel, top: place.top, left: place.left };
            let found = moments(x, y, weights, at, h, w, c, size, border);
            #[unroll]
            for o in 0..4usize {
                sums[o] += ssim(moment(&found, o), SsimConstants { c1, c2, scale });
            }
        }
        #[unroll]
        for o in 0..4usize {
            let (row, column) = spot(o);
            let (j, i) = (place.top + row, place.left + column);
            if j < oh && i < ow {
                let to = (place.image * oh + j) * ow + i;
                let d = 1.0 - sums[o] / f32::cast_from(c);
                let masked = select(d > threshold, f32::new(1.0), f32::new(0.0));
                dissimilarity[to] = d;
                if masked != mask[to] {
                    changed[place.image].fetch_add(1u32);
                }
                mask[to] = masked;
            }
        }
    }
}

#[cube(launch_unchecked)]
fn clear_kernel(x: &mut Array<u32>, n: usize) {
    if ABSOLUTE_POS < n {
        x[ABSOLUTE_POS] = 0;
    }
}

/// Queues the dissimilarity map and the update of the mask.
pub(crate) fn mask(
    l: &Layout,
    (x, y): (&GpuBuffer, &GpuBuffer),
    threshold: f32,
    dissimilarity: &mut GpuBuffer,
    mask: &mut GpuBuffer,
    changed: &mut GpuBuffer<u32>,
) {
    let ([n, h, w, c], (oh, ow)) = (l.shape, l.out);
    let cubes = l.map_cubes() / c;
    launch!(l.gpu, clear_kernel, crate::device::units(n), changed.arg(), n);
    let shape = (grid(cubes), CubeDim::new_1d(QUARTER));
    launch!(
        l.gpu,
        ssim_mask_kernel,
        shape,
        x.arg(),
        y.arg(),
        l.weights.arg(),
        dissimilarity.arg(),
        mask.arg(),
        changed.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        l.k.c1,
        l.k.c2,
        l.k.scale,
        threshold,
        l.size,
        l.border
    );
}
