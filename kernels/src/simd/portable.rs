//! Registers for CPUs of which nothing is known: arrays that the compiler makes vectors of.

use half::f16;

use super::Lanes;

/// Four values.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let ([a, b, c, d], [e, g, h, i]) = (self.0, other.0);
        Self([f(a, e), f(b, g), f(c, h), f(d, i)])
    }
}

impl Lanes for Portable {
    const WIDTH: usize = 4;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for four values; an array of them needs no more alignment than one.
        Self(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller vouches for four halves; an array of them needs no more alignment than one.
        let [a, b, c, d] = unsafe { *from.cast::<[f16; 4]>() };
        Self([a.to_f32(), b.to_f32(), c.to_f32(), d.to_f32()])
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller vouches for four integers; an array of them needs no more alignment than one.
        let [a, b, c, d] = unsafe { *from.cast::<[i32; 4]>() };
        Self([a as f32, b as f32, c as f32, d as f32])
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut values = [0.0; 4];
        // SAFETY: at most four of the values that the caller vouches for, into an array of four.
        unsafe { std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), count.min(4)) };
        Self(values)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for four values; an array of them needs no more alignment than one.
        unsafe { *to.cast() = self.0 };
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: from an array of four, at most four of the values that the caller vouches for.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, count.min(4)) };
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        let product = self.zip(factor, |a, b| a * b);
        product.add(addend)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        let [a, b, c, d] = self.0;
        larger(larger(a, c), larger(b, d))
    }
}
