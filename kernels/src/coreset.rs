//! Greedy coreset selection: the farthest point first (Gonzalez 1985; PatchCore, Roth et al. 2022,
//! section 3.2).
//!
//! Every step takes the point that is farthest from its nearest chosen one, the lowest index among
//! equals. One pass over the points a step would be `3 d` operations and `4 d` bytes per point and step, bound by memory. The
//! host is lazy instead: distances only fall, so one that was measured some steps ago is an upper bound, and a point
//! is looked at again only when its bound could make it the farthest; then it is measured against all centres since, at
//! once. The result is the same, bit by bit. On a GPU every step is a pass, and the chosen index stays there, so that
//! steps are queued without waiting.

use std::ops::ControlFlow;

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::device::{Gpu, GpuBuffer, UNITS, View, ViewMut, fill, grid, launch, place};
use crate::error::{KernelError, Result, check_len, shape_error};
use crate::simd::{Lanes, lanes_fn};

const OP: &str = "coreset";

/// Looks on while points are chosen.
pub type Watch<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

fn go_on(watch: Watch, chosen: usize) -> Result<()> {
    if watch(chosen).is_break() { Err(KernelError::Stopped) } else { Ok(()) }
}

/// Bounds that one task looks through.
const SCAN: usize = 1 << 14;

/// Largest bounds that are made exact before all that can matter are.
const TRIED: usize = 16;

/// Chooses `index.len()` of the points `x` (`[m][d]`), beginning with `start`. Writes their indices in
/// the order they were chosen, and to `distance` how far each was from the nearest chosen one then (0
/// for the start). `watch` gets the number of chosen points before each choice and may break off.
///
/// # Errors
/// When more are asked for than there are, `start` is none of them, or lengths or devices do not fit;
/// [`KernelError::Stopped`] when `watch` breaks off.
pub fn greedy_coreset<'a>(
    x: impl Into<View<'a>>,
    d: usize,
    start: usize,
    index: impl Into<ViewMut<'a, u32>>,
    distance: impl Into<ViewMut<'a>>,
    watch: Watch,
) -> Result<()> {
    let (x, index, distance) = (x.into(), index.into(), distance.into());
    let (m, count) = (x.len() / d.max(1), index.len());
    if d == 0 || start >= m || count > m || m > u32::MAX as usize {
        return shape_error(OP, format!("{count} of {m} points of dimension {d}, from number {start}"));
    }
    check_len(OP, "points", x.len(), m * d)?;
    check_len(OP, "distance", distance.len(), count)?;
    match place(OP, &[&x, &index, &distance])? {
        None => on_host((x.host(), d), start, index.host(), distance.host(), watch),
        Some(gpu) => on_gpu(&gpu, (x.device(), d), start, index.device(), distance.device(), watch),
    }
}

/// Points whose distances are known to be too large, at most to the centres chosen before they were last looked at: distances
/// only fall, so they are upper bounds.
struct Bounds<'a> {
    x: &'a [f32],
    d: usize,
    /// Squared.
    bound: Vec<f32>,
    /// Centres that each point has been measured against.
    seen: Vec<u32>,
    /// The chosen points, one after another.
    centres: Vec<f32>,
}

impl Bounds<'_> {
    fn chosen(&self) -> usize {
        self.centres.len() / self.d
    }

    fn is_exact(&self, i: usize) -> bool {
        self.seen[i] as usize == self.chosen()
    }

    /// The point with the largest bound, the lowest index among equals.
    fn largest(&self) -> usize {
        let parts = self.bound.par_chunks(SCAN).enumerate();
        let best = parts.map(|(part, bounds)| {
            let largest = bounds.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let at = bounds.iter().position(|b| *b == largest).unwrap_or(0);
            (largest, part * SCAN + at)
        });
        best.reduce(|| (f32::NEG_INFINITY, usize::MAX), |a, b| if (b.0, a.1) > (a.0, b.1) { b } else { a }).1
    }

    /// The squared distance of a point to its nearest centre.
    fn exact(&self, i: usize) -> f32 {
        let new = &self.centres[self.seen[i] as usize * self.d..];
        nearest_square(&self.x[i * self.d..(i + 1) * self.d], new, self.bound[i])
    }

    fn settle(&mut self, i: usize, square: f32) {
        (self.bound[i], self.seen[i]) = (square, self.chosen() as u32);
    }

    /// The farthest point from the centres. First the largest bounds are made exact, a few; every point whose bound reaches
    /// the best of these is then measured, and no other can be farther.
    fn farthest(&mut self) -> usize {
        let mut reached = f32::NEG_INFINITY;
        for _ in 0..TRIED {
            let i = self.largest();
            if self.is_exact(i) {
                return i;
            }
            let square = self.exact(i);
            self.settle(i, square);
            reached = reached.max(square);
        }
        let stale: Vec<usize> =
            (0..self.bound.len()).filter(|i| self.bound[*i] >= reached && !self.is_exact(*i)).collect();
        let exact: Vec<f32> = stale.par_iter().with_min_len(TRIED).map(|i| self.exact(*i)).collect();
        stale.into_iter().zip(exact).for_each(|(i, square)| self.settle(i, square));
        self.largest()
    }
}

fn on_host((x, d): (&[f32], usize), start: usize, index: &mut [u32], distance: &mut [f32], watch: Watch) -> Result<()> {
    let m = x.len() / d;
    let mut points = Bounds { x, d, bound: vec![f32::INFINITY; m], seen: vec![0; m], centres: Vec::new() };
    let mut next = (start, 0.0f32);
    for (at, (index, distance)) in index.iter_mut().zip(distance).enumerate() {
        go_on(watch, at)?;
        if at > 0 {
            let i = points.farthest();
            next = (i, points.bound[i]);
        }
        (*index, *distance) = (next.0 as u32, next.1.sqrt());
        points.centres.extend(&x[next.0 * d..(next.0 + 1) * d]);
    }
    Ok(())
}

/// Centres whose distances are summed side by side.
const CENTRES: usize = 4;

lanes_fn! {
    /// The smallest of `known` and the squared distances of a point to some centres.
    fn nearest_square<L>(point: &[f32], centres: &[f32], known: f32) -> f32 {
        let (d, mut nearest) = (point.len(), known);
        let mut groups = centres.chunks_exact(CENTRES * d);
        let keep = |nearest: f32, square: f32| if square < nearest { square } else { nearest };
        for group in &mut groups {
            // SAFETY: `d` values of the point and of each centre. `lanes_fn` runs this only on CPUs with the set of `L`.
            let squares = unsafe { squares::<L, CENTRES>(point.as_ptr(), group.as_ptr(), d) };
            nearest = squares.into_iter().fold(nearest, keep);
        }
        for centre in groups.remainder().chunks_exact(d) {
            // SAFETY: likewise.
            let [square] = unsafe { squares::<L, 1>(point.as_ptr(), centre.as_ptr(), d) };
            nearest = keep(nearest, square);
        }
        nearest
    }
}

/// Squared distances of a point of `d` values to `N` centres.
///
/// # Safety
/// The CPU has the set of `L`; there are so many values.
#[inline(always)]
unsafe fn squares<L: Lanes, const N: usize>(point: *const f32, centres: *const f32, d: usize) -> [f32; N] {
    // SAFETY: the caller vouches for set and values; the last register reads only what is left.
    unsafe {
        let mut sums = [L::splat(0.0); N];
        let mut at = 0;
        while at + L::WIDTH <= d {
            let values = L::load(point.add(at));
            for (n, sum) in sums.iter_mut().enumerate() {
                let e = values.sub(L::load(centres.add(n * d + at)));
                *sum = e.mul_add(e, *sum);
            }
            at += L::WIDTH;
        }
        if at < d {
            let values = L::load_part(point.add(at), d - at);
            for (n, sum) in sums.iter_mut().enumerate() {
                let e = values.sub(L::load_part(centres.add(n * d + at), d - at));
                *sum = e.mul_add(e, *sum);
            }
        }
        let mut squares = [0.0; N];
        for (square, sum) in squares.iter_mut().zip(&sums) {
            *square = sum.sum();
        }
        squares
    }
}

/// Points of a cube.
const POINTS: usize = 64;
/// Units of a point.
const QUARTERS: usize = UNITS as usize / POINTS;

fn on_gpu(
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
