//! Hinge losses of one operand: of a discriminator (Miyato et al. 2018, equations 16 and 17; I3AD, section
//! 2.2) and the truncated L1 of SimpleNet (Liu et al. 2023, equation 7).
//!
//! `mean of max(0, margin - sign * d)`: sign 1 asks for verdicts above the margin, -1 for verdicts below its
//! negative; no slope at the kink. Bytes: 4 read and 4 written per element.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;

use crate::device::{UNITS, View, ViewMut, grid, launch, place};
use crate::error::{Result, check_len};
use crate::reduce::{cube_sum, group_sums};

/// max(0, margin - sign * d).
#[cube]
#[inline(always)]
pub fn hinge(d: f32, margin: f32, sign: f32) -> f32 {
    f32::max(margin - sign * d, 0.0)
}

/// Slope of [`hinge()`] in `d`; 0 at the kink.
#[cube]
#[inline(always)]
pub fn hinge_slope(d: f32, margin: f32, sign: f32) -> f32 {
    select(margin - sign * d > 0.0, -sign, f32::new(0.0))
}

/// Writes `scale` times the mean hinge of `d` to `value` (one element) and its gradient to `dd`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn hinge_loss<'a>(
    d: impl Into<View<'a>>,
    margin: f32,
    sign: f32,
    scale: f32,
    value: impl Into<ViewMut<'a>>,
    dd: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "hinge_loss";
    let n = d.len();
    check_len(OP, "value", value.len(), 1)?;
    check_len(OP, "gradient", dd.len(), n)?;
    let factor = scale / n.max(1) as f32;
    match place(OP, &[&d, &value, &dd])? {
        None => {
            let mut sum = 0.0;
            for (d, g) in d.host().iter().zip(dd.host()) {
                sum += f64::from(hinge(*d, margin, sign));
                *g = factor * hinge_slope(*d, margin, sign);
            }
            value.host()[0] = (sum * f64::from(factor)) as f32;
        }
        Some(gpu) => {
            let cubes = n.div_ceil(1 << 14).clamp(1, 1024);
            let partial = gpu.alloc::<f32>(cubes)?;
            let (shape, d, dd) = ((grid(cubes), CubeDim::new_1d(UNITS)), d.device(), dd.device());
            launch!(gpu, hinge_kernel, shape, d.arg(), dd.arg(), partial.arg(), n, cubes, factor, margin, sign);
            group_sums(&partial, 1, (factor, 0.0), value.device(), (1, 0));
        }
    }
    Ok(())
}

/// Gradient of every element, and the partial sum of every cube.
#[cube(launch_unchecked)]
fn hinge_kernel(
    d: &Array<f32>,
    dd: &mut Array<f32>,
    partial: &mut Array<f32>,
    n: usize,
    cubes: usize,
    factor: f32,
    margin: f32,
    sign: f32,
) {
    let mut sum = f32::new(0.0);
    let mut at = ABSOLUTE_POS;
    while at < n {
        sum += hinge(d[at], margin, sign);
        dd[at] = factor * hinge_slope(d[at], margin, sign);
        at += cubes * comptime!(UNITS as usize);
    }
    let total = cube_sum(sum);
    if UNIT_POS == 0 && CUBE_POS < cubes {
        partial[CUBE_POS] = total;
    }
}
