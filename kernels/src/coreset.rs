//! Greedy coreset selection: the farthest point first (Gonzalez 1985; PatchCore, Roth et al. 2022,
//! section 3.2).
//!
//! Every step takes the point that is farthest from its nearest chosen one, the lowest index among
//! equals. One pass over the points a step: operations `3 d` per point, bytes `4 d`. On a GPU the chosen
//! index stays there, so steps are queued without waiting.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::device::{Gpu, GpuBuffer, UNITS, View, ViewMut, grid, launch, place};
use crate::elementwise::fill;
use crate::error::{Result, check_len, shape_error};
use crate::simd::{madd, simd_fn};

const OP: &str = "coreset";

/// Points that one task takes.
const CHUNK: usize = 256;

/// Chooses `index.len()` of the points `x` (`[m][d]`), beginning with `start`. Writes their indices in
/// the order they were chosen, and to `distance` how far each was from the nearest chosen one then (0
/// for the start).
///
/// # Errors
/// When more are asked for than there are, `start` is none of them, or lengths or devices do not fit.
pub fn greedy_coreset<'a>(
    x: impl Into<View<'a>>,
    d: usize,
    start: usize,
    index: impl Into<ViewMut<'a, u32>>,
    distance: impl Into<ViewMut<'a>>,
) -> Result<()> {
    let (x, index, distance) = (x.into(), index.into(), distance.into());
    let (m, count) = (x.len() / d.max(1), index.len());
    if d == 0 || start >= m || count > m || m > u32::MAX as usize {
        return shape_error(OP, format!("{count} of {m} points of dimension {d}, from number {start}"));
    }
    check_len(OP, "points", x.len(), m * d)?;
    check_len(OP, "distance", distance.len(), count)?;
    match place(OP, &[&x, &index, &distance])? {
        None => {
            on_host(x.host(), d, start, index.host(), distance.host());
            Ok(())
        }
        Some(gpu) => on_gpu(&gpu, x.device(), d, start, index.device(), distance.device()),
    }
}

/// A squared distance and the point that has it.
type Farthest = (f32, usize);

/// The one that comes first in the order of largest square, lowest index.
fn farther(a: Farthest, b: Farthest) -> Farthest {
    if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a }
}

fn on_host(x: &[f32], d: usize, start: usize, index: &mut [u32], distance: &mut [f32]) {
    let mut nearest = vec![f32::INFINITY; x.len() / d];
    let mut next: Farthest = (0.0, start);
    for (index, distance) in index.iter_mut().zip(distance) {
        (*index, *distance) = (next.1 as u32, next.0.sqrt());
        let chosen = &x[next.1 * d..(next.1 + 1) * d];
        let parts = nearest.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK * d)).enumerate();
        next = parts
            .map(|(part, (nearest, points))| {
                let (square, at) = approach(points, chosen, nearest);
                (square, part * CHUNK + at)
            })
            .reduce(|| (f32::NEG_INFINITY, usize::MAX), farther);
    }
}

simd_fn! {
    /// Lowers the squared distances of some points to their nearest chosen one by a new one; the farthest.
    fn approach(points: &[f32], chosen: &[f32], nearest: &mut [f32]) -> (f32, usize) {
        let mut best = (f32::NEG_INFINITY, usize::MAX);
        for (i, (point, nearest)) in points.chunks_exact(chosen.len()).zip(nearest).enumerate() {
            let mut sums = [0.0f32; 16];
            let whole = chosen.len() / 16 * 16;
            for (p, c) in point.chunks_exact(16).zip(chosen.chunks_exact(16)) {
                for k in 0..16 {
                    let e = p[k] - c[k];
                    sums[k] = madd::<FMA>(e, e, sums[k]);
                }
            }
            let mut square = 0.0;
            for s in sums {
                square += s;
            }
            for (p, c) in point[whole..].iter().zip(&chosen[whole..]) {
                square += (p - c) * (p - c);
            }
            *nearest = if square < *nearest { square } else { *nearest };
            if *nearest > best.0 {
                best = (*nearest, i);
            }
        }
        best
    }
}

/// Points of a cube.
const POINTS: usize = 64;

fn on_gpu(
    gpu: &Gpu,
    x: &GpuBuffer,
    d: usize,
    start: usize,
    index: &mut GpuBuffer<u32>,
    distance: &mut GpuBuffer,
) -> Result<()> {
    let m = x.len() / d;
    let cubes = m.div_ceil(POINTS);
    let (mut nearest, squares) = (gpu.alloc(m)?, gpu.alloc::<f32>(cubes)?);
    let places = gpu.alloc::<u32>(cubes)?;
    fill(&mut nearest, f32::MAX);
    let one = (grid(1), CubeDim::new_1d(UNITS));
    launch!(gpu, choose_kernel, one, squares.arg(), places.arg(), index.arg(), distance.arg(), 0usize, 0usize, start);
    for step in 1..index.len() {
        launch!(
            gpu,
            approach_kernel,
            (grid(cubes), CubeDim::new_1d(UNITS)),
            x.arg(),
            index.arg(),
            nearest.arg(),
            squares.arg(),
            places.arg(),
            m,
            d,
            step,
            cubes
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

/// Four units for each of 64 points: squared distance to the point chosen last, the farthest of the cube.
#[cube(launch_unchecked)]
fn approach_kernel(
    x: &Array<f32>,
    index: &Array<u32>,
    nearest: &mut Array<f32>,
    squares: &mut Array<f32>,
    places: &mut Array<u32>,
    m: usize,
    d: usize,
    step: usize,
    cubes: usize,
) {
    let mut parts = SharedMemory::<f32>::new(256usize);
    let unit = UNIT_POS as usize;
    let point = CUBE_POS * 64 + unit / 4;
    let chosen = index[step - 1] as usize;
    let mut sum = f32::new(0.0);
    if point < m {
        let mut k = unit % 4;
        while k < d {
            let e = x[point * d + k] - x[chosen * d + k];
            sum += e * e;
            k += 4;
        }
    }
    parts[unit] = sum;
    sync_cube();
    let mut own = f32::new(-1.0);
    if point < m && unit % 4 == 0 {
        let square = (parts[unit] + parts[unit + 1]) + (parts[unit + 2] + parts[unit + 3]);
        own = f32::min(nearest[point], square);
        nearest[point] = own;
    }
    sync_cube();
    if unit % 4 == 0 {
        parts[unit / 4] = own;
    }
    sync_cube();
    if unit == 0 && CUBE_POS < cubes {
        let mut top = parts[0];
        let mut top_at = 0usize;
        for i in 1..64usize {
            if parts[i] > top {
                top = parts[i];
                top_at = i;
            }
        }
        squares[CUBE_POS] = top;
        places[CUBE_POS] = (CUBE_POS * 64 + top_at) as u32;
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
    let mut best = SharedMemory::<f32>::new(256usize);
    let mut best_at = SharedMemory::<u32>::new(256usize);
    let unit = UNIT_POS as usize;
    let mut top = f32::new(-1.0);
    let mut top_at = u32::MAX.runtime();
    let mut i = unit;
    while i < cubes {
        if is_farther(squares[i], places[i], top, top_at) {
            top = squares[i];
            top_at = places[i];
        }
        i += 256;
    }
    best[unit] = top;
    best_at[unit] = top_at;
    sync_cube();
    if unit == 0 && CUBE_POS == 0 {
        if cubes == 0 {
            index[step] = start as u32;
            distance[step] = 0.0;
        } else {
            for i in 1..256usize {
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
