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
/// Channels of rows and columns that are multiplied at a time.
const DEPTH: usize = 16;
/// Units of a row.
const UNITS_OF_ROW: usize = UNITS as usize / TILE;
/// Columns of a unit.
const OWN: usize = TILE / UNITS_OF_ROW;

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

/// One cube for each query: the log of the sum of exponentials over its scores. A unit passes its scores once: its sum is of
/// exponentials less the largest so far, and becomes smaller when a larger one comes (Milakov and Gimelshein 2018, algorithm 3).
#[cube(launch_unchecked)]
fn log_sums_kernel(keys: &Array<f32>, queries: &Array<f32>, log_sums: &mut Array<f32>, s: AttentionShape) {
    let row = CUBE_POS;
    if row < s.images * s.positions {
        let first = row / s.positions * s.positions;
        let mut largest = f32::new(-3.0e38);
        let mut sum = f32::new(0.0);
        let mut i = UNIT_POS as usize;
        while i < s.positions {
            let score = score(keys, queries, first + i, row, s.keys);
            let before = largest;
            largest = f32::max(largest, score);
            sum = sum * math::exp(before - largest) + math::exp(score - largest);
            i += comptime!(UNITS as usize);
        }
        let top = cube_max(largest);
        let total = cube_sum(sum * math::exp(largest - top));
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

/// What the weights of a pass are made of, and what they are weights of.
#[derive(CubeType, CubeLaunch)]
struct WeightInputs {
    rows: Array<f32>,
    columns: Array<f32>,
    row_values: Array<f32>,
    column_values: Array<f32>,
    log_sums: Array<f32>,
    along: Array<f32>,
    z: Array<f32>,
}

/// A tile of the matrix of an image.
#[derive(CubeType, Clone, Copy)]
struct Tile {
    /// The first position of the image.
    first: usize,
    /// The first row and column of the tile.
    row: usize,
    column: usize,
}

/// Products of a unit's row with its four columns of a tile, [`DEPTH`] channels at a time through shared memory.
#[cube]
fn dots(rows: &Array<f32>, columns: &Array<f32>, tile: Tile, positions: usize, depth: usize, sums: &mut Array<f32>) {
    let mut a = SharedMemory::<f32>::new(comptime!(TILE * (DEPTH + 1)));
    let mut b = SharedMemory::<f32>::new(comptime!(TILE * (DEPTH + 1)));
    let unit = UNIT_POS as usize;
    let (row, lane) = (unit / UNITS_OF_ROW, unit % UNITS_OF_ROW);
    #[unroll]
    for j in 0..OWN {
        sums[j] = f32::new(0.0);
    }
    for chunk in 0..depth.div_ceil(DEPTH) {
        sync_cube();
        #[unroll]
        for i in 0..comptime!(TILE * DEPTH / UNITS as usize) {
            let at = unit + comptime!(UNITS as usize) * i;
            let (line, k) = (at / DEPTH, at % DEPTH);
            let channel = chunk * DEPTH + k;
            let (r, q) = (tile.row + line, tile.column + line);
            let mut left = f32::new(0.0);
            let mut right = f32::new(0.0);
            if channel < depth && r < positions {
                left = rows[(tile.first + r) * depth + channel];
            }
            if channel < depth && q < positions {
                right = columns[(tile.first + q) * depth + channel];
            }
            a[line * comptime!(DEPTH + 1) + k] = left;
            b[line * comptime!(DEPTH + 1) + k] = right;
        }
        sync_cube();
        #[unroll]
        for k in 0..DEPTH {
            let left = a[row * comptime!(DEPTH + 1) + k];
            #[unroll]
            for j in 0..OWN {
                sums[j] += left * b[(lane + UNITS_OF_ROW * j) * comptime!(DEPTH + 1) + k];
            }
        }
    }
}

/// `out[row] = sum over columns of weight(row, column) * z[column]`.
#[cube(launch_unchecked)]
fn weighted_kernel(
    inputs: &WeightInputs,
    out: &mut Array<f32>,
    s: AttentionShape,
    channels: usize,
    #[comptime] what: Sum,
) {
    let tiles = s.positions.div_ceil(TILE);
    let blocks = channels.div_ceil(CHANNELS);
    let image = CUBE_POS / (tiles * blocks);
    if image < s.images {
        let mut weights = SharedMemory::<f32>::new(comptime!(TILE * (TILE + 1)));
        let mut summed = SharedMemory::<f32>::new(comptime!(TILE * (CHANNELS + 1)));
        let first = image * s.positions;
        let first_row = CUBE_POS / blocks % tiles * TILE;
        let from = CUBE_POS % blocks * CHANNELS;
        let (line, lane) = (UNIT_POS as usize / UNITS_OF_ROW, UNIT_POS as usize % UNITS_OF_ROW);
        let mut sums = Array::<f32>::new(comptime!(CHANNELS / UNITS_OF_ROW));
        #[unroll]
        for k in 0..comptime!(CHANNELS / UNITS_OF_ROW) {
            sums[k] = f32::new(0.0);
        }
        let mut scores = Array::<f32>::new(OWN);
        let mut products = Array::<f32>::new(OWN);
        for column_tile in 0..tiles {
            let tile = Tile { first, row: first_row, column: column_tile * TILE };
            dots(&inputs.rows, &inputs.columns, tile, s.positions, s.keys, &mut scores);
            if comptime!(what.slopes()) {
                dots(&inputs.row_values, &inputs.column_values, tile, s.positions, s.values, &mut products);
            }
            // The tile before is still being read, and the compiler may share the place of arrays.
            sync_cube();
            weigh(inputs, &scores, &products, &mut weights, tile, s.positions, what);
            load_summed(&inputs.z, &mut summed, tile, from, s.positions, channels);
            sync_cube();
            for q in 0..TILE {
                let weight = weights[line * comptime!(TILE + 1) + q];
                #[unroll]
                for k in 0..comptime!(CHANNELS / UNITS_OF_ROW) {
                    sums[k] += weight * summed[q * comptime!(CHANNELS + 1) + lane + UNITS_OF_ROW * k];
                }
            }
        }
        let row = first_row + line;
        #[unroll]
        for k in 0..comptime!(CHANNELS / UNITS_OF_ROW) {
            let channel = from + lane + UNITS_OF_ROW * k;
            if row < s.positions && channel < channels {
                out[(first + row) * channels + channel] = sums[k];
            }
        }
    }
}

/// Writes the weights of a tile; zeros outside the matrix.
#[cube]
fn weigh(
    inputs: &WeightInputs,
    scores: &Array<f32>,
    products: &Array<f32>,
    weights: &mut SharedMemory<f32>,
    tile: Tile,
    positions: usize,
    #[comptime] what: Sum,
) {
    let (line, lane) = (UNIT_POS as usize / UNITS_OF_ROW, UNIT_POS as usize % UNITS_OF_ROW);
    let row = tile.row + line;
    #[unroll]
    for j in 0..OWN {
        let column = tile.column + lane + UNITS_OF_ROW * j;
        let mut weight = f32::new(0.0);
        if row < positions && column < positions {
            let query = tile.first + if comptime!(what.by_query()) { row } else { column };
            weight = math::exp(scores[j] - inputs.log_sums[query]);
            if comptime!(what.slopes()) {
                weight *= products[j] - inputs.along[query];
            }
        }
        weights[line * comptime!(TILE + 1) + lane + UNITS_OF_ROW * j] = weight;
    }
}

/// Channels from `from` on of what is summed, for the columns of a tile.
#[cube]
fn load_summed(
    z: &Array<f32>,
    summed: &mut SharedMemory<f32>,
    tile: Tile,
    from: usize,
    positions: usize,
    channels: usize,
) {
    #[unroll]
    for i in 0..comptime!(TILE * CHANNELS / UNITS as usize) {
        let at = UNIT_POS as usize + comptime!(UNITS as usize) * i;
        let (q, channel) = (at / CHANNELS, at % CHANNELS);
        let column = tile.column + q;
        let mut value = f32::new(0.0);
        if column < positions && from + channel < channels {
            value = z[(tile.first + column) * channels + from + channel];
        }
        summed[q * comptime!(CHANNELS + 1) + channel] = value;
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
            WeightInputsLaunch::new(
                self.rows.arg(),
                self.columns.arg(),
                self.row_values.arg(),
                self.column_values.arg(),
                self.log_sums.arg(),
                self.along.arg(),
                z.arg()
            ),
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
