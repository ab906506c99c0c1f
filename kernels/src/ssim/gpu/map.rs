//! The SSIM map, and the mask of pixels that differ.

use cubecl::prelude::*;

use super::super::ssim;
use super::{GROUP, Layout, Pair, QUARTER, Shapes, Tile, WindowVariant, moment, moments, spot, tile};
use crate::device::{GpuBuffer, grid, launch};
use crate::shape::pixel_at;

#[cube(launch_unchecked)]
fn ssim_map_kernel(pair: &Pair, map: &mut Array<f32>, s: Shapes, #[comptime] v: WindowVariant) {
    if CUBE_POS < s.cubes {
        let at = tile(s.oh, s.ow, s.c);
        let found = moments(&pair.x, &pair.y, &pair.weights, at, s, v);
        #[unroll]
        for o in 0..GROUP {
            let (row, column) = spot(o);
            let (j, i) = (at.top + row, at.left + column);
            if j < s.oh && i < s.ow {
                let value = ssim(moment(&found, o), s.k);
                map[pixel_at(at.image, j, i, s.oh, s.ow) * s.c + at.channel] = value;
            }
        }
    }
}

/// Queues the SSIM map.
pub(crate) fn map(l: &Layout, x: &GpuBuffer, y: &GpuBuffer, map: &mut GpuBuffer) {
    let cubes = l.map_cubes();
    let shape = (grid(cubes), CubeDim::new_1d(QUARTER));
    launch!(l.gpu, ssim_map_kernel, shape, l.pair(x, y), map.arg(), l.arg(cubes), l.variant());
}

/// All channels of a tile, one after the other; the mask is updated in place.
#[cube(launch_unchecked)]
fn ssim_mask_kernel(
    pair: &Pair,
    dissimilarity: &mut Array<f32>,
    mask: &mut Array<f32>,
    counts: &mut Array<Atomic<u32>>,
    s: Shapes,
    threshold: f32,
    #[comptime] v: WindowVariant,
) {
    if CUBE_POS < s.cubes {
        let place = tile(s.oh, s.ow, 1usize);
        let mut sums = Array::<f32>::new(GROUP);
        #[unroll]
        for o in 0..GROUP {
            sums[o] = f32::new(0.0);
        }
        for channel in 0..s.c {
            let at = Tile { image: place.image, channel, top: place.top, left: place.left };
            let found = moments(&pair.x, &pair.y, &pair.weights, at, s, v);
            #[unroll]
            for o in 0..GROUP {
                sums[o] += ssim(moment(&found, o), s.k);
            }
        }
        let mut changed = u32::new(0);
        let mut set = u32::new(0);
        #[unroll]
        for o in 0..GROUP {
            let (row, column) = spot(o);
            let (j, i) = (place.top + row, place.left + column);
            if j < s.oh && i < s.ow {
                let to = pixel_at(place.image, j, i, s.oh, s.ow);
                let d = 1.0 - sums[o] / f32::cast_from(s.c);
                let masked = select(d > threshold, f32::new(1.0), f32::new(0.0));
                dissimilarity[to] = d;
                changed += select(masked != mask[to], 1u32, 0u32);
                set += select(d > threshold, 1u32, 0u32);
                mask[to] = masked;
            }
        }
        if changed > 0 {
            counts[2 * place.image].fetch_add(changed);
        }
        if set > 0 {
            counts[2 * place.image + 1].fetch_add(set);
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
    counts: &mut GpuBuffer<u32>,
) {
    let c = l.shape[3];
    let cubes = l.map_cubes() / c;
    let n = counts.len();
    launch!(l.gpu, clear_kernel, crate::device::units(n), counts.arg(), n);
    let shape = (grid(cubes), CubeDim::new_1d(QUARTER));
    launch!(
        l.gpu,
        ssim_mask_kernel,
        shape,
        l.pair(x, y),
        dissimilarity.arg(),
        mask.arg(),
        counts.arg(),
        l.arg(cubes),
        threshold,
        l.variant()
    );
}
