//! One step of the decomposition in one launch.
//!
//! A cube of 256 units takes a tile of 16x16 pixels of one channel through a whole step: windowed means
//! of the background over the tile and its surroundings, slopes of SSIM there, their adjoint back on
//! the tile, slope of the L1 term, Adam. What two neighbouring tiles both need is computed twice (28 %
//! more operations than two passes for a window of 11), so that nothing but the background is exchanged
//! through memory and no step waits for a second launch. Backgrounds alternate between two buffers.
//! Bytes per element and step: 36 and the surroundings; a unit makes four neighbouring means at a time,
//! reading each value of its window once.

use cubecl::prelude::*;

use super::slopes::{adjoint, adjoint_rows, background_means, coefficients};
use crate::adam::{AdamState, AdamStep, adam_update};
use crate::border::Border;
use crate::device::UNITS;
use crate::loss::absolute_error_slope;
use crate::reduce::cube_sum;
use crate::shape::pixel_at;
use crate::ssim;
use crate::ssim::gpu::{GROUP, Shapes, TILE, Tile, load_square, moment, moments, spot, tile};
use crate::window::lead;

/// Means of the prior and of its square on one tile.
#[cube(launch_unchecked)]
pub(super) fn known_kernel(
    prior: &Array<f32>,
    weights: &Array<f32>,
    known: &mut Array<f32>,
    s: Shapes,
    #[comptime] v: ssim::gpu::WindowVariant,
) {
    if CUBE_POS < s.cubes {
        let at = tile(s.oh, s.ow, s.c);
        let found = moments(prior, prior, weights, at, s, v);
        #[unroll]
        for o in 0..GROUP {
            let (row, column) = spot(o);
            let (j, i) = (at.top + row, at.left + column);
            if j < s.oh && i < s.ow {
                let m = moment(&found, o);
                let to = pixel_at(at.image, j, i, s.oh, s.ow) * s.c + at.channel;
                known[to] = m.y;
                known[s.section + to] = m.yy;
            }
        }
    }
}

/// Images and maps that a step reads; the background of the step before is `from`.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Read {
    x: Array<f32>,
    prior: Array<f32>,
    from: Array<f32>,
    /// Means of the prior and of its square, one map after the other.
    known: Array<f32>,
}

/// Weights of the window, and its adjoint along rows and columns.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Tables {
    weights: Array<f32>,
    row_band: Array<f32>,
    column_band: Array<f32>,
}

/// What a step writes.
#[derive(CubeType, CubeLaunch)]
pub(super) struct StepOutputs {
    /// The background.
    to: Array<f32>,
    /// First and second moments of Adam, one after the other.
    adam: Array<f32>,
    /// Sums of SSIM and of |x - l| over the pixels of each cube.
    similar: Array<f32>,
    distance: Array<f32>,
}

/// Numbers that all elements of a step have in common.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct StepConstants {
    /// Elements of an image batch; second moments lie that far behind the first.
    len: usize,
    /// Slope of the loss in SSIM.
    upstream: f32,
    lambda: f32,
    adam: AdamStep,
}

/// What the kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StepVariant {
    /// Whether the loss is wanted.
    pub measured: bool,
    /// Pixels along one side of the window.
    pub size: usize,
    pub border: Border,
}

impl StepVariant {
    /// Side of the square of coefficients that the adjoint reads for a tile.
    pub fn halo(self) -> usize {
        TILE - 1 + self.size
    }

    /// Side of the square of background that those coefficients need.
    pub fn wide(self) -> usize {
        TILE - 2 + 2 * self.size
    }

    /// Rows above and columns left of a tile in that square.
    fn reach(self) -> usize {
        self.before() + if self.border == Border::Valid { 0 } else { self.size / 2 }
    }

    /// Rows above and columns left of a tile in the square of coefficients.
    pub fn before(self) -> usize {
        lead(self.size, self.border)
    }

    /// Floats between two horizontal means of the background.
    pub fn plane(self) -> usize {
        self.wide() * self.halo()
    }

    /// Floats between two maps of coefficients.
    pub fn square(self) -> usize {
        self.halo() * self.halo()
    }

    /// Floats for the background and the prior of a tile, or for three coefficient maps.
    fn tiles_len(self) -> usize {
        (2 * self.wide() * self.wide() + GROUP).max(3 * self.square())
    }

    /// Floats for three horizontal means of a tile; the last group of rows reads two lines beyond.
    fn rows_len(self) -> usize {
        3 * self.plane() + 3 * self.halo()
    }
}

/// The pixel that a unit moves; outside the image the corner of the tile, which no other cube writes.
#[derive(CubeType, Clone, Copy)]
struct Pixel {
    inside: bool,
    place: usize,
    l: f32,
    x: f32,
    prior: f32,
    first_moment: f32,
    second_moment: f32,
}

/// One step on one tile.
#[cube(launch_unchecked)]
pub(super) fn descend_kernel(
    read: &Read,
    tables: &Tables,
    written: &mut StepOutputs,
    s: Shapes,
    figures: StepConstants,
    #[comptime] v: StepVariant,
) {
    if CUBE_POS < s.cubes {
        let at = tile(s.h, s.w, s.c);
        // Background and prior, then the coefficient maps; a group at the edge reads a little beyond.
        let mut tiles = SharedMemory::<f32>::new(comptime!(v.tiles_len()));
        // Horizontal means of l, l^2 and l * prior, then of the coefficients.
        let mut rows = SharedMemory::<f32>::new(comptime!(v.rows_len()));
        // Weights of the adjoint for the rows, then for the columns of the tile.
        let mut bands = SharedMemory::<f32>::new(comptime!(2 * TILE * v.size));

        // All that a unit reads from memory is under way before the first of it is waited for.
        let own = own_pixel(read, &written.adam, at, s, figures.len);
        let (row_weight, column_weight) = own_band(tables, at, s, v.size);
        load_square(
            &read.from,
            &read.prior,
            &mut tiles,
            at,
            s,
            comptime!(v.wide()),
            comptime!(v.reach() as i32),
            UNITS,
            v.border,
        );
        clear_beyond(&mut tiles, &mut rows, v);
        if (UNIT_POS as usize) < comptime!(TILE * v.size) {
            bands[UNIT_POS as usize] = row_weight;
            bands[comptime!(TILE * v.size) + UNIT_POS as usize] = column_weight;
        }
        let mut window = Array::<f32>::new(v.size);
        #[unroll]
        for t in 0..v.size {
            window[t] = tables.weights[t];
        }
        sync_cube();
        background_means(&tiles, &window, &mut rows, v);
        sync_cube();
        let own_ssim = coefficients(&rows, &window, &read.known, &mut tiles, at, s, figures.upstream, v);
        sync_cube();
        adjoint_rows(&tiles, &bands, &mut rows, v);
        sync_cube();
        let slopes = adjoint(&rows, &bands, v);
        let mut own_distance = f32::new(0.0);
        if own.inside {
            let similarity = slopes.l + 2.0 * own.l * slopes.square + own.prior * slopes.product;
            let slope = similarity + figures.lambda * absolute_error_slope(own.l, own.x);
            let state = AdamState { p: own.l, m: own.first_moment, v: own.second_moment };
            let next = adam_update(state, slope, figures.adam);
            written.to[own.place] = next.p;
            written.adam[own.place] = next.m;
            written.adam[figures.len + own.place] = next.v;
            own_distance = (own.l - own.x).abs();
        }
        if comptime!(v.measured) {
            let ssim_sum = cube_sum(own_ssim);
            let distance_sum = cube_sum(own_distance);
            if UNIT_POS == 0 {
                written.similar[CUBE_POS] = ssim_sum;
                written.distance[CUBE_POS] = distance_sum;
            }
        }
    }
}

/// Reads the pixel of this unit.
#[cube]
fn own_pixel(read: &Read, adam: &Array<f32>, at: Tile, s: Shapes, len: usize) -> Pixel {
    let unit = UNIT_POS as usize;
    let (y, x) = (at.top + unit / TILE, at.left + unit % TILE);
    let inside = y < s.h && x < s.w;
    let pixel = pixel_at(at.image, y, x, s.h, s.w) * s.c + at.channel;
    let corner = pixel_at(at.image, at.top, at.left, s.h, s.w) * s.c + at.channel;
    let place = select(inside, pixel, corner);
    Pixel {
        inside,
        place,
        l: read.from[place],
        x: read.x[place],
        prior: read.prior[place],
        first_moment: adam[place],
        second_moment: adam[len + place],
    }
}

/// The weight of the adjoint along rows and the one along columns that this unit brings to shared memory.
#[cube]
fn own_band(tables: &Tables, at: Tile, s: Shapes, #[comptime] size: usize) -> (f32, f32) {
    let band = usize::min(UNIT_POS as usize, comptime!(TILE * size - 1));
    let (line, tap) = (band / size, band % size);
    let row_weight = tables.row_band[usize::min(at.top + line, s.h - 1) * size + tap];
    let column_weight = tables.column_band[usize::min(at.left + line, s.w - 1) * size + tap];
    (row_weight, column_weight)
}

/// Clears what groups at the edge read beyond; their sums there are dropped.
#[cube]
fn clear_beyond(tiles: &mut SharedMemory<f32>, rows: &mut SharedMemory<f32>, #[comptime] v: StepVariant) {
    let unit = UNIT_POS as usize;
    if unit < GROUP {
        tiles[comptime!(2 * v.wide() * v.wide()) + unit] = 0.0;
    }
    if unit < comptime!(3 * v.halo()) {
        rows[comptime!(3 * v.plane()) + unit] = 0.0;
    }
}
