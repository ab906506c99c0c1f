//! SSIM on a GPU: one cube for a tile of 16x16 pixels of one channel.
//!
//! The tile and its halo are read once into shared memory; a horizontal pass makes the five moments
//! there, a vertical one finishes them in registers. The gradient is a second pass of the same shape
//! over the coefficient maps, with the adjoint of the windowed mean as a band of weights that depends
//! on the place. Bytes per element: 8 and the halo read, 4 written (gradient: 20 and 24).

use cubecl::prelude::*;

use super::gradient::ssim_slopes;
use super::{Moments, SsimConstants, SsimOptions, ssim};
use crate::adam::{AdamState, AdamStep, adam_update};
use crate::border::{Border, mirror};
use crate::conv::Nhwc;
use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch};
use crate::error::{Result, shape_error};
use crate::loss::absolute_error_slope;
use crate::reduce::cube_sum;
use crate::window::{adjoint_band, lead};

/// Pixels along one side of a tile.
const TILE: usize = 16;

/// Shapes and tables of SSIM between two batches.
pub(crate) struct Layout {
    pub gpu: Gpu,
    pub shape: Nhwc,
    /// Rows and columns of the map.
    pub out: (usize, usize),
    k: SsimConstants,
    border: Border,
    size: usize,
    weights: GpuBuffer,
    row_band: GpuBuffer,
    column_band: GpuBuffer,
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
struct Tile {
    image: usize,
    channel: usize,
    /// First row and column of the tile.
    top: usize,
    left: usize,
    /// Row and column of the unit in the tile.
    y: usize,
    x: usize,
}

/// The tile of this cube among `images x channels` maps of `h` x `w`; images outermost.
#[cube]
fn tile(h: usize, w: usize, channels: usize) -> Tile {
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
fn moments(
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

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, a map and their shape
fn ssim_map_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    map: &mut Array<f32>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    c1: f32,
    c2: f32,
    scale: f32,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let at = tile(oh, ow, c);
        let m = moments(x, y, weights, at, h, w, c, size, border);
        let (j, i) = (at.top + at.y, at.left + at.x);
        if j < oh && i < ow {
            map[((at.image * oh + j) * ow + i) * c + at.channel] = ssim(m, SsimConstants { c1, c2, scale });
        }
    }
}

/// Queues the SSIM map.
pub(super) fn map(l: &Layout, x: &GpuBuffer, y: &GpuBuffer, map: &mut GpuBuffer) {
    let ([_, h, w, c], (oh, ow), cubes) = (l.shape, l.out, l.map_cubes());
    let shape = (grid(cubes), CubeDim::new_1d(UNITS));
    launch!(
        l.gpu,
        ssim_map_kernel,
        shape,
        x.arg(),
        y.arg(),
        l.weights.arg(),
        map.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        l.k.c1,
        l.k.c2,
        l.k.scale,
        l.size,
        l.border
    );
}

/// All channels of a tile, one after the other; the mask is updated in place.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, two maps and their shape
fn ssim_mask_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    dissimilarity: &mut Array<f32>,
    mask: &mut Array<f32>,
    changed: &mut Array<Atomic<u32>>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    c1: f32,
    c2: f32,
    scale: f32,
    threshold: f32,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let spot = tile(oh, ow, 1usize);
        let mut sum = f32::new(0.0);
        for channel in 0..c {
            let at = Tile { image: spot.image, channel, top: spot.top, left: spot.left, y: spot.y, x: spot.x };
            let m = moments(x, y, weights, at, h, w, c, size, border);
            sum += ssim(m, SsimConstants { c1, c2, scale });
        }
        let (j, i) = (spot.top + spot.y, spot.left + spot.x);
        if j < oh && i < ow {
            let to = (spot.image * oh + j) * ow + i;
            let d = 1.0 - sum / f32::cast_from(c);
            let masked = select(d > threshold, f32::new(1.0), f32::new(0.0));
            dissimilarity[to] = d;
            if masked != mask[to] {
                changed[spot.image].fetch_add(1u32);
            }
            mask[to] = masked;
        }
    }
}

#[cube(launch_unchecked)]
fn clear_kernel(x: &mut Array<u32>, n: usize) {
    if ABSOLUTE_POS < n {
        x[ABSOLUTE_POS] = 0;
    }
}

/// Queues the dissimilarity map and the update of the mask.
pub(super) fn mask(
    l: &Layout,
    (x, y): (&GpuBuffer, &GpuBuffer),
    threshold: f32,
    dissimilarity: &mut GpuBuffer,
    mask: &mut GpuBuffer,
    changed: &mut GpuBuffer<u32>,
) {
    let ([n, h, w, c], (oh, ow)) = (l.shape, l.out);
    let cubes = l.map_cubes() / c;
    launch!(l.gpu, clear_kernel, crate::device::units(n), changed.arg(), n);
    let shape = (grid(cubes), CubeDim::new_1d(UNITS));
    launch!(
        l.gpu,
        ssim_mask_kernel,
        shape,
        x.arg(),
        y.arg(),
        l.weights.arg(),
        dissimilarity.arg(),
        mask.arg(),
        changed.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        l.k.c1,
        l.k.c2,
        l.k.scale,
        threshold,
        l.size,
        l.border
    );
}

/// What the slopes kernel reads and writes beside the coefficient maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slope {
    /// An upstream gradient per pixel is read, the map is written, coefficients for x and y.
    Map,
    /// The upstream gradient is one number; partial sums of SSIM are written, one for each cube;
    /// coefficients for x alone.
    Mean,
}

/// Coefficient maps of the gradient, one after the other: p, q, r and, for [`Slope::Map`], p of y.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, maps and their shape
fn slopes_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    weights: &Array<f32>,
    upstream: &Array<f32>,
    value: &mut Array<f32>,
    coefficients: &mut Array<f32>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    section: usize,
    constant: f32,
    c1: f32,
    c2: f32,
    scale: f32,
    #[comptime] what: Slope,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let at = tile(oh, ow, c);
        let m = moments(x, y, weights, at, h, w, c, size, border);
        let s = ssim_slopes(m, SsimConstants { c1, c2, scale });
        let (j, i) = (at.top + at.y, at.left + at.x);
        let inside = j < oh && i < ow;
        if inside {
            let to = ((at.image * oh + j) * ow + i) * c + at.channel;
            let mut g = constant;
            if comptime!(what == Slope::Map) {
                g = upstream[to];
                value[to] = s.value;
                coefficients[3 * section + to] = g * s.y;
            }
            coefficients[to] = g * s.x;
            coefficients[section + to] = g * s.squares;
            coefficients[2 * section + to] = g * s.product;
        }
        if comptime!(what == Slope::Mean) {
            let total = cube_sum(select(inside, s.value, f32::new(0.0)));
            if UNIT_POS == 0 {
                value[CUBE_POS] = total;
            }
        }
    }
}

/// Queues the coefficient maps. With an upstream map, `value` takes the SSIM map; with a constant, the
/// sums of SSIM over each cube.
pub(crate) fn slopes(
    l: &Layout,
    (x, y): (&GpuBuffer, &GpuBuffer),
    (upstream, constant): (Option<&GpuBuffer>, f32),
    value: &mut GpuBuffer,
    coefficients: &mut GpuBuffer,
) {
    let ([_, h, w, c], (oh, ow), cubes) = (l.shape, l.out, l.map_cubes());
    let what = if upstream.is_some() { Slope::Map } else { Slope::Mean };
    let upstream = upstream.unwrap_or(&l.weights);
    let section = l.map_len();
    launch!(
        l.gpu,
        slopes_kernel,
        (grid(cubes), CubeDim::new_1d(UNITS)),
        x.arg(),
        y.arg(),
        l.weights.arg(),
        upstream.arg(),
        value.arg(),
        coefficients.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        section,
        constant,
        l.k.c1,
        l.k.c2,
        l.k.scale,
        what,
        l.size,
        l.border
    );
}

/// Shapes of an image and its map, and where coefficient maps begin.
#[derive(CubeType, Clone, Copy)]
struct Shapes {
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    /// Where p begins; q and r begin after one and two sections.
    first: usize,
    section: usize,
}

/// Gradient of this unit's pixel: `F'(p) + 2 x F'(q) + y F'(r)`; the shapes say where p begins.
#[cube]
fn adjoint(
    coefficients: &Array<f32>,
    row_band: &Array<f32>,
    column_band: &Array<f32>,
    own: f32,
    other: f32,
    at: Tile,
    s: Shapes,
    #[comptime] size: usize,
    #[comptime] border: Border,
) -> f32 {
    let halo = comptime!(15 + size);
    let before = comptime!(lead(size, border));
    let square = comptime!(halo * halo);
    let plane = comptime!(halo * 16);
    let mut maps = SharedMemory::<f32>::new(comptime!(3 * square));
    let mut rows = SharedMemory::<f32>::new(comptime!(3 * plane));
    let unit = UNIT_POS as usize;
    let mut i = unit;
    while i < square {
        let row = at.top + i / halo;
        let column = at.left + i % halo;
        let inside = row >= before && column >= before && row - before < s.oh && column - before < s.ow;
        let mut p = f32::new(0.0);
        let mut q = f32::new(0.0);
        let mut r = f32::new(0.0);
        if inside {
            let from = ((at.image * s.oh + row - before) * s.ow + column - before) * s.c + at.channel;
            p = coefficients[s.first + from];
            q = coefficients[s.section + from];
            r = coefficients[2 * s.section + from];
        }
        maps[i] = p;
        maps[square + i] = q;
        maps[2 * square + i] = r;
        i += 256;
    }
    sync_cube();
    let mut i = unit;
    while i < plane {
        let from = (i / 16) * halo + i % 16;
        let column = usize::min(at.left + i % 16, s.w - 1);
        let mut p = f32::new(0.0);
        let mut q = f32::new(0.0);
        let mut r = f32::new(0.0);
        for d in 0..size {
            let weight = column_band[column * size + d];
            p += weight * maps[from + d];
            q += weight * maps[square + from + d];
            r += weight * maps[2 * square + from + d];
        }
        rows[i] = p;
        rows[plane + i] = q;
        rows[2 * plane + i] = r;
        i += 256;
    }
    sync_cube();
    let row = usize::min(at.top + at.y, s.h - 1);
    let mut p = f32::new(0.0);
    let mut q = f32::new(0.0);
    let mut r = f32::new(0.0);
    for d in 0..size {
        let weight = row_band[row * size + d];
        let from = (at.y + d) * 16 + at.x;
        p += weight * rows[from];
        q += weight * rows[plane + from];
        r += weight * rows[2 * plane + from];
    }
    p + 2.0 * own * q + other * r
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two images, maps and their shape
fn gradient_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    coefficients: &Array<f32>,
    row_band: &Array<f32>,
    column_band: &Array<f32>,
    dx: &mut Array<f32>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    first: usize,
    section: usize,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let at = tile(h, w, c);
        let (j, i) = (at.top + at.y, at.left + at.x);
        let inside = j < h && i < w;
        let to = select(inside, ((at.image * h + j) * w + i) * c + at.channel, 0usize);
        let s = Shapes { h, w, c, oh, ow, first, section };
        let g = adjoint(coefficients, row_band, column_band, x[to], y[to], at, s, size, border);
        if inside {
            dx[to] = g;
        }
    }
}

/// Queues the gradient with respect to `x` from its coefficient maps; p begins at section `first`.
pub(crate) fn gradient(
    l: &Layout,
    (x, y): (&GpuBuffer, &GpuBuffer),
    coefficients: &GpuBuffer,
    first: usize,
    dx: &mut GpuBuffer,
) {
    let ([_, h, w, c], (oh, ow), cubes) = (l.shape, l.out, l.image_cubes());
    let section = l.map_len();
    launch!(
        l.gpu,
        gradient_kernel,
        (grid(cubes), CubeDim::new_1d(UNITS)),
        x.arg(),
        y.arg(),
        coefficients.arg(),
        l.row_band.arg(),
        l.column_band.arg(),
        dx.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        first * section,
        section,
        l.size,
        l.border
    );
}

/// One step of the decomposition: gradient of SSIM, slope of the L1 term, Adam, all in one pass; the
/// sum of |x - l| before the step goes to `distance`, one for each cube.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // three images, moments, maps, their shape and a step
fn descend_kernel(
    x: &Array<f32>,
    prior: &Array<f32>,
    l: &mut Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    coefficients: &Array<f32>,
    row_band: &Array<f32>,
    column_band: &Array<f32>,
    distance: &mut Array<f32>,
    cubes: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    section: usize,
    lambda: f32,
    rate: f32,
    correction: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    #[comptime] size: usize,
    #[comptime] border: Border,
) {
    if CUBE_POS < cubes {
        let at = tile(h, w, c);
        let (j, i) = (at.top + at.y, at.left + at.x);
        let inside = j < h && i < w;
        let to = select(inside, ((at.image * h + j) * w + i) * c + at.channel, 0usize);
        let own = l[to];
        let s = Shapes { h, w, c, oh, ow, first: 0usize, section };
        let g = adjoint(coefficients, row_band, column_band, own, prior[to], at, s, size, border);
        let target = x[to];
        if inside {
            let step = AdamStep { rate, correction, beta1, one_minus_beta1, beta2, one_minus_beta2, eps };
            let slope = g + lambda * absolute_error_slope(own, target);
            let next = adam_update(AdamState { p: own, m: m[to], v: v[to] }, slope, step);
            l[to] = next.p;
            m[to] = next.m;
            v[to] = next.v;
        }
        let total = cube_sum(select(inside, (own - target).abs(), f32::new(0.0)));
        if UNIT_POS == 0 {
            distance[CUBE_POS] = total;
        }
    }
}

/// Buffers of a decomposition that change with every step.
pub(crate) struct Descent<'a> {
    pub l: &'a mut GpuBuffer,
    pub first: &'a mut GpuBuffer,
    pub second: &'a mut GpuBuffer,
    pub distance: &'a mut GpuBuffer,
}

/// Queues one step of the decomposition.
pub(crate) fn descend(
    layout: &Layout,
    (x, prior): (&GpuBuffer, &GpuBuffer),
    coefficients: &GpuBuffer,
    state: &mut Descent,
    lambda: f32,
    step: AdamStep,
) {
    let ([_, h, w, c], (oh, ow), cubes) = (layout.shape, layout.out, layout.image_cubes());
    let section = layout.map_len();
    launch!(
        layout.gpu,
        descend_kernel,
        (grid(cubes), CubeDim::new_1d(UNITS)),
        x.arg(),
        prior.arg(),
        state.l.arg(),
        state.first.arg(),
        state.second.arg(),
        coefficients.arg(),
        layout.row_band.arg(),
        layout.column_band.arg(),
        state.distance.arg(),
        cubes,
        h,
        w,
        c,
        oh,
        ow,
        section,
        lambda,
        step.rate,
        step.correction,
        step.beta1,
        step.one_minus_beta1,
        step.beta2,
        step.one_minus_beta2,
        step.eps,
        layout.size,
        layout.border
    );
}
