//! Activations, element by element, in place or in the epilogue of a convolution.
//!
//! Bytes: 4 read and 4 written per element on their own, none when fused. The slope is a function
//! of the output, so that backward needs no second map.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::error::{Result, check_len};
use crate::math;
use crate::simd::simd_fn;

/// max(x, 0).
#[cube]
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    select(x > 0.0, x, f32::new(0.0))
}

/// x above 0, slope * x elsewhere.
#[cube]
#[inline(always)]
pub fn leaky_relu(x: f32, slope: f32) -> f32 {
    select(x > 0.0, x, slope * x)
}

/// x above 0, alpha * (exp(x) - 1) elsewhere.
#[cube]
#[inline(always)]
pub fn elu(x: f32, alpha: f32) -> f32 {
    select(x > 0.0, x, alpha * (math::exp(x) - 1.0))
}

/// 1 / (1 + exp(-x)).
#[cube]
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + math::exp(-x))
}

/// Hyperbolic tangent, as 1 - 2 / (exp(2x) + 1).
#[cube]
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (math::exp(2.0 * x) + 1.0)
}

/// An activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// x.
    #[default]
    Identity,
    /// max(x, 0); slope 0 at 0.
    Relu,
    /// x above 0, slope * x elsewhere; the slope is positive.
    LeakyRelu(f32),
    /// x above 0, alpha * (exp(x) - 1) elsewhere.
    Elu(f32),
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Applies it to a register tile or a short row.
    #[inline(always)]
    pub(crate) fn apply_lanes(self, x: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Relu => x.iter_mut().for_each(|v| *v = relu(*v)),
            Self::LeakyRelu(slope) => x.iter_mut().for_each(|v| *v = leaky_relu(*v, slope)),
            Self::Elu(alpha) => x.iter_mut().for_each(|v| *v = elu(*v, alpha)),
            Self::Sigmoid => x.iter_mut().for_each(|v| *v = sigmoid(*v)),
            Self::Tanh => x.iter_mut().for_each(|v| *v = tanh(*v)),
        }
    }

    /// Applies it in place.
    pub fn apply(self, x: &mut [f32]) {
        if self != Self::Identity {
            x.par_chunks_mut(1 << 15).for_each(|part| apply_part(self, part));
        }
    }

    /// Slope as a function of the output.
    #[inline(always)]
    fn slope(self, y: f32) -> f32 {
        match self {
            Self::Identity => 1.0,
            Self::Relu => f32::from(u8::from(y > 0.0)),
            Self::LeakyRelu(slope) => {
                if y > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Self::Elu(alpha) => {
                if y > 0.0 {
                    1.0
                } else {
                    y + alpha
                }
            }
            Self::Sigmoid => y * (1.0 - y),
            Self::Tanh => 1.0 - y * y,
        }
    }

    /// Turns the gradient of the output `y` into that of the input, in place.
    ///
    /// # Errors
    /// When the two buffers differ in length.
    pub fn backward(self, y: &[f32], grad: &mut [f32]) -> Result<()> {
        check_len("activation_backward", "gradient", grad.len(), y.len())?;
        if self != Self::Identity {
            grad.par_chunks_mut(1 << 15).zip(y.par_chunks(1 << 15)).for_each(|(g, y)| backward_part(self, y, g));
        }
        Ok(())
    }
}

simd_fn! {
    fn apply_part(activation: Activation, x: &mut [f32]) {
        activation.apply_lanes(x);
    }
}

simd_fn! {
    fn backward_part(activation: Activation, y: &[f32], grad: &mut [f32]) {
        match activation {
            Activation::Relu => {
                for (g, y) in grad.iter_mut().zip(y) {
                    *g = if *y > 0.0 { *g } else { 0.0 };
                }
            }
            other => {
                for (g, y) in grad.iter_mut().zip(y) {
                    *g *= other.slope(*y);
                }
            }
        }
    }
}
