//! Losses: the mean over all elements, and its gradient in the same pass.
//!
//! Bytes: 8 read and 4 written per element. Sums run in f64 over fixed chunks, so they do not
//! depend on the number of threads.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::activation::sigmoid;
use crate::device::{Reused, UNITS, View, ViewMut, grid, launch, place};
use crate::error::{Result, check_len};
use crate::math;
use crate::reduce::{cube_sum, group_sums};
use crate::simd::{Doubles, Wide, by_registers, formulas, lanes_fn};

/// Elements that one partial sum covers.
const CHUNK: usize = 1 << 14;

formulas! {
    use crate::activation::wide::sigmoid;

    /// Squared error of one element.
    pub fn squared_error(x: f32, y: f32) -> f32 {
        (x - y) * (x - y)
    }

    /// Binary cross-entropy of a probability `p` against target `t`, each logarithm not below -100.
    pub fn cross_entropy(p: f32, t: f32) -> f32 {
        let a = math::max(math::ln(math::max(p, 1.2e-38)), -100.0);
        let b = math::max(math::ln(math::max(1.0 - p, 1.2e-38)), -100.0);
        let a = math::above(p, 0.0, a, -100.0);
        let b = math::below(p, 1.0, b, -100.0);
        -(t * a + (1.0 - t) * b)
    }

    /// Binary cross-entropy of a logit `x` against target `t`: max(x, 0) - x t + log(1 + exp(-|x|)).
    pub fn cross_entropy_with_logits(x: f32, t: f32) -> f32 {
        math::max(x, 0.0) - x * t + math::ln(1.0 + math::exp(-x.abs()))
    }

    /// Slope of [`squared_error()`] in `x`.
    pub fn squared_error_slope(x: f32, y: f32) -> f32 {
        2.0 * (x - y)
    }

    /// Slope of |x - y| in `x`; 0 where equal.
    pub fn absolute_error_slope(x: f32, y: f32) -> f32 {
        math::above(x, y, 1.0, 0.0) - math::below(x, y, 1.0, 0.0)
    }

    /// Slope of [`cross_entropy()`] in `p`; 0 where saturated.
    pub fn cross_entropy_slope(p: f32, t: f32) -> f32 {
        let q = p * (1.0 - p);
        math::above(q, 0.0, (p - t) / math::max(q, 1.2e-38), 0.0)
    }

    /// Slope of [`cross_entropy_with_logits()`] in `x`.
    pub fn cross_entropy_with_logits_slope(x: f32, t: f32) -> f32 {
        sigmoid(x) - t
    }
}

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Mean loss of `x` against `target`, written to `value` (one element); writes the gradient with
    /// respect to `x` to `dx`.
    ///
    /// # Errors
    /// When lengths or devices differ.
    #[outlined]
    pub fn with_gradient<'a>(
        self,
        x: impl Into<View<'a>>,
        target: impl Into<View<'a>>,
        value: impl Into<ViewMut<'a>>,
        dx: impl Into<ViewMut<'a>>,
    ) -> Result<()> {
        const OP: &str = "loss";
        let n = x.len();
        check_len(OP, "target", target.len(), n)?;
        check_len(OP, "value", value.len(), 1)?;
        check_len(OP, "gradient", dx.len(), n)?;
        let scale = 1.0 / n.max(1) as f32;
        match place(OP, &[&x, &target, &value, &dx])? {
            None => value.host()[0] = self.on_host(x.host(), target.host(), scale, dx.host()),
            Some(gpu) => {
                let cubes = n.div_ceil(CHUNK).clamp(1, 1024);
                let partial = gpu.alloc::<f32>(cubes)?;
                launch!(
                    gpu,
                    loss_kernel,
                    (grid(cubes), CubeDim::new_1d(UNITS)),
                    x.device().arg(),
                    target.device().arg(),
                    dx.device().arg(),
                    partial.arg(),
                    n,
                    cubes,
                    scale,
                    self
                );
                group_sums(&partial, 1, (scale, 0.0), value.device(), (1, 0));
            }
        }
        Ok(())
    }

    fn on_host(self, x: &[f32], target: &[f32], scale: f32, dx: &mut [f32]) -> f32 {
        let mut sums = Reused::filled(x.len().div_ceil(CHUNK), 0.0);
        let parts = x.par_chunks(CHUNK).zip(target.par_chunks(CHUNK)).zip(dx.par_chunks_mut(CHUNK));
        parts.zip(&mut sums[..]).for_each(|(((x, t), d), sum)| *sum = loss_part(self, x, t, scale, d));
        (sums.iter().sum::<f64>() / x.len().max(1) as f64) as f32
    }
}

/// Gradient of every element, and the partial loss of every cube.
#[cube(launch_unchecked)]
fn loss_kernel(
    x: &Array<f32>,
    target: &Array<f32>,
    dx: &mut Array<f32>,
    partial: &mut Array<f32>,
    n: usize,
    cubes: usize,
    scale: f32,
    #[comptime] loss: Loss,
) {
    let mut sum = f32::new(0.0);
    let mut at = ABSOLUTE_POS;
    while at < n {
        let (a, b) = (x[at], target[at]);
        if comptime!(loss == Loss::Mse) {
            sum += squared_error(a, b);
            dx[at] = scale * squared_error_slope(a, b);
        } else if comptime!(loss == Loss::L1) {
            sum += (a - b).abs();
            dx[at] = scale * absolute_error_slope(a, b);
        } else if comptime!(loss == Loss::Bce) {
            sum += cross_entropy(a, b);
            dx[at] = scale * cross_entropy_slope(a, b);
        } else {
            sum += cross_entropy_with_logits(a, b);
            dx[at] = scale * cross_entropy_with_logits_slope(a, b);
        }
        at += cubes * comptime!(UNITS as usize);
    }
    let total = cube_sum(sum);
    if UNIT_POS == 0 && CUBE_POS < cubes {
        partial[CUBE_POS] = total;
    }
}

lanes_fn! {
    /// The loss of each element, summed, and its slope times `scale`.
    fn loss_part<L>(loss: Loss, x: &[f32], target: &[f32], scale: f32, dx: &mut [f32]) -> f64 {
        let n = x.len();
        let (target, dx) = (&target[..n], &mut dx[..n]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        let mut sum = zero.widen();
        by_registers!(L, n, |part| {
            let (x, t) = (Wide(zero.read(&x[part.clone()])), Wide(zero.read(&target[part.clone()])));
            let (value, slope) = match loss {
                Loss::Mse => (wide::squared_error(x, t), wide::squared_error_slope(x, t)),
                Loss::L1 => ((x - t).abs(), wide::absolute_error_slope(x, t)),
                Loss::Bce => (wide::cross_entropy(x, t), wide::cross_entropy_slope(x, t)),
                Loss::BceWithLogits => {
                    (wide::cross_entropy_with_logits(x, t), wide::cross_entropy_with_logits_slope(x, t))
                }
            };
            sum = sum.add(value.0.first(part.len()).widen());
            (scale * slope).0.write(&mut dx[part]);
        });
        sum.sum()
    }
}
