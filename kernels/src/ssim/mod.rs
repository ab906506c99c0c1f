//! Structural similarity: map, mean, mask, and gradients (Wang et al. 2004, equation 13).
//!
//! SSIM = (2 mx my + C1)(2 cov + C2) / ((mx^2 + my^2 + C1)(vx + vy + C2)), C1 = (k1 R)^2,
//! C2 = (k2 R)^2, with windowed moments, each channel on its own. Shapes: NHWC in, a map of the
//! same shape out, or smaller by the window under [`Border::Valid`].
//! All five moments come from one vertical and one horizontal pass per row; nothing but the result
//! (and, for gradients, three or four coefficient maps) is written to memory. Bytes: 8 read and 4
//! written per element, forward; operations: about `12 * window`.

mod gradient;

pub(crate) use gradient::{AdjointScratch, adjoint_into, slopes_row};
pub use gradient::{ssim_map_backward, ssim_map_with_gradient, ssim_mean_with_gradient};

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::conv::Nhwc;
use crate::error::{Result, check_len};
use crate::simd::{LANES, load, simd_fn, store};
use crate::window::{Border, Plan, Window, cross_rows, square_rows};

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
        let plan = Plan::new("ssim", shape, self.window, self.border)?;
        Ok([shape[0], plan.out_h, plan.out_w, shape[3]])
    }
}

/// Constants of the formula.
#[derive(CubeType, Clone, Copy)]
pub struct SsimConstants {
    /// (k1 R)^2.
    pub c1: f32,
    /// (k2 R)^2.
    pub c2: f32,
    /// Factor of variances and covariance.
    pub scale: f32,
}

/// Windowed means at one pixel.
#[derive(CubeType, Clone, Copy)]
pub struct Moments {
    /// Mean of x.
    pub x: f32,
    /// Mean of y.
    pub y: f32,
    /// Mean of x^2.
    pub xx: f32,
    /// Mean of y^2.
    pub yy: f32,
    /// Mean of xy.
    pub xy: f32,
}

/// SSIM at one pixel.
#[cube]
#[inline(always)]
pub fn ssim(m: Moments, k: SsimConstants) -> f32 {
    let variances = k.scale * (m.xx - m.x * m.x + m.yy - m.y * m.y);
    let covariance = k.scale * (m.xy - m.x * m.y);
    let numerator = (2.0 * m.x * m.y + k.c1) * (2.0 * covariance + k.c2);
    numerator / ((m.x * m.x + m.y * m.y + k.c1) * (variances + k.c2))
}

/// Lines and rows that one task reuses.
pub(crate) struct Scratch {
    lines: [Vec<f32>; 5],
    pub rows: [Vec<f32>; 5],
}

impl Scratch {
    pub fn new(plan: &Plan) -> Self {
        Self { lines: std::array::from_fn(|_| plan.line()), rows: std::array::from_fn(|_| vec![0.0; plan.out_len()]) }
    }

    /// Computes the moments x, y, xx, yy, xy of row `j` of means, into `rows`.
    pub fn all_moments(&mut self, plan: &Plan, x: &[f32], y: &[f32], j: usize) {
        self.y_moments(plan, y, j);
        self.x_moments(plan, x, y, j);
    }

    /// Computes only those that depend on x: x, xx, xy.
    pub fn x_moments(&mut self, plan: &Plan, x: &[f32], y: &[f32], j: usize) {
        let [lx, _, lxx, _, lxy] = &mut self.lines;
        let mut lines = [plan.centre(lx), plan.centre(lxx), plan.centre(lxy)];
        cross_rows(&plan.rows[j], x, y, &mut lines);
        for k in [0, 2, 4] {
            plan.horizontal(&mut self.lines[k], &mut self.rows[k]);
        }
    }

    /// Computes only y and yy.
    pub fn y_moments(&mut self, plan: &Plan, y: &[f32], j: usize) {
        let [_, ly, _, lyy, _] = &mut self.lines;
        square_rows(&plan.rows[j], y, plan.centre(ly), plan.centre(lyy));
        for k in [1, 3] {
            plan.horizontal(&mut self.lines[k], &mut self.rows[k]);
        }
    }
}

simd_fn! {
    /// The formula over one row of moments x, y, xx, yy, xy.
    fn ssim_row(rows: &[Vec<f32>; 5], k: SsimConstants, out: &mut [f32]) {
        for at in (0..out.len()).step_by(LANES) {
            let (x, y) = (load(&rows[0], at), load(&rows[1], at));
            let (xx, yy, xy) = (load(&rows[2], at), load(&rows[3], at), load(&rows[4], at));
            let mut s = [0.0; LANES];
            for i in 0..LANES {
                s[i] = ssim(Moments { x: x[i], y: y[i], xx: xx[i], yy: yy[i], xy: xy[i] }, k);
            }
            store(out, at, &s);
        }
    }
}

pub(crate) fn check_pair(op: &'static str, x: &[f32], y: &[f32], shape: Nhwc) -> Result<()> {
    check_len(op, "x", x.len(), shape.iter().product())?;
    check_len(op, "y", y.len(), shape.iter().product())
}

/// Calls `f(image, row, output row)` for every row of means; `f` gets the image's slices of x and y.
fn for_map_rows<T: Send>(
    plan: &Plan,
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
/// When the window does not fit or lengths differ.
pub fn ssim_map(x: &[f32], y: &[f32], shape: Nhwc, opts: &SsimOptions, map: &mut [f32]) -> Result<()> {
    const OP: &str = "ssim_map";
    let plan = Plan::new(OP, shape, opts.window, opts.border)?;
    check_pair(OP, x, y, shape)?;
    check_len(OP, "map", map.len(), shape[0] * plan.out_h * plan.out_len())?;
    let k = opts.constants();
    for_map_rows(&plan, (x, y), map, |scratch, (x, y), j, out| {
        scratch.all_moments(&plan, x, y, j);
        ssim_row(&scratch.rows, k, out);
    });
    Ok(())
}

/// Mean SSIM of each image over its map and channels.
///
/// # Errors
/// When the window does not fit or lengths differ.
pub fn ssim_mean(x: &[f32], y: &[f32], shape: Nhwc, opts: &SsimOptions) -> Result<Vec<f32>> {
    let [n, h, w, c] = opts.map_shape(shape)?;
    let mut map = vec![0.0; n * h * w * c];
    ssim_map(x, y, shape, opts, &mut map)?;
    let per_image = h * w * c;
    Ok(map
        .par_chunks(per_image)
        .map(|m| (m.iter().map(|v| f64::from(*v)).sum::<f64>() / per_image as f64) as f32)
        .collect())
}

/// Dissimilarity 1 - (mean of SSIM over channels), and the mask of pixels where it exceeds
/// `threshold`. Both have shape `[n, map h, map w]`; `mask` holds 0 or 1, is updated in place, and
/// the pixels that changed in each image are counted.
///
/// # Errors
/// When the window does not fit or lengths differ.
pub fn ssim_mask(
    x: &[f32],
    y: &[f32],
    shape: Nhwc,
    opts: &SsimOptions,
    threshold: f32,
    dissimilarity: &mut [f32],
    mask: &mut [f32],
) -> Result<Vec<usize>> {
    const OP: &str = "ssim_mask";
    let plan = Plan::new(OP, shape, opts.window, opts.border)?;
    check_pair(OP, x, y, shape)?;
    let pixels = plan.out_h * plan.out_w;
    check_len(OP, "dissimilarity", dissimilarity.len(), shape[0] * pixels)?;
    check_len(OP, "mask", mask.len(), shape[0] * pixels)?;
    let k = opts.constants();
    let image = plan.h * plan.row_len();
    let changed: Vec<usize> = mask
        .par_chunks_mut(plan.out_w)
        .zip(dissimilarity.par_chunks_mut(plan.out_w))
        .with_min_len(8)
        .enumerate()
        .map_init(
            || (Scratch::new(&plan), vec![0.0; plan.out_len()]),
            |(scratch, row), (at, (mask, dissimilarity))| {
                let (n, j) = (at / plan.out_h, at % plan.out_h);
                let part = n * image..(n + 1) * image;
                scratch.all_moments(&plan, &x[part.clone()], &y[part], j);
                ssim_row(&scratch.rows, k, row);
                let mut changed = 0;
                for ((d, m), s) in dissimilarity.iter_mut().zip(mask).zip(row.chunks_exact(plan.c)) {
                    *d = 1.0 - s.iter().sum::<f32>() / plan.c as f32;
                    let masked = f32::from(u8::from(*d > threshold));
                    changed += usize::from(masked != *m);
                    *m = masked;
                }
                changed
            },
        )
        .collect();
    Ok(changed.chunks(plan.out_h).map(|rows| rows.iter().sum()).collect())
}
