//! Elementary functions of registers: polynomials from Cephes (Moshier), without branches.
//!
//! Accuracy is about 1e-7 relative (see tests/math.rs).

#![allow(clippy::excessive_precision)] // coefficients as published

use crate::simd::{Lanes, Operand, Wide};

/// Adding and subtracting it rounds to the nearest integer, which is then in the low mantissa bits.
const ROUNDER: f32 = 12_582_912.0;

/// `((c0 x + c1) x + c2) x ..`.
#[inline(always)]
fn polynomial<L: Lanes, const N: usize>(x: Wide<L>, coefficients: [f32; N]) -> Wide<L> {
    let mut sum = Wide(x.0.same(coefficients[0]));
    for c in &coefficients[1..] {
        sum = sum.mul_add(x, *c);
    }
    sum
}

/// The larger value; `b` where `a` or `b` is not a number.
#[inline(always)]
pub(crate) fn max<L: Lanes>(a: Wide<L>, b: impl Operand<L>) -> Wide<L> {
    Wide(a.0.max(b.lanes(a.0)))
}

/// The smaller value; `b` where `a` or `b` is not a number.
#[inline(always)]
pub(crate) fn min<L: Lanes>(a: Wide<L>, b: impl Operand<L>) -> Wide<L> {
    Wide(a.0.min(b.lanes(a.0)))
}

/// `then` where `a > b`, `otherwise` elsewhere.
#[inline(always)]
pub(crate) fn above<L: Lanes>(
    a: Wide<L>,
    b: impl Operand<L>,
    then: impl Operand<L>,
    otherwise: impl Operand<L>,
) -> Wide<L> {
    Wide(a.0.above(b.lanes(a.0), then.lanes(a.0), otherwise.lanes(a.0)))
}

/// `then` where `a < b`, `otherwise` elsewhere.
#[inline(always)]
pub(crate) fn below<L: Lanes>(
    a: Wide<L>,
    b: impl Operand<L>,
    then: impl Operand<L>,
    otherwise: impl Operand<L>,
) -> Wide<L> {
    Wide(b.lanes(a.0).above(a.0, then.lanes(a.0), otherwise.lanes(a.0)))
}

/// e^x for x clamped to -87..88.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(x: Wide<L>) -> Wide<L> {
    // In this order what is not a number stays so.
    let x = Wide(x.0.same(88.0).min(x.0.same(-87.0).max(x.0)));
    let t = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = t - ROUNDER;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_375, x));
    let p = polynomial(r, [1.987_569_15e-4, 1.398_199_95e-3, 8.333_451_9e-3, 4.166_579_6e-2, 1.666_666_55e-1, 0.5]);
    let p = (p * r).mul_add(r, r) + 1.0;
    // 2^n: n is in the low bits of t.
    p * Wide(t.0.bits_up(23).bits_add(t.0.same(1.0)))
}

/// Natural logarithm of a positive normal number.
#[inline(always)]
pub(crate) fn ln<L: Lanes>(x: Wide<L>) -> Wide<L> {
    let root_half = x.0.same(std::f32::consts::FRAC_1_SQRT_2);
    let e = x.0.bits_sub(root_half).bits_down(23);
    let m = Wide(x.0.bits_sub(e.bits_up(23))) - 1.0;
    let z = m * m;
    let p = polynomial(
        m,
        [
            7.037_683_6e-2,
            -1.151_461_03e-1,
            1.167_699_87e-1,
            -1.242_014_08e-1,
            1.424_932_3e-1,
            -1.666_805_7e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333_1e-1,
        ],
    );
    let e = Wide(e.bits_to_number());
    let small = z.mul_add(-0.5, e.mul_add(-2.121_944_4e-4, p * m * z));
    e.mul_add(0.693_359_375, m + small)
}

/// Sine for |x| below a few hundred.
#[inline(always)]
pub(crate) fn sin<L: Lanes>(x: Wide<L>) -> Wide<L> {
    let t = x.mul_add(std::f32::consts::FRAC_1_PI, ROUNDER);
    let n = t - ROUNDER;
    let r = n.mul_add(-9.676_535_9e-4, n.mul_add(-3.140_625, x));
    let z = r * r;
    let p = polynomial(z, [2.608_316e-6, -1.981_064_9e-4, 8.333_072e-3, -1.666_665_7e-1]);
    let s = (p * z).mul_add(r, r);
    // An odd number of half turns changes the sign.
    Wide(s.0.bits_xor(t.0.bits_up(31)))
}

/// Cosine for |x| below a few hundred.
#[inline(always)]
pub(crate) fn cos<L: Lanes>(x: Wide<L>) -> Wide<L> {
    sin(x + std::f32::consts::FRAC_PI_2)
}

/// Angle of the point (x, y) in -pi..pi; 0 for the origin.
#[inline(always)]
pub(crate) fn atan2<L: Lanes>(y: Wide<L>, x: Wide<L>) -> Wide<L> {
    use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    let (ax, ay) = (x.abs(), y.abs());
    let (lo, hi) = (above(ay, ax, ax, ay), above(ay, ax, ay, ax));
    let t = lo / above(hi, 0.0, hi, 1.0);
    let steep = 0.414_213_56;
    let (offset, r) = (above(t, steep, FRAC_PI_4, 0.0), above(t, steep, (t - 1.0) / (t + 1.0), t));
    let z = r * r;
    let p = polynomial(z, [8.053_744_5e-2, -1.387_768_56e-1, 1.997_771_07e-1, -3.333_294_9e-1]);
    let a = offset + (p * z).mul_add(r, r);
    let a = above(ay, ax, FRAC_PI_2 - a, a);
    let a = below(x, 0.0, PI - a, a);
    below(y, 0.0, -a, a)
}

/// Cube root of a number that is not negative: a first guess from the bits, and two steps of Halley's method.
#[inline(always)]
pub(crate) fn cbrt<L: Lanes>(x: Wide<L>) -> Wide<L> {
    let third = Wide(x.0.bits_to_number()) * (1.0 / 3.0);
    let mut y = Wide(third.0.number_to_bits().bits_add(x.0.same(f32::from_bits(709_921_077))));
    for _ in 0..2 {
        let c = y * y * y;
        y = y * x.mul_add(2.0, c) / c.mul_add(2.0, x);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Doubles, Isa, by_registers, lanes_fn, select};

    /// Functions that are compared.
    const FUNCTIONS: usize = 8;

    lanes_fn! {
        /// Every function of each value, and the sum of the values.
        fn all<L>(x: &[f32], out: &mut [Vec<f32>; FUNCTIONS]) -> f64 {
            // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
            let zero = unsafe { L::splat(0.0) };
            let mut sum = zero.widen();
            by_registers!(L, x.len(), |part| {
                let x = Wide(zero.read(&x[part.clone()]));
                let (positive, small) = (x.abs() + 0.5, below(x, 0.0, -1.0, 2.0));
                let results =
                    [exp(x), ln(positive), sin(x), cos(x), atan2(x, small), cbrt(positive), positive.sqrt(), 1.0 / (x * x + 1.0)];
                for (result, out) in results.into_iter().zip(&mut *out) {
                    result.0.write(&mut out[part.clone()]);
                }
                sum = sum.add(x.0.first(part.len()).widen());
            });
            sum.sum()
        }
    }

    /// Every set against the standard library in f64, also where the last register is not full.
    #[test]
    fn every_set_has_the_same_functions() {
        for n in [1, 3, 15, 17, 1000] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 - 0.4 * n as f32) * 20.0 / n as f32).collect();
            for isa in Isa::available() {
                select(isa).expect("it is available");
                let mut out: [Vec<f32>; FUNCTIONS] = std::array::from_fn(|_| vec![0.0; n]);
                let sum = all(&x, &mut out);
                let want: f64 = x.iter().map(|v| f64::from(*v)).sum();
                assert!((sum - want).abs() < 1e-9, "{isa:?}: the sum of {n} is {sum}, not {want}");
                for (i, x) in x.iter().map(|v| f64::from(*v)).enumerate() {
                    let (positive, small) = (x.abs() + 0.5, if x < 0.0 { -1.0f64 } else { 2.0 });
                    let want = [x.exp(), positive.ln(), x.sin(), x.cos(), x.atan2(small), positive.cbrt()];
                    for (k, want) in want.into_iter().chain([positive.sqrt(), 1.0 / (x * x + 1.0)]).enumerate() {
                        let found = f64::from(out[k][i]);
                        assert!(
                            (found - want).abs() < 2e-6 * (1.0 + want.abs()),
                            "{isa:?}, function {k} of {x}: {found}, not {want}"
                        );
                    }
                }
            }
        }
    }
}
