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

use super::{Moments, SsimConstants, SsimConstantsLaunch, SsimOptions};
use crate::border::{Border, mirror};
use crate::device::{Gpu, GpuBuffer};
use crate::error::{Result, shape_error};
use crate::shape::{Nhwc, pixel_at};
use crate::window::adjoint_band;

/// Pixels along one side of a tile.
pub(crate) const TILE: usize = 16;

/// Largest window whose tile fits into 32 KiB of shared memory, in the gradient.
const LARGEST_WINDOW: usize = 29;

/// Shapes and tables of SSIM between two batches.
pub(crate) struct Layout {
    pub gpu: Gpu,
    pub shape: Nhwc,
    /// Rows and columns of the map.
    pub out: (usize, usize),
    k: SsimConstants,
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
        let [_, oh, ow, _] = opts.map_shape(shape)?;
        let weights = opts.window.weights();
        let size = weights.len();
        if size > LARGEST_WINDOW {
            return shape_error(
                "ssim",
                format!("a window of {size} pixels; the GPU kernel takes up to {LARGEST_WINDOW}"),
            );
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

    /// Shapes and constants as a kernel argument, for `cubes` tiles.
    pub fn arg<R: Runtime>(&self, cubes: usize) -> ShapesLaunch<R> {
        let ([_, h, w, c], (oh, ow)) = (self.shape, self.out);
        let k = SsimConstantsLaunch::new(self.k.c1, self.k.c2, self.k.scale);
        ShapesLaunch::new(cubes, h, w, c, oh, ow, self.map_len(), k)
    }

    /// Of SSIM.
    #[cfg(feature = "cuda")]
    pub fn constants(&self) -> SsimConstants {
        self.k
    }

    /// What kernels are compiled for.
    pub fn variant(&self) -> WindowVariant {
        WindowVariant { size: self.size, border: self.border }
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

/// What every kernel over a [`Layout`] is told.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Shapes {
    /// Tiles, one for each cube.
    pub cubes: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Rows and columns of the map.
    pub oh: usize,
    pub ow: usize,
    /// Elements of the map: coefficient maps lie that far from each other.
    pub section: usize,
    pub k: SsimConstants,
}

/// Two batches, and the weights of the window over them.
#[derive(CubeType, CubeLaunch)]
struct Pair {
    x: Array<f32>,
    y: Array<f32>,
    weights: Array<f32>,
}

impl Layout {
    /// As a kernel argument.
    fn pair<R: Runtime>(&self, x: &GpuBuffer, y: &GpuBuffer) -> PairLaunch<R> {
        PairLaunch::new(x.arg(), y.arg(), self.weights.arg())
    }
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowVariant {
    /// Pixels along one side of the window.
    pub size: usize,
    pub border: Border,
}

impl WindowVariant {
    /// Side of a tile and its surroundings.
    fn halo(self) -> usize {
        TILE - 1 + self.size
    }

    /// Rows above and columns left of a tile that its windows see.
    fn before(self) -> usize {
        if self.border == Border::Valid { 0 } else { self.size / 2 }
    }
}

/// Where a cube's tile lies.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Tile {
    pub image: usize,
    pub channel: usize,
    /// First row and column of the tile.
    pub top: usize,
    pub left: usize,
}

/// The tile of this cube among `images x channels` maps of `h` x `w`; images outermost.
#[cube]
pub(crate) fn tile(h: usize, w: usize, channels: usize) -> Tile {
    let down = h.div_ceil(TILE);
    let across = w.div_ceil(TILE);
    let left = (CUBE_POS % across) * TILE;
    let top = ((CUBE_POS / across) % down) * TILE;
    let map = CUBE_POS / (across * down);
    Tile { image: map / channels, channel: map % channels, top, left }
}

/// Floats from one row of horizontal means of a tile to the next: units that write groups of them meet in a bank twice at most.
const PITCH: usize = TILE + 1;

/// Neighbouring means that a unit makes at a time, one below the other.
pub(crate) const GROUP: usize = 4;
/// Units of a cube that makes [`moments`].
pub(crate) const QUARTER: u32 = (TILE * TILE / GROUP) as u32;

/// Row and column in the tile of the `o`-th of the pixels of this unit.
#[cube]
pub(crate) fn spot(o: usize) -> (usize, usize) {
    let unit = UNIT_POS as usize;
    (unit / TILE * GROUP + o, unit % TILE)
}

/// Copies the pixels of two maps in a square of `side` x `side`, which begins `reach` above and left of a tile, to shared
/// memory, one map after the other; by `units` units. A unit issues all its loads before it waits for the first.
#[cube]
pub(crate) fn load_square(
    x: &Array<f32>,
    y: &Array<f32>,
    tiles: &mut SharedMemory<f32>,
    at: Tile,
    s: Shapes,
    #[comptime] side: usize,
    #[comptime] reach: i32,
    #[comptime] units: u32,
    #[comptime] border: Border,
) {
    let square = comptime!(side * side);
    let each = comptime!(square.div_ceil(units as usize));
    let mut a = Array::<f32>::new(each);
    let mut b = Array::<f32>::new(each);
    #[unroll]
    for j in 0..each {
        let i = usize::min(UNIT_POS as usize + j * comptime!(units as usize), comptime!(square - 1));
        let row = mirror((at.top + i / side) as i32 - reach, s.h as i32, border);
        let column = mirror((at.left + i % side) as i32 - reach, s.w as i32, border);
        let inside = row >= 0 && column >= 0;
        let pixel = pixel_at(at.image, row as usize, column as usize, s.h, s.w) * s.c + at.channel;
        let from = select(inside, pixel, 0usize);
        a[j] = select(inside, x[from], f32::new(0.0));
        b[j] = select(inside, y[from], f32::new(0.0));
    }
    #[unroll]
    for j in 0..each {
        let i = UNIT_POS as usize + j * comptime!(units as usize);
        if i < square {
            tiles[i] = a[j];
            tiles[square + i] = b[j];
        }
    }
}

/// Means of a unit: of x, y, x^2, y^2 and xy.
const MEANS: usize = 5;

/// The moments of the pixels of this unit, [`MEANS`] numbers each. A unit makes [`GROUP`] neighbouring means at a time, so
/// that each value of a window is read once for them.
#[cube]
pub(crate) fn moments(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    at: Tile,
    s: Shapes,
    #[comptime] v: WindowVariant,
) -> Array<f32> {
    let halo = comptime!(v.halo());
    let plane = comptime!(PITCH * v.halo());
    let mut tiles = SharedMemory::<f32>::new(comptime!(2 * halo * halo)); // of x, then of y
    let mut rows = SharedMemory::<f32>::new(comptime!(MEANS * plane));
    let mut window = Array::<f32>::new(v.size);
    #[unroll]
    for t in 0..v.size {
        window[t] = weights[t];
    }
    // A unit may still read what the channel before has left here.
    sync_cube();
    load_square(x, y, &mut tiles, at, s, halo, comptime!(v.before() as i32), QUARTER, v.border);
    sync_cube();
    horizontal_means(&tiles, &window, &mut rows, v);
    sync_cube();
    let (first, column) = spot(0usize);
    let mut sums = zeros();
    #[unroll]
    for t in 0..comptime!(v.size + GROUP - 1) {
        let from = (first + t) * PITCH + column;
        #[unroll]
        for k in 0..MEANS {
            let value = rows[k * plane + from];
            #[unroll]
            for o in 0..GROUP {
                if comptime!(t >= o && t < o + v.size) {
                    sums[MEANS * o + k] += window[comptime!(t - o)] * value;
                }
            }
        }
    }
    sums
}

/// Horizontal means over the rows that a tile sees.
#[cube]
fn horizontal_means(
    tiles: &SharedMemory<f32>,
    window: &Array<f32>,
    rows: &mut SharedMemory<f32>,
    #[comptime] v: WindowVariant,
) {
    let halo = comptime!(v.halo());
    let plane = comptime!(PITCH * v.halo());
    let groups = comptime!(TILE / GROUP);
    let mut i = UNIT_POS as usize;
    while i < comptime!(halo * groups) {
        let (row, first) = (i / groups, i % groups * GROUP);
        let mut sums = zeros();
        #[unroll]
        for t in 0..comptime!(v.size + GROUP - 1) {
            let a = tiles[row * halo + first + t];
            let b = tiles[comptime!(halo * halo) + row * halo + first + t];
            let (aa, bb, ab) = (a * a, b * b, a * b);
            #[unroll]
            for o in 0..GROUP {
                if comptime!(t >= o && t < o + v.size) {
                    let weight = window[comptime!(t - o)];
                    sums[MEANS * o] += weight * a;
                    sums[MEANS * o + 1] += weight * b;
                    sums[MEANS * o + 2] += weight * aa;
                    sums[MEANS * o + 3] += weight * bb;
                    sums[MEANS * o + 4] += weight * ab;
                }
            }
        }
        #[unroll]
        for o in 0..GROUP {
            #[unroll]
            for k in 0..MEANS {
                rows[k * plane + row * PITCH + first + o] = sums[MEANS * o + k];
            }
        }
        i += comptime!(QUARTER as usize);
    }
}

/// [`MEANS`] sums for each pixel of a unit, all zero.
#[cube]
fn zeros() -> Array<f32> {
    let mut sums = Array::<f32>::new(comptime!(GROUP * MEANS));
    #[unroll]
    for k in 0..comptime!(GROUP * MEANS) {
        sums[k] = f32::new(0.0);
    }
    sums
}

/// The moments of the `o`-th pixel.
#[cube]
pub(crate) fn moment(sums: &Array<f32>, o: usize) -> Moments {
    let at = MEANS * o;
    Moments { x: sums[at], y: sums[at + 1], xx: sums[at + 2], yy: sums[at + 3], xy: sums[at + 4] }
}
