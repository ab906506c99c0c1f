//! The SSIM map, and the mask of pixels that differ.

use cubecl::prelude::*;

use super::super::ssim;
use super::{Layout, QUARTER, Shapes, Tile, moment, moments, spot, tile};
use crate::border::Border;
use crate::device::{GpuBuffer, grid, launch};

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, a map and their shape
fn ssim_map_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    map: &mut Array<f32>,
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
                let value = ssim(moment(&found, o), s.k);
                map[((at.image * s.oh + j) * s.ow + i) * s.c + at.channel] = value;
            }
        }
    }
}

/// Queues the SSIM map.
pub(crate) fn map(l: &Layout, x: &GpuBuffer, y: &GpuBuffer, map: &mut GpuBuffer) {
    let cubes = l.map_cubes();
    let shape = (grid(cubes), CubeDim::new_1d(QUARTER));
    launch!(
        l.gpu,
        ssim_map_kernel,
        shape,
        x.arg(),
        y.arg(),
        l.weights.arg(),
        map.arg(),
        l.arg(cubes),
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
    s: Shapes,
    threshold: f32,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < s.cubes {
        let place = tile(s.oh, s.ow, 1usize);
        let mut sums = Array::<f32>::new(4usize);
        #[unroll]
        for o in 0..4usize {
            sums[o] = f32::new(0.0);
        }
        for channel in 0..s.c {
            let at = Tile { image: place.image, channel, top: place.top, left: place.left };
            let found = moments(x, y, weights, at, s, size, border);
            #[unroll]
            for o in 0..4usize {
                sums[o] += ssim(moment(&found, o), s.k);
            }
        }
        #[unroll]
        for o in 0..4usize {
            let (row, column) = spot(o);
            let (j, i) = (place.top + row, place.left + column);
            if j < s.oh && i < s.ow {
                let to = (place.image * s.oh + j) * s.ow + i;
                let d = 1.0 - sums[o] / f32::cast_from(s.c);
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
    let [n, _, _, c] = l.shape;
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
        l.arg(cubes),
        threshold,
        l.size,
        l.border
    );
}
