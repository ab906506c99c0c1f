//! Elementary functions that a scalar formula may call on every device.
//!
//! On the host each is a short polynomial without branches (math/wide.rs), on registers and on single numbers; inside
//! a GPU kernel the module of the same name expands to the device's own instruction.

use cubecl::prelude::*;

use crate::simd::{Portable, Wide};

type Expand = <f32 as CubeType>::ExpandType;

/// Runs a function of registers on one number.
#[inline(always)]
fn single<const N: usize>(x: [f32; N], f: impl Fn([Wide<Portable<1>>; N]) -> Wide<Portable<1>>) -> f32 {
    f(x.map(|x| Wide(Portable([x])))).0.0[0]
}

/// e^x for x clamped to -87..88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    single([x], |[x]| wide::exp(x))
}

/// GPU side of [`exp()`].
pub mod exp {
    use super::*;
    /// The device's exponential.
    pub fn expand(scope: &mut Scope, x: Expand) -> Expand {
        x.__expand_exp_method(scope)
    }
}

/// Natural logarithm of a positive normal number.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    single([x], |[x]| wide::ln(x))
}

/// GPU side of [`ln()`].
pub mod ln {
    use super::*;
    /// The device's logarithm.
    pub fn expand(scope: &mut Scope, x: Expand) -> Expand {
        x.__expand_ln_method(scope)
    }
}

/// Sine for |x| below a few hundred.
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    single([x], |[x]| wide::sin(x))
}

/// GPU side of [`sin()`].
pub mod sin {
    use super::*;
    /// The device's sine.
    pub fn expand(scope: &mut Scope, x: Expand) -> Expand {
        x.__expand_sin_method(scope)
    }
}

/// Cosine for |x| below a few hundred.
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    single([x], |[x]| wide::cos(x))
}

/// GPU side of [`cos()`].
pub mod cos {
    use super::*;
    /// The device's cosine.
    pub fn expand(scope: &mut Scope, x: Expand) -> Expand {
        x.__expand_cos_method(scope)
    }
}

/// Angle of the point (x, y) in -pi..pi; 0 for the origin.
#[inline(always)]
pub fn atan2(y: f32, x: f32) -> f32 {
    single([y, x], |[y, x]| wide::atan2(y, x))
}

/// GPU side of [`atan2()`].
pub mod atan2 {
    use super::*;
    /// The device's two-argument arc tangent.
    pub fn expand(scope: &mut Scope, y: Expand, x: Expand) -> Expand {
        y.__expand_atan2_method(scope, x)
    }
}

/// Cube root of a number that is not negative.
#[inline(always)]
pub fn cbrt(x: f32) -> f32 {
    single([x], |[x]| wide::cbrt(x))
}

/// GPU side of [`cbrt()`].
pub mod cbrt {
    use super::*;
    /// `x^(1/3)`.
    pub fn expand(scope: &mut Scope, x: Expand) -> Expand {
        Powf::__expand_powf(scope, x, (1.0f32 / 3.0).into())
    }
}

/// The larger number.
#[cube]
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    f32::max(a, b)
}

/// The smaller number.
#[cube]
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    f32::min(a, b)
}

/// `then` where `a > b`, `otherwise` elsewhere.
#[cube]
#[inline(always)]
pub fn above(a: f32, b: f32, then: f32, otherwise: f32) -> f32 {
    select(a > b, then, otherwise)
}

/// `then` where `a < b`, `otherwise` elsewhere.
#[cube]
#[inline(always)]
pub fn below(a: f32, b: f32, then: f32, otherwise: f32) -> f32 {
    select(a < b, then, otherwise)
}

/// The same functions of registers.
pub(crate) mod wide;

/// Product modulo 2^32.
#[inline(always)]
pub fn wrapping_mul(a: u32, b: u32) -> u32 {
    a.wrapping_mul(b)
}

/// GPU side of [`wrapping_mul()`].
pub mod wrapping_mul {
    use super::*;
    type Word = <u32 as CubeType>::ExpandType;
    /// The device's product, which wraps by itself.
    pub fn expand(scope: &mut Scope, a: Word, b: Word) -> Word {
        cubecl::frontend::mul::expand(scope, a, b)
    }
}
