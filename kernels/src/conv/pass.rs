//! Where rows, columns and terms of an implicit matrix product lie: what all GPU kernels of dense
//! convolutions share.

use cubecl::prelude::*;

use super::Geometry;
use crate::activation::{Kind, activate};
use crate::attention::lift;
use crate::device::GpuBuffer;
use crate::shape::pixel_at;

/// Which way the taps point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// The convolution: an output pixel gathers input pixels.
    Gather,
    /// Its adjoint: an output pixel takes what it has given.
    Scatter,
}

/// Sizes of a pass. "In" and "out" are what the pass reads and writes.
#[derive(CubeType, CubeLaunch, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PassSizes {
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
    /// Zeros above and left of the convolution's input.
    pub before_h: usize,
    pub before_w: usize,
    pub dilation: usize,
}

/// Weights and bias of a convolution.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Layer {
    pub weights: Array<f32>,
    pub bias: Array<f32>,
}

/// What a pass is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PassVariant {
    pub direction: Direction,
    /// 2x2 max pooling of the result; the rows of a tile are then ordered by window.
    pub pooled: bool,
    /// Terms are counted over taps and channels together: fuller tiles for few channels, more divisions.
    pub flat: bool,
    pub bias: bool,
    /// A map like the output is added before the activation.
    pub residual: bool,
    pub activation: Kind,
    /// The result is multiplied by 1 + a map of one value for each pixel.
    pub attention: bool,
    /// Columns of a unit: 1 or 4, which makes a tile of 16 or 64.
    pub columns: usize,
    /// The columns of a tile are 32 features and their 32 gates; the output has half of them.
    pub gated: bool,
    /// The input has three channels and a mask, and is seen as five.
    pub masked: bool,
}

/// The taps of one axis that reach outputs of one phase: `first + i * step` for i below `count`.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Taps {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

/// The taps of an axis, `before` zeros in front of it, for outputs that are `phase` modulo the stride.
#[cube]
pub(super) fn taps(phase: usize, kernel: usize, before: usize, s: PassSizes, #[comptime] direction: Direction) -> Taps {
    if comptime!(direction == Direction::Gather) {
        Taps { first: 0usize, step: 1usize, count: kernel }
    } else {
        let mut first = kernel;
        let mut second = kernel;
        for i in 0..kernel {
            let t = kernel - 1 - i;
            // phase + before - t * dilation, kept positive: the multiple of the stride is not seen.
            let position = phase + before + t * s.dilation * (s.stride - 1);
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
pub(super) fn offset(tap: usize, phase: usize, before: usize, s: PassSizes, #[comptime] direction: Direction) -> i32 {
    if comptime!(direction == Direction::Gather) {
        (tap * s.dilation) as i32
    } else {
        let position = (phase + before) as i32 - (tap * s.dilation) as i32;
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
pub(super) fn row(m: usize, py: usize, px: usize, s: PassSizes, #[comptime] v: PassVariant) -> Row {
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
pub(super) fn base(o: usize, before: usize, s: PassSizes, #[comptime] direction: Direction) -> i32 {
    if comptime!(direction == Direction::Gather) {
        (o * s.stride) as i32 - before as i32
    } else {
        (o / s.stride) as i32
    }
}

/// Index of a weight: between in channel `i` and out channel `o` of the pass, at a tap.
#[cube]
pub(super) fn weight_at(
    i: usize,
    o: usize,
    r: usize,
    q: usize,
    s: PassSizes,
    #[comptime] direction: Direction,
) -> usize {
    let tap = r * s.kernel_w + q;
    let taps = s.kernel_h * s.kernel_w;
    if comptime!(direction == Direction::Gather) {
        ((s.out_first + o) * taps + tap) * s.in_channels + i
    } else {
        ((s.in_first + i) * taps + tap) * s.out_channels + o
    }
}

/// What a tap at (`dy`, `dx`) sees from output pixel `pixel` of a convolution; 0 outside the image.
#[cube]
pub(super) fn input_at(x: &Array<f32>, pixel: usize, dy: i32, dx: i32, channel: usize, s: PassSizes) -> f32 {
    let iy = ((pixel / s.out_w) % s.out_h * s.stride) as i32 + dy;
    let ix = (pixel % s.out_w * s.stride) as i32 + dx;
    let mut value = f32::new(0.0);
    if iy >= 0 && ix >= 0 && iy < s.in_h as i32 && ix < s.in_w as i32 {
        let image = pixel / (s.out_w * s.out_h);
        let at = pixel_at(image, iy as usize, ix as usize, s.in_h, s.in_w);
        value = x[at * s.in_stride + s.in_first + channel];
    }
    value
}

/// Operands of a pass.
pub(super) struct Operands<'a> {
    pub x: &'a GpuBuffer,
    pub w: &'a GpuBuffer,
    pub bias: Option<&'a GpuBuffer>,
    pub residual: Option<&'a GpuBuffer>,
    pub attention: Option<&'a GpuBuffer>,
    pub y: &'a GpuBuffer,
}

impl<'a> Operands<'a> {
    /// Without residual and attention.
    pub fn new(x: &'a GpuBuffer, w: &'a GpuBuffer, bias: Option<&'a GpuBuffer>, y: &'a GpuBuffer) -> Self {
        Self { x, w, bias, residual: None, attention: None, y }
    }
}

/// What is written to element `at` of pixel `pixel` for a sum: residual, activation, attention.
#[cube]
pub(super) fn finish(
    sum: f32,
    residual: &Array<f32>,
    attention: &Array<f32>,
    pixel: usize,
    at: usize,
    parameter: f32,
    #[comptime] v: PassVariant,
) -> f32 {
    let mut value = sum;
    if comptime!(v.residual) {
        value += residual[at];
    }
    value = activate(value, parameter, v.activation);
    if comptime!(v.attention) {
        value *= lift(attention[pixel]);
    }
    value
}

impl PassSizes {
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
            before_h: g.before[0],
            before_w: g.before[1],
            dilation: g.opts.dilation,
        }
    }

    /// Sizes of a gated convolution: half as many channels come out as there are weights for.
    pub fn gated(g: &Geometry, masked: bool) -> Self {
        let s = Self::new(g, 0, Direction::Gather);
        let out = s.out_channels / 2;
        let in_stride = if masked { 3 } else { s.in_stride };
        Self { in_stride, out_stride: out, out_channels: out, ..s }
    }

    /// Rows of the product: pixels of the largest phase.
    pub fn rows(&self, v: &PassVariant) -> usize {
        let (h, w) = (self.out_h, self.out_w);
        match v.direction {
            _ if v.pooled => self.images * (h / 2) * (w / 2) * 4,
            Direction::Gather => self.images * h * w,
            Direction::Scatter => self.images * h.div_ceil(self.stride) * w.div_ceil(self.stride),
        }
    }

    /// As kernel arguments.
    pub fn arg<R: Runtime>(&self) -> PassSizesLaunch<R> {
        PassSizesLaunch::new(
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
            self.before_h,
            self.before_w,
            self.dilation,
        )
    }
}
