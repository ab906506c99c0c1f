//! The same product on tensor cores: operands rounded to f16, bf16 or tf32, sums in f32.
//!
//! A cube of four planes makes a tile of 64 x 64, a plane 32 x 32 of it as 2 x 2 fragments of 16 x 16;
//! 32 terms at a time go through shared memory, rounded on the way in. The tile returns to shared
//! memory for bias, activation and pooling, and is written from there in whole lines.

use cubecl::prelude::*;
use half::{bf16, f16};

use super::pass::{Direction, Operands, PassSizes, PassVariant, finish, offset, row, weight_at};
use super::product::{
    Corner, Cut, Lines, OperandArrays, TILE, Terms, Tiles, WINDOW, column, corner, exists, factors, lines, number,
    shift, source, tap_column, tap_row, terms,
};
use crate::activation::activate;
use crate::device::{Gpu, GpuBuffer, Precision, grid, launch};
use crate::shape::pixel_at;

/// Units of a plane.
const PLANE: usize = 32;
/// Units of a cube: two by two planes.
const UNITS: u32 = 128;
/// Rows and columns of a fragment.
const FRAGMENT: usize = 16;
/// Rows and columns of a plane, two by two fragments.
const PART: usize = 2 * FRAGMENT;
/// Terms at a time.
const TERMS: usize = 32;
/// Elements of an operand in shared memory, and how many of them each unit loads.
const OPERAND: usize = TILE * TERMS;
const LOADS: usize = OPERAND / UNITS as usize;
/// Lines of a tile that units write at a time, each one element of a line.
const LINES: usize = UNITS as usize / TILE;

/// Four fragments of sums, all zero.
#[cube]
fn fragments(#[comptime] depth: usize) -> Sequence<cmma::Matrix<f32>> {
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..4usize {
        sums.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            FRAGMENT,
            FRAGMENT,
            depth,
            cmma::MatrixLayout::Undefined,
            0.0,
        ));
    }
    sums
}

/// The part of a tile that the plane of this unit makes.
#[cube]
fn part() -> Corner {
    let plane = UNIT_POS as usize / PLANE;
    Corner { row: plane / 2 * PART, column: plane % 2 * PART }
}

/// Adds the products of [`TERMS`] terms. Operands are `[row or column][term]`, or with `terms_outside`
/// `[term][row or column]`.
#[cube]
fn multiply<E: Float>(
    a: &SharedMemory<E>,
    b: &SharedMemory<E>,
    sums: &Sequence<cmma::Matrix<f32>>,
    part: Corner,
    #[comptime] terms_outside: bool,
    #[comptime] depth: usize,
) {
    let line = comptime!(if terms_outside { 1usize } else { TERMS });
    let term = comptime!(if terms_outside { TILE } else { 1 });
    let stride = comptime!(if terms_outside { TILE as u32 } else { TERMS as u32 });
    let rows = comptime!(if terms_outside { cmma::MatrixLayout::ColMajor } else { cmma::MatrixLayout::RowMajor });
    let columns = comptime!(if terms_outside { cmma::MatrixLayout::RowMajor } else { cmma::MatrixLayout::ColMajor });
    #[unroll]
    for k in 0..comptime!(TERMS / depth) {
        #[unroll]
        for j in 0..2usize {
            let right = cmma::Matrix::<E>::from_slice(
                cmma::MatrixIdent::B,
                FRAGMENT,
                FRAGMENT,
                depth,
                columns,
                &b.slice((part.column + FRAGMENT * j) * line + k * depth * term, OPERAND),
                stride,
            );
            #[unroll]
            for i in 0..2usize {
                let left = cmma::Matrix::<E>::from_slice(
                    cmma::MatrixIdent::A,
                    FRAGMENT,
                    FRAGMENT,
                    depth,
                    rows,
                    &a.slice((part.row + FRAGMENT * i) * line + k * depth * term, OPERAND),
                    stride,
                );
                let sum = sums.index(comptime!(2 * i + j));
                cmma::execute::<E, E, f32, f32>(&left, &right, sum, sum);
            }
        }
    }
}

/// Writes the fragments of all planes to the tile of the cube, `[TILE][TILE]`, which may take the place of operands.
#[cube]
fn spill(sums: &Sequence<cmma::Matrix<f32>>, tile: &mut SharedMemory<f32>, part: Corner) {
    // The compiler may give the tile the place of operands that other planes still read.
    sync_cube();
    #[unroll]
    for i in 0..2usize {
        #[unroll]
        for j in 0..2usize {
            let begin = (part.row + FRAGMENT * i) * TILE + part.column + FRAGMENT * j;
            cmma::store(
                &mut tile.slice_mut(begin, comptime!(TILE * TILE)),
                sums.index(comptime!(2 * i + j)),
                comptime!(TILE as u32),
                cmma::MatrixLayout::RowMajor,
            );
        }
    }
    sync_cube();
}

#[cube(launch_unchecked)]
fn tensor_core_kernel<E: Float>(
    inputs: &OperandArrays,
    y: &mut Array<f32>,
    s: PassSizes,
    tiles: Tiles,
    parameter: f32,
    #[comptime] v: PassVariant,
    #[comptime] depth: usize,
) {
    let phase = CUBE_POS / (tiles.rows * tiles.columns);
    if phase < tiles.phases {
        let mut a = SharedMemory::<E>::new(OPERAND); // [row][term]
        let mut b = SharedMemory::<E>::new(OPERAND); // [column][term]
        let mut tile = SharedMemory::<f32>::new(comptime!(TILE * TILE));
        let part = part();
        let corner = corner(tiles.rows, tiles.columns, TILE);
        let t = terms(phase, s, v.direction, TERMS);
        let lines = lines(corner.row, t, s, v);
        let sums = fragments(depth);
        for step in 0..t.taps * t.chunks {
            let tap = step / t.chunks;
            let first = (step % t.chunks) * TERMS;
            let (r, q) = (tap_row(tap, t), tap_column(tap, t));
            let dy = offset(r, t.phase_y, s.before_h, s, v.direction);
            let dx = offset(q, t.phase_x, s.before_w, s, v.direction);
            sync_cube();
            load_input::<E>(&inputs.x, &lines, &mut a, dy, dx, first, s);
            load_weights::<E>(&inputs.w, &mut b, r, q, first, corner.column, s, v.direction);
            sync_cube();
            multiply::<E>(&a, &b, &sums, part, false, depth);
        }
        spill(&sums, &mut tile, part);
        // A unit writes one column.
        if corner.column + UNIT_POS as usize % TILE < s.out_channels {
            if comptime!(v.pooled) {
                write_pooled(inputs, &tile, y, corner, s, parameter, v);
            } else {
                write_lines(inputs, &tile, y, corner, t, s, parameter, v);
            }
        }
    }
}

/// Channels from `first` on of what the lines see through a tap at (`dy`, `dx`), rounded.
#[cube]
fn load_input<E: Float>(
    x: &Array<f32>,
    lines: &Lines,
    a: &mut SharedMemory<E>,
    dy: i32,
    dx: i32,
    first: usize,
    s: PassSizes,
) {
    #[unroll]
    for i in 0..LOADS {
        let at = UNIT_POS as usize + comptime!(UNITS as usize) * i;
        let channel = first + at % TERMS;
        let from = source(lines, at / TERMS, dy, dx);
        let mut value = f32::new(0.0);
        if exists(from, s) && channel < s.in_channels {
            value = x[number(from, s) * s.in_stride + s.in_first + channel];
        }
        a[at] = E::cast_from(value);
    }
}

/// Weights at tap (`r`, `q`) of the same channels and of the columns from `first_column` on, rounded.
#[cube]
fn load_weights<E: Float>(
    w: &Array<f32>,
    b: &mut SharedMemory<E>,
    r: usize,
    q: usize,
    first: usize,
    first_column: usize,
    s: PassSizes,
    #[comptime] direction: Direction,
) {
    let gather = comptime!(direction == Direction::Gather);
    #[unroll]
    for i in 0..LOADS {
        let at = UNIT_POS as usize + comptime!(UNITS as usize) * i;
        let column = if comptime!(gather) { at / TERMS } else { at % TILE };
        let term = if comptime!(gather) { at % TERMS } else { at / TILE };
        let channel = first + term;
        let mut value = f32::new(0.0);
        if channel < s.in_channels && first_column + column < s.out_channels {
            value = w[weight_at(channel, first_column + column, r, q, s, direction)];
        }
        b[column * TERMS + term] = E::cast_from(value);
    }
}

/// Writes the largest of each window of four lines in one column.
#[cube]
fn write_pooled(
    inputs: &OperandArrays,
    tile: &SharedMemory<f32>,
    y: &mut Array<f32>,
    corner: Corner,
    s: PassSizes,
    parameter: f32,
    #[comptime] v: PassVariant,
) {
    let (first, lane) = (UNIT_POS as usize / TILE, UNIT_POS as usize % TILE);
    let column = corner.column + lane;
    let shift = shift(inputs, column, s, v);
    for i in 0..comptime!(TILE / LINES / WINDOW) {
        let group = first + LINES * i;
        let mut best = activate(tile[group * comptime!(WINDOW * TILE) + lane] + shift, parameter, v.activation);
        #[unroll]
        for part in 1..WINDOW {
            let at = (group * WINDOW + part) * TILE + lane;
            best = f32::max(best, activate(tile[at] + shift, parameter, v.activation));
        }
        let window = corner.row / WINDOW + group;
        if window < s.images * (s.out_h / 2) * (s.out_w / 2) {
            y[window * s.out_stride + s.out_first + column] = best;
        }
    }
}

/// Writes one column of the tile.
#[cube]
fn write_lines(
    inputs: &OperandArrays,
    tile: &SharedMemory<f32>,
    y: &mut Array<f32>,
    corner: Corner,
    t: Terms,
    s: PassSizes,
    parameter: f32,
    #[comptime] v: PassVariant,
) {
    let (first, lane) = (UNIT_POS as usize / TILE, UNIT_POS as usize % TILE);
    let column = corner.column + lane;
    let shift = shift(inputs, column, s, v);
    for i in 0..comptime!(TILE / LINES) {
        let line = first + LINES * i;
        let r = row(corner.row + line, t.phase_y, t.phase_x, s, v);
        if r.inside {
            let pixel = pixel_at(r.image, r.y, r.x, s.out_h, s.out_w);
            let at = pixel * s.out_stride + s.out_first + column;
            let sum = tile[line * TILE + lane] + shift;
            y[at] = finish(sum, &inputs.residual, &inputs.attention, pixel, at, parameter, v);
        }
    }
}

/// Partial weight gradients of a share of the pixels, as in weight_grad.rs: rows are out channels,
/// columns taps and in channels, the sum runs over pixels.
#[cube(launch_unchecked)]
fn tensor_core_weight_kernel<E: Float>(
    x: &Array<f32>,
    grad: &Array<f32>,
    partial: &mut Array<f32>,
    s: PassSizes,
    cut: Cut,
    #[comptime] depth: usize,
) {
    let split = CUBE_POS / (cut.row_tiles * cut.column_tiles);
    if split < cut.splits {
        let mut a = SharedMemory::<E>::new(OPERAND); // [pixel][out channel]
        let mut b = SharedMemory::<E>::new(OPERAND); // [pixel][tap and in channel]
        let mut tile = SharedMemory::<f32>::new(comptime!(TILE * TILE));
        let part = part();
        let corner = corner(cut.row_tiles, cut.column_tiles, TILE);
        let width = s.kernel_h * s.kernel_w * s.in_channels;
        let end = usize::min((split + 1) * cut.per_split, s.images * s.out_h * s.out_w);
        let (own, lane) = (UNIT_POS as usize % TILE, UNIT_POS as usize / TILE);
        let column = column(corner.column + own, width, s);

        let sums = fragments(depth);
        let mut first = split * cut.per_split;
        while first < end {
            sync_cube();
            #[unroll]
            for i in 0..LOADS {
                let term = lane + LINES * i;
                let (g, value) = factors(x, grad, first + term, end, corner.row + own, column, s);
                a[term * TILE + own] = E::cast_from(g);
                b[term * TILE + own] = E::cast_from(value);
            }
            sync_cube();
            multiply::<E>(&a, &b, &sums, part, true, depth);
            first += TERMS;
        }
        spill(&sums, &mut tile, part);
        for i in 0..comptime!(TILE / LINES) {
            let line = lane + LINES * i;
            let row = corner.row + line;
            if row < s.out_channels && column.inside {
                let to = split * cut.total + (s.out_first + row) * width + corner.column + own;
                partial[to] = tile[line * TILE + own];
            }
        }
    }
}

/// Queues the partial weight gradients of one group in the GPU's precision.
pub(super) fn run_weight(gpu: &Gpu, s: &PassSizes, x: &GpuBuffer, grad: &GpuBuffer, partial: &GpuBuffer, cut: &Cut) {
    let shape = (grid(cut.row_tiles * cut.column_tiles * cut.splits), CubeDim::new_1d(UNITS));
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
                cut.arg(),
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
pub(super) fn run(gpu: &Gpu, s: &PassSizes, v: PassVariant, parameter: f32, operands: &Operands) {
    let v = PassVariant { flat: false, columns: 4, ..v };
    let tiles = Tiles::new(s, &v);
    let shape = (grid(tiles.count()), CubeDim::new_1d(UNITS));
    macro_rules! queue {
        ($element:ty, $depth:expr) => {
            launch!(
                gpu,
                tensor_core_kernel<$element>,
                shape,
                operands.inputs(),
                operands.y.arg(),
                s.arg(),
                tiles.arg(),
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
