//! Registers of SSE2, which every x86-64 CPU has: four values.

use std::arch::x86_64::*;

use half::f16;

use super::Lanes;

/// Four values.
#[derive(Clone, Copy)]
pub(crate) struct Sse2(__m128);

/// Operations of two registers that are one instruction.
macro_rules! pairwise {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: every x86-64 CPU has SSE2.
            Self(unsafe { $instruction(self.0, other.0) })
        }
    )*};
}

/// Folds of a register to one value: halves joined until one value is left.
macro_rules! folded {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self) -> f32 {
            // SAFETY: every x86-64 CPU has SSE2.
            unsafe {
                let two = $instruction(self.0, _mm_movehl_ps(self.0, self.0));
                _mm_cvtss_f32($instruction(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    )*};
}

/// Operations of two registers of integers that are one instruction.
macro_rules! bitwise {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: every x86-64 CPU has SSE2.
            Self(unsafe { _mm_castsi128_ps($instruction(_mm_castps_si128(self.0), _mm_castps_si128(other.0))) })
        }
    )*};
}

super::doubles::doubles!(
    /// Four values in double precision.
    Sse2Doubles, __m128d, 2, _mm_loadu_pd, _mm_storeu_pd, add: _mm_add_pd, sub: _mm_sub_pd, mul: _mm_mul_pd
);

impl Lanes for Sse2 {
    const WIDTH: usize = 4;
    type Doubles = Sse2Doubles;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: every x86-64 CPU has SSE2.
        Self(unsafe { _mm_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for four values.
        Self(unsafe { _mm_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller vouches for four halves; an array of them needs no more alignment than one.
        let [a, b, c, d] = unsafe { *from.cast::<[f16; 4]>() };
        // SAFETY: every x86-64 CPU has SSE2.
        Self(unsafe { _mm_setr_ps(a.to_f32(), b.to_f32(), c.to_f32(), d.to_f32()) })
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller vouches for four integers.
        Self(unsafe { _mm_cvtepi32_ps(_mm_loadu_si128(from.cast())) })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut values = [0.0; 4];
        // SAFETY: at most four of the values that the caller vouches for, into an array of four.
        unsafe {
            std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), count.min(4));
            Self::load(values.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for four values.
        unsafe { _mm_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut values = [0.0; 4];
        // SAFETY: from an array of four, at most four of the values that the caller vouches for.
        unsafe {
            self.store(values.as_mut_ptr());
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, count.min(4));
        }
    }

    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        // SAFETY: every x86-64 CPU has SSE2; the caller vouches for four bytes.
        unsafe {
            let words = _mm_packs_epi32(_mm_castps_si128(self.0), _mm_setzero_si128());
            to.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(_mm_packus_epi16(words, words)));
        }
    }

    #[inline(always)]
    unsafe fn store_u16(self, to: *mut u16) {
        // SAFETY: every x86-64 CPU has SSE2; the caller vouches for four words.
        unsafe { _mm_storel_epi64(to.cast(), _mm_packs_epi32(_mm_castps_si128(self.0), _mm_setzero_si128())) }
    }

    pairwise!(add: _mm_add_ps, sub: _mm_sub_ps, div: _mm_div_ps, mul: _mm_mul_ps, max: _mm_max_ps, min: _mm_min_ps);

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul(factor).add(addend)
    }

    folded!(sum: _mm_add_ps, largest: _mm_max_ps);

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: every x86-64 CPU has SSE2.
        Self(unsafe { _mm_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn above(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: every x86-64 CPU has SSE2.
        unsafe {
            let mask = _mm_cmpgt_ps(self.0, other.0);
            Self(_mm_or_ps(_mm_and_ps(mask, then.0), _mm_andnot_ps(mask, otherwise.0)))
        }
    }

    #[inline(always)]
    fn same(self, value: f32) -> Self {
        // SAFETY: every x86-64 CPU has SSE2.
        Self(unsafe { _mm_set1_ps(value) })
    }

    bitwise!(
        bits_add: _mm_add_epi32,
        bits_sub: _mm_sub_epi32,
        bits_and: _mm_and_si128,
        bits_xor: _mm_xor_si128
    );

    #[inline(always)]
    fn bits_up(self, count: i32) -> Self {
        // SAFETY: every x86-64 CPU has SSE2.
        Self(unsafe { _mm_castsi128_ps(_mm_sll_epi32(_mm_castps_si128(self.0), _mm_cvtsi32_si128(count))) })
    }

    #[inline(always)]
    fn bits_down(self, count: i32) -> Self {
        // SAFETY: every x86-64 CPU has SSE2.
        Self(unsafe { _mm_castsi128_ps(_mm_sra_epi32(_mm_castps_si128(self.0), _mm_cvtsi32_si128(count))) })
    }

    #[inline(always)]
    fn bits_to_number(self) -> Self {
        // SAFETY: every x86-64 CPU has SSE2.
        Self(unsafe { _mm_cvtepi32_ps(_mm_castps_si128(self.0)) })
    }

    #[inline(always)]
    fn any(self) -> bool {
        // SAFETY: every x86-64 CPU has SSE2.
        unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_castps_si128(self.0), _mm_setzero_si128())) != 0xffff }
    }

    #[inline(always)]
    fn number_to_bits(self) -> Self {
        // SAFETY: every x86-64 CPU has SSE2.
        Self(unsafe { _mm_castsi128_ps(_mm_cvttps_epi32(self.0)) })
    }

    #[inline(always)]
    fn widen(self) -> Sse2Doubles {
        // SAFETY: every x86-64 CPU has SSE2.
        unsafe { Sse2Doubles(_mm_cvtps_pd(self.0), _mm_cvtps_pd(_mm_movehl_ps(self.0, self.0))) }
    }
}
