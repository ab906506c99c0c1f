//! Registers of AVX-512 F, BW, DQ and VL: sixteen values.

use std::arch::x86_64::*;

use half::f16;

use super::Lanes;

/// Sixteen values.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// The mask of the first `count` lanes, at most sixteen.
#[inline(always)]
fn first_of_sixteen(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

/// Operations of two registers that are one instruction.
macro_rules! pairwise {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: a value of this type proves AVX-512.
            Self(unsafe { $instruction(self.0, other.0) })
        }
    )*};
}

/// Folds of a register of sixteen to one value: halves joined until one value is left.
macro_rules! folded {
    ($($name:ident: $eight:ident $four:ident),*) => {$(
        #[inline(always)]
        fn $name(self) -> f32 {
            // SAFETY: a value of this type proves AVX-512.
            unsafe {
                let eight = $eight(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
                let four = $four(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = $four(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32($four(two, _mm_movehdup_ps(two)))
            }
        }
    )*};
}

/// Operations of two registers of integers that are one instruction.
macro_rules! bitwise {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: a value of this type proves AVX-512.
            Self(unsafe { _mm512_castsi512_ps($instruction(_mm512_castps_si512(self.0), _mm512_castps_si512(other.0))) })
        }
    )*};
}

super::doubles::doubles!(
    /// Sixteen values in double precision.
    Avx512Doubles, __m512d, 8, _mm512_loadu_pd, _mm512_storeu_pd, add: _mm512_add_pd, sub: _mm512_sub_pd, mul: _mm512_mul_pd
);

impl Lanes for Avx512 {
    const WIDTH: usize = 16;
    type Doubles = Avx512Doubles;
    const PANELS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX-512.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for AVX-512 and for sixteen values.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller vouches for AVX-512 and for sixteen values.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller vouches for AVX-512 and for sixteen values.
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast())) })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller vouches for AVX-512 and for `count` values; no other lane is read.
        Self(unsafe { _mm512_maskz_loadu_ps(first_of_sixteen(count), from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: a value of this type proves AVX-512; the caller vouches for sixteen values.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: a value of this type proves AVX-512; only the lanes the caller vouches for are written.
        unsafe { _mm512_mask_storeu_ps(to, first_of_sixteen(count), self.0) }
    }

    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        // SAFETY: a value of this type proves AVX-512; the caller vouches for sixteen bytes.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0))) }
    }

    #[inline(always)]
    unsafe fn store_u16(self, to: *mut u16) {
        // SAFETY: a value of this type proves AVX-512; the caller vouches for sixteen words.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_castps_si512(self.0))) }
    }

    pairwise!(
        add: _mm512_add_ps,
        sub: _mm512_sub_ps, div: _mm512_div_ps,
        mul: _mm512_mul_ps,
        max: _mm512_max_ps,
        min: _mm512_min_ps
    );

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: a value of this type proves AVX-512.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    folded!(sum: _mm256_add_ps _mm_add_ps, largest: _mm256_max_ps _mm_max_ps);

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: a value of this type proves AVX-512.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn above(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: a value of this type proves AVX-512.
        Self(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0), otherwise.0, then.0) })
    }

    #[inline(always)]
    fn same(self, value: f32) -> Self {
        // SAFETY: a value of this type proves AVX-512.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    bitwise!(
        bits_add: _mm512_add_epi32,
        bits_sub: _mm512_sub_epi32,
        bits_and: _mm512_and_si512,
        bits_xor: _mm512_xor_si512
    );

    #[inline(always)]
    fn bits_up(self, count: i32) -> Self {
        // SAFETY: a value of this type proves AVX-512.
        Self(unsafe { _mm512_castsi512_ps(_mm512_sll_epi32(_mm512_castps_si512(self.0), _mm_cvtsi32_si128(count))) })
    }

    #[inline(always)]
    fn bits_down(self, count: i32) -> Self {
        // SAFETY: a value of this type proves AVX-512.
        Self(unsafe { _mm512_castsi512_ps(_mm512_sra_epi32(_mm512_castps_si512(self.0), _mm_cvtsi32_si128(count))) })
    }

    #[inline(always)]
    fn bits_to_number(self) -> Self {
        // SAFETY: a value of this type proves AVX-512.
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(self.0)) })
    }

    #[inline(always)]
    fn any(self) -> bool {
        // SAFETY: a value of this type proves AVX-512.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            _mm512_test_epi32_mask(bits, bits) != 0
        }
    }

    #[inline(always)]
    fn number_to_bits(self) -> Self {
        // SAFETY: a value of this type proves AVX-512.
        Self(unsafe { _mm512_castsi512_ps(_mm512_cvttps_epi32(self.0)) })
    }

    #[inline(always)]
    fn widen(self) -> Avx512Doubles {
        // SAFETY: a value of this type proves AVX-512.
        unsafe {
            Avx512Doubles(
                _mm512_cvtps_pd(_mm512_castps512_ps256(self.0)),
                _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self.0)),
            )
        }
    }
}
