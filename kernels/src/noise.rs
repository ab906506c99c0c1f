//! Gaussian noise, added: `y = x + sigma n`, n normal (Box and Muller 1958).
//!
//! The noise is made of two hashes of a seed and the value's place: no state, and the same on every device up to rounding.
//! Bytes: 4 read, 4 written.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{ViewMut, launch, units};
use crate::dropout::hash;
use crate::error::{Result, shape_error};

/// A hash as a number above 0 and below 1, of 24 bits.
#[cube]
#[inline(always)]
pub fn uniform(hash: u32) -> f32 {
    ((hash >> 8) as f32 + 0.5) * 5.960_464_5e-8
}

/// The normal number at place `at`.
#[cube]
#[inline(always)]
pub fn normal_at(at: u32, radius_seed: u32, angle_seed: u32) -> f32 {
    let u = uniform(hash(at ^ radius_seed));
    let v = uniform(hash(at ^ angle_seed));
    (-2.0 * u.ln()).sqrt() * (6.283_185_5 * v).cos()
}

/// Adds noise of deviation `sigma` to `x` in place.
///
/// # Errors
/// When there are more than 2^32 values.
#[outlined]
pub fn add_noise<'a>(x: impl Into<ViewMut<'a>>, sigma: f32, seed: u32) -> Result<()> {
    if u32::try_from(x.len()).is_err() {
        return shape_error("noise", format!("{} values; 2^32 at most", x.len()));
    }
    let (radius, angle) = (hash(seed), hash(seed ^ 0x9e37_79b9));
    match x {
        ViewMut::Host(x) => x.par_iter_mut().enumerate().with_min_len(1 << 12).for_each(|(at, v)| {
            *v += sigma * normal_at(at as u32, radius, angle);
        }),
        ViewMut::Gpu(x) => {
            let n = x.len();
            launch!(x.gpu(), noise_kernel, units(n), x.arg(), n, sigma, radius, angle);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn noise_kernel(x: &mut Array<f32>, n: usize, sigma: f32, radius_seed: u32, angle_seed: u32) {
    let at = ABSOLUTE_POS;
    if at < n {
        x[at] += sigma * normal_at(at as u32, radius_seed, angle_seed);
    }
}
