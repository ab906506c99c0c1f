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
use super::pass::{Direction, Operands, Sizes, Variant, base, finish, offset, row, taps, weight_at};
use crate::activation::{Activation, activate, sigmoid};
use crate::device::{Gpu, GpuBuffer, Precision, UNITS, grid, launch};
use crate::error::Result;

#[cube(launch_unchecked)]
fn implicit_gemm_kernel(
    x: &Array<f32>,
    mask: &Array<f32>,
    w: &Array<f32>,
    bias: &Array<f32>,
    residual: &Array<f32>,
    attention: &Array<f32>,
    y: &mut Array<f32>,
    s: Sizes,
    row_tiles: usize,
    column_tiles: usize,
    phases: usize,
    parameter: f32,
    #[comptime] v: Variant,
) {
    let phase = CUBE_POS / (row_tiles * column_tiles);
    if phase < phases {
        let width = comptime!(16 * v.columns);
        let direction = comptime!(v.direction);
        // Terms by rows of 64 and by columns, a spare element between lines.
        let mut a = SharedMemory::<f32>::new(1040usize);
        let mut b = SharedMemory::<f32>::new(comptime!(16 * (width + 1)));
        let mut base_y = SharedMemory::<i32>::new(64usize);
        let mut base_x = SharedMemory::<i32>::new(64usize);
        let mut from = SharedMemory::<i32>::new(64usize);
        let unit = UNIT_POS as usize;
        let (tile_row, tile_column) = (unit / 16, unit % 16);
        // Neighbouring cubes share rows, so that the input stays in the cache.
        let first_column = (CUBE_POS % column_tiles) * comptime!(if v.gated { 32 } else { 16 * v.columns });
        let first_row = ((CUBE_POS / column_tiles) % row_tiles) * 64;
        let py = phase / s.stride;
        let px = phase % s.stride;

        if unit < 64 {
            let r = row(first_row + unit, py, px, s, v);
            base_y[unit] = base(r.y, s.before_h, s, direction);
            base_x[unit] = base(r.x, s.before_w, s, direction);
            from[unit] = select(r.inside, r.image as i32, -1);
        }
        let rows = taps(py, s.kernel_h, s.before_h, s, direction);
        let columns = taps(px, s.kernel_w, s.before_w, s, direction);
        let count = rows.count * columns.count;
        let chunks = s.in_channels.div_ceil(16);
        let steps = if comptime!(v.flat) { (count * s.in_channels).div_ceil(16) } else { count * chunks };

        let mut sums = Array::<f32>::new(comptime!(4 * v.columns));
        #[unroll]
        for i in 0..comptime!(4 * v.columns) {
            sums[i] = f32::new(0.0);
        }
        for step in 0..steps {
            sync_cube();
            // Input: 16 terms of 64 rows.
            {
                let mut tap = step / chunks;
                let mut channel = (step % chunks) * 16 + tile_column;
                if comptime!(v.flat) {
                    tap = (step * 16 + tile_column) / s.in_channels;
                    channel = (step * 16 + tile_column) % s.in_channels;
                }
                let live = tap < count && channel < s.in_channels;
                let dy = offset(rows.first + tap / columns.count * rows.step, py, s.before_h, s, direction);
                let dx = offset(columns.first + tap % columns.count * columns.step, px, s.before_w, s, direction);
                #[unroll]
                for i in 0..4usize {
                    let line = tile_row + 16 * i;
                    let (iy, ix, image) = (base_y[line] + dy, base_x[line] + dx, from[line]);
                    let inside = iy >= 0 && ix >= 0 && iy < s.in_h as i32 && ix < s.in_w as i32 && image >= 0;
                    let mut value = f32::new(0.0);
                    if live && inside {
                        let pixel = (image as usize * s.in_h + iy as usize) * s.in_w + ix as usize;
                        if comptime!(v.masked) {
                            value = masked(x[pixel * 3 + usize::min(channel, 2)], mask[pixel], channel);
                        } else {
                            value = x[pixel * s.in_stride + s.in_first + channel];
                        }
                    }
                    a[tile_column * 65 + line] = value;
                }
            }
            // Weights: the same terms of every column; neighbours in memory are read by neighbouring units.
            #[unroll]
            for i in 0..comptime!(v.columns) {
                let at = unit + 256 * i;
                let term = if comptime!(direction == Direction::Gather) { at % 16 } else { at / width };
                let column = if comptime!(direction == Direction::Gather) { at / 16 } else { at % width };
                let mut tap = step / chunks;
                let mut channel = (step % chunks) * 16 + term;
                if comptime!(v.flat) {
                    tap = (step * 16 + term) / s.in_channels;
                    channel = (step * 16 + term) % s.in_channels;
                }
                let mut value = f32::new(0.0);
                let mut out = first_column + column;
                let mut exists = out < s.out_channels;
                if comptime!(v.gated) {
                    out = first_column + column % 32;
                    exists = out < s.out_channels;
                    out += column / 32 * s.out_channels;
                }
                if tap < count && channel < s.in_channels && exists {
                    let r = rows.first + tap / columns.count * rows.step;
                    let q = columns.first + tap % columns.count * columns.step;
                    value = w[weight_at(channel, out, r, q, s, direction)];
                }
                b[term * (width + 1) + column] = value;
            }
            sync_cube();
            #[unroll]
            for k in 0..16usize {
                let mut left = Array::<f32>::new(4usize);
                #[unroll]
                for i in 0..4usize {
                    left[i] = a[k * 65 + tile_row * 4 + i];
                }
                #[unroll]
                for j in 0..comptime!(v.columns) {
                    let right = b[k * (width + 1) + tile_column + 16 * j];
                    #[unroll]
                    for i in 0..4usize {
                        sums[i * comptime!(v.columns) + j] += left[i] * right;
                    }
                }
            }
        }

        #[unroll]
        for j in 0..comptime!(if v.gated { 2 } else { v.columns }) {
            let column = first_column + tile_column + 16 * j;
            if column < s.out_channels {
                let mut shift = f32::new(0.0);
                if comptime!(v.bias) {
                    shift = bias[s.out_first + column];
                }
                if comptime!(v.pooled) {
                    let mut best = activate(sums[j] + shift, parameter, v.activation);
                    #[unroll]
                    for i in 1..4usize {
                        let value = activate(sums[i * comptime!(v.columns) + j] + shift, parameter, v.activation);
                        best = f32::max(best, value);
                    }
                    let window = first_row / 4 + tile_row;
                    if window < s.images * (s.out_h / 2) * (s.out_w / 2) {
                        y[window * s.out_stride + s.out_first + column] = best;
                    }
                } else {
                    #[unroll]
                    for i in 0..4usize {
                        let r = row(first_row + tile_row * 4 + i, py, px, s, v);
                        if r.inside {
                            let pixel = (r.image * s.out_h + r.y) * s.out_w + r.x;
                            let sum = sums[i * comptime!(v.columns) + j] + shift;
                            if comptime!(v.gated) {
                                let gate = sums[i * comptime!(v.columns) + j + 2] + bias[s.out_channels + column];
                                y[pixel * s.out_stride + column] =
                                    activate(sum, parameter, v.activation) * sigmoid(gate);
                            } else {
                                let at = pixel * s.out_stride + s.out_first + column;
                                y[at] = finish(sum, residual, attention, pixel, at, parameter, v);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Queues one group of a convolution or of its adjoint.
pub(super) fn run(
    gpu: &Gpu,
    s: &Sizes,
    direction: Direction,
    pooled: bool,
    activation: Activation,
    operands: &Operands,
) -> Result<()> {
    let (kind, parameter) = activation.kind();
    let v = Variant {
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
    s: &Sizes,
    mask: Option<&GpuBuffer>,
    features: Activation,
    operands: &Operands,
) -> Result<()> {
    let (kind, parameter) = features.kind();
    let v = Variant {
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

fn queue(gpu: &Gpu, s: &Sizes, v: Variant, parameter: f32, mask: Option<&GpuBuffer>, operands: &Operands) {
    let phases = if v.direction == Direction::Gather { 1 } else { s.stride * s.stride };
    let row_tiles = s.rows(&v).div_ceil(64);
    let column_tiles = s.out_channels.div_ceil(if v.gated { 32 } else { 16 * v.columns });
    let Operands { x, w, bias, residual, attention, y } = operands;
    launch!(
        gpu,
        implicit_gemm_kernel,
        (grid(row_tiles * column_tiles * phases), CubeDim::new_1d(UNITS)),
        x.arg(),
        mask.unwrap_or(x).arg(),
        w.arg(),
        bias.unwrap_or(w).arg(),
        residual.unwrap_or(x).arg(),
        attention.unwrap_or(x).arg(),
        y.arg(),
        s.arg(),
        row_tiles,
        column_tiles,
        phases,
        parameter,
        v
    );
}
