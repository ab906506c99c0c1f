//! Gradients of SSIM.
//!
//! With upstream gradient g of the map, `dx = F'(g p) + 2 x F'(g q) + y F'(g r)`, where F' is the
//! adjoint of the windowed mean and p, q, r are the slopes of SSIM with respect to the means of x,
//! x^2 and xy. The coefficient maps g p, g q, g r are written once and read once.

use cubecl::prelude::*;
use rayon::prelude::*;

use super::{Moments, Scratch, SsimConstants, SsimOptions, check_pair};
use crate::conv::Nhwc;
use crate::error::{Result, check_len};
use crate::simd::simd_fn;
use crate::window::{Plan, weighted_rows};

/// SSIM at one pixel and its slopes.
#[derive(CubeType, Clone, Copy)]
pub struct Slopes {
    /// SSIM itself.
    pub value: f32,
    /// Slope with respect to the mean of x.
    pub x: f32,
    /// Slope with respect to the mean of y.
    pub y: f32,
    /// Slope with respect to the mean of x^2, equal to that of y^2.
    pub squares: f32,
    /// Slope with respect to the mean of xy.
    pub product: f32,
}

/// SSIM and its slopes, by the quotient rule on S = a1 a2 / (b1 b2).
#[cube]
#[inline(always)]
pub fn ssim_slopes(m: Moments, k: SsimConstants) -> Slopes {
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

simd_fn! {
    /// Slopes over one row of moments x, y, xx, yy, xy, times a constant upstream gradient: the
    /// coefficients p, q, r for x. Returns the sum of SSIM over the row.
    pub(crate) fn slopes_row(
        moments: [&[f32]; 5],
        k: SsimConstants,
        upstream: f32,
        p: &mut [f32],
        q: &mut [f32],
        r: &mut [f32],
    ) -> f64 {
        let n = p.len();
        let [x, y, xx, yy, xy] = moments.map(|m| &m[..n]);
        let (q, r) = (&mut q[..n], &mut r[..n]);
        let mut sums = [0.0f32; 16];
        for i in 0..n {
            let s = ssim_slopes(Moments { x: x[i], y: y[i], xx: xx[i], yy: yy[i], xy: xy[i] }, k);
            p[i] = upstream * s.x;
            q[i] = upstream * s.squares;
            r[i] = upstream * s.product;
            sums[i % 16] += s.value;
        }
        sums.iter().map(|s| f64::from(*s)).sum()
    }
}

simd_fn! {
    /// Like [`slopes_row`] with an upstream gradient per pixel; also writes the map and the
    /// coefficient for y.
    fn slopes_map_row(
        moments: &[Vec<f32>; 5],
        k: SsimConstants,
        upstream: &[f32],
        map: &mut [f32],
        coefficients: [&mut [f32]; 4],
    ) {
        let n = upstream.len();
        let [x, y, xx, yy, xy] = moments;
        let (x, y, xx, yy, xy) = (&x[..n], &y[..n], &xx[..n], &yy[..n], &xy[..n]);
        let [px, py, q, r] = coefficients;
        let (px, py, q, r, map) = (&mut px[..n], &mut py[..n], &mut q[..n], &mut r[..n], &mut map[..n]);
        for i in 0..n {
            let s = ssim_slopes(Moments { x: x[i], y: y[i], xx: xx[i], yy: yy[i], xy: xy[i] }, k);
            map[i] = s.value;
            px[i] = upstream[i] * s.x;
            py[i] = upstream[i] * s.y;
            q[i] = upstream[i] * s.squares;
            r[i] = upstream[i] * s.product;
        }
    }
}

simd_fn! {
    /// `out = p + 2 x q + y r`.
    fn combine(p: &[f32], q: &[f32], r: &[f32], x: &[f32], y: &[f32], out: &mut [f32]) {
        for i in 0..out.len() {
            out[i] = p[i] + 2.0 * x[i] * q[i] + y[i] * r[i];
        }
    }
}

/// Lines and rows of the adjoint.
pub(crate) struct AdjointScratch {
    line: Vec<f32>,
    rows: [Vec<f32>; 3],
}

impl AdjointScratch {
    pub fn new(plan: &Plan) -> Self {
        Self { line: plan.adjoint_line(), rows: std::array::from_fn(|_| plan.adjoint_row()) }
    }
}

/// Gradient of row `j` of one image: adjoint of three coefficient maps, combined with x and y.
pub(crate) fn adjoint_into(
    plan: &Plan,
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
fn adjoint_images(plan: &Plan, maps: [&[f32]; 3], x: &[f32], y: &[f32], dx: &mut [f32]) {
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
/// When the window does not fit or lengths differ.
#[allow(clippy::too_many_arguments)] // two operands, a map and three gradients
pub fn ssim_map_with_gradient(
    x: &[f32],
    y: &[f32],
    shape: Nhwc,
    opts: &SsimOptions,
    grad: &[f32],
    map: &mut [f32],
    dx: &mut [f32],
    dy: Option<&mut [f32]>,
) -> Result<()> {
    const OP: &str = "ssim_map_with_gradient";
    let plan = Plan::new(OP, shape, opts.window, opts.border)?;
    check_pair(OP, x, y, shape)?;
    let len = shape[0] * plan.out_h * plan.out_len();
    check_len(OP, "gradient", grad.len(), len)?;
    check_len(OP, "map", map.len(), len)?;
    check_len(OP, "x gradient", dx.len(), x.len())?;
    let k = opts.constants();
    let image = plan.h * plan.row_len();
    let mut maps: [Vec<f32>; 4] = std::array::from_fn(|_| vec![0.0; len]);
    let [px, py, q, r] = &mut maps;
    let n = plan.out_len();
    (map.par_chunks_mut(n), px.par_chunks_mut(n), py.par_chunks_mut(n), q.par_chunks_mut(n), r.par_chunks_mut(n))
        .into_par_iter()
        .with_min_len(8)
        .enumerate()
        .for_each_init(
            || Scratch::new(&plan),
            |scratch, (at, (map, px, py, q, r))| {
                let part = at / plan.out_h * image..(at / plan.out_h + 1) * image;
                scratch.all_moments(&plan, &x[part.clone()], &y[part], at % plan.out_h);
                slopes_map_row(&scratch.rows, k, &grad[at * n..(at + 1) * n], map, [px, py, q, r]);
            },
        );
    let [px, py, q, r] = &maps;
    adjoint_images(&plan, [px, q, r], x, y, dx);
    if let Some(dy) = dy {
        check_len(OP, "y gradient", dy.len(), y.len())?;
        adjoint_images(&plan, [py, q, r], y, x, dy);
    }
    Ok(())
}

/// Gradients with respect to x and y from the upstream gradient of the map.
///
/// # Errors
/// When the window does not fit or lengths differ.
pub fn ssim_map_backward(
    x: &[f32],
    y: &[f32],
    shape: Nhwc,
    opts: &SsimOptions,
    grad: &[f32],
    dx: &mut [f32],
    dy: Option<&mut [f32]>,
) -> Result<()> {
    let mut map = vec![0.0; grad.len()];
    ssim_map_with_gradient(x, y, shape, opts, grad, &mut map, dx, dy)
}

/// Mean SSIM of each image, and the gradient of `sum over images of upstream[n] * mean[n]` with
/// respect to x.
///
/// # Errors
/// When the window does not fit or lengths differ.
pub fn ssim_mean_with_gradient(
    x: &[f32],
    y: &[f32],
    shape: Nhwc,
    opts: &SsimOptions,
    upstream: &[f32],
    dx: &mut [f32],
) -> Result<Vec<f32>> {
    check_len("ssim_mean_with_gradient", "upstream gradient", upstream.len(), shape[0])?;
    let [n, h, w, c] = opts.map_shape(shape)?;
    let per_image = h * w * c;
    let grad: Vec<f32> = upstream.iter().flat_map(|g| std::iter::repeat_n(g / per_image as f32, per_image)).collect();
    let mut map = vec![0.0; n * per_image];
    ssim_map_with_gradient(x, y, shape, opts, &grad, &mut map, dx, None)?;
    let mean = |m: &[f32]| (m.iter().map(|v| f64::from(*v)).sum::<f64>() / per_image as f64) as f32;
    Ok(map.chunks_exact(per_image).map(mean).collect())
}
