//! Elementary functions that a scalar formula may call on every device.
//!
//! On the host each is a short branch-free polynomial, so that a loop over it is vectorised; inside
//! a GPU kernel the module of the same name expands to the device's own instruction. Accuracy on
//! the host is about 1e-7 relative (see tests/math.rs); polynomials from Cephes (Moshier).

#![allow(clippy::excessive_precision)] // coefficients as published

use cubecl::prelude::*;

type Expand = <f32 as CubeType>::ExpandType;

/// Adding and subtracting it rounds to the nearest integer, which is then in the low mantissa bits.
const ROUNDER: f32 = 12_582_912.0;

/// e^x for x clamped to -87..88.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let t = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = t - ROUNDER;
    let r = x - n * 0.693_359_375 - n * -2.121_944_4e-4;
    let p = 1.987_569_15e-4;
    let p = p * r + 1.398_199_95e-3;
    let p = p * r + 8.333_451_9e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_55e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits((t.to_bits() << 23).wrapping_add(127 << 23))
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
    let bits = x.to_bits();
    let e = (bits.wrapping_sub(0x3f35_04f3) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((e << 23) as u32)) - 1.0;
    let z = m * m;
    let p = 7.037_683_6e-2;
    let p = p * m - 1.151_461_03e-1;
    let p = p * m + 1.167_699_87e-1;
    let p = p * m - 1.242_014_08e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_7e-1;
    let p = p * m + 2.000_071_5e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333_1e-1;
    let e = e as f32;
    m + (p * m * z + e * -2.121_944_4e-4 - 0.5 * z) + e * 0.693_359_375
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
    let t = x * std::f32::consts::FRAC_1_PI + ROUNDER;
    let n = t - ROUNDER;
    let r = x - n * 3.140_625 - n * 9.676_535_9e-4;
    let z = r * r;
    let p = 2.608_316e-6;
    let p = p * z - 1.981_064_9e-4;
    let p = p * z + 8.333_072e-3;
    let p = p * z - 1.666_665_7e-1;
    let s = p * z * r + r;
    f32::from_bits(s.to_bits() ^ (t.to_bits() << 31))
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
    sin(x + std::f32::consts::FRAC_PI_2)
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
    use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    let (ax, ay) = (x.abs(), y.abs());
    let (lo, hi) = if ay > ax { (ax, ay) } else { (ay, ax) };
    let t = lo / if hi > 0.0 { hi } else { 1.0 };
    let upper = t > 0.414_213_56;
    let (offset, r) = if upper { (FRAC_PI_4, (t - 1.0) / (t + 1.0)) } else { (0.0, t) };
    let z = r * r;
    let p = 8.053_744_5e-2;
    let p = p * z - 1.387_768_56e-1;
    let p = p * z + 1.997_771_07e-1;
    let p = p * z - 3.333_294_9e-1;
    let a = offset + (p * z * r + r);
    let a = if ay > ax { FRAC_PI_2 - a } else { a };
    let a = if x < 0.0 { PI - a } else { a };
    if y < 0.0 { -a } else { a }
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
    let y = f32::from_bits(x.to_bits() / 3 + 709_921_077);
    let halley = |y: f32| {
        let c = y * y * y;
        y * (c + 2.0 * x) / (2.0 * c + x)
    };
    halley(halley(y))
}

/// GPU side of [`cbrt()`].
pub mod cbrt {
    use super::*;
    /// `x^(1/3)`.
    pub fn expand(scope: &mut Scope, x: Expand) -> Expand {
        Powf::__expand_powf(scope, x, (1.0f32 / 3.0).into())
    }
}

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
