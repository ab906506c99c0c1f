//! A pass over all points for each choice, on a GPU.

use cubecl::prelude::*;

use super::{Watch, go_on};
use crate::device::{Gpu, GpuBuffer, UNITS, fill, grid, launch};
use crate::error::Result;

/// Points of a cube.
const POINTS: usize = 64;
/// Units of a point.
const QUARTERS: usize = UNITS as usize / POINTS;

pub(super) fn on_gpu(
    gpu: &Gpu,
    (x, d): (&GpuBuffer, usize),
    start: usize,
    index: &mut GpuBuffer<u32>,
    distance: &mut GpuBuffer,
    watch: Watch,
) -> Result<()> {
    let m = x.len() / d;
    let cubes = m.div_ceil(POINTS);
    let (mut nearest, squares) = (gpu.alloc(m)?, gpu.alloc::<f32>(cubes)?);
    let places = gpu.alloc::<u32>(cubes)?;
    fill(&mut nearest, f32::MAX);
    let one = (grid(1), CubeDim::new_1d(UNITS));
    launch!(gpu, choose_kernel, one, squares.arg(), places.arg(), index.arg(), distance.arg(), 0usize, 0usize, start);
    for step in 1..index.len() {
        go_on(watch, step)?;
        launch!(
            gpu,
            approach_kernel,
            (grid(cubes), CubeDim::new_1d(UNITS)),
            x.arg(),
            index.arg(),
            nearest.arg(),
            squares.arg(),
            places.arg(),
            StepLaunch::new(m, d, step, cubes)
        );
        let one = (grid(1), CubeDim::new_1d(UNITS));
        launch!(gpu, choose_kernel, one, squares.arg(), places.arg(), index.arg(), distance.arg(), cubes, step, start);
    }
    Ok(())
}

/// Whether (square, place) comes before the other: larger, or as large with a lower index.
#[cube]
fn is_farther(square: f32, place: u32, other: f32, other_place: u32) -> bool {
    square > other || (square == other && place < other_place)
}

/// A step of the choice.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Step {
    /// Points, and elements of each.
    m: usize,
    d: usize,
    /// Points that are chosen already.
    step: usize,
    cubes: usize,
}

/// [`QUARTERS`] units for each of [`POINTS`] points: squared distance to the point chosen last, the farthest of the cube.
#[cube(launch_unchecked)]
fn approach_kernel(
    x: &Array<f32>,
    index: &Array<u32>,
    nearest: &mut Array<f32>,
    squares: &mut Array<f32>,
    places: &mut Array<u32>,
    s: Step,
) {
    let mut parts = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    let point = CUBE_POS * POINTS + unit / QUARTERS;
    let chosen = index[s.step - 1] as usize;
    let mut sum = f32::new(0.0);
    if point < s.m {
        let mut k = unit % QUARTERS;
        while k < s.d {
            let e = x[point * s.d + k] - x[chosen * s.d + k];
            sum += e * e;
            k += QUARTERS;
        }
    }
    parts[unit] = sum;
    sync_cube();
    let mut own = f32::new(-1.0);
    if point < s.m && unit % QUARTERS == 0 {
        let square = (parts[unit] + parts[unit + 1]) + (parts[unit + 2] + parts[unit + 3]);
        own = f32::min(nearest[point], square);
        nearest[point] = own;
    }
    sync_cube();
    if unit % QUARTERS == 0 {
        parts[unit / QUARTERS] = own;
    }
    sync_cube();
    if unit == 0 && CUBE_POS < s.cubes {
        let mut top = parts[0];
        let mut top_at = 0usize;
        for i in 1..POINTS {
            if parts[i] > top {
                top = parts[i];
                top_at = i;
            }
        }
        squares[CUBE_POS] = top;
        places[CUBE_POS] = (CUBE_POS * POINTS + top_at) as u32;
    }
}

/// One cube: the farthest of all cubes becomes choice `step`; with no cubes, the start.
#[cube(launch_unchecked)]
fn choose_kernel(
    squares: &Array<f32>,
    places: &Array<u32>,
    index: &mut Array<u32>,
    distance: &mut Array<f32>,
    cubes: usize,
    step: usize,
    start: usize,
) {
    let mut best = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut best_at = SharedMemory::<u32>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    let mut top = f32::new(-1.0);
    let mut top_at = u32::MAX.runtime();
    let mut i = unit;
    while i < cubes {
        if is_farther(squares[i], places[i], top, top_at) {
            top = squares[i];
            top_at = places[i];
        }
        i += comptime!(UNITS as usize);
    }
    best[unit] = top;
    best_at[unit] = top_at;
    sync_cube();
    if unit == 0 && CUBE_POS == 0 {
        if cubes == 0 {
            index[step] = start as u32;
            distance[step] = 0.0;
        } else {
            for i in 1..comptime!(UNITS as usize) {
                if is_farther(best[i], best_at[i], top, top_at) {
                    top = best[i];
                    top_at = best_at[i];
                }
            }
            index[step] = top_at;
            distance[step] = top.sqrt();
        }
    }
}
