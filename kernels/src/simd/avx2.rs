//! Registers of AVX2, with FMA and F16C: eight values.

use std::arch::x86_64::*;

use half::f16;

use super::Lanes;

/// Eight values.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

/// Eight bits of ones, then eight of zeros: a window of eight is the mask of the first lanes.
const FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The mask of the first `count` lanes, at most eight.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn first_of_eight(count: usize) -> __m256i {
    let at = 8 - count.min(8);
    // SAFETY: eight of sixteen values from an index of at most 8; the caller vouches for AVX2.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(at).cast()) }
}

/// Operations of two registers that are one instruction.
macro_rules! pairwise {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: a value of this type proves AVX2.
            Self(unsafe { $instruction(self.0, other.0) })
        }
    )*};
}

/// Folds of a register of eight to one value: halves joined until one value is left.
macro_rules! folded {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self) -> f32 {
            // SAFETY: a value of this type proves AVX2.
            unsafe {
                let four = $instruction(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let two = $instruction(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32($instruction(two, _mm_movehdup_ps(two)))
            }
        }
    )*};
}

/// Operations of two registers of integers that are one instruction.
macro_rules! bitwise {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: a value of this type proves AVX2.
            Self(unsafe { _mm256_castsi256_ps($instruction(_mm256_castps_si256(self.0), _mm256_castps_si256(other.0))) })
        }
    )*};
}

super::doubles::doubles!(
    /// Eight values in double precision.
    Avx2Doubles, __m256d, 4, _mm256_loadu_pd, _mm256_storeu_pd, add: _mm256_add_pd, sub: _mm256_sub_pd, mul: _mm256_mul_pd
);

impl Lanes for Avx2 {
    const WIDTH: usize = 8;
    type Doubles = Avx2Doubles;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX2.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for AVX2 and for eight values.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller vouches for F16C and for eight values.
        Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) })
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller vouches for AVX2 and for eight values.
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller vouches for AVX2 and for `count` values; no other lane is read.
        Self(unsafe { _mm256_maskload_ps(from, first_of_eight(count)) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: a value of this type proves AVX2; the caller vouches for eight values.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: a value of this type proves AVX2; only the `count` lanes the caller vouches for are written.
        unsafe { _mm256_maskstore_ps(to, first_of_eight(count), self.0) }
    }

    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        // SAFETY: a value of this type proves AVX2; the caller vouches for eight bytes.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256::<1>(bits));
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
        }
    }

    #[inline(always)]
    unsafe fn store_u16(self, to: *mut u16) {
        // SAFETY: a value of this type proves AVX2; the caller vouches for eight words.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256::<1>(bits));
            _mm_storeu_si128(to.cast(), words);
        }
    }

    pairwise!(
        add: _mm256_add_ps,
        sub: _mm256_sub_ps, div: _mm256_div_ps,
        mul: _mm256_mul_ps,
        max: _mm256_max_ps,
        min: _mm256_min_ps
    );

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: a value of this type proves AVX2 and FMA.
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    folded!(sum: _mm_add_ps, largest: _mm_max_ps);

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: a value of this type proves AVX2.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn above(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: a value of this type proves AVX2.
        Self(unsafe { _mm256_blendv_ps(otherwise.0, then.0, _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0)) })
    }

    #[inline(always)]
    fn same(self, value: f32) -> Self {
        // SAFETY: a value of this type proves AVX2.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    bitwise!(
        bits_add: _mm256_add_epi32,
        bits_sub: _mm256_sub_epi32,
        bits_and: _mm256_and_si256,
        bits_xor: _mm256_xor_si256
    );

    #[inline(always)]
    fn bits_up(self, count: i32) -> Self {
        // SAFETY: a value of this type proves AVX2.
        Self(unsafe { _mm256_castsi256_ps(_mm256_sll_epi32(_mm256_castps_si256(self.0), _mm_cvtsi32_si128(count))) })
    }

    #[inline(always)]
    fn bits_down(self, count: i32) -> Self {
        // SAFETY: a value of this type proves AVX2.
        Self(unsafe { _mm256_castsi256_ps(_mm256_sra_epi32(_mm256_castps_si256(self.0), _mm_cvtsi32_si128(count))) })
    }

    #[inline(always)]
    fn bits_to_number(self) -> Self {
        // SAFETY: a value of this type proves AVX2.
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_castps_si256(self.0)) })
    }

    #[inline(always)]
    fn any(self) -> bool {
        // SAFETY: a value of this type proves AVX2.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            _mm256_testz_si256(bits, bits) == 0
        }
    }

    #[inline(always)]
    fn number_to_bits(self) -> Self {
        // SAFETY: a value of this type proves AVX2.
        Self(unsafe { _mm256_castsi256_ps(_mm256_cvttps_epi32(self.0)) })
    }

    #[inline(always)]
    fn widen(self) -> Avx2Doubles {
        // SAFETY: a value of this type proves AVX2.
        unsafe {
            Avx2Doubles(
                _mm256_cvtps_pd(_mm256_castps256_ps128(self.0)),
                _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(self.0)),
            )
        }
    }
}
