//! Sums on a GPU: of a cube, of the columns of a matrix, of groups. Every sum is taken in an order
//! fixed by shape, so results repeat bit by bit.

use cubecl::prelude::*;

use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch};
use crate::error::Result;

/// Sum over the units of a cube of 256; every unit gets it.
#[cube]
pub(crate) fn cube_sum(value: f32) -> f32 {
    cube_reduce(value, false)
}

/// Largest value of the units of a cube of 256; every unit gets it.
#[cube]
pub(crate) fn cube_max(value: f32) -> f32 {
    cube_reduce(value, true)
}

#[cube]
fn cube_reduce(value: f32, #[comptime] largest: bool) -> f32 {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let unit = UNIT_POS as usize;
    // The compiler may give this array the place of one that other units still read.
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut step = 128usize;
    while step > 0 {
        if unit < step {
            if comptime!(largest) {
                shared[unit] = f32::max(shared[unit], shared[unit + step]);
            } else {
                shared[unit] += shared[unit + step];
            }
        }
        sync_cube();
        step /= 2;
    }
    shared[0]
}

/// Groups of consecutive values, and where their sums go: `stride` elements apart from `at` on.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Groups {
    count: usize,
    /// Values of a group.
    len: usize,
    stride: usize,
    at: usize,
}

/// `offset + scale * sum` of each group, or that added to what is there.
#[cube(launch_unchecked)]
fn group_sums_kernel(x: &Array<f32>, out: &mut Array<f32>, g: Groups, scale: f32, offset: f32, #[comptime] add: bool) {
    let group = CUBE_POS;
    if group < g.count {
        let mut sum = f32::new(0.0);
        let mut i = UNIT_POS as usize;
        while i < g.len {
            sum += x[group * g.len + i];
            i += CUBE_DIM as usize;
        }
        let total = cube_sum(sum);
        if UNIT_POS == 0 {
            if comptime!(add) {
                out[group * g.stride + g.at] += scale * total;
            } else {
                out[group * g.stride + g.at] = offset + scale * total;
            }
        }
    }
}

/// Writes `offset + scale * sum` of every group of consecutive values to `out[group * stride + at]`.
pub(crate) fn group_sums(
    x: &GpuBuffer,
    groups: usize,
    (scale, offset): (f32, f32),
    out: &mut GpuBuffer,
    place: (usize, usize),
) {
    sum_groups(x, groups, (scale, offset), out, place, false);
}

/// Adds `scale * sum` of every group of consecutive values to `out[group * stride + at]`.
pub(crate) fn add_group_sums(x: &GpuBuffer, groups: usize, scale: f32, out: &mut GpuBuffer, place: (usize, usize)) {
    sum_groups(x, groups, (scale, 0.0), out, place, true);
}

fn sum_groups(
    x: &GpuBuffer,
    groups: usize,
    (scale, offset): (f32, f32),
    out: &mut GpuBuffer,
    (stride, at): (usize, usize),
    add: bool,
) {
    let per_group = x.len() / groups.max(1);
    let shape = (grid(groups), CubeDim::new_1d(UNITS));
    launch!(
        x.gpu(),
        group_sums_kernel,
        shape,
        x.arg(),
        out.arg(),
        GroupsLaunch::new(groups, per_group, stride, at),
        scale,
        offset,
        add
    );
}

/// What is summed over the rows of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Column {
    /// x.
    Value,
    /// (x - mean)^2.
    SquareDeviation,
    /// y (x - mean) inv_std.
    ProductNormal,
}

/// Columns of a cube.
const COLUMNS: usize = 32;
/// Rows that a cube reads at a time.
const ROWS_AT_ONCE: usize = UNITS as usize / COLUMNS;

/// How a matrix is cut into cubes.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Chunks {
    rows: usize,
    columns: usize,
    /// Rows of a chunk.
    chunk: usize,
    /// Blocks of columns.
    blocks: usize,
}

/// Partial column sums of the rows of one chunk: `partial[chunk][column]`.
#[cube(launch_unchecked)]
fn column_sums_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    mean: &Array<f32>,
    inv_std: &Array<f32>,
    partial: &mut Array<f32>,
    s: Chunks,
    #[comptime] what: Column,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let (block, part) = (CUBE_POS % s.blocks, CUBE_POS / s.blocks);
    let unit = UNIT_POS as usize;
    let (lane, column) = (unit / COLUMNS, block * COLUMNS + unit % COLUMNS);
    let mut sum = f32::new(0.0);
    if column < s.columns {
        let end = usize::min(s.rows, (part + 1) * s.chunk);
        let mut row = part * s.chunk + lane;
        while row < end {
            let v = x[row * s.columns + column];
            if comptime!(what == Column::Value) {
                sum += v;
            } else if comptime!(what == Column::SquareDeviation) {
                let e = v - mean[column];
                sum += e * e;
            } else {
                sum += y[row * s.columns + column] * (v - mean[column]) * inv_std[column];
            }
            row += ROWS_AT_ONCE;
        }
    }
    shared[unit] = sum;
    sync_cube();
    if lane == 0 && column < s.columns {
        let mut total = f32::new(0.0);
        for l in 0..ROWS_AT_ONCE {
            total += shared[l * COLUMNS + unit];
        }
        partial[part * s.columns + column] = total;
    }
}

/// `out[column] += scale * sum over chunks`, or `=`.
#[cube(launch_unchecked)]
fn add_chunks_kernel(
    partial: &Array<f32>,
    out: &mut Array<f32>,
    chunks: usize,
    n: usize,
    scale: f32,
    #[comptime] add: bool,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let mut sum = f32::new(0.0);
        for chunk in 0..chunks {
            sum += partial[chunk * n + at];
        }
        if comptime!(add) {
            out[at] += scale * sum;
        } else {
            out[at] = scale * sum;
        }
    }
}

/// `out[i] = scale * sum over chunks of partial[chunk][i]`; with `add`, added to what is there.
pub(crate) fn add_chunks(partial: &GpuBuffer, chunks: usize, scale: f32, out: &mut GpuBuffer, add: bool) {
    let n = out.len();
    launch!(partial.gpu(), add_chunks_kernel, crate::device::units(n), partial.arg(), out.arg(), chunks, n, scale, add);
}

/// `out[column] = scale * sum over rows`, or added to it; `mean` and `inv_std` are read as `what` asks.
pub(crate) fn column_sums(
    gpu: &Gpu,
    what: Column,
    (x, y): (&GpuBuffer, &GpuBuffer),
    (mean, inv_std): (&GpuBuffer, &GpuBuffer),
    scale: f32,
    out: &mut GpuBuffer,
    add: bool,
) -> Result<()> {
    let columns = out.len();
    let rows = x.len() / columns.max(1);
    let blocks = columns.div_ceil(COLUMNS);
    let chunk = rows.div_ceil(256).max(64).next_multiple_of(ROWS_AT_ONCE);
    let chunks = rows.div_ceil(chunk).max(1);
    let partial = gpu.alloc::<f32>(chunks * columns)?;
    launch!(
        gpu,
        column_sums_kernel,
        (grid(blocks * chunks), CubeDim::new_1d(UNITS)),
        x.arg(),
        y.arg(),
        mean.arg(),
        inv_std.arg(),
        partial.arg(),
        ChunksLaunch::new(rows, columns, chunk, blocks),
        what
    );
    add_chunks(&partial, chunks, scale, out, add);
    Ok(())
}
