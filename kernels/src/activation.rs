//! Activations, element by element, in place or in the epilogue of a convolution.
//!
//! Bytes: 4 read and 4 written per element on their own, none when fused. The slope is a function
//! of the output, so that backward needs no second map; hard swish alone falls and rises, so that its
//! slope needs the input ([`Activation::slope_needs_input`]).

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::math;
use crate::simd::{Lanes, Wide, by_registers, formulas, lanes_fn};

formulas! {
    /// max(x, 0).
    pub fn relu(x: f32) -> f32 {
        math::above(x, 0.0, x, 0.0)
    }

    /// min(max(x, 0), 6).
    pub fn relu6(x: f32) -> f32 {
        relu(math::above(x, 6.0, 6.0, x))
    }

    /// x above 0, slope * x elsewhere.
    pub fn leaky_relu(x: f32; slope: f32) -> f32 {
        math::above(x, 0.0, x, slope * x)
    }

    /// x above 0, alpha * (exp(x) - 1) elsewhere.
    pub fn elu(x: f32; alpha: f32) -> f32 {
        math::above(x, 0.0, x, alpha * (math::exp(x) - 1.0))
    }

    /// 1 / (1 + exp(-x)).
    pub fn sigmoid(x: f32) -> f32 {
        1.0 / (1.0 + math::exp(-x))
    }

    /// Hyperbolic tangent, as 1 - 2 / (exp(2x) + 1).
    pub fn tanh(x: f32) -> f32 {
        1.0 - 2.0 / (math::exp(2.0 * x) + 1.0)
    }

    /// min(max(x + 3, 0), 6) / 6.
    pub fn hard_sigmoid(x: f32) -> f32 {
        relu6(x + 3.0) / 6.0
    }

    /// x min(max(x + 3, 0), 6) / 6.
    pub fn hard_swish(x: f32) -> f32 {
        x * hard_sigmoid(x)
    }

    /// Slope of [`relu()`] at output `y`.
    pub fn relu_slope(y: f32) -> f32 {
        math::above(y, 0.0, 1.0, 0.0)
    }

    /// Slope of [`relu6()`] at output `y`; 0 at both ends.
    pub fn relu6_slope(y: f32) -> f32 {
        math::below(y, 6.0, math::above(y, 0.0, 1.0, 0.0), 0.0)
    }

    /// Slope of [`leaky_relu()`] at output `y`.
    pub fn leaky_relu_slope(y: f32; slope: f32) -> f32 {
        math::above(y, 0.0, 1.0, slope)
    }

    /// Slope of [`elu()`] at output `y`.
    pub fn elu_slope(y: f32; alpha: f32) -> f32 {
        math::above(y, 0.0, 1.0, y + alpha)
    }

    /// Slope of [`sigmoid()`] at output `y`.
    pub fn sigmoid_slope(y: f32) -> f32 {
        y * (1.0 - y)
    }

    /// Slope of [`tanh()`] at output `y`.
    pub fn tanh_slope(y: f32) -> f32 {
        1.0 - y * y
    }

    /// Slope of [`hard_sigmoid()`] at output `y`; 0 at both ends.
    pub fn hard_sigmoid_slope(y: f32) -> f32 {
        math::below(y, 1.0, math::above(y, 0.0, 1.0 / 6.0, 0.0), 0.0)
    }

    /// Slope of [`hard_swish()`] at input `x`: 0 at -3, 1 at 3.
    pub fn hard_swish_slope(x: f32) -> f32 {
        math::above(x, -3.0, math::below(x, 3.0, x / 3.0 + 0.5, 1.0), 0.0)
    }
}

/// An activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// x.
    #[default]
    Identity,
    /// max(x, 0); slope 0 at 0.
    Relu,
    /// min(max(x, 0), 6); slope 0 at 0 and at 6.
    Relu6,
    /// x above 0, slope * x elsewhere; the slope is positive.
    LeakyRelu(f32),
    /// x above 0, alpha * (exp(x) - 1) elsewhere.
    Elu(f32),
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// min(max(x + 3, 0), 6) / 6.
    HardSigmoid,
    /// x min(max(x + 3, 0), 6) / 6.
    HardSwish,
}

impl Activation {
    /// Whether [`Activation::backward`] wants the input where others want the output.
    pub fn slope_needs_input(self) -> bool {
        self == Self::HardSwish
    }

    /// Of one register.
    #[inline(always)]
    pub(crate) fn wide<L: Lanes>(self, x: Wide<L>) -> Wide<L> {
        match self {
            Self::Identity => x,
            Self::Relu => wide::relu(x),
            Self::Relu6 => wide::relu6(x),
            Self::LeakyRelu(slope) => wide::leaky_relu(x, slope),
            Self::Elu(alpha) => wide::elu(x, alpha),
            Self::Sigmoid => wide::sigmoid(x),
            Self::Tanh => wide::tanh(x),
            Self::HardSigmoid => wide::hard_sigmoid(x),
            Self::HardSwish => wide::hard_swish(x),
        }
    }

    /// Applies it to a register tile or a short row; `zero` is any register.
    #[inline(always)]
    pub(crate) fn apply_lanes<L: Lanes>(self, zero: L, x: &mut [f32]) {
        by_registers!(L, x.len(), |part| {
            let x = &mut x[part];
            self.wide(Wide(zero.read(x))).0.write(x);
        });
    }

    /// Slope of one register of outputs, or of inputs where those are needed.
    #[inline(always)]
    pub(crate) fn wide_slope<L: Lanes>(self, y: Wide<L>) -> Wide<L> {
        match self {
            Self::Identity => Wide(y.0.same(1.0)),
            Self::Relu => wide::relu_slope(y),
            Self::Relu6 => wide::relu6_slope(y),
            Self::LeakyRelu(slope) => wide::leaky_relu_slope(y, slope),
            Self::Elu(alpha) => wide::elu_slope(y, alpha),
            Self::Sigmoid => wide::sigmoid_slope(y),
            Self::Tanh => wide::tanh_slope(y),
            Self::HardSigmoid => wide::hard_sigmoid_slope(y),
            Self::HardSwish => wide::hard_swish_slope(y),
        }
    }

    /// The least and the largest output, where that says all: the output is the input between them.
    #[inline(always)]
    pub(crate) fn bounds(self) -> Option<(f32, f32)> {
        match self {
            Self::Relu => Some((0.0, f32::INFINITY)),
            Self::Relu6 => Some((0.0, 6.0)),
            _ => None,
        }
    }

    /// Applies it to a row in the cache.
    pub(crate) fn apply_row(self, x: &mut [f32]) {
        if self != Self::Identity {
            apply_part(self, x);
        }
    }

    /// Applies it in place.
    #[outlined]
    pub fn apply<'a>(self, x: impl Into<ViewMut<'a>>) {
        if self == Self::Identity {
            return;
        }
        match x {
            ViewMut::Host(x) => x.par_chunks_mut(1 << 15).for_each(|part| apply_part(self, part)),
            ViewMut::Gpu(x) => {
                let (kind, parameter) = self.kind();
                let n = x.len();
                launch!(x.gpu(), apply_kernel, units(n), x.arg(), n, parameter, kind);
            }
        }
    }

    /// Turns the gradient of the output `y` into that of the input, in place. For hard swish `y` is
    /// the input.
    ///
    /// # Errors
    /// When the two differ in length or device.
    #[outlined]
    pub fn backward<'a>(self, y: impl Into<View<'a>>, grad: impl Into<ViewMut<'a>>) -> Result<()> {
        const OP: &str = "activation_backward";
        check_len(OP, "gradient", grad.len(), y.len())?;
        let gpu = place(OP, &[&y, &grad])?;
        if self == Self::Identity {
            return Ok(());
        }
        match gpu {
            None => {
                let parts = grad.host().par_chunks_mut(1 << 15).zip(y.host().par_chunks(1 << 15));
                parts.for_each(|(g, y)| backward_part(self, y, g));
            }
            Some(gpu) => {
                let (kind, parameter) = self.kind();
                let n = y.len();
                let (y, grad) = (y.device(), grad.device());
                launch!(gpu, backward_kernel, units(n), y.arg(), grad.arg(), n, parameter, kind);
            }
        }
        Ok(())
    }

    /// Which formula, and its parameter.
    pub(crate) fn kind(self) -> (Kind, f32) {
        match self {
            Self::Identity => (Kind::Identity, 0.0),
            Self::Relu => (Kind::Relu, 0.0),
            Self::Relu6 => (Kind::Relu6, 0.0),
            Self::LeakyRelu(slope) => (Kind::LeakyRelu, slope),
            Self::Elu(alpha) => (Kind::Elu, alpha),
            Self::Sigmoid => (Kind::Sigmoid, 0.0),
            Self::Tanh => (Kind::Tanh, 0.0),
            Self::HardSigmoid => (Kind::HardSigmoid, 0.0),
            Self::HardSwish => (Kind::HardSwish, 0.0),
        }
    }
}

/// Which formula a kernel is compiled for; its parameter is an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Identity,
    Relu,
    Relu6,
    LeakyRelu,
    Elu,
    Sigmoid,
    Tanh,
    HardSigmoid,
    HardSwish,
}

/// The formula of `kind`.
#[cube]
pub(crate) fn activate(x: f32, parameter: f32, #[comptime] kind: Kind) -> f32 {
    if comptime!(kind == Kind::Relu) {
        relu(x)
    } else if comptime!(kind == Kind::Relu6) {
        relu6(x)
    } else if comptime!(kind == Kind::LeakyRelu) {
        leaky_relu(x, parameter)
    } else if comptime!(kind == Kind::Elu) {
        elu(x, parameter)
    } else if comptime!(kind == Kind::Sigmoid) {
        sigmoid(x)
    } else if comptime!(kind == Kind::Tanh) {
        tanh(x)
    } else if comptime!(kind == Kind::HardSigmoid) {
        hard_sigmoid(x)
    } else if comptime!(kind == Kind::HardSwish) {
        hard_swish(x)
    } else {
        x
    }
}

/// The slope of `kind` as a function of the output, or of the input where that is needed.
#[cube]
pub(crate) fn activation_slope(y: f32, parameter: f32, #[comptime] kind: Kind) -> f32 {
    if comptime!(kind == Kind::Relu) {
        relu_slope(y)
    } else if comptime!(kind == Kind::Relu6) {
        relu6_slope(y)
    } else if comptime!(kind == Kind::LeakyRelu) {
        leaky_relu_slope(y, parameter)
    } else if comptime!(kind == Kind::Elu) {
        elu_slope(y, parameter)
    } else if comptime!(kind == Kind::Sigmoid) {
        sigmoid_slope(y)
    } else if comptime!(kind == Kind::HardSigmoid) {
        hard_sigmoid_slope(y)
    } else if comptime!(kind == Kind::HardSwish) {
        hard_swish_slope(y)
    } else if comptime!(kind == Kind::Tanh) {
        tanh_slope(y)
    } else {
        f32::new(1.0)
    }
}

#[cube(launch_unchecked)]
fn apply_kernel(x: &mut Array<f32>, n: usize, parameter: f32, #[comptime] kind: Kind) {
    let at = ABSOLUTE_POS;
    if at < n {
        x[at] = activate(x[at], parameter, kind);
    }
}

#[cube(launch_unchecked)]
fn backward_kernel(y: &Array<f32>, grad: &mut Array<f32>, n: usize, parameter: f32, #[comptime] kind: Kind) {
    let at = ABSOLUTE_POS;
    if at < n {
        let (g, v) = (grad[at], y[at]);
        if comptime!(kind == Kind::Relu) {
            grad[at] = select(v > 0.0, g, f32::new(0.0));
        } else {
            grad[at] = g * activation_slope(v, parameter, kind);
        }
    }
}

lanes_fn! {
    fn apply_part<L>(activation: Activation, x: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        activation.apply_lanes(unsafe { L::splat(0.0) }, x);
    }
}

lanes_fn! {
    fn backward_part<L>(activation: Activation, y: &[f32], grad: &mut [f32]) {
        let grad = &mut grad[..y.len()];
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        by_registers!(L, y.len(), |part| {
            let (y, grad) = (Wide(zero.read(&y[part.clone()])), &mut grad[part]);
            let g = Wide(zero.read(grad));
            // A gradient that is not finite passes no ReLU that is shut.
            let d = if activation == Activation::Relu { math::wide::above(y, 0.0, g, 0.0) } else { g * activation.wide_slope(y) };
            d.0.write(grad);
        });
    }
}
