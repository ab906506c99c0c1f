//! Structural similarity: map, mean, mask, and gradients (Wang et al. 2004, equation 13).
//!
//! SSIM = (2 mx my + C1)(2 cov + C2) / ((mx^2 + my^2 + C1)(vx + vy + C2)), C1 = (k1 R)^2,
//! C2 = (k2 R)^2, with windowed moments, each channel on its own. Shapes: NHWC in, a map of the
//! same shape out, or smaller by the window under [`Border::Valid`].
//! All five moments come from one vertical and one horizontal pass per row; nothing but the result
//! (and, for gradients, three or four coefficient maps) is written to memory. Bytes: 8 read and 4
//! written per element, forward; operations: about `12 * window`.

pub(crate) mod gpu;
mod gradient;

pub(crate) use gradient::{AdjointScratch, adjoint_into, slopes_row, ssim_slopes};
pub use gradient::{ssim_map_backward, ssim_map_with_gradient, ssim_mean_with_gradient};

use std::ops::Range;

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::device::{Reused, View, ViewMut, place};
use crate::error::{Result, check_len};
use crate::reduce::group_sums;
use crate::shape::Nhwc;
use crate::simd::{Lanes, Wide, by_registers, formulas, lanes_fn};
use crate::window::{Border, Window, WindowPlan, cross_rows, square_rows};

/// Settings of SSIM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SsimOptions {
    /// Window.
    pub window: Window,
    /// Border rule.
    pub border: Border,
    /// Variances with n / (n - 1), n the pixels of the window.
    pub sample_covariance: bool,
    /// Constant of the luminance term.
    pub k1: f32,
    /// Constant of the contrast term.
    pub k2: f32,
    /// Largest minus smallest possible value.
    pub data_range: f32,
}

impl Default for SsimOptions {
    /// Gaussian 11, sigma 1.5, data range 1, map of the same size.
    fn default() -> Self {
        Self {
            window: Window::Gaussian { size: 11, sigma: 1.5 },
            border: Border::Symmetric,
            sample_covariance: false,
            k1: 0.01,
            k2: 0.03,
            data_range: 1.0,
        }
    }
}

impl SsimOptions {
    /// Constants of the formula.
    pub(crate) fn constants(&self) -> SsimConstants {
        let n = match self.window {
            Window::Gaussian { size, .. } | Window::Uniform { size } => (size * size) as f32,
        };
        SsimConstants {
            c1: (self.k1 * self.data_range).powi(2),
            c2: (self.k2 * self.data_range).powi(2),
            scale: if self.sample_covariance { n / (n - 1.0) } else { 1.0 },
        }
    }

    /// The shape of the map over images of `shape`.
    ///
    /// # Errors
    /// When the window does not fit.
    pub fn map_shape(&self, shape: Nhwc) -> Result<Nhwc> {
        let plan = WindowPlan::new("ssim", shape, self.window, self.border)?;
        Ok([shape[0], plan.out_h, plan.out_w, shape[3]])
    }
}

/// Constants of the formula.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct SsimConstants {
    /// (k1 R)^2.
    pub c1: f32,
    /// (k2 R)^2.
    pub c2: f32,
    /// Factor of variances and covariance.
    pub scale: f32,
}

formulas! {
    /// Windowed means at one pixel.
    pub struct Moments {
        /// Mean of x.
        x,
        /// Mean of y.
        y,
        /// Mean of x^2.
        xx,
        /// Mean of y^2.
        yy,
        /// Mean of xy.
        xy,
    }

    /// SSIM at one pixel.
    pub fn ssim(m: Moments; k: SsimConstants) -> f32 {
        let variances = k.scale * (m.xx - m.x * m.x + m.yy - m.y * m.y);
        let covariance = k.scale * (m.xy - m.x * m.y);
        let numerator = (2.0 * m.x * m.y + k.c1) * (2.0 * covariance + k.c2);
        numerator / ((m.x * m.x + m.y * m.y + k.c1) * (variances + k.c2))
    }
}

/// Lines and rows that one task reuses.
pub(crate) struct Scratch {
    lines: [Reused<f32>; 5],
    pub rows: [Reused<f32>; 5],
}

impl Scratch {
    pub fn new(plan: &WindowPlan) -> Self {
        Self {
            lines: std::array::from_fn(|_| plan.line()),
            rows: std::array::from_fn(|_| Reused::uninit(plan.out_len())),
        }
    }

    /// Computes the moments x, y, xx, yy, xy of row `j` of means, into `rows`.
    pub fn all_moments(&mut self, plan: &WindowPlan, x: &[f32], y: &[f32], j: usize) {
        self.y_moments(plan, y, j);
        self.x_moments(plan, x, y, j);
    }

    /// Computes only those that depend on x: x, xx, xy.
    pub fn x_moments(&mut self, plan: &WindowPlan, x: &[f32], y: &[f32], j: usize) {
        let [lx, _, lxx, _, lxy] = &mut self.lines;
        let mut lines = [plan.centre(lx), plan.centre(lxx), plan.centre(lxy)];
        cross_rows(&plan.rows[j], x, y, &mut lines);
        for k in [0, 2, 4] {
            plan.horizontal(&mut self.lines[k], &mut self.rows[k]);
        }
    }

    /// Computes only y and yy.
    pub fn y_moments(&mut self, plan: &WindowPlan, y: &[f32], j: usize) {
        let [_, ly, _, lyy, _] = &mut self.lines;
        square_rows(&plan.rows[j], y, plan.centre(ly), plan.centre(lyy));
        for k in [1, 3] {
            plan.horizontal(&mut self.lines[k], &mut self.rows[k]);
        }
    }
}

/// The first `n` of each of five moments.
#[inline(always)]
fn first(n: usize, [x, y, xx, yy, xy]: [&[f32]; 5]) -> [&[f32]; 5] {
    [&x[..n], &y[..n], &xx[..n], &yy[..n], &xy[..n]]
}

/// A register of each of the moments x, y, xx, yy, xy of a row; `zero` is any register.
#[inline(always)]
fn read<L: Lanes>(zero: L, [x, y, xx, yy, xy]: [&[f32]; 5], part: &Range<usize>) -> wide::Moments<L> {
    wide::Moments {
        x: Wide(zero.read(&x[part.clone()])),
        y: Wide(zero.read(&y[part.clone()])),
        xx: Wide(zero.read(&xx[part.clone()])),
        yy: Wide(zero.read(&yy[part.clone()])),
        xy: Wide(zero.read(&xy[part.clone()])),
    }
}

lanes_fn! {
    /// The formula over one row of moments x, y, xx, yy, xy.
    fn ssim_row<L>(rows: &[Reused<f32>; 5], k: SsimConstants, out: &mut [f32]) {
        let [x, y, xx, yy, xy] = rows;
        let (moments, n) = (first(out.len(), [x, y, xx, yy, xy]), out.len());
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        by_registers!(L, n, |part| {
            wide::ssim(read(zero, moments, &part), k).0.write(&mut out[part]);
        });
    }
}

pub(crate) fn check_pair(op: &'static str, x: View, y: View, shape: Nhwc) -> Result<()> {
    check_len(op, "x", x.len(), shape.iter().product())?;
    check_len(op, "y", y.len(), shape.iter().product())
}

/// Calls `f(image, row, output row)` for every row of means; `f` gets the image's slices of x and y.
fn for_map_rows<T: Send>(
    plan: &WindowPlan,
    (x, y): (&[f32], &[f32]),
    out: &mut [f32],
    f: impl Fn(&mut Scratch, (&[f32], &[f32]), usize, &mut [f32]) -> T + Sync,
) -> Vec<T> {
    let image = plan.h * plan.row_len();
    out.par_chunks_mut(plan.out_len())
        .with_min_len(8)
        .enumerate()
        .map_init(
            || Scratch::new(plan),
            |scratch, (row, out)| {
                let (n, j) = (row / plan.out_h, row % plan.out_h);
                let part = n * image..(n + 1) * image;
                f(scratch, (&x[part.clone()], &y[part]), j, out)
            },
        )
        .collect()
}

/// SSIM map of two batches: writes `map` of shape [`SsimOptions::map_shape`].
///
/// # Errors
/// When the window does not fit, or lengths or devices differ.
pub fn ssim_map<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    shape: Nhwc,
    opts: &SsimOptions,
    map: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "ssim_map";
    let (x, y, map) = (x.into(), y.into(), map.into());
    let plan = WindowPlan::new(OP, shape, opts.window, opts.border)?;
    check_pair(OP, x, y, shape)?;
    check_len(OP, "map", map.len(), shape[0] * plan.out_h * plan.out_len())?;
    match place(OP, &[&x, &y, &map])? {
        Some(gpu) => gpu::map(&gpu::Layout::new(&gpu, shape, opts)?, x.device(), y.device(), map.device()),
        None => {
            let k = opts.constants();
            for_map_rows(&plan, (x.host(), y.host()), map.host(), |scratch, (x, y), j, out| {
                scratch.all_moments(&plan, x, y, j);
                ssim_row(&scratch.rows, k, out);
            });
        }
    }
    Ok(())
}

/// Mean SSIM of each image over its map and channels, written to `mean` (`[n]`).
///
/// # Errors
/// When the window does not fit, or lengths or devices differ.
pub fn ssim_mean<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    shape: Nhwc,
    opts: &SsimOptions,
    mean: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "ssim_mean";
    let (x, y, mean) = (x.into(), y.into(), mean.into());
    let [n, h, w, c] = opts.map_shape(shape)?;
    check_len(OP, "mean", mean.len(), n)?;
    match place(OP, &[&x, &y, &mean])? {
        Some(gpu) => {
            let mut map = gpu.alloc(n * h * w * c)?;
            ssim_map(x, y, shape, opts, &mut map)?;
            group_sums(&map, n, (1.0 / (h * w * c) as f32, 0.0), mean.device(), (1, 0));
        }
        None => {
            let mut map = vec![0.0; n * h * w * c];
            ssim_map(x, y, shape, opts, &mut map)?;
            means(&map, mean.host());
        }
    }
    Ok(())
}

/// Mean of each of `out.len()` parts of `map`.
fn means(map: &[f32], out: &mut [f32]) {
    let part = map.len() / out.len();
    out.par_iter_mut().zip(map.par_chunks(part)).for_each(|(out, m)| {
        *out = (m.iter().map(|v| f64::from(*v)).sum::<f64>() / part as f64) as f32;
    });
}

/// Dissimilarity 1 - (mean of SSIM over channels), and the mask of pixels where it exceeds
/// `threshold`. Both have shape `[n, map h, map w]`; `mask` holds 0 or 1 and is updated in place.
/// `counts` (`[n, 2]`) says of each image how many pixels changed, and how many are masked now.
///
/// # Errors
/// When the window does not fit, or lengths or devices differ.
#[allow(clippy::too_many_arguments)] // two images, two maps and their counts
pub fn ssim_mask<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    shape: Nhwc,
    opts: &SsimOptions,
    threshold: f32,
    dissimilarity: impl Into<ViewMut<'a>>,
    mask: impl Into<ViewMut<'a>>,
    counts: impl Into<ViewMut<'a, u32>>,
) -> Result<()> {
    const OP: &str = "ssim_mask";
    let (x, y, dissimilarity) = (x.into(), y.into(), dissimilarity.into());
    let (mask, counts) = (mask.into(), counts.into());
    let plan = WindowPlan::new(OP, shape, opts.window, opts.border)?;
    check_pair(OP, x, y, shape)?;
    let pixels = plan.out_h * plan.out_w;
    check_len(OP, "dissimilarity", dissimilarity.len(), shape[0] * pixels)?;
    check_len(OP, "mask", mask.len(), shape[0] * pixels)?;
    check_len(OP, "counts", counts.len(), 2 * shape[0])?;
    match place(OP, &[&x, &y, &dissimilarity, &mask, &counts])? {
        Some(gpu) => {
            let layout = gpu::Layout::new(&gpu, shape, opts)?;
            let (maps, pair) = ((dissimilarity.device(), mask.device()), (x.device(), y.device()));
            gpu::mask(&layout, pair, threshold, maps.0, maps.1, counts.device());
        }
        None => {
            let maps = (dissimilarity.host(), mask.host());
            mask_on_host(&plan, (x.host(), y.host()), opts.constants(), threshold, maps, counts.host());
        }
    }
    Ok(())
}

fn mask_on_host(
    plan: &WindowPlan,
    (x, y): (&[f32], &[f32]),
    k: SsimConstants,
    threshold: f32,
    (dissimilarity, mask): (&mut [f32], &mut [f32]),
    counts: &mut [u32],
) {
    let image = plan.h * plan.row_len();
    let mut rows = Reused::filled(mask.len() / plan.out_w, [0u32; 2]);
    mask.par_chunks_mut(plan.out_w)
        .zip(dissimilarity.par_chunks_mut(plan.out_w))
        .zip(rows.par_iter_mut())
        .with_min_len(8)
        .enumerate()
        .for_each_init(
            || (Scratch::new(plan), Reused::uninit(plan.out_len())),
            |(scratch, row), (at, ((mask, dissimilarity), [changed, set]))| {
                let (n, j) = (at / plan.out_h, at % plan.out_h);
                let part = n * image..(n + 1) * image;
                scratch.all_moments(plan, &x[part.clone()], &y[part], j);
                ssim_row(&scratch.rows, k, row);
                for ((d, m), s) in dissimilarity.iter_mut().zip(mask).zip(row.chunks_exact(plan.c)) {
                    *d = 1.0 - s.iter().sum::<f32>() / plan.c as f32;
                    let masked = u8::from(*d > threshold);
                    *changed += u32::from(f32::from(masked) != *m);
                    *set += u32::from(masked);
                    *m = f32::from(masked);
                }
            },
        );
    for (counts, rows) in counts.chunks_exact_mut(2).zip(rows.chunks(plan.out_h)) {
        (0..2).for_each(|of| counts[of] = rows.iter().map(|row| row[of]).sum());
    }
}
