//! Self-attention on a GPU: the log sums first, then each result as one pass over tiles of 32 rows by 32
//! columns of the matrix, whose weights live in shared memory only.

use cubecl::prelude::*;

use super::{AttentionShape, AttentionShapeLaunch};
use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch, units};
use crate::error::Result;
use crate::math;
use crate::reduce::{cube_max, cube_sum};

/// Rows and columns of a tile.
const TILE: usize = 32;
/// Channels that a cube sums.
const CHANNELS: usize = 64;

/// What a pass sums, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sum {
    /// Rows are queries: probabilities times values.
    Output,
    /// Rows are queries: slopes times keys.
    Queries,
    /// Rows are keys: slopes times queries.
    Keys,
    /// Rows are keys: probabilities times gradients.
    Values,
}

impl Sum {
    fn by_query(self) -> bool {
        matches!(self, Self::Output | Self::Queries)
    }

    fn slopes(self) -> bool {
        matches!(self, Self::Queries | Self::Keys)
    }
}

/// One cube for each query: the log of the sum of exponentials over its scores.
#[cube(launch_unchecked)]
fn log_sums_kernel(keys: &Array<f32>, queries: &Array<f32>, log_sums: &mut Array<f32>, s: AttentionShape) {
    let row = CUBE_POS;
    if row < s.images * s.positions {
        let first = row / s.positions * s.positions;
        let mut largest = f32::new(-3.0e38);
        let mut i = UNIT_POS as usize;
        while i < s.positions {
            largest = f32::max(largest, score(keys, queries, first + i, row, s.keys));
            i += 256;
        }
        let top = cube_max(largest);
        let mut sum = f32::new(0.0);
        i = UNIT_POS as usize;
        while i < s.positions {
            sum += math::exp(score(keys, queries, first + i, row, s.keys) - top);
            i += 256;
        }
        let total = cube_sum(sum);
        if UNIT_POS == 0 {
            log_sums[row] = top + math::ln(total);
        }
    }
}

/// Product of a key and a query.
#[cube]
fn score(keys: &Array<f32>, queries: &Array<f32>, key: usize, query: usize, channels: usize) -> f32 {
    let mut sum = f32::new(0.0);
    for k in 0..channels {
        sum += keys[key * channels + k] * queries[query * channels + k];
    }
    sum
}

/// Products of a unit's row with its four columns of a tile, 16 channels at a time through shared memory.
#[cube]
fn dots(
    rows: &Array<f32>,
    columns: &Array<f32>,
    first: usize,
    row_tile: usize,
    column_tile: usize,
    positions: usize,
    depth: usize,
    sums: &mut Array<f32>,
) {
    let mut a = SharedMemory::<f32>::new(544usize);
    let mut b = SharedMemory::<f32>::new(544usize);
    let unit = UNIT_POS as usize;
    let (row, lane) = (unit / 8, unit % 8);
    #[unroll]
    for j in 0..4usize {
        sums[j] = f32::new(0.0);
    }
    for chunk in 0..depth.div_ceil(16) {
        sync_cube();
        #[unroll]
        for i in 0..2usize {
            let (line, k) = ((unit + 256 * i) / 16, (unit + 256 * i) % 16);
            let channel = chunk * 16 + k;
            let (r, q) = (row_tile * 32 + line, column_tile * 32 + line);
            let mut left = f32::new(0.0);
            let mut right = f32::new(0.0);
            if channel < depth && r < positions {
                left = rows[(first + r) * depth + channel];
            }
            if channel < depth && q < positions {
                right = columns[(first + q) * depth + channel];
            }
            a[line * 17 + k] = left;
            b[line * 17 + k] = right;
        }
        sync_cube();
        #[unroll]
        for k in 0..16usize {
            let left = a[row * 17 + k];
            #[unroll]
            for j in 0..4usize {
                sums[j] += left * b[(lane + 8 * j) * 17 + k];
            }
        }
    }
}

/// `out[row] = sum over columns of weight(row, column) * z[column]`.
#[cube(launch_unchecked)]
fn weighted_kernel(
    rows: &Array<f32>,
    columns: &Array<f32>,
    row_values: &Array<f32>,
    column_values: &Array<f32>,
    log_sums: &Array<f32>,
    along: &Array<f32>,
    z: &Array<f32>,
    out: &mut Array<f32>,
    s: AttentionShape,
    channels: usize,
    #[comptime] what: Sum,
) {
    let tiles = s.positions.div_ceil(32);
    let blocks = channels.div_ceil(64);
    let image = CUBE_POS / (tiles * blocks);
    if image < s.images {
        let mut weights = SharedMemory::<f32>::new(1056usize);
        let mut summed = SharedMemory::<f32>::new(2080usize);
        let first = image * s.positions;
        let row_tile = CUBE_POS / blocks % tiles;
        let from = CUBE_POS % blocks * 64;
        let unit = UNIT_POS as usize;
        let (line, lane) = (unit / 8, unit % 8);
        let row = row_tile * 32 + line;
        let mut sums = Array::<f32>::new(8usize);
        #[unroll]
        for k in 0..8usize {
            sums[k] = f32::new(0.0);
        }
        let mut scores = Array::<f32>::new(4usize);
        let mut products = Array::<f32>::new(4usize);
        for column_tile in 0..tiles {
            dots(rows, columns, first, row_tile, column_tile, s.positions, s.keys, &mut scores);
            if comptime!(what.slopes()) {
                dots(row_values, column_values, first, row_tile, column_tile, s.positions, s.values, &mut products);
            }
            // The tile before is still being read, and the compiler may share the place of arrays.
            sync_cube();
            #[unroll]
            for j in 0..4usize {
                let column = column_tile * 32 + lane + 8 * j;
                let mut weight = f32::new(0.0);
                if row < s.positions && column < s.positions {
                    let query = first + if comptime!(what.by_query()) { row } else { column };
                    weight = math::exp(scores[j] - log_sums[query]);
                    if comptime!(what.slopes()) {
                        weight *= products[j] - along[query];
                    }
                }
                weights[line * 33 + lane + 8 * j] = weight;
            }
            #[unroll]
            for i in 0..8usize {
                let (q, channel) = ((unit + 256 * i) / 64, (unit + 256 * i) % 64);
                let column = column_tile * 32 + q;
                let mut value = f32::new(0.0);
                if column < s.positions && from + channel < channels {
                    value = z[(first + column) * channels + from + channel];
                }
                summed[q * 65 + channel] = value;
            }
            sync_cube();
            for q in 0..32usize {
                let weight = weights[line * 33 + q];
                #[unroll]
                for k in 0..8usize {
                    sums[k] += weight * summed[q * 65 + lane + 8 * k];
                }
            }
        }
        #[unroll]
        for k in 0..8usize {
            let channel = from + lane + 8 * k;
            if row < s.positions && channel < channels {
                out[(first + row) * channels + channel] = sums[k];
            }
        }
    }
}

/// One unit for each position: `along = grad . output`.
#[cube(launch_unchecked)]
fn along_kernel(grad: &Array<f32>, output: &Array<f32>, along: &mut Array<f32>, n: usize, channels: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let mut sum = f32::new(0.0);
        for k in 0..channels {
            sum += grad[at * channels + k] * output[at * channels + k];
        }
        along[at] = sum;
    }
}

impl AttentionShape {
    fn arg<R: Runtime>(&self) -> AttentionShapeLaunch<R> {
        AttentionShapeLaunch::new(self.images, self.positions, self.keys, self.values)
    }
}

/// Operands of a pass, besides what is summed and where it goes.
struct Pass<'a> {
    gpu: &'a Gpu,
    shape: AttentionShape,
    rows: &'a GpuBuffer,
    columns: &'a GpuBuffer,
    row_values: &'a GpuBuffer,
    column_values: &'a GpuBuffer,
    log_sums: &'a GpuBuffer,
    along: &'a GpuBuffer,
}

impl Pass<'_> {
    fn queue(&self, what: Sum, z: &GpuBuffer, channels: usize, out: &GpuBuffer) {
        let s = self.shape;
        let cubes = s.images * s.positions.div_ceil(TILE) * channels.div_ceil(CHANNELS);
        launch!(
            self.gpu,
            weighted_kernel,
            (grid(cubes), CubeDim::new_1d(UNITS)),
            self.rows.arg(),
            self.columns.arg(),
            self.row_values.arg(),
            self.column_values.arg(),
            self.log_sums.arg(),
            self.along.arg(),
            z.arg(),
            out.arg(),
            s.arg(),
            channels,
            what
        );
    }
}

pub(super) fn forward(
    gpu: &Gpu,
    (keys, queries, values): (&GpuBuffer, &GpuBuffer, &GpuBuffer),
    shape: AttentionShape,
    output: &GpuBuffer,
    log_sums: &GpuBuffer,
) {
    let each = (grid(shape.images * shape.positions), CubeDim::new_1d(UNITS));
    launch!(gpu, log_sums_kernel, each, keys.arg(), queries.arg(), log_sums.arg(), shape.arg());
    let pass = Pass {
        gpu,
        shape,
        rows: queries,
        columns: keys,
        row_values: values,
        column_values: values,
        log_sums,
        along: log_sums,
    };
    pass.queue(Sum::Output, values, shape.values, output);
}

pub(super) fn backward(
    gpu: &Gpu,
    (keys, queries, values): (&GpuBuffer, &GpuBuffer, &GpuBuffer),
    shape: AttentionShape,
    (output, log_sums, grad): (&GpuBuffer, &GpuBuffer, &GpuBuffer),
    (d_keys, d_queries, d_values): (&GpuBuffer, &GpuBuffer, &GpuBuffer),
) -> Result<()> {
    let n = shape.images * shape.positions;
    let along = gpu.alloc::<f32>(n)?;
    launch!(gpu, along_kernel, units(n), grad.arg(), output.arg(), along.arg(), n, shape.values);
    let by_query = Pass {
        gpu,
        shape,
        rows: queries,
        columns: keys,
        row_values: grad,
        column_values: values,
        log_sums,
        along: &along,
    };
    by_query.queue(Sum::Queries, keys, shape.keys, d_queries);
    let by_key = Pass { rows: keys, columns: queries, row_values: values, column_values: grad, ..by_query };
    by_key.queue(Sum::Keys, queries, shape.keys, d_keys);
    by_key.queue(Sum::Values, grad, shape.values, d_values);
    Ok(())
}
