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

use super::Geometry;
use crate::activation::{Activation, Kind, activate};
use crate::device::{Gpu, GpuBuffer, Precision, UNITS, grid, launch};

/// Which way the taps point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// The convolution: an output pixel gathers input pixels.
    Gather,
    /// Its adjoint: an output pixel takes what it has given.
    Scatter,
}

/// Sizes of a pass. "In" and "out" are what the pass reads and writes.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Sizes {
    pub images: usize,
    pub in_h: usize,
    pub in_w: usize,
    /// Channels of a pixel, the first one of the group, those of the group.
    pub in_stride: usize,
    pub in_first: usize,
    pub in_channels: usize,
    pub out_h: usize,
    pub out_w: usize,
    pub out_stride: usize,
    pub out_first: usize,
    pub out_channels: usize,
    pub kernel_h: usize,
    pub kernel_w: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

/// What a pass is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    pub direction: Direction,
    /// 2x2 max pooling of the result; the rows of a tile are then ordered by window.
    pub pooled: bool,
    /// Terms are counted over taps and channels together: fuller tiles for few channels, more divisions.
    pub flat: bool,
    pub bias: bool,
    pub activation: Kind,
    /// Columns of a unit: 1 or 4, which makes a tile of 16 or 64.
    pub columns: usize,
}

/// The taps of one axis that reach outputs of one phase: `first + i * step` for i below `count`.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Taps {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

/// The taps of an axis for outputs that are `phase` modulo the stride.
#[cube]
pub(super) fn taps(phase: usize, kernel: usize, s: Sizes, #[comptime] direction: Direction) -> Taps {
    if comptime!(direction == Direction::Gather) {
        Taps { first: 0usize, step: 1usize, count: kernel }
    } else {
        let mut first = kernel;
        let mut second = kernel;
        for i in 0..kernel {
            let t = kernel - 1 - i;
            // phase + padding - t * dilation, kept positive: the multiple of the stride is not seen.
            let position = phase + s.padding + t * s.dilation * (s.stride - 1);
            if position % s.stride == 0 {
                second = first;
                first = t;
            }
        }
        let step = usize::max(second - first, 1);
        Taps { first, step, count: (kernel - first).div_ceil(step) }
    }
}

/// Offset of the input position that a tap reads, relative to the row's base.
#[cube]
pub(super) fn offset(tap: usize, phase: usize, s: Sizes, #[comptime] direction: Direction) -> i32 {
    if comptime!(direction == Direction::Gather) {
        (tap * s.dilation) as i32
    } else {
        let position = (phase + s.padding) as i32 - (tap * s.dilation) as i32;
        // Divides exactly, below zero as well.
        position / s.stride as i32
    }
}

/// Where a row of the product lies.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Row {
    pub image: usize,
    /// Output position.
    pub y: usize,
    pub x: usize,
    pub inside: bool,
}

/// Row `m` of phase (`py`, `px`).
#[cube]
pub(super) fn row(m: usize, py: usize, px: usize, s: Sizes, #[comptime] v: Variant) -> Row {
    if comptime!(v.pooled) {
        let (h, w) = (s.out_h / 2, s.out_w / 2);
        let (window, part) = (m / 4, m % 4);
        let image = window / (h * w);
        let y = (window / w) % h * 2 + part / 2;
        let x = window % w * 2 + part % 2;
        Row { image, y, x, inside: image < s.images }
    } else if comptime!(v.direction == Direction::Gather) {
        let image = m / (s.out_h * s.out_w);
        Row { image, y: (m / s.out_w) % s.out_h, x: m % s.out_w, inside: image < s.images }
    } else {
        let (h, w) = (s.out_h.div_ceil(s.stride), s.out_w.div_ceil(s.stride));
        let image = m / (h * w);
        let y = (m / w) % h * s.stride + py;
        let x = m % w * s.stride + px;
        Row { image, y, x, inside: image < s.images && y < s.out_h && x < s.out_w }
    }
}

/// Input position of output position `o` along one axis, before the tap's offset.
#[cube]
pub(super) fn base(o: usize, s: Sizes, #[comptime] direction: Direction) -> i32 {
    if comptime!(direction == Direction::Gather) {
        (o * s.stride) as i32 - s.padding as i32
    } else {
        (o / s.stride) as i32
    }
}

/// Index of a weight: between in channel `i` and out channel `o` of the pass, at a tap.
#[cube]
pub(super) fn weight_at(i: usize, o: usize, r: usize, q: usize, s: Sizes, #[comptime] direction: Direction) -> usize {
    let tap = r * s.kernel_w + q;
    let taps = s.kernel_h * s.kernel_w;
    if comptime!(direction == Direction::Gather) {
        ((s.out_first + o) * taps + tap) * s.in_channels + i
    } else {
        ((s.in_first + i) * taps + tap) * s.out_channels + o
    }
}

#[cube(launch_unchecked)]
fn implicit_gemm_kernel(
    x: &Array<f32>,
    w: &Array<f32>,
    bias: &Array<f32>,
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
        let first_column = (CUBE_POS % column_tiles) * width;
        let first_row = ((CUBE_POS / column_tiles) % row_tiles) * 64;
        let py = phase / s.stride;
        let px = phase % s.stride;

        if unit < 64 {
            let r = row(first_row + unit, py, px, s, v);
            base_y[unit] = base(r.y, s, direction);
            base_x[unit] = base(r.x, s, direction);
            from[unit] = select(r.inside, r.image as i32, -1);
        }
        let rows = taps(py, s.kernel_h, s, direction);
        let columns = taps(px, s.kernel_w, s, direction);
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
                let dy = offset(rows.first + tap / columns.count * rows.step, py, s, direction);
                let dx = offset(columns.first + tap % columns.count * columns.step, px, s, direction);
                #[unroll]
                for i in 0..4usize {
                    let line = tile_row + 16 * i;
                    let (iy, ix, image) = (base_y[line] + dy, base_x[line] + dx, from[line]);
                    let inside = iy >= 0 && ix >= 0 && iy < s.in_h as i32 && ix < s.in_w as i32 && image >= 0;
                    let mut value = f32::new(0.0);
                    if live && inside {
                        let pixel = (image as usize * s.in_h + iy as usize) * s.in_w + ix as usize;
                        value = x[pixel * s.in_stride + s.in_first + channel];
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
                if tap < count && channel < s.in_channels && first_column + column < s.out_channels {
                    let r = rows.first + tap / columns.count * rows.step;
                    let q = columns.first + tap % columns.count * columns.step;
                    value = w[weight_at(channel, first_column + column, r, q, s, direction)];
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
        for j in 0..comptime!(v.columns) {
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
                            let value = activate(sums[i * comptime!(v.columns) + j] + shift, parameter, v.activation);
                            y[pixel * s.out_stride + s.out_first + column] = value;
                        }
                    }
                }
            }
        }
    }
}

/// Operands of a pass.
pub(super) struct Operands<'a> {
    pub x: &'a GpuBuffer,
    pub w: &'a GpuBuffer,
    pub bias: Option<&'a GpuBuffer>,
    pub y: &'a GpuBuffer,
}

impl Sizes {
    /// Sizes of the pass of one group.
    pub fn new(g: &Geometry, group: usize, direction: Direction) -> Self {
        let (input, output) = if direction == Direction::Gather { (g.x, g.y) } else { (g.y, g.x) };
        let (inside, outside) = (input[3] / g.opts.groups, output[3] / g.opts.groups);
        Self {
            images: input[0],
            in_h: input[1],
            in_w: input[2],
            in_stride: input[3],
            in_first: group * inside,
            in_channels: inside,
            out_h: output[1],
            out_w: output[2],
            out_stride: output[3],
            out_first: group * outside,
            out_channels: outside,
            kernel_h: g.w[1],
            kernel_w: g.w[2],
            stride: g.opts.stride,
            padding: g.opts.padding,
            dilation: g.opts.dilation,
        }
    }

    /// Rows of the product: pixels of the largest phase.
    pub fn rows(&self, v: &Variant) -> usize {
        let (h, w) = (self.out_h, self.out_w);
        match v.direction {
            _ if v.pooled => self.images * (h / 2) * (w / 2) * 4,
            Direction::Gather => self.images * h * w,
            Direction::Scatter => self.images * h.div_ceil(self.stride) * w.div_ceil(self.stride),
        }
    }

    /// As kernel arguments.
    pub fn arg<R: Runtime>(&self) -> SizesLaunch<R> {
        SizesLaunch::new(
            self.images,
            self.in_h,
            self.in_w,
            self.in_stride,
            self.in_first,
            self.in_channels,
            self.out_h,
            self.out_w,
            self.out_stride,
            self.out_first,
            self.out_channels,
            self.kernel_h,
            self.kernel_w,
            self.stride,
            self.padding,
            self.dilation,
        )
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
) {
    let (kind, parameter) = activation.kind();
    let v = Variant {
        direction,
        pooled,
        flat: s.in_channels < 16,
        bias: operands.bias.is_some(),
        activation: kind,
        columns: if s.out_channels > 16 { 4 } else { 1 },
    };
    if gpu.precision() != Precision::F32 && s.in_channels >= 16 && s.out_channels >= 16 {
        super::tensor_core::run(gpu, s, v, parameter, operands);
        return;
    }
    let phases = if direction == Direction::Gather { 1 } else { s.stride * s.stride };
    let row_tiles = s.rows(&v).div_ceil(64);
    let column_tiles = s.out_channels.div_ceil(16 * v.columns);
    let Operands { x, w, bias, y } = operands;
    launch!(
        gpu,
        implicit_gemm_kernel,
        (grid(row_tiles * column_tiles * phases), CubeDim::new_1d(UNITS)),
        x.arg(),
        w.arg(),
        bias.unwrap_or(w).arg(),
        y.arg(),
        s.arg(),
        row_tiles,
        column_tiles,
        phases,
        parameter,
        v
    );
}
