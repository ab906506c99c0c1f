//! The same product on tensor cores: operands rounded to f16, bf16 or tf32, sums in f32.
//!
//! A cube of four planes makes a tile of 64 x 64, a plane 32 x 32 of it as 2 x 2 fragments of 16 x 16;
//! 32 terms at a time go through shared memory, rounded on the way in. The tile returns to shared
//! memory for bias, activation and pooling, and is written from there in whole lines.

use cubecl::prelude::*;
use half::{bf16, f16};

use super::pass::{Direction, Operands, Sizes, Variant, base, finish, input_at, offset, row, taps, weight_at};
use crate::activation::activate;
use crate::device::{Gpu, GpuBuffer, Precision, grid, launch};

/// Units of a cube: four planes of 32.
const PLANES: u32 = 128;

/// Four fragments of sums, all zero.
#[cube]
fn fragments(#[comptime] depth: usize) -> Sequence<cmma::Matrix<f32>> {
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..4usize {
        sums.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            16usize,
            16usize,
            depth,
            cmma::MatrixLayout::Undefined,
            0.0,
        ));
    }
    sums
}

/// Adds the products of 32 terms. Operands are `[row or column][32 terms]`, or with `terms_outside`
/// `[32 terms][64 rows or columns]`.
#[cube]
fn multiply<E: Float>(
    a: &SharedMemory<E>,
    b: &SharedMemory<E>,
    sums: &Sequence<cmma::Matrix<f32>>,
    plane_row: usize,
    plane_column: usize,
    #[comptime] terms_outside: bool,
    #[comptime] depth: usize,
) {
    let line = comptime!(if terms_outside { 1usize } else { 32 });
    let term = comptime!(if terms_outside { 64usize } else { 1 });
    let stride = comptime!(if terms_outside { 64u32 } else { 32 });
    let rows = comptime!(if terms_outside { cmma::MatrixLayout::ColMajor } else { cmma::MatrixLayout::RowMajor });
    let columns = comptime!(if terms_outside { cmma::MatrixLayout::RowMajor } else { cmma::MatrixLayout::ColMajor });
    #[unroll]
    for k in 0..comptime!(32 / depth) {
        #[unroll]
        for j in 0..2usize {
            let right = cmma::Matrix::<E>::from_slice(
                cmma::MatrixIdent::B,
                16usize,
                16usize,
                depth,
                columns,
                &b.slice((plane_column + 16 * j) * line + k * depth * term, 2048usize),
                stride,
            );
            #[unroll]
            for i in 0..2usize {
                let left = cmma::Matrix::<E>::from_slice(
                    cmma::MatrixIdent::A,
                    16usize,
                    16usize,
                    depth,
                    rows,
                    &a.slice((plane_row + 16 * i) * line + k * depth * term, 2048usize),
                    stride,
                );
                let sum = sums.index(comptime!(2 * i + j));
                cmma::execute::<E, E, f32, f32>(&left, &right, sum, sum);
            }
        }
    }
}

/// Writes the fragments of a plane to the tile of the cube, `[64][64]`.
#[cube]
fn spill(sums: &Sequence<cmma::Matrix<f32>>, tile: &mut SharedMemory<f32>, plane_row: usize, plane_column: usize) {
    #[unroll]
    for i in 0..2usize {
        #[unroll]
        for j in 0..2usize {
            let begin = (plane_row + 16 * i) * 64 + plane_column + 16 * j;
            cmma::store(
                &mut tile.slice_mut(begin, 4096usize),
                sums.index(comptime!(2 * i + j)),
                64,
                cmma::MatrixLayout::RowMajor,
            );
        }
    }
}

#[cube(launch_unchecked)]
fn tensor_core_kernel<E: Float>(
    x: &Array<f32>,
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
    #[comptime] depth: usize,
) {
    let phase = CUBE_POS / (row_tiles * column_tiles);
    if phase < phases {
        let direction = comptime!(v.direction);
        let mut a = SharedMemory::<E>::new(2048usize); // [row][term]
        let mut b = SharedMemory::<E>::new(2048usize); // [column][term]
        let mut tile = SharedMemory::<f32>::new(4096usize);
        let mut base_y = SharedMemory::<i32>::new(64usize);
        let mut base_x = SharedMemory::<i32>::new(64usize);
        let mut from = SharedMemory::<i32>::new(64usize);
        let unit = UNIT_POS as usize;
        let plane = unit / 32;
        let (plane_row, plane_column) = ((plane / 2) * 32, (plane % 2) * 32);
        let first_column = (CUBE_POS % column_tiles) * 64;
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
        let chunks = s.in_channels.div_ceil(32);

        let sums = fragments(depth);
        for step in 0..count * chunks {
            let tap = step / chunks;
            let r = rows.first + tap / columns.count * rows.step;
            let q = columns.first + tap % columns.count * columns.step;
            let dy = offset(r, py, s.before_h, s, direction);
            let dx = offset(q, px, s.before_w, s, direction);
            let first_channel = (step % chunks) * 32;
            sync_cube();
            #[unroll]
            for i in 0..16usize {
                let at = unit + 128 * i;
                let (line, channel) = (at / 32, first_channel + at % 32);
                let (iy, ix, image) = (base_y[line] + dy, base_x[line] + dx, from[line]);
                let inside = iy >= 0 && ix >= 0 && iy < s.in_h as i32 && ix < s.in_w as i32 && image >= 0;
                let mut value = f32::new(0.0);
                if inside && channel < s.in_channels {
                    let pixel = (image as usize * s.in_h + iy as usize) * s.in_w + ix as usize;
                    value = x[pixel * s.in_stride + s.in_first + channel];
                }
                a[at] = E::cast_from(value);
            }
            #[unroll]
            for i in 0..16usize {
                let at = unit + 128 * i;
                let column = if comptime!(direction == Direction::Gather) { at / 32 } else { at % 64 };
                let term = if comptime!(direction == Direction::Gather) { at % 32 } else { at / 64 };
                let channel = first_channel + term;
                let mut value = f32::new(0.0);
                if channel < s.in_channels && first_column + column < s.out_channels {
                    value = w[weight_at(channel, first_column + column, r, q, s, direction)];
                }
                b[column * 32 + term] = E::cast_from(value);
            }
            sync_cube();
            multiply::<E>(&a, &b, &sums, plane_row, plane_column, false, depth);
        }
        // The compiler may give the tile the place of operands that other planes still read.
        sync_cube();
        spill(&sums, &mut tile, plane_row, plane_column);
        sync_cube();

        let column = first_column + unit % 64;
        if column < s.out_channels {
            let mut shift = f32::new(0.0);
            if comptime!(v.bias) {
                shift = bias[s.out_first + column];
            }
            if comptime!(v.pooled) {
                for i in 0..8usize {
                    let group = unit / 64 + 2 * i;
                    let mut best = activate(tile[group * 256 + unit % 64] + shift, parameter, v.activation);
                    #[unroll]
                    for part in 1..4usize {
                        let at = (group * 4 + part) * 64 + unit % 64;
                        best = f32::max(best, activate(tile[at] + shift, parameter, v.activation));
                    }
                    let window = first_row / 4 + group;
                    if window < s.images * (s.out_h / 2) * (s.out_w / 2) {
                        y[window * s.out_stride + s.out_first + column] = best;
                    }
                }
            } else {
                for i in 0..32usize {
                    let line = unit / 64 + 2 * i;
                    let r = row(first_row + line, py, px, s, v);
                    if r.inside {
                        let pixel = (r.image * s.out_h + r.y) * s.out_w + r.x;
                        let at = pixel * s.out_stride + s.out_first + column;
                        let sum = tile[line * 64 + unit % 64] + shift;
                        y[at] = finish(sum, residual, attention, pixel, at, parameter, v);
                    }
                }
            }
        }
    }
}

/// Partial weight gradients of a share of the pixels, as in weight_grad.rs: rows are out channels,
/// columns taps and in channels, the sum runs over pixels, 32 at a time.
#[cube(launch_unchecked)]
fn tensor_core_weight_kernel<E: Float>(
    x: &Array<f32>,
    grad: &Array<f32>,
    partial: &mut Array<f32>,
    s: Sizes,
    row_tiles: usize,
    column_tiles: usize,
    splits: usize,
    per_split: usize,
    total: usize,
    #[comptime] depth: usize,
) {
    let split = CUBE_POS / (row_tiles * column_tiles);
    if split < splits {
        let mut a = SharedMemory::<E>::new(2048usize); // [pixel][out channel]
        let mut b = SharedMemory::<E>::new(2048usize); // [pixel][tap and in channel]
        let mut tile = SharedMemory::<f32>::new(4096usize);
        let unit = UNIT_POS as usize;
        let plane = unit / 32;
        let (plane_row, plane_column) = ((plane / 2) * 32, (plane % 2) * 32);
        let first_column = (CUBE_POS % column_tiles) * 64;
        let first_row = ((CUBE_POS / column_tiles) % row_tiles) * 64;
        let width = s.kernel_h * s.kernel_w * s.in_channels;
        let end = usize::min((split + 1) * per_split, s.images * s.out_h * s.out_w);
        let (own, lane) = (unit % 64, unit / 64);
        let column = first_column + own;
        let channel = column % s.in_channels;
        let tap = column / s.in_channels;
        let dy = (tap / s.kernel_w * s.dilation) as i32 - s.before_h as i32;
        let dx = (tap % s.kernel_w * s.dilation) as i32 - s.before_w as i32;

        let sums = fragments(depth);
        let mut first = split * per_split;
        while first < end {
            sync_cube();
            #[unroll]
            for i in 0..16usize {
                let term = lane + 2 * i;
                let pixel = first + term;
                let mut g = f32::new(0.0);
                let mut value = f32::new(0.0);
                if pixel < end {
                    if first_row + own < s.out_channels {
                        g = grad[pixel * s.out_stride + s.out_first + first_row + own];
                    }
                    if column < width {
                        value = input_at(x, pixel, dy, dx, channel, s);
                    }
                }
                a[term * 64 + own] = E::cast_from(g);
                b[term * 64 + own] = E::cast_from(value);
            }
            sync_cube();
            multiply::<E>(&a, &b, &sums, plane_row, plane_column, true, depth);
            first += 32;
        }
        // The compiler may give the tile the place of operands that other planes still read.
        sync_cube();
        spill(&sums, &mut tile, plane_row, plane_column);
        sync_cube();
        for i in 0..32usize {
            let line = lane + 2 * i;
            if first_row + line < s.out_channels && column < width {
                partial[split * total + (s.out_first + first_row + line) * width + column] = tile[line * 64 + own];
            }
        }
    }
}

/// How a weight gradient is cut into cubes.
pub(super) struct Cut {
    pub row_tiles: usize,
    pub column_tiles: usize,
    pub splits: usize,
    pub per_split: usize,
    pub total: usize,
}

/// Queues the partial weight gradients of one group in the GPU's precision.
pub(super) fn run_weight(gpu: &Gpu, s: &Sizes, x: &GpuBuffer, grad: &GpuBuffer, partial: &GpuBuffer, cut: &Cut) {
    let shape = (grid(cut.row_tiles * cut.column_tiles * cut.splits), CubeDim::new_1d(PLANES));
    macro_rules! queue {
        ($element:ty, $depth:expr) => {
            launch!(
                gpu,
                tensor_core_weight_kernel<$element>,
                shape,
                x.arg(),
                grad.arg(),
                partial.arg(),
                s.arg(),
                cut.row_tiles,
                cut.column_tiles,
                cut.splits,
                cut.per_split,
                cut.total,
                $depth
            )
        };
    }
    match gpu.precision() {
        Precision::F16 => queue!(f16, 16usize),
        Precision::Bf16 => queue!(bf16, 16usize),
        Precision::Tf32 | Precision::F32 => queue!(tf32, 8usize),
        Precision::Int8 => unreachable!("refused by `Gpu::with_precision`"),
    }
}

/// Queues one group in the GPU's precision.
pub(super) fn run(gpu: &Gpu, s: &Sizes, v: Variant, parameter: f32, operands: &Operands) {
    let v = Variant { flat: false, columns: 4, ..v };
    let phases = if v.direction == Direction::Gather { 1 } else { s.stride * s.stride };
    let row_tiles = s.rows(&v).div_ceil(64);
    let column_tiles = s.out_channels.div_ceil(64);
    let shape = (grid(row_tiles * column_tiles * phases), CubeDim::new_1d(PLANES));
    let Operands { x, w, bias, residual, attention, y } = operands;
    let (bias, residual, attention) = (bias.unwrap_or(w), residual.unwrap_or(x), attention.unwrap_or(x));
    macro_rules! queue {
        ($element:ty, $depth:expr) => {
            launch!(
                gpu,
                tensor_core_kernel<$element>,
                shape,
                x.arg(),
                w.arg(),
                bias.arg(),
                residual.arg(),
                attention.arg(),
                y.arg(),
                s.arg(),
                row_tiles,
                column_tiles,
                phases,
                parameter,
                v,
                $depth
            )
        };
    }
    match gpu.precision() {
        Precision::F16 => queue!(f16, 16usize),
        Precision::Bf16 => queue!(bf16, 16usize),
        Precision::Tf32 | Precision::F32 => queue!(tf32, 8usize),
        Precision::Int8 => unreachable!("refused by `Gpu::with_precision`"),
    }
}
