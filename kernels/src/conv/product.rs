//! Tiles of the implicit matrix product on a GPU: how it is cut into cubes, which input pixels the rows of a tile
//! read, and which taps and channels its terms are.

use cubecl::prelude::*;

use super::pass::{Direction, Operands, PassSizes, PassVariant, Taps, base, input_at, row, taps};
use crate::shape::pixel_at;

/// Rows of a tile, and columns of a whole one.
pub(super) const TILE: usize = 64;
/// Rows of a window of 2x2 max pooling; they follow each other.
pub(super) const WINDOW: usize = 4;
/// Units along each side of a cube that keeps its sums in registers.
pub(super) const SIDE: usize = 16;

/// Operands that a kernel reads; what it is compiled without is any other buffer.
#[derive(CubeType, CubeLaunch)]
pub(super) struct OperandArrays {
    pub x: Array<f32>,
    pub w: Array<f32>,
    pub bias: Array<f32>,
    pub residual: Array<f32>,
    pub attention: Array<f32>,
}

impl Operands<'_> {
    /// As a kernel argument.
    pub fn inputs<R: Runtime>(&self) -> OperandArraysLaunch<R> {
        let Operands { x, w, bias, residual, attention, .. } = self;
        let (bias, residual, attention) = (bias.unwrap_or(w), residual.unwrap_or(x), attention.unwrap_or(x));
        OperandArraysLaunch::new(x.arg(), w.arg(), bias.arg(), residual.arg(), attention.arg())
    }
}

impl PassVariant {
    /// Columns of a tile.
    pub fn width(self) -> usize {
        SIDE * self.columns
    }

    /// Output channels of a tile.
    pub fn channels(self) -> usize {
        if self.gated { self.width() / 2 } else { self.width() }
    }
}

/// Tiles of rows and of columns of a pass, for each residue of the output position modulo the stride.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Tiles {
    pub rows: usize,
    pub columns: usize,
    pub phases: usize,
}

impl Tiles {
    pub fn new(s: &PassSizes, v: &PassVariant) -> Self {
        Self {
            rows: s.rows(v).div_ceil(TILE),
            columns: s.out_channels.div_ceil(v.channels()),
            phases: if v.direction == Direction::Gather { 1 } else { s.stride * s.stride },
        }
    }

    /// Cubes, one for each tile.
    pub fn count(&self) -> usize {
        self.rows * self.columns * self.phases
    }

    /// As a kernel argument.
    pub fn arg<R: Runtime>(&self) -> TilesLaunch<R> {
        TilesLaunch::new(self.rows, self.columns, self.phases)
    }
}

/// The first row and column of a tile.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Corner {
    pub row: usize,
    pub column: usize,
}

/// The tile of this cube. Neighbouring cubes share rows, so that the input stays in the cache.
#[cube]
pub(super) fn corner(rows: usize, columns: usize, #[comptime] width: usize) -> Corner {
    Corner { column: CUBE_POS % columns * width, row: CUBE_POS / columns % rows * TILE }
}

/// The terms of the sums of a phase: taps that reach it, times channels.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Terms {
    pub phase_y: usize,
    pub phase_x: usize,
    pub rows: Taps,
    pub columns: Taps,
    /// Taps.
    pub taps: usize,
    /// Steps through the channels of a tap.
    pub chunks: usize,
}

/// The terms of phase `phase`, `depth` channels a step.
#[cube]
pub(super) fn terms(phase: usize, s: PassSizes, #[comptime] direction: Direction, #[comptime] depth: usize) -> Terms {
    let phase_y = phase / s.stride;
    let phase_x = phase % s.stride;
    let rows = taps(phase_y, s.kernel_h, s.before_h, s, direction);
    let columns = taps(phase_x, s.kernel_w, s.before_w, s, direction);
    Terms { phase_y, phase_x, rows, columns, taps: rows.count * columns.count, chunks: s.in_channels.div_ceil(depth) }
}

/// Kernel row of the `i`-th tap.
#[cube]
pub(super) fn tap_row(i: usize, t: Terms) -> usize {
    t.rows.first + i / t.columns.count * t.rows.step
}

/// Kernel column of the `i`-th tap.
#[cube]
pub(super) fn tap_column(i: usize, t: Terms) -> usize {
    t.columns.first + i % t.columns.count * t.columns.step
}

/// Where the rows of a tile read the input, before the offset of a tap; the image is -1 beyond the last row.
#[derive(CubeType)]
pub(super) struct Lines {
    y: SharedMemory<i32>,
    x: SharedMemory<i32>,
    image: SharedMemory<i32>,
}

/// Writes the lines of a tile whose first row is `first`; to be read after the next `sync_cube`.
#[cube]
pub(super) fn lines(first: usize, t: Terms, s: PassSizes, #[comptime] v: PassVariant) -> Lines {
    let mut y = SharedMemory::<i32>::new(TILE);
    let mut x = SharedMemory::<i32>::new(TILE);
    let mut image = SharedMemory::<i32>::new(TILE);
    let unit = UNIT_POS as usize;
    if unit < TILE {
        let r = row(first + unit, t.phase_y, t.phase_x, s, v);
        y[unit] = base(r.y, s.before_h, s, v.direction);
        x[unit] = base(r.x, s.before_w, s, v.direction);
        image[unit] = select(r.inside, r.image as i32, -1);
    }
    Lines { y, x, image }
}

/// The bias of a column; 0 without.
#[cube]
pub(super) fn shift(inputs: &OperandArrays, column: usize, s: PassSizes, #[comptime] v: PassVariant) -> f32 {
    let mut shift = f32::new(0.0);
    if comptime!(v.bias) {
        shift = inputs.bias[s.out_first + column];
    }
    shift
}

/// A pixel of the input, possibly outside of it.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Source {
    image: i32,
    y: i32,
    x: i32,
}

/// What line `line` reads through a tap at (`dy`, `dx`).
#[cube]
pub(super) fn source(lines: &Lines, line: usize, dy: i32, dx: i32) -> Source {
    Source { y: lines.y[line] + dy, x: lines.x[line] + dx, image: lines.image[line] }
}

/// Whether the input has it.
#[cube]
pub(super) fn exists(p: Source, s: PassSizes) -> bool {
    p.y >= 0 && p.x >= 0 && p.y < s.in_h as i32 && p.x < s.in_w as i32 && p.image >= 0
}

/// Its number among the pixels of the input.
#[cube]
pub(super) fn number(p: Source, s: PassSizes) -> usize {
    pixel_at(p.image as usize, p.y as usize, p.x as usize, s.in_h, s.in_w)
}

/// How a weight gradient is cut into cubes: tiles of out channels by taps and in channels, and shares of the pixels.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Cut {
    pub row_tiles: usize,
    pub column_tiles: usize,
    pub splits: usize,
    /// Pixels of a share.
    pub per_split: usize,
    /// Weights of all groups.
    pub total: usize,
}

impl Cut {
    /// As a kernel argument.
    pub fn arg<R: Runtime>(&self) -> CutLaunch<R> {
        CutLaunch::new(self.row_tiles, self.column_tiles, self.splits, self.per_split, self.total)
    }
}

/// A column of a weight gradient: a tap, and a channel of the input.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Column {
    pub channel: usize,
    pub dy: i32,
    pub dx: i32,
    /// Whether there is one.
    pub inside: bool,
}

/// Column `at` of `width`.
#[cube]
pub(super) fn column(at: usize, width: usize, s: PassSizes) -> Column {
    let tap = at / s.in_channels;
    Column {
        channel: at % s.in_channels,
        dy: (tap / s.kernel_w * s.dilation) as i32 - s.before_h as i32,
        dx: (tap % s.kernel_w * s.dilation) as i32 - s.before_w as i32,
        inside: at < width,
    }
}

/// The gradient of out channel `o` at `pixel` and what `column` sees from there; zeros from `end` on and outside.
#[cube]
pub(super) fn factors(
    x: &Array<f32>,
    grad: &Array<f32>,
    pixel: usize,
    end: usize,
    o: usize,
    column: Column,
    s: PassSizes,
) -> (f32, f32) {
    let mut g = f32::new(0.0);
    let mut value = f32::new(0.0);
    if pixel < end {
        if o < s.out_channels {
            g = grad[pixel * s.out_stride + s.out_first + o];
        }
        if column.inside {
            value = input_at(x, pixel, column.dy, column.dx, column.channel, s);
        }
    }
    (g, value)
}
