//! Gradients of SSIM.
//!
//! With upstream gradient g of the map, `dx = F'(g p) + 2 x F'(g q) + y F'(g r)`, where F' is the
//! adjoint of the windowed mean and p, q, r are the slopes of SSIM with respect to the means of x,
//! x^2 and xy. The coefficient maps g p, g q, g r are written once and read once.

use cubecl::prelude::*;
use rayon::prelude::*;

use super::{Moments, Scratch, SsimConstants, SsimOptions, check_pair, first, gpu, means, read};
use crate::device::{Buffer, Device, HostBuffer, Reused, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::reduce::group_sums;
use crate::shape::Nhwc;
use crate::simd::{Wide, by_registers, formulas, lanes_fn};
use crate::window::{WindowPlan, weighted_rows};

formulas! {
    use crate::ssim::wide::Moments;

    /// SSIM at one pixel and its slopes.
    pub struct Slopes {
        /// SSIM itself.
        value,
        /// Slope with respect to the mean of x.
        x,
        /// Slope with respect to the mean of y.
        y,
        /// Slope with respect to the mean of x^2, equal to that of y^2.
        squares,
        /// Slope with respect to the mean of xy.
        product,
    }

    /// SSIM and its slopes, by the quotient rule on S = a1 a2 / (b1 b2).
    pub fn ssim_slopes(m: Moments; k: SsimConstants) -> Slopes {
        let a1 = 2.0 * m.x * m.y + k.c1;
        let a2 = 2.0 * k.scale * (m.xy - m.x * m.y) + k.c2;
        let b1 = m.x * m.x + m.y * m.y + k.c1;
        let b2 = k.scale * (m.xx - m.x * m.x + m.yy - m.y * m.y) + k.c2;
        let inverse = 1.0 / (b1 * b2);
        let value = a1 * a2 * inverse;
        let on_a1 = a2 * inverse;
        let on_a2 = a1 * inverse;
        let on_b1 = -value * b2 * inverse;
        let on_b2 = -value * b1 * inverse;
        let own = 2.0 * (on_b1 - k.scale * on_b2);
        let other = 2.0 * (on_a1 - k.scale * on_a2);
        Slopes {
            value,
            x: own * m.x + other * m.y,
            y: own * m.y + other * m.x,
            squares: k.scale * on_b2,
            product: 2.0 * k.scale * on_a2,
        }
    }
}

lanes_fn! {
    /// Slopes over one row of moments x, y, xx, yy, xy, times a constant upstream gradient: the
    /// coefficients p, q, r for x. Returns the sum of SSIM over the row.
    pub(crate) fn slopes_row<L>(
        moments: [&[f32]; 5],
        k: SsimConstants,
        upstream: f32,
        p: &mut [f32],
        q: &mut [f32],
        r: &mut [f32],
    ) -> f64 {
        let n = p.len();
        let (moments, q, r) = (first(n, moments), &mut q[..n], &mut r[..n]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        let mut sum = zero;
        by_registers!(L, n, |part| {
            let s = wide::ssim_slopes(read(zero, moments, &part), k);
            sum = sum.add(s.value.0.first(part.len()));
            (upstream * s.x).0.write(&mut p[part.clone()]);
            (upstream * s.squares).0.write(&mut q[part.clone()]);
            (upstream * s.product).0.write(&mut r[part]);
        });
        f64::from(sum.sum())
    }
}

lanes_fn! {
    /// Like [`slopes_row`] with an upstream gradient per pixel; also writes the map and, where there is room, the
    /// coefficient for y.
    fn slopes_map_row<L>(
        moments: [&[f32]; 5],
        k: SsimConstants,
        upstream: &[f32],
        map: &mut [f32],
        coefficients: [&mut [f32]; 4],
    ) {
        let ([px, py, q, r], n) = (coefficients, upstream.len());
        let (moments, map, px, q, r) = (first(n, moments), &mut map[..n], &mut px[..n], &mut q[..n], &mut r[..n]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        by_registers!(L, n, |part| {
            let s = wide::ssim_slopes(read(zero, moments, &part), k);
            let upstream = Wide(zero.read(&upstream[part.clone()]));
            s.value.0.write(&mut map[part.clone()]);
            (upstream * s.x).0.write(&mut px[part.clone()]);
            if !py.is_empty() {
                (upstream * s.y).0.write(&mut py[part.clone()]);
            }
            (upstream * s.squares).0.write(&mut q[part.clone()]);
            (upstream * s.product).0.write(&mut r[part]);
        });
    }
}

lanes_fn! {
    /// `out = p + 2 x q + y r`.
    fn combine<L>(p: &[f32], q: &[f32], r: &[f32], x: &[f32], y: &[f32], out: &mut [f32]) {
        let n = out.len();
        let (p, q, r, x, y) = (&p[..n], &q[..n], &r[..n], &x[..n], &y[..n]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        by_registers!(L, n, |part| {
            let (p, q, r) = (zero.read(&p[part.clone()]), zero.read(&q[part.clone()]), zero.read(&r[part.clone()]));
            let (x, y) = (zero.read(&x[part.clone()]), zero.read(&y[part.clone()]));
            y.mul_add(r, x.add(x).mul_add(q, p)).write(&mut out[part]);
        });
    }
}

/// Lines and rows of the adjoint.
pub(crate) struct AdjointScratch {
    line: Reused<f32>,
    rows: [Reused<f32>; 3],
}

impl AdjointScratch {
    pub fn new(plan: &WindowPlan) -> Self {
        Self { line: plan.adjoint_line(), rows: std::array::from_fn(|_| plan.adjoint_row()) }
    }
}

/// Gradient of row `j` of one image: adjoint of three coefficient maps, combined with x and y.
pub(crate) fn adjoint_into(
    plan: &WindowPlan,
    scratch: &mut AdjointScratch,
    coefficients: [&[f32]; 3],
    j: usize,
    (x, y): (&[f32], &[f32]),
    out: &mut [f32],
) {
    let AdjointScratch { line, rows } = scratch;
    let [p, q, r] = rows;
    let mut adjoint = |map: &[f32], row| -> _ {
        weighted_rows(&plan.adjoint_rows[j], map, plan.adjoint_centre(line));
        plan.horizontal_adjoint(line, row)
    };
    let (p, q, r) = (adjoint(coefficients[0], p), adjoint(coefficients[1], q), adjoint(coefficients[2], r));
    combine(p, q, r, x, y, out);
}

/// Gradients of one whole batch from its coefficient maps.
fn adjoint_images(plan: &WindowPlan, maps: [&[f32]; 3], x: &[f32], y: &[f32], dx: &mut [f32]) {
    let (row, map) = (plan.row_len(), plan.out_h * plan.out_len());
    dx.par_chunks_mut(row).with_min_len(8).enumerate().for_each_init(
        || AdjointScratch::new(plan),
        |scratch, (at, out)| {
            let (n, j) = (at / plan.h, at % plan.h);
            let maps = maps.map(|m| &m[n * map..(n + 1) * map]);
            let part = at * row..(at + 1) * row;
            adjoint_into(plan, scratch, maps, j, (&x[part.clone()], &y[part]), out);
        },
    );
}

/// SSIM map and, from the upstream gradient of the map, the gradient with respect to x and, when
/// asked for, y; the moments are computed once.
///
/// # Errors
/// When the window does not fit, or lengths or devices differ.
#[allow(clippy::too_many_arguments)] // two operands, a map and three gradients
pub fn ssim_map_with_gradient<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    shape: Nhwc,
    opts: &SsimOptions,
    grad: impl Into<View<'a>>,
    map: impl Into<ViewMut<'a>>,
    dx: impl Into<ViewMut<'a>>,
    dy: Option<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "ssim_map_with_gradient";
    let (x, y, grad, map, dx) = (x.into(), y.into(), grad.into(), map.into(), dx.into());
    let plan = WindowPlan::new(OP, shape, opts.window, opts.border)?;
    check_pair(OP, x, y, shape)?;
    let len = shape[0] * plan.out_h * plan.out_len();
    check_len(OP, "gradient", grad.len(), len)?;
    check_len(OP, "map", map.len(), len)?;
    check_len(OP, "x gradient", dx.len(), x.len())?;
    if let Some(dy) = &dy {
        place(OP, &[&x, dy])?;
        check_len(OP, "y gradient", dy.len(), y.len())?;
    }
    match place(OP, &[&x, &y, &grad, &map, &dx])? {
        Some(gpu) => {
            let layout = gpu::Layout::new(&gpu, shape, opts)?;
            let mut coefficients = gpu.alloc(4 * layout.map_len())?;
            let (x, y) = (x.device(), y.device());
            gpu::slopes(&layout, (x, y), grad.device(), map.device(), &mut coefficients);
            gpu::gradient(&layout, (x, y), &coefficients, 0, dx.device());
            if let Some(dy) = dy {
                gpu::gradient(&layout, (y, x), &coefficients, 3, dy.device());
            }
        }
        None => {
            let pair = (x.host(), y.host());
            let gradients = (dx.host(), dy.map(ViewMut::host));
            gradient_on_host(&plan, opts.constants(), pair, grad.host(), map.host(), gradients)?;
        }
    }
    Ok(())
}

fn gradient_on_host(
    plan: &WindowPlan,
    k: SsimConstants,
    (x, y): (&[f32], &[f32]),
    grad: &[f32],
    map: &mut [f32],
    (dx, dy): (&mut [f32], Option<&mut [f32]>),
) -> Result<()> {
    let (n, len) = (plan.out_len(), map.len());
    let buffer = || HostBuffer::try_uninit(len);
    let mut maps: [HostBuffer<f32>; 3] = [buffer()?, buffer()?, buffer()?];
    let mut for_y = HostBuffer::try_uninit(if dy.is_some() { len } else { 0 })?;
    let outputs = (&mut *map, maps.each_mut().map(|m| &mut m[..]));
    match dy.is_some() {
        true => slopes_of_maps(plan, k, (x, y), grad, outputs, for_y.par_chunks_mut(n)),
        false => slopes_of_maps(plan, k, (x, y), grad, outputs, (0..len / n).into_par_iter().map(no_row)),
    }
    let [px, q, r] = &maps;
    adjoint_images(plan, [px, q, r], x, y, dx);
    if let Some(dy) = dy {
        adjoint_images(plan, [&for_y, q, r], y, x, dy);
    }
    Ok(())
}

/// A row of a map that is not wanted.
fn no_row<'a>(_: usize) -> &'a mut [f32] {
    &mut []
}

/// The map, and the coefficients of its slopes: for x, for squares and products, and in `py` row by row for y.
fn slopes_of_maps<'a>(
    plan: &WindowPlan,
    k: SsimConstants,
    (x, y): (&[f32], &[f32]),
    grad: &[f32],
    (map, [px, q, r]): (&mut [f32], [&mut [f32]; 3]),
    py: impl IndexedParallelIterator<Item = &'a mut [f32]>,
) {
    let (image, n) = (plan.h * plan.row_len(), plan.out_len());
    (map.par_chunks_mut(n), px.par_chunks_mut(n), py, q.par_chunks_mut(n), r.par_chunks_mut(n))
        .into_par_iter()
        .with_min_len(8)
        .enumerate()
        .for_each_init(
            || Scratch::new(plan),
            |scratch, (at, (map, px, py, q, r))| {
                let part = at / plan.out_h * image..(at / plan.out_h + 1) * image;
                scratch.all_moments(plan, &x[part.clone()], &y[part], at % plan.out_h);
                let moments = std::array::from_fn(|i| &scratch.rows[i][..]);
                slopes_map_row(moments, k, &grad[at * n..(at + 1) * n], map, [px, py, q, r]);
            },
        );
}

/// Gradients with respect to x and y from the upstream gradient of the map.
///
/// # Errors
/// When the window does not fit, or lengths or devices differ.
pub fn ssim_map_backward<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    shape: Nhwc,
    opts: &SsimOptions,
    grad: impl Into<View<'a>>,
    dx: impl Into<ViewMut<'a>>,
    dy: Option<ViewMut<'a>>,
) -> Result<()> {
    let (x, y, grad, dx) = (x.into(), y.into(), grad.into(), dx.into());
    let mut map = like(grad, grad.len())?;
    ssim_map_with_gradient(x, y, shape, opts, grad, &mut map, dx, dy)
}

/// Room for `len` floats where `view` lies.
fn like(view: View, len: usize) -> Result<Buffer> {
    match view {
        View::Host(_) => Device::CPU.alloc(len),
        View::Gpu(b) => Ok(Buffer::Gpu(b.gpu().alloc(len)?)),
    }
}

/// Mean SSIM of each image, written to `mean` (`[n]`), and the gradient of `sum over images of
/// upstream[n] * mean[n]` with respect to x.
///
/// # Errors
/// When the window does not fit, or lengths or devices differ.
pub fn ssim_mean_with_gradient<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    shape: Nhwc,
    opts: &SsimOptions,
    upstream: impl Into<View<'a>>,
    mean: impl Into<ViewMut<'a>>,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "ssim_mean_with_gradient";
    let (x, y, upstream, mean, dx) = (x.into(), y.into(), upstream.into(), mean.into(), dx.into());
    check_len(OP, "upstream gradient", upstream.len(), shape[0])?;
    check_len(OP, "mean", mean.len(), shape[0])?;
    let [n, h, w, c] = opts.map_shape(shape)?;
    let per_image = h * w * c;
    let mut map = like(x, n * per_image)?;
    let mut grad = like(x, n * per_image)?;
    spread(upstream, per_image, &mut grad)?;
    ssim_map_with_gradient(x, y, shape, opts, &grad, &mut map, dx, None)?;
    match (&map, mean) {
        (Buffer::Host(map), mean) => means(map, mean.host()),
        (Buffer::Gpu(map), mean) => group_sums(map, n, (1.0 / per_image as f32, 0.0), mean.device(), (1, 0)),
    }
    Ok(())
}

/// `to[n, i] = from[n] / per_image` for all i.
fn spread(from: View, per_image: usize, to: &mut Buffer) -> Result<()> {
    let to = to.view_mut();
    match place("ssim_mean_with_gradient", &[&from, &to])? {
        None => {
            for (part, g) in to.host().chunks_exact_mut(per_image).zip(from.host()) {
                part.fill(g / per_image as f32);
            }
        }
        Some(gpu) => {
            let n = to.len();
            let scale = 1.0 / per_image as f32;
            launch!(gpu, spread_kernel, units(n), from.device().arg(), to.device().arg(), n, per_image, scale);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn spread_kernel(from: &Array<f32>, to: &mut Array<f32>, n: usize, per_image: usize, scale: f32) {
    if ABSOLUTE_POS < n {
        to[ABSOLUTE_POS] = scale * from[ABSOLUTE_POS / per_image];
    }
}
