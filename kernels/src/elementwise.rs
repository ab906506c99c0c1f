//! The element-wise steps that are no operation of their own: adding, scaling, limiting.
//!
//! Bytes: 4 written and up to 8 read per element.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::reduce::group_sums;
use crate::simd::{Lanes, by_registers, lanes_fn};

/// `sum += factor * x`, as a part of a loop over rows.
#[inline(always)]
pub(crate) fn add_product<L: Lanes>(sum: &mut [f32], factor: L, x: &[f32]) {
    let x = &x[..sum.len()];
    by_registers!(L, sum.len(), |part| {
        let sum = &mut sum[part.clone()];
        factor.mul_add(factor.read(&x[part]), factor.read(sum)).write(sum);
    });
}

lanes_fn! {
    /// `sum += weight * x`.
    pub(crate) fn add_scaled<L>(sum: &mut [f32], weight: f32, x: &[f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        add_product(sum, unsafe { L::splat(weight) }, x);
    }
}

#[cube(launch_unchecked)]
fn add_kernel(to: &mut Array<f32>, from: &Array<f32>, n: usize) {
    if ABSOLUTE_POS < n {
        to[ABSOLUTE_POS] += from[ABSOLUTE_POS];
    }
}

/// `to += from`.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn add<'a>(to: impl Into<ViewMut<'a>>, from: impl Into<View<'a>>) -> Result<()> {
    const OP: &str = "add";
    let n = to.len();
    check_len(OP, "addend", from.len(), n)?;
    match place(OP, &[&to, &from])? {
        None => to.host().par_iter_mut().zip(from.host()).with_min_len(1 << 14).for_each(|(t, f)| *t += f),
        Some(gpu) => launch!(gpu, add_kernel, units(n), to.device().arg(), from.device().arg(), n),
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn clamp_kernel(x: &Array<f32>, y: &mut Array<f32>, n: usize, low: f32, high: f32) {
    if ABSOLUTE_POS < n {
        y[ABSOLUTE_POS] = x[ABSOLUTE_POS].clamp(low, high);
    }
}

/// `y = min(max(x, low), high)`; what becomes of a NaN is the device's.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn clamp<'a>(x: impl Into<View<'a>>, range: (f32, f32), y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "clamp";
    let (low, high) = range;
    let n = x.len();
    check_len(OP, "output", y.len(), n)?;
    match place(OP, &[&x, &y])? {
        None => {
            let pairs = y.host().par_iter_mut().zip(x.host()).with_min_len(1 << 14);
            pairs.for_each(|(y, x)| *y = x.clamp(low, high));
        }
        Some(gpu) => launch!(gpu, clamp_kernel, units(n), x.device().arg(), y.device().arg(), n, low, high),
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn scale_kernel(x: &mut Array<f32>, factor: &Array<f32>, n: usize) {
    if ABSOLUTE_POS < n {
        x[ABSOLUTE_POS] *= factor[0];
    }
}

/// `x *= factor`, a factor that may be on the device: one element.
///
/// # Errors
/// When there is more than one factor, or devices differ.
#[outlined]
pub fn scale<'a>(x: impl Into<ViewMut<'a>>, factor: impl Into<View<'a>>) -> Result<()> {
    const OP: &str = "scale";
    check_len(OP, "factor", factor.len(), 1)?;
    match place(OP, &[&x, &factor])? {
        None => {
            let factor = factor.host()[0];
            x.host().par_iter_mut().with_min_len(1 << 14).for_each(|v| *v *= factor);
        }
        Some(gpu) => {
            let n = x.len();
            launch!(gpu, scale_kernel, units(n), x.device().arg(), factor.device().arg(), n);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn affine_kernel(x: &Array<f32>, y: &mut Array<f32>, n: usize, factor: f32, offset: f32) {
    if ABSOLUTE_POS < n {
        y[ABSOLUTE_POS] = factor * x[ABSOLUTE_POS] + offset;
    }
}

/// `y = factor * x + offset`.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn affine<'a>(x: impl Into<View<'a>>, factor: f32, offset: f32, y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "affine";
    let n = x.len();
    check_len(OP, "output", y.len(), n)?;
    match place(OP, &[&x, &y])? {
        None => y.host().iter_mut().zip(x.host()).for_each(|(y, x)| *y = factor * x + offset),
        Some(gpu) => {
            launch!(gpu, affine_kernel, units(n), x.device().arg(), y.device().arg(), n, factor, offset);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn approach_kernel(to: &mut Array<f32>, from: &Array<f32>, n: usize, share: f32) {
    if ABSOLUTE_POS < n {
        to[ABSOLUTE_POS] += share * (from[ABSOLUTE_POS] - to[ABSOLUTE_POS]);
    }
}

/// `to += share * (from - to)`: one step of an exponential moving average.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn approach<'a>(to: impl Into<ViewMut<'a>>, from: impl Into<View<'a>>, share: f32) -> Result<()> {
    const OP: &str = "approach";
    let n = to.len();
    check_len(OP, "value", from.len(), n)?;
    match place(OP, &[&to, &from])? {
        None => {
            let pairs = to.host().par_iter_mut().zip(from.host()).with_min_len(1 << 14);
            pairs.for_each(|(t, f)| *t += share * (f - *t));
        }
        Some(gpu) => launch!(gpu, approach_kernel, units(n), to.device().arg(), from.device().arg(), n, share),
    }
    Ok(())
}

/// `sum = offset + factor * (sum of all x)`, one element, in a fixed order.
///
/// # Errors
/// When `sum` is not one element, or devices differ.
pub fn weighted_sum<'a>(x: impl Into<View<'a>>, factor: f32, offset: f32, sum: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "weighted_sum";
    let (x, sum) = (x.into(), sum.into());
    check_len(OP, "sum", sum.len(), 1)?;
    match place(OP, &[&x, &sum])? {
        None => sum.host()[0] = offset + factor * x.host().iter().sum::<f32>(),
        Some(_) => group_sums(x.device(), 1, (factor, offset), sum.device(), (1, 0)),
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn product_kernel(a: &Array<f32>, b: &Array<f32>, y: &mut Array<f32>, n: usize) {
    if ABSOLUTE_POS < n {
        y[ABSOLUTE_POS] = a[ABSOLUTE_POS] * b[ABSOLUTE_POS];
    }
}

/// `sum = sum of a * b`, one element, in a fixed order.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn dot<'a>(a: impl Into<View<'a>>, b: impl Into<View<'a>>, sum: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "dot";
    let n = a.len();
    check_len(OP, "second operand", b.len(), n)?;
    check_len(OP, "sum", sum.len(), 1)?;
    match place(OP, &[&a, &b, &sum])? {
        None => {
            let pairs = a.host().iter().zip(b.host());
            sum.host()[0] = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
        }
        Some(gpu) => {
            let products = gpu.alloc(n)?;
            launch!(gpu, product_kernel, units(n), a.device().arg(), b.device().arg(), products.arg(), n);
            group_sums(&products, 1, (1.0, 0.0), sum.device(), (1, 0));
        }
    }
    Ok(())
}
