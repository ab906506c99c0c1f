//! Dropout (Srivastava et al. 2014): each value is kept with probability 1 - p and then divided by it.
//!
//! Which values are kept is a hash of a seed and the value's place: no state, no mask in memory, the
//! same on every device, and backward is the same pass over the gradient. Bytes: 4 read, 4 written.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{ViewMut, launch, units};
use crate::error::{Result, shape_error};
use crate::math::wrapping_mul;

/// A hash of 32 bits with little bias (Wellons, "Hash prospector", lowbias32).
#[cube]
#[inline(always)]
pub fn hash(x: u32) -> u32 {
    let x = x ^ (x >> 16);
    let x = wrapping_mul(x, 0x7feb_352d);
    let x = x ^ (x >> 15);
    let x = wrapping_mul(x, 0x846c_a68b);
    x ^ (x >> 16)
}

/// What the value at place `at` is multiplied by: 0, or `scale` when its hash is not below `bound`.
#[cube]
#[inline(always)]
pub fn dropout_factor(at: u32, seed: u32, bound: u32, scale: f32) -> f32 {
    select(hash(at ^ seed) < bound, f32::new(0.0), scale)
}

/// Drops values of `x` in place with probability `p`; values of one seed are dropped at the same
/// places, so the gradient goes through the same call.
///
/// # Errors
/// When `p` is not in 0..1, or there are more than 2^32 values.
#[outlined]
pub fn dropout<'a>(x: impl Into<ViewMut<'a>>, p: f32, seed: u32) -> Result<()> {
    const OP: &str = "dropout";
    if !(0.0..1.0).contains(&p) {
        return shape_error(OP, format!("a probability of {p}; 0 or more, below 1"));
    }
    if u32::try_from(x.len()).is_err() {
        return shape_error(OP, format!("{} values; 2^32 at most", x.len()));
    }
    let (bound, scale) = ((f64::from(p) * 4_294_967_296.0) as u32, 1.0 / (1.0 - p));
    let seed = hash(seed);
    match x {
        ViewMut::Host(x) => x.par_iter_mut().enumerate().with_min_len(1 << 14).for_each(|(at, v)| {
            *v *= dropout_factor(at as u32, seed, bound, scale);
        }),
        ViewMut::Gpu(x) => {
            let n = x.len();
            launch!(x.gpu(), dropout_kernel, units(n), x.arg(), n, seed, bound, scale);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn dropout_kernel(x: &mut Array<f32>, n: usize, seed: u32, bound: u32, scale: f32) {
    let at = ABSOLUTE_POS;
    if at < n {
        x[at] *= dropout_factor(at as u32, seed, bound, scale);
    }
}
