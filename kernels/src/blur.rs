//! Gaussian blur of NHWC maps: separable, any radius, also larger than the image.
//!
//! Weights exp(-i^2 / 2 sigma^2) for i = -radius..radius, made to sum to 1. Bytes: 4 read and 4
//! written per element; operations: `4 * (2 * radius + 1)`.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::border::mirror;
use crate::device::{Gpu, GpuBuffer, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::shape::Nhwc;
use crate::window::{Border, Window, WindowPlan, weighted_rows};

/// Blurs every channel; writes `y` of the shape of `x`. `border` is a mirroring one or zero.
///
/// # Errors
/// When lengths or devices differ or the map is empty.
pub fn gaussian_blur<'a>(
    x: impl Into<View<'a>>,
    shape: Nhwc,
    sigma: f32,
    radius: usize,
    border: Border,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "gaussian_blur";
    let (x, y) = (x.into(), y.into());
    let window = Window::Gaussian { size: 2 * radius + 1, sigma };
    let plan = WindowPlan::new(OP, shape, window, border)?;
    check_len(OP, "input", x.len(), shape.iter().product())?;
    check_len(OP, "output", y.len(), shape[0] * plan.out_h * plan.out_len())?;
    match place(OP, &[&x, &y])? {
        None => {
            let x = x.host();
            let image = plan.h * plan.row_len();
            y.host().par_chunks_mut(plan.out_len()).with_min_len(8).enumerate().for_each_init(
                || plan.line(),
                |line, (at, out)| {
                    let (n, j) = (at / plan.out_h, at % plan.out_h);
                    weighted_rows(&plan.rows[j], &x[n * image..(n + 1) * image], plan.centre(line));
                    plan.horizontal(line, out);
                },
            );
        }
        Some(gpu) => {
            let weights = gpu.constants(&window.weights())?;
            let [n, h, w, c] = shape;
            let shift = if border == Border::Valid { 0 } else { radius };
            let rows = gpu.alloc::<f32>(n * plan.out_h * w * c)?;
            axis(&gpu, (x.device(), &rows, &weights), (h, plan.out_h, w * c), shift, border);
            axis(&gpu, (&rows, y.device(), &weights), (w, plan.out_w, c), shift, border);
        }
    }
    Ok(())
}

/// One axis: `n` positions `inner` elements apart become `out`.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Axis {
    n: usize,
    out: usize,
    inner: usize,
    /// Weights of the window, and those before its centre.
    taps: usize,
    shift: usize,
}

/// Blurs along one axis, `(n, out, inner)`.
fn axis(
    gpu: &Gpu,
    (x, y, weights): (&GpuBuffer, &GpuBuffer, &GpuBuffer),
    (n, out, inner): (usize, usize, usize),
    shift: usize,
    border: Border,
) {
    let (total, taps) = (y.len(), weights.len());
    launch!(
        gpu,
        axis_kernel,
        units(total),
        x.arg(),
        weights.arg(),
        y.arg(),
        total,
        AxisLaunch::new(n, out, inner, taps, shift),
        border
    );
}

#[cube(launch_unchecked)]
fn axis_kernel(
    x: &Array<f32>,
    weights: &Array<f32>,
    y: &mut Array<f32>,
    total: usize,
    a: Axis,
    #[comptime] border: Border,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let lane = at % a.inner;
        let j = (at / a.inner) % a.out;
        let outer = at / (a.inner * a.out);
        let mut sum = f32::new(0.0);
        for t in 0..a.taps {
            let p = mirror((j + t) as i32 - a.shift as i32, a.n as i32, border);
            if p >= 0 {
                sum += weights[t] * x[(outer * a.n + p as usize) * a.inner + lane];
            }
        }
        y[at] = sum;
    }
}
