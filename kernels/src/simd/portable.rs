//! Registers that every CPU has: arrays, of one value for single numbers, of four where nothing is known of the CPU.

use half::f16;

use super::{Doubles, Lanes};

/// `N` values.
#[derive(Clone, Copy)]
pub(crate) struct Portable<const N: usize>(pub [f32; N]);

impl<const N: usize> Portable<N> {
    #[inline(always)]
    fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for value in &mut self.0 {
            *value = f(*value);
        }
        self
    }

    #[inline(always)]
    fn zip(mut self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        for i in 0..N {
            self.0[i] = f(self.0[i], other.0[i]);
        }
        self
    }

    /// As [`Portable::zip`], on bits.
    #[inline(always)]
    fn zip_bits(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        self.zip(other, |a, b| f32::from_bits(f(a.to_bits(), b.to_bits())))
    }

    /// Halves joined until one value is left.
    #[inline(always)]
    fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let (mut values, mut left) = (self.0, N);
        while left > 1 {
            left /= 2;
            for i in 0..left {
                values[i] = f(values[i], values[i + left]);
            }
        }
        values[0]
    }
}

impl<const N: usize> Lanes for Portable<N> {
    const WIDTH: usize = N;
    type Doubles = [f64; N];
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; N])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for so many values; an array of them needs no more alignment than one.
        Self(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller vouches for so many halves; an array of them needs no more alignment than one.
        Self(unsafe { *from.cast::<[f16; N]>() }.map(f16::to_f32))
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller vouches for so many integers; an array of them needs no more alignment than one.
        Self(unsafe { *from.cast::<[i32; N]>() }.map(|i| i as f32))
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut values = [0.0; N];
        // SAFETY: at most `N` of the values that the caller vouches for, into an array of `N`.
        unsafe { std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), count.min(N)) };
        Self(values)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for so many values; an array of them needs no more alignment than one.
        unsafe { *to.cast() = self.0 };
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: from an array of `N`, at most `N` of the values that the caller vouches for.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, count.min(N)) };
    }

    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        for (i, value) in self.0.into_iter().enumerate() {
            // SAFETY: the caller vouches for `N` bytes.
            unsafe { to.add(i).write(value.to_bits() as u8) };
        }
    }

    #[inline(always)]
    unsafe fn store_u16(self, to: *mut u16) {
        for (i, value) in self.0.into_iter().enumerate() {
            // SAFETY: the caller vouches for `N` words.
            unsafe { to.add(i).write(value.to_bits() as u16) };
        }
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
        self.mul(factor).add(addend)
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
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }

    #[inline(always)]
    fn above(self, other: Self, mut then: Self, otherwise: Self) -> Self {
        for i in 0..N {
            then.0[i] = if self.0[i] > other.0[i] { then.0[i] } else { otherwise.0[i] };
        }
        then
    }

    #[inline(always)]
    fn same(self, value: f32) -> Self {
        Self([value; N])
    }

    #[inline(always)]
    fn bits_add(self, other: Self) -> Self {
        self.zip_bits(other, u32::wrapping_add)
    }

    #[inline(always)]
    fn bits_sub(self, other: Self) -> Self {
        self.zip_bits(other, u32::wrapping_sub)
    }

    #[inline(always)]
    fn bits_and(self, other: Self) -> Self {
        self.zip_bits(other, |a, b| a & b)
    }

    #[inline(always)]
    fn bits_xor(self, other: Self) -> Self {
        self.zip_bits(other, |a, b| a ^ b)
    }

    #[inline(always)]
    fn bits_up(self, count: i32) -> Self {
        self.map(|v| f32::from_bits(v.to_bits() << count))
    }

    #[inline(always)]
    fn bits_down(self, count: i32) -> Self {
        self.map(|v| f32::from_bits((v.to_bits().cast_signed() >> count).cast_unsigned()))
    }

    #[inline(always)]
    fn bits_to_number(self) -> Self {
        self.map(|v| v.to_bits().cast_signed() as f32)
    }

    #[inline(always)]
    fn any(self) -> bool {
        self.0.iter().any(|v| v.to_bits() != 0)
    }

    #[inline(always)]
    fn number_to_bits(self) -> Self {
        self.map(|v| f32::from_bits((v as i32).cast_unsigned()))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.fold(|a, b| a + b)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.fold(|a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn widen(self) -> [f64; N] {
        self.0.map(f64::from)
    }
}

impl<const N: usize> Doubles for [f64; N] {
    #[inline(always)]
    fn read(self, from: &[f64]) -> Self {
        let mut values = [0.0; N];
        values.iter_mut().zip(from).for_each(|(value, v)| *value = *v);
        values
    }

    #[inline(always)]
    fn write(self, to: &mut [f64]) {
        to.iter_mut().zip(self).for_each(|(to, value)| *to = value);
    }

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        self.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        self
    }

    #[inline(always)]
    fn sub(mut self, other: Self) -> Self {
        self.iter_mut().zip(other).for_each(|(a, b)| *a -= b);
        self
    }

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        self.iter_mut().zip(other).for_each(|(a, b)| *a *= b);
        self
    }
}
