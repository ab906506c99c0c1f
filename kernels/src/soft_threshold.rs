//! Soft threshold of a difference: the proximal operator of `threshold * |x - l|` in l (Donoho 1995).
//!
//! `x - l` becomes `sign(x - l) * max(|x - l| - threshold, 0)`; where |x - l| <= threshold, l becomes x to the bit.
//! Bytes: 8 read and 4 written per element.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::math;

/// The l of one element.
#[cube]
fn shrunk(x: f32, l: f32, threshold: f32) -> f32 {
    let difference = x - l;
    let nearer = l + math::above(difference, 0.0, threshold, -threshold);
    math::above(difference.abs(), threshold, nearer, x)
}

/// Moves each element of `l` to that of `x` by at most `threshold`.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn soft_threshold<'a>(x: impl Into<View<'a>>, l: impl Into<ViewMut<'a>>, threshold: f32) -> Result<()> {
    const OP: &str = "soft threshold";
    let n = l.len();
    check_len(OP, "x", x.len(), n)?;
    match place(OP, &[&x, &l])? {
        None => {
            let pairs = l.host().par_iter_mut().zip(x.host()).with_min_len(1 << 14);
            pairs.for_each(|(l, x)| *l = shrunk(*x, *l, threshold));
        }
        Some(gpu) => launch!(gpu, shrunk_kernel, units(n), x.device().arg(), l.device().arg(), n, threshold),
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn shrunk_kernel(x: &Array<f32>, l: &mut Array<f32>, n: usize, threshold: f32) {
    let at = ABSOLUTE_POS;
    if at < n {
        l[at] = shrunk(x[at], l[at], threshold);
    }
}
