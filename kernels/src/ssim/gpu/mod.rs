//! SSIM on a GPU: one cube for a tile of 16x16 pixels of one channel.
//!
//! The tile and its halo are read once into shared memory; a horizontal pass makes the five moments
//! there, a vertical one finishes them in registers. The gradient is a second pass of the same shape
//! over the coefficient maps, with the adjoint of the windowed mean as a band of weights that depends
//! on the place. Bytes per element: 8 and the halo read, 4 written (gradient: 20 and 24).

use cubecl::prelude::*;

mod gradient;
mod map;

pub(super) use gradient::{gradient, slopes};
pub(super) use map::{map, mask};

use super::{Moments, SsimConstants, SsimOptions};
use crate::border::{Border, mirror};
use crate::conv::Nhwc;
use crate::device::{Gpu, GpuBuffer};
use crate::error::{Result, shape_error};
use crate::window::adjoint_band;

/// Pixels along one side of a tile.
const TILE: usize = 16;

/// Shapes and tables of SSIM between two batches.
pub(crate) struct Layout {
    pub gpu: Gpu,
    pub shape: Nhwc,
    /// Rows and columns of the map.
    pub out: (usize, usize),
    /// Constants of the formula.
    pub k: SsimConstants,
    pub border: Border,
    /// Pixels along one side of the window.
    pub size: usize,
    /// Weights of the window.
    pub weights: GpuBuffer,
    /// Adjoint of the windowed mean along rows and columns.
    pub row_band: GpuBuffer,
    pub column_band: GpuBuffer,
}

impl Layout {
    pub fn new(gpu: &Gpu, shape: Nhwc, opts: &SsimOptions) -> Result<Self> {
        const MOST: usize = 19;
        let [_, oh, ow, _] = opts.map_shape(shape)?;
        let weights = opts.window.weights();
        let size = weights.len();
        if size > MOST {
            return shape_error("ssim", format!("a window of {size} pixels; the GPU kernel takes up to {MOST}"));
        }
        Ok(Self {
            gpu: gpu.clone(),
            shape,
            out: (oh, ow),
            k: opts.constants(),
            border: opts.border,
            size,
            weights: gpu.constants(&weights)?,
            row_band: gpu.constants(&adjoint_band(shape[1], opts.window, opts.border))?,
            column_band: gpu.constants(&adjoint_band(shape[2], opts.window, opts.border))?,
        })
    }

    /// Elements of the map.
    pub fn map_len(&self) -> usize {
        self.shape[0] * self.out.0 * self.out.1 * self.shape[3]
    }

    /// Cubes that tile `h` x `w` pixels of every channel of every image.
    fn cubes(&self, (h, w): (usize, usize)) -> usize {
        h.div_ceil(TILE) * w.div_ceil(TILE) * self.shape[0] * self.shape[3]
    }

    /// Cubes of one image.
    pub fn map_cubes(&self) -> usize {
        self.cubes(self.out)
    }

    /// Cubes of the adjoint.
    pub fn image_cubes(&self) -> usize {
        self.cubes((self.shape[1], self.shape[2]))
    }
}

/// Where a cube's tile lies, and its unit in it.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Tile {
    pub image: usize,
    pub channel: usize,
    /// First row and column of the tile.
    pub top: usize,
    pub left: usize,
    /// Row and column of the unit in the tile.
    pub y: usize,
    pub x: usize,
}

/// The tile of this cube among `images x channels` maps of `h` x `w`; images outermost.
#[cube]
pub(crate) fn tile(h: usize, w: usize, channels: usize) -> Tile {
    let down = h.div_ceil(16);
    let across = w.div_ceil(16);
    let left = (CUBE_POS % across) * 16;
    let top = ((CUBE_POS / across) % down) * 16;
    let map = CUBE_POS / (across * down);
    let unit = UNIT_POS as usize;
    Tile { image: map / channels, channel: map % channels, top, left, y: unit / 16, x: unit % 16 }
}

/// The moments of this unit's pixel.
#[cube]
pub(crate) fn moments(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    at: Tile,
    h: usize,
    w: usize,
    c: usize,
    #[comptime] size: usize,
    #[comptime] border: Border,
) -> Moments {
    let halo = comptime!(15 + size);
    let shift = comptime!(if border == Border::Valid { 0i32 } else { (size / 2) as i32 });
    let mut sx = SharedMemory::<f32>::new(comptime!(halo * halo));
    let mut sy = SharedMemory::<f32>::new(comptime!(halo * halo));
    let mut rows = SharedMemory::<f32>::new(comptime!(5 * halo * 16));
    let unit = UNIT_POS as usize;
    // A unit of the last cube before may still read what is overwritten here.
    sync_cube();
    let mut i = unit;
    while i < halo * halo {
        let row = mirror((at.top + i / halo) as i32 - shift, h as i32, border);
        let column = mirror((at.left + i % halo) as i32 - shift, w as i32, border);
        let mut a = f32::new(0.0);
        let mut b = f32::new(0.0);
        if row >= 0 && column >= 0 {
            let from = ((at.image * h + row as usize) * w + column as usize) * c + at.channel;
            a = x[from];
            b = y[from];
        }
        sx[i] = a;
        sy[i] = b;
        i += 256;
    }
    sync_cube();
    let plane = comptime!(halo * 16);
    let mut i = unit;
    while i < plane {
        let from = (i / 16) * halo + i % 16;
        let mut m =
            Moments { x: f32::new(0.0), y: f32::new(0.0), xx: f32::new(0.0), yy: f32::new(0.0), xy: f32::new(0.0) };
        for t in 0..size {
            let weight = weights[t];
            let a = sx[from + t];
            let b = sy[from + t];
            m.x += weight * a;
            m.y += weight * b;
            m.xx += weight * a * a;
            m.yy += weight * b * b;
            m.xy += weight * a * b;
        }
        rows[i] = m.x;
        rows[plane + i] = m.y;
        rows[2 * plane + i] = m.xx;
        rows[3 * plane + i] = m.yy;
        rows[4 * plane + i] = m.xy;
        i += 256;
    }
    sync_cube();
    let mut m = Moments { x: f32::new(0.0), y: f32::new(0.0), xx: f32::new(0.0), yy: f32::new(0.0), xy: f32::new(0.0) };
    for t in 0..size {
        let weight = weights[t];
        let from = (at.y + t) * 16 + at.x;
        m.x += weight * rows[from];
        m.y += weight * rows[plane + from];
        m.xx += weight * rows[2 * plane + from];
        m.yy += weight * rows[3 * plane + from];
        m.xy += weight * rows[4 * plane + from];
    }
    m
}
