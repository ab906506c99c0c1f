//! The inverted residual on a GPU: one cube for each tile of output pixels. On CUDA, whose second-level cache
//! holds the expanded map of an image, three launches that each fill the device are faster.
//!
//! A cube goes through the expanded channels [`CHANNELS`] at a time: it expands them for the pixels that the
//! tile sees into shared memory, runs the depthwise kernel from there into shared memory, and adds their part
//! of the projection to sums that its units keep in registers.

use cubecl::prelude::*;

#[cfg(feature = "cuda")]
use super::super::conv2d::on_gpu;
#[cfg(feature = "cuda")]
use super::super::pass::Operands;
use super::super::pass::{Direction, Layer, LayerLaunch, PassSizes};
use super::super::{ConvOptions, Geometry};
use super::ConvWeights;
use crate::activation::{Activation, Kind, activate};
use crate::device::{Buffer, Gpu, GpuBuffer, UNITS, grid, launch};
use crate::error::Result;
use crate::shape::pixel_at;

/// Output rows and columns of a tile.
const ROWS: usize = 4;
const COLUMNS: usize = 8;
const PIXELS: usize = ROWS * COLUMNS;
/// Expanded channels at a time.
const CHANNELS: usize = 16;
/// Units side by side along the output channels; each has some of the pixels of every 64th channel.
const OUTPUTS: usize = 64;
/// Units along the pixels, and the pixels of each.
const LINES: usize = UNITS as usize / OUTPUTS;
const SHARE: usize = PIXELS / LINES;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BlockVariant {
    kernel_h: usize,
    kernel_w: usize,
    stride: usize,
    /// Output channels of a unit.
    outputs: usize,
    expand: bool,
    residual: bool,
    activation: Kind,
}

impl BlockVariant {
    /// Columns of the expanded tile.
    fn width(self) -> usize {
        (COLUMNS - 1) * self.stride + self.kernel_w
    }

    /// Elements of the expanded tile.
    fn wide(self) -> usize {
        ((ROWS - 1) * self.stride + self.kernel_h) * self.width() * CHANNELS
    }
}

/// The three convolutions.
#[derive(CubeType, CubeLaunch)]
struct Layers {
    expansion: Layer,
    depthwise: Layer,
    projection: Layer,
}

/// Channels of the input and of the output.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Ends {
    from: usize,
    to: usize,
}

/// The first output pixel of a cube's tile.
#[derive(CubeType, Clone, Copy)]
struct Tile {
    image: usize,
    top: usize,
    left: usize,
}

#[cube(launch_unchecked)]
fn inverted_residual_kernel(
    x: &Array<f32>,
    layers: &Layers,
    y: &mut Array<f32>,
    s: PassSizes,
    ends: Ends,
    parameter: f32,
    #[comptime] v: BlockVariant,
) {
    let (down, across) = (s.out_h.div_ceil(ROWS), s.out_w.div_ceil(COLUMNS));
    if CUBE_POS < s.images * down * across {
        let tile = Tile {
            image: CUBE_POS / (down * across),
            top: CUBE_POS / across % down * ROWS,
            left: CUBE_POS % across * COLUMNS,
        };
        let mut wide = SharedMemory::<f32>::new(comptime!(v.wide()));
        let mut mixed = SharedMemory::<f32>::new(comptime!(PIXELS * CHANNELS));
        let mut sums = Array::<f32>::new(comptime!(SHARE * v.outputs));
        #[unroll]
        for i in 0..comptime!(SHARE * v.outputs) {
            sums[i] = f32::new(0.0);
        }
        for block in 0..s.in_stride.div_ceil(CHANNELS) {
            let first = block * CHANNELS;
            expand_tile(x, &layers.expansion, &mut wide, first, tile, s, ends.from, parameter, v);
            sync_cube();
            mix_tile(&wide, &layers.depthwise, &mut mixed, first, s, parameter, v);
            sync_cube();
            project_tile(&mixed, &layers.projection.weights, &mut sums, first, s, ends.to, v);
        }
        write_tile(x, &layers.projection.bias, &sums, y, tile, s, ends.to, v);
    }
}

/// Expanded channels from `first` on of the pixels that a tile sees; zeros outside the image.
#[cube]
fn expand_tile(
    x: &Array<f32>,
    layer: &Layer,
    wide: &mut SharedMemory<f32>,
    first: usize,
    tile: Tile,
    s: PassSizes,
    from: usize,
    parameter: f32,
    #[comptime] v: BlockVariant,
) {
    let width = comptime!(v.width());
    let mut at = UNIT_POS as usize;
    while at < comptime!(v.wide()) {
        let (channel, place) = (first + at % CHANNELS, at / CHANNELS);
        let iy = (tile.top * s.stride + place / width) as i32 - s.before_h as i32;
        let ix = (tile.left * s.stride + place % width) as i32 - s.before_w as i32;
        let mut value = f32::new(0.0);
        if iy >= 0 && ix >= 0 && iy < s.in_h as i32 && ix < s.in_w as i32 && channel < s.in_stride {
            let pixel = pixel_at(tile.image, iy as usize, ix as usize, s.in_h, s.in_w);
            if comptime!(v.expand) {
                let mut sum = layer.bias[channel];
                for i in 0..from {
                    sum += x[pixel * from + i] * layer.weights[channel * from + i];
                }
                value = activate(sum, parameter, v.activation);
            } else {
                value = x[pixel * from + channel];
            }
        }
        wide[at] = value;
        at += comptime!(UNITS as usize);
    }
}

/// The depthwise kernel over an expanded tile, `[pixel][channel]`.
#[cube]
fn mix_tile(
    wide: &SharedMemory<f32>,
    layer: &Layer,
    mixed: &mut SharedMemory<f32>,
    first: usize,
    s: PassSizes,
    parameter: f32,
    #[comptime] v: BlockVariant,
) {
    let width = comptime!(v.width());
    #[unroll]
    for i in 0..comptime!(PIXELS * CHANNELS / UNITS as usize) {
        let at = UNIT_POS as usize + i * comptime!(UNITS as usize);
        let (lane, pixel) = (at % CHANNELS, at / CHANNELS);
        let channel = first + lane;
        let corner = (pixel / COLUMNS * width + pixel % COLUMNS) * s.stride;
        let mut value = f32::new(0.0);
        if channel < s.in_stride {
            let mut sum = layer.bias[channel];
            #[unroll]
            for r in 0..comptime!(v.kernel_h) {
                #[unroll]
                for q in 0..comptime!(v.kernel_w) {
                    let factor = layer.weights[(channel * s.kernel_h + r) * s.kernel_w + q];
                    sum += wide[(corner + r * width + q) * CHANNELS + lane] * factor;
                }
            }
            value = activate(sum, parameter, v.activation);
        }
        mixed[at] = value;
    }
}

/// Adds the part of some expanded channels to the sums of a unit's pixels and output channels.
#[cube]
fn project_tile(
    mixed: &SharedMemory<f32>,
    weights: &Array<f32>,
    sums: &mut Array<f32>,
    first: usize,
    s: PassSizes,
    to: usize,
    #[comptime] v: BlockVariant,
) {
    let (column, line) = (UNIT_POS as usize % OUTPUTS, UNIT_POS as usize / OUTPUTS);
    let count = usize::min(s.in_stride - first, CHANNELS);
    for channel in 0..count {
        #[unroll]
        for j in 0..comptime!(v.outputs) {
            let output = column + j * OUTPUTS;
            if output < to {
                let factor = weights[output * s.in_stride + first + channel];
                #[unroll]
                for i in 0..SHARE {
                    sums[j * SHARE + i] += mixed[(line + i * LINES) * CHANNELS + channel] * factor;
                }
            }
        }
    }
}

/// Writes what a unit has summed, with bias and residual.
#[cube]
fn write_tile(
    x: &Array<f32>,
    bias: &Array<f32>,
    sums: &Array<f32>,
    y: &mut Array<f32>,
    tile: Tile,
    s: PassSizes,
    to: usize,
    #[comptime] v: BlockVariant,
) {
    let (column, line) = (UNIT_POS as usize % OUTPUTS, UNIT_POS as usize / OUTPUTS);
    #[unroll]
    for j in 0..comptime!(v.outputs) {
        let output = column + j * OUTPUTS;
        #[unroll]
        for i in 0..SHARE {
            let pixel = line + i * LINES;
            let (row, place) = (tile.top + pixel / COLUMNS, tile.left + pixel % COLUMNS);
            if output < to && row < s.out_h && place < s.out_w {
                let at = pixel_at(tile.image, row, place, s.out_h, s.out_w) * to + output;
                let mut value = sums[j * SHARE + i] + bias[output];
                if comptime!(v.residual) {
                    value += x[at];
                }
                y[at] = value;
            }
        }
    }
}

/// Weights and biases, laid out as they were given.
pub(super) struct Buffers {
    pub expand: Option<(GpuBuffer, GpuBuffer)>,
    pub depthwise: (GpuBuffer, GpuBuffer),
    pub project: (GpuBuffer, GpuBuffer),
}

impl Buffers {
    /// `None` where one of them is on the host.
    pub fn new(expand: Option<ConvWeights>, depthwise: ConvWeights, project: ConvWeights) -> Option<Self> {
        let pair = |w: ConvWeights| match (w.weight, w.bias) {
            (Buffer::Gpu(weight), Buffer::Gpu(bias)) => Some((weight, bias)),
            _ => None,
        };
        let expand = match expand {
            Some(w) => Some(pair(w)?),
            None => None,
        };
        Some(Self { expand, depthwise: pair(depthwise)?, project: pair(project)? })
    }
}

/// One call: the depthwise convolution's shapes, and what surrounds it.
pub(super) struct Call<'a> {
    pub g: &'a Geometry,
    /// Channels of the input.
    pub from: usize,
    /// Channels of the output.
    pub to: usize,
    pub activation: Activation,
    pub weights: &'a Buffers,
    /// Whether the input is added to the output.
    pub residual: bool,
}

impl Call<'_> {
    /// Queues it.
    pub fn run(&self, x: &GpuBuffer, y: &GpuBuffer) -> Result<()> {
        #[cfg(feature = "cuda")]
        if x.gpu().cuda().is_some() {
            return self.run_in_stages(x, y);
        }
        self.run_fused(x, y);
        Ok(())
    }

    /// Queues expansion, depthwise convolution and projection, with the maps between them in memory.
    #[cfg(feature = "cuda")]
    fn run_in_stages(&self, x: &GpuBuffer, y: &GpuBuffer) -> Result<()> {
        let gpu = x.gpu();
        let Buffers { expand, depthwise, project } = self.weights;
        let [n, h, w, e] = self.g.x;
        let wide = gpu.alloc::<f32>(n * h * w * e)?;
        let mut seen = x;
        if let Some((weight, bias)) = expand {
            let g = Geometry::new(super::OP, [n, h, w, self.from], [e, 1, 1, self.from], ConvOptions::default())?;
            let operands = Operands::new(x, weight, Some(bias), &wide);
            on_gpu(gpu, &g, Direction::Gather, &operands, self.activation)?;
            seen = &wide;
        }
        let mixed = gpu.alloc::<f32>(self.g.y.iter().product())?;
        let operands = Operands::new(seen, &depthwise.0, Some(&depthwise.1), &mixed);
        on_gpu(gpu, self.g, Direction::Gather, &operands, self.activation)?;
        let g = Geometry::new(super::OP, self.g.y, [self.to, 1, 1, e], ConvOptions::default())?;
        let residual = self.residual.then_some(x);
        let operands = Operands { residual, ..Operands::new(&mixed, &project.0, Some(&project.1), y) };
        on_gpu(gpu, &g, Direction::Gather, &operands, Activation::Identity)
    }

    fn run_fused(&self, x: &GpuBuffer, y: &GpuBuffer) {
        let gpu: &Gpu = x.gpu();
        let Buffers { expand, depthwise, project } = self.weights;
        let (kind, parameter) = self.activation.kind();
        let s = PassSizes::new(self.g, 0, Direction::Gather);
        let v = BlockVariant {
            kernel_h: s.kernel_h,
            kernel_w: s.kernel_w,
            stride: s.stride,
            outputs: self.to.div_ceil(OUTPUTS),
            expand: expand.is_some(),
            residual: self.residual,
            activation: kind,
        };
        let (wide, wide_bias) = expand.as_ref().unwrap_or(depthwise);
        launch!(
            gpu,
            inverted_residual_kernel,
            (grid(s.images * s.out_h.div_ceil(ROWS) * s.out_w.div_ceil(COLUMNS)), CubeDim::new_1d(UNITS)),
            x.arg(),
            LayersLaunch::new(
                LayerLaunch::new(wide.arg(), wide_bias.arg()),
                LayerLaunch::new(depthwise.0.arg(), depthwise.1.arg()),
                LayerLaunch::new(project.0.arg(), project.1.arg())
            ),
            y.arg(),
            s.arg(),
            EndsLaunch::new(self.from, self.to),
            parameter,
            v
        );
    }
}
