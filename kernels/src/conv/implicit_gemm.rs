//! Convolutions on a GPU as one matrix product that is never written out.
//!
//! Rows are output pixels, columns output channels, and the sum runs over taps and input channels. A
//! cube of 256 units makes a tile of 64 rows by 64 (or 16) columns: 16 terms at a time are gathered
//! into shared memory, zero where the tap is outside the image, and every unit keeps 4 x 4 (4 x 1)
//! sums in registers. Bias, activation and 2x2 max pooling happen before the tile is written.
//!
//! The adjoint ([`Direction::Scatter`]: data gradients and transposed convolutions) runs one such
//! product for each residue of the output position modulo the stride, over the taps that reach it, so
//! no product with an inserted zero is made. Bytes: the input once for each tile of columns (taps hit
//! the cache), the weights once for each tile of rows; operations: 2 for each pair of tap and channel.

use cubecl::prelude::*;

use super::masked::masked;
use super::pass::{Direction, Operands, PassSizes, PassVariant, finish, offset, row, weight_at};
use super::product::{
    Corner, Lines, OperandArrays, SIDE, TILE, Terms, Tiles, corner, exists, lines, number, shift, source, tap_column,
    tap_row, terms,
};
use crate::activation::{Activation, activate, sigmoid};
use crate::device::{Gpu, GpuBuffer, Precision, UNITS, grid, launch};
use crate::error::Result;
use crate::shape::pixel_at;

/// Terms at a time.
const TERMS: usize = 16;
/// Rows of a unit; with pooling they are a window.
const ROWS: usize = TILE / SIDE;
/// Elements from one term of all rows to the next: a spare one between lines.
const PITCH: usize = TILE + 1;

#[cube(launch_unchecked)]
fn implicit_gemm_kernel(
    inputs: &OperandArrays,
    mask: &Array<f32>,
    y: &mut Array<f32>,
    s: PassSizes,
    tiles: Tiles,
    parameter: f32,
    #[comptime] v: PassVariant,
) {
    let phase = CUBE_POS / (tiles.rows * tiles.columns);
    if phase < tiles.phases {
        let mut a = SharedMemory::<f32>::new(comptime!(TERMS * PITCH)); // [term][row]
        let mut b = SharedMemory::<f32>::new(comptime!(TERMS * (v.width() + 1))); // [term][column]
        let corner = corner(tiles.rows, tiles.columns, comptime!(v.channels()));
        let t = terms(phase, s, v.direction, TERMS);
        let lines = lines(corner.row, t, s, v);
        let steps = if comptime!(v.flat) { (t.taps * s.in_channels).div_ceil(TERMS) } else { t.taps * t.chunks };
        let mut sums = Array::<f32>::new(comptime!(ROWS * v.columns));
        #[unroll]
        for i in 0..comptime!(ROWS * v.columns) {
            sums[i] = f32::new(0.0);
        }
        for step in 0..steps {
            sync_cube();
            load_input(&inputs.x, mask, &lines, &mut a, step, t, s, v);
            load_weights(&inputs.w, &mut b, step, t, corner.column, s, v);
            sync_cube();
            multiply(&a, &b, &mut sums, v);
        }
        if comptime!(v.pooled) {
            write_pooled(inputs, &sums, y, corner, s, parameter, v);
        } else {
            write_rows(inputs, &sums, y, corner, t, s, parameter, v);
        }
    }
}

/// A tap and a channel of the input.
#[derive(CubeType, Clone, Copy)]
struct Term {
    tap: usize,
    channel: usize,
}

/// The `lane`-th term of a step.
#[cube]
fn term(step: usize, lane: usize, t: Terms, s: PassSizes, #[comptime] flat: bool) -> Term {
    if comptime!(flat) {
        let at = step * TERMS + lane;
        Term { tap: at / s.in_channels, channel: at % s.in_channels }
    } else {
        Term { tap: step / t.chunks, channel: (step % t.chunks) * TERMS + lane }
    }
}

/// The input's part of a step; zeros outside the image. A unit has one term of every 16th row.
#[cube]
fn load_input(
    x: &Array<f32>,
    mask: &Array<f32>,
    lines: &Lines,
    a: &mut SharedMemory<f32>,
    step: usize,
    t: Terms,
    s: PassSizes,
    #[comptime] v: PassVariant,
) {
    let (first, lane) = (UNIT_POS as usize / SIDE, UNIT_POS as usize % SIDE);
    let own = term(step, lane, t, s, v.flat);
    let live = own.tap < t.taps && own.channel < s.in_channels;
    let dy = offset(tap_row(own.tap, t), t.phase_y, s.before_h, s, v.direction);
    let dx = offset(tap_column(own.tap, t), t.phase_x, s.before_w, s, v.direction);
    #[unroll]
    for i in 0..ROWS {
        let line = first + SIDE * i;
        let from = source(lines, line, dy, dx);
        let mut value = f32::new(0.0);
        if live && exists(from, s) {
            let pixel = number(from, s);
            if comptime!(v.masked) {
                value = masked(x[pixel * 3 + usize::min(own.channel, 2)], mask[pixel], own.channel);
            } else {
                value = x[pixel * s.in_stride + s.in_first + own.channel];
            }
        }
        a[lane * PITCH + line] = value;
    }
}

/// The weights' part of a step: the same terms of every column; neighbours in memory are read by neighbouring units.
#[cube]
fn load_weights(
    w: &Array<f32>,
    b: &mut SharedMemory<f32>,
    step: usize,
    t: Terms,
    first: usize,
    s: PassSizes,
    #[comptime] v: PassVariant,
) {
    let width = comptime!(v.width());
    let gather = comptime!(v.direction == Direction::Gather);
    #[unroll]
    for i in 0..v.columns {
        let at = UNIT_POS as usize + comptime!(UNITS as usize) * i;
        let lane = if comptime!(gather) { at % TERMS } else { at / width };
        let column = if comptime!(gather) { at / TERMS } else { at % width };
        let own = term(step, lane, t, s, v.flat);
        let mut value = f32::new(0.0);
        let mut out = first + column;
        let mut exists = out < s.out_channels;
        if comptime!(v.gated) {
            out = first + column % comptime!(v.channels());
            exists = out < s.out_channels;
            out += column / comptime!(v.channels()) * s.out_channels;
        }
        if own.tap < t.taps && own.channel < s.in_channels && exists {
            value = w[weight_at(own.channel, out, tap_row(own.tap, t), tap_column(own.tap, t), s, v.direction)];
        }
        b[lane * comptime!(width + 1) + column] = value;
    }
}

/// Adds the products of a step: a unit has [`ROWS`] neighbouring rows of every 16th column.
#[cube]
fn multiply(a: &SharedMemory<f32>, b: &SharedMemory<f32>, sums: &mut Array<f32>, #[comptime] v: PassVariant) {
    let (tile_row, tile_column) = (UNIT_POS as usize / SIDE, UNIT_POS as usize % SIDE);
    #[unroll]
    for k in 0..TERMS {
        let mut left = Array::<f32>::new(ROWS);
        #[unroll]
        for i in 0..ROWS {
            left[i] = a[k * PITCH + tile_row * ROWS + i];
        }
        #[unroll]
        for j in 0..v.columns {
            let right = b[k * comptime!(v.width() + 1) + tile_column + SIDE * j];
            #[unroll]
            for i in 0..ROWS {
                sums[i * v.columns + j] += left[i] * right;
            }
        }
    }
}

/// Writes the largest of each window of four rows, which are those of a unit.
#[cube]
fn write_pooled(
    inputs: &OperandArrays,
    sums: &Array<f32>,
    y: &mut Array<f32>,
    corner: Corner,
    s: PassSizes,
    parameter: f32,
    #[comptime] v: PassVariant,
) {
    let (tile_row, tile_column) = (UNIT_POS as usize / SIDE, UNIT_POS as usize % SIDE);
    #[unroll]
    for j in 0..v.columns {
        let column = corner.column + tile_column + SIDE * j;
        if column < s.out_channels {
            let shift = shift(inputs, column, s, v);
            let mut best = activate(sums[j] + shift, parameter, v.activation);
            #[unroll]
            for i in 1..ROWS {
                best = f32::max(best, activate(sums[i * v.columns + j] + shift, parameter, v.activation));
            }
            let window = corner.row / ROWS + tile_row;
            if window < s.images * (s.out_h / 2) * (s.out_w / 2) {
                y[window * s.out_stride + s.out_first + column] = best;
            }
        }
    }
}

/// Writes the rows of a unit; those of a gated convolution are features, then gates.
#[cube]
fn write_rows(
    inputs: &OperandArrays,
    sums: &Array<f32>,
    y: &mut Array<f32>,
    corner: Corner,
    t: Terms,
    s: PassSizes,
    parameter: f32,
    #[comptime] v: PassVariant,
) {
    let (tile_row, tile_column) = (UNIT_POS as usize / SIDE, UNIT_POS as usize % SIDE);
    #[unroll]
    for j in 0..comptime!(v.channels() / SIDE) {
        let column = corner.column + tile_column + SIDE * j;
        if column < s.out_channels {
            let shift = shift(inputs, column, s, v);
            #[unroll]
            for i in 0..ROWS {
                let r = row(corner.row + tile_row * ROWS + i, t.phase_y, t.phase_x, s, v);
                if r.inside {
                    let pixel = pixel_at(r.image, r.y, r.x, s.out_h, s.out_w);
                    let sum = sums[i * v.columns + j] + shift;
                    if comptime!(v.gated) {
                        let gate = sums[i * v.columns + j + 2] + inputs.bias[s.out_channels + column];
                        y[pixel * s.out_stride + column] = activate(sum, parameter, v.activation) * sigmoid(gate);
                    } else {
                        let at = pixel * s.out_stride + s.out_first + column;
                        y[at] = finish(sum, &inputs.residual, &inputs.attention, pixel, at, parameter, v);
                    }
                }
            }
        }
    }
}

/// Queues one group of a convolution or of its adjoint.
pub(super) fn run(
    gpu: &Gpu,
    s: &PassSizes,
    direction: Direction,
    pooled: bool,
    activation: Activation,
    operands: &Operands,
) -> Result<()> {
    let (kind, parameter) = activation.kind();
    let v = PassVariant {
        direction,
        pooled,
        flat: s.in_channels < 16,
        bias: operands.bias.is_some(),
        residual: operands.residual.is_some(),
        activation: kind,
        attention: operands.attention.is_some(),
        columns: if s.out_channels > 16 { 4 } else { 1 },
        gated: false,
        masked: false,
    };
    #[cfg(feature = "cuda")]
    if super::cuda::takes(gpu, s) {
        return super::cuda::run(gpu, s, &v, parameter, operands);
    }
    if gpu.precision() != Precision::F32 && s.in_channels >= 16 && s.out_channels >= 16 {
        super::tensor_core::run(gpu, s, v, parameter, operands);
    } else {
        queue(gpu, s, v, parameter, None, operands);
    }
    Ok(())
}

/// Queues a gated convolution: `s` has the channels of the output, the weights twice as many.
pub(super) fn run_gated(
    gpu: &Gpu,
    s: &PassSizes,
    mask: Option<&GpuBuffer>,
    features: Activation,
    operands: &Operands,
) -> Result<()> {
    let (kind, parameter) = features.kind();
    let v = PassVariant {
        direction: Direction::Gather,
        pooled: false,
        flat: s.in_channels < 16,
        bias: true,
        residual: false,
        activation: kind,
        attention: false,
        columns: 4,
        gated: true,
        masked: mask.is_some(),
    };
    #[cfg(feature = "cuda")]
    if mask.is_none() && super::cuda::takes(gpu, s) {
        return super::cuda::run(gpu, s, &v, parameter, operands);
    }
    queue(gpu, s, v, parameter, mask, operands);
    Ok(())
}

fn queue(gpu: &Gpu, s: &PassSizes, v: PassVariant, parameter: f32, mask: Option<&GpuBuffer>, operands: &Operands) {
    let tiles = Tiles::new(s, &v);
    launch!(
        gpu,
        implicit_gemm_kernel,
        (grid(tiles.count()), CubeDim::new_1d(UNITS)),
        operands.inputs(),
        mask.unwrap_or(operands.x).arg(),
        operands.y.arg(),
        s.arg(),
        tiles.arg(),
        parameter,
        v
    );
}
