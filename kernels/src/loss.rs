//! Losses: the mean over all elements, and its gradient in the same pass.
//!
//! Bytes: 8 read and 4 written per element. Sums run in f64 over fixed chunks, so they do not
//! depend on the number of threads.

use rayon::prelude::*;

use crate::error::{Result, check_len};
use crate::math;
use crate::simd::simd_fn;
use cubecl::prelude::*;

/// Elements that one partial sum covers.
const CHUNK: usize = 1 << 14;

/// Squared error of one element.
#[cube]
#[inline(always)]
pub fn squared_error(x: f32, y: f32) -> f32 {
    (x - y) * (x - y)
}

/// Binary cross-entropy of a probability `p` against target `t`, each logarithm not below -100.
#[cube]
#[inline(always)]
pub fn cross_entropy(p: f32, t: f32) -> f32 {
    let tiny = f32::new(1.2e-38);
    let a = f32::max(math::ln(f32::max(p, tiny)), -100.0);
    let b = f32::max(math::ln(f32::max(1.0 - p, tiny)), -100.0);
    let a = select(p > 0.0, a, f32::new(-100.0));
    let b = select(p < 1.0, b, f32::new(-100.0));
    -(t * a + (1.0 - t) * b)
}

/// Binary cross-entropy of a logit `x` against target `t`: max(x, 0) - x t + log(1 + exp(-|x|)).
#[cube]
#[inline(always)]
pub fn cross_entropy_with_logits(x: f32, t: f32) -> f32 {
    f32::max(x, 0.0) - x * t + math::ln(1.0 + math::exp(-x.abs()))
}

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Mean squared error.
    Mse,
    /// Mean absolute error; slope 0 where equal.
    L1,
    /// Binary cross-entropy of probabilities; no gradient where saturated.
    Bce,
    /// Binary cross-entropy of logits.
    BceWithLogits,
}

impl Loss {
    /// Mean loss of `x` against `target`; writes the gradient with respect to `x` to `dx`.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn with_gradient(self, x: &[f32], target: &[f32], dx: &mut [f32]) -> Result<f32> {
        check_len("loss", "target", target.len(), x.len())?;
        check_len("loss", "gradient", dx.len(), x.len())?;
        let scale = 1.0 / x.len().max(1) as f32;
        let part = match self {
            Self::Mse => mse_part,
            Self::L1 => l1_part,
            Self::Bce => bce_part,
            Self::BceWithLogits => bce_with_logits_part,
        };
        let sums: Vec<f64> = x
            .par_chunks(CHUNK)
            .zip(target.par_chunks(CHUNK))
            .zip(dx.par_chunks_mut(CHUNK))
            .map(|((x, t), d)| part(x, t, scale, d))
            .collect();
        Ok((sums.iter().sum::<f64>() / x.len().max(1) as f64) as f32)
    }
}

simd_fn! {
    fn mse_part(x: &[f32], target: &[f32], scale: f32, dx: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        for ((x, t), d) in x.iter().zip(target).zip(dx) {
            sum += f64::from(squared_error(*x, *t));
            *d = 2.0 * scale * (x - t);
        }
        sum
    }
}

simd_fn! {
    fn l1_part(x: &[f32], target: &[f32], scale: f32, dx: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        for ((x, t), d) in x.iter().zip(target).zip(dx) {
            let e = x - t;
            sum += f64::from(e.abs());
            *d = if e == 0.0 { 0.0 } else { scale.copysign(e) };
        }
        sum
    }
}

simd_fn! {
    fn bce_part(p: &[f32], target: &[f32], scale: f32, dp: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        for ((p, t), d) in p.iter().zip(target).zip(dp) {
            sum += f64::from(cross_entropy(*p, *t));
            let q = p * (1.0 - p);
            *d = if q > 0.0 { scale * (p - t) / q } else { 0.0 };
        }
        sum
    }
}

simd_fn! {
    fn bce_with_logits_part(x: &[f32], target: &[f32], scale: f32, dx: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        for ((x, t), d) in x.iter().zip(target).zip(dx) {
            sum += f64::from(cross_entropy_with_logits(*x, *t));
            *d = scale * (crate::activation::sigmoid(*x) - t);
        }
        sum
    }
}
