//! One step of iterative projection (Dehaene et al. 2020, equations 7 and 10).
//!
//! `x -= size (scale grad + l1 sign(x - x_0)) (x - f(x))^2`, in place; sign(0) = 0. Values stay in 0..1, as those of
//! images do: without that the steps run away where the autoencoder turns small changes into large ones. Bytes: 16
//! read and 4 written per element.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::loss::absolute_error_slope;

/// Numbers of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// alpha.
    pub size: f32,
    /// lambda.
    pub l1: f32,
}

/// Where a value goes.
#[cube]
#[inline(always)]
pub fn projected(x: f32, slope: f32, made: f32, first: f32, size: f32, l1: f32) -> f32 {
    let moved = x - size * (slope + l1 * absolute_error_slope(x, first)) * (x - made) * (x - made);
    moved.clamp(0.0, 1.0)
}

/// Moves `x`; `scale * grad` is the gradient of the loss, `made` the reconstruction, `first` the image.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn projection_step<'a>(
    x: impl Into<ViewMut<'a>>,
    grad: impl Into<View<'a>>,
    scale: f32,
    made: impl Into<View<'a>>,
    first: impl Into<View<'a>>,
    step: Step,
) -> Result<()> {
    const OP: &str = "projection_step";
    let n = x.len();
    check_len(OP, "gradient", grad.len(), n)?;
    check_len(OP, "reconstruction", made.len(), n)?;
    check_len(OP, "image", first.len(), n)?;
    match place(OP, &[&x, &grad, &made, &first])? {
        None => {
            let (grad, made, first) = (grad.host(), made.host(), first.host());
            x.host().par_iter_mut().enumerate().with_min_len(1 << 13).for_each(|(at, x)| {
                *x = projected(*x, scale * grad[at], made[at], first[at], step.size, step.l1);
            });
        }
        Some(gpu) => {
            let (x, grad, made, first) = (x.device(), grad.device(), made.device(), first.device());
            let shape = units(n);
            launch!(
                gpu,
                projection_kernel,
                shape,
                x.arg(),
                grad.arg(),
                made.arg(),
                first.arg(),
                n,
                scale,
                step.size,
                step.l1
            );
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn projection_kernel(
    x: &mut Array<f32>,
    grad: &Array<f32>,
    made: &Array<f32>,
    first: &Array<f32>,
    n: usize,
    scale: f32,
    size: f32,
    l1: f32,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        x[at] = projected(x[at], scale * grad[at], made[at], first[at], size, l1);
    }
}
