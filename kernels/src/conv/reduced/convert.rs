//! Inputs as the products take them, converted while they are copied into the slab.

use half::bf16;

use super::Quantiser;
use crate::simd::{Isa, isa, simd_fn};

/// A copy in another type, or rounded.
pub(in super::super) trait Convert<E> {
    /// What 0 becomes.
    fn zero(&self) -> E;

    /// Converts as many values as both have.
    fn convert(&self, from: &[f32], to: &mut [E]);
}

/// As it is.
pub(in super::super) struct Copied;

impl Convert<f32> for Copied {
    fn zero(&self) -> f32 {
        0.0
    }

    fn convert(&self, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

/// Rounded to bf16, kept in f32.
pub(in super::super) struct Rounded;

impl Convert<f32> for Rounded {
    fn zero(&self) -> f32 {
        0.0
    }

    fn convert(&self, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
        round(to);
    }
}

simd_fn! {
    /// Rounds to the nearest bf16, ties to even; what is not finite stays so.
    pub(in super::super) fn round(values: &mut [f32]) {
        for value in values {
            let bits = value.to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
            *value = if value.is_finite() { f32::from_bits(rounded) } else { *value };
        }
    }
}

/// bf16, by AVX512_BF16: for AMX, whose CPUs have it. Subnormal values become 0, as the products take them.
pub(in super::super) struct ToBf16;

impl Convert<bf16> for ToBf16 {
    fn zero(&self) -> bf16 {
        bf16::ZERO
    }

    fn convert(&self, from: &[f32], to: &mut [bf16]) {
        #[cfg(target_arch = "x86_64")]
        if isa() == Isa::Amx {
            // SAFETY: `isa` answers Amx only where the CPU has AVX512_BF16.
            return unsafe { to_bf16(from, to) };
        }
        to.iter_mut().zip(from).for_each(|(to, from)| *to = bf16::from_f32(*from));
    }
}

/// # Safety
/// The CPU has AVX-512 F, BW, VL and BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn to_bf16(from: &[f32], to: &mut [bf16]) {
    use std::arch::x86_64::{__m256i, _mm256_mask_storeu_epi16, _mm512_cvtneps_pbh, _mm512_maskz_loadu_ps};
    let len = from.len().min(to.len());
    for at in (0..len).step_by(16) {
        let mask = ((1u32 << (len - at).min(16)) - 1) as u16;
        // SAFETY: the mask names the values from `at` to `len`, which both have; both types are 256 bits.
        unsafe {
            let values = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from.as_ptr().add(at)));
            let values: __m256i = std::mem::transmute(values);
            _mm256_mask_storeu_epi16(to.as_mut_ptr().add(at).cast(), mask, values);
        }
    }
}

impl Convert<u8> for Quantiser {
    fn zero(&self) -> u8 {
        self.zero
    }

    fn convert(&self, from: &[f32], to: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if isa() >= Isa::Avx512 {
            // SAFETY: `isa` answers Avx512 and wider only where the CPU has every feature of AVX-512 named there.
            return unsafe { to_bytes(from, 1.0 / self.scale, self.zero, to) };
        }
        quantise(from, 1.0 / self.scale, self.zero, to);
    }
}

impl Convert<u16> for Quantiser {
    fn zero(&self) -> u16 {
        self.zero.into()
    }

    fn convert(&self, from: &[f32], to: &mut [u16]) {
        #[cfg(target_arch = "x86_64")]
        if isa() >= Isa::Avx2 {
            // SAFETY: `isa` answers Avx2 and wider only where the CPU has AVX2.
            return unsafe { to_words(from, 1.0 / self.scale, self.zero, to) };
        }
        widened(from, 1.0 / self.scale, self.zero, to);
    }
}

/// [`quantise`], widened to 16 bits.
fn widened(from: &[f32], steps: f32, zero: u8, to: &mut [u16]) {
    let mut bytes = [0; 16];
    for (from, to) in from.chunks(16).zip(to.chunks_mut(16)) {
        quantise(from, steps, zero, &mut bytes);
        to.iter_mut().zip(&bytes).for_each(|(to, byte)| *to = (*byte).into());
    }
}

simd_fn! {
    /// Nearest steps, ties to even, clamped to a byte; what is not a number becomes 0.
    fn quantise(from: &[f32], steps: f32, zero: u8, to: &mut [u8]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = (from * steps + f32::from(zero)).clamp(0.0, 255.0).round_ties_even() as u8;
        }
    }
}

/// [`quantise`], value by value the same.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VL.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn to_bytes(from: &[f32], steps: f32, zero: u8, to: &mut [u8]) {
    use std::arch::x86_64::{
        _mm_mask_storeu_epi8, _mm512_add_ps, _mm512_cvtps_epi32, _mm512_cvtusepi32_epi8, _mm512_maskz_loadu_ps,
        _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };
    let (factor, zero) = (_mm512_set1_ps(steps), _mm512_set1_ps(f32::from(zero)));
    let (least, most) = (_mm512_setzero_ps(), _mm512_set1_ps(255.0));
    let len = from.len().min(to.len());
    for at in (0..len).step_by(16) {
        let mask = ((1u32 << (len - at).min(16)) - 1) as u16;
        // SAFETY: the mask names the values from `at` to `len`, which both have.
        unsafe {
            let values = _mm512_maskz_loadu_ps(mask, from.as_ptr().add(at));
            let values = _mm512_add_ps(_mm512_mul_ps(values, factor), zero);
            // The second operand, where the first is not a number.
            let values = _mm512_min_ps(_mm512_max_ps(values, least), most);
            let bytes = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(values));
            _mm_mask_storeu_epi8(to.as_mut_ptr().add(at).cast(), mask, bytes);
        }
    }
}

/// [`widened`], value by value the same.
///
/// # Safety
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn to_words(from: &[f32], steps: f32, zero: u8, to: &mut [u16]) {
    use std::arch::x86_64::*;
    let (factor, zeros) = (_mm256_set1_ps(steps), _mm256_set1_ps(f32::from(zero)));
    let (least, most) = (_mm256_setzero_ps(), _mm256_set1_ps(255.0));
    let (from, from_rest) = from.as_chunks::<16>();
    let (to, to_rest) = to.as_chunks_mut::<16>();
    for (from, to) in from.iter().zip(to) {
        let mut halves = [_mm256_setzero_si256(); 2];
        for (half, from) in halves.iter_mut().zip(from.as_chunks::<8>().0) {
            // SAFETY: eight values.
            let values = unsafe { _mm256_loadu_ps(from.as_ptr()) };
            let values = _mm256_add_ps(_mm256_mul_ps(values, factor), zeros);
            // The second operand, where the first is not a number.
            *half = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(values, least), most));
        }
        // The instruction packs each 128 bits for themselves.
        let words = _mm256_permute4x64_epi64::<0b1101_1000>(_mm256_packus_epi32(halves[0], halves[1]));
        // SAFETY: sixteen words.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), words) };
    }
    widened(from_rest, steps, zero, to_rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::InputRange;

    #[test]
    fn both_ways_to_round_give_the_same_bits() {
        let values: Vec<f32> = (0..2000).map(|i| (i as f32 * 0.37 - 300.0).powi(3) * 1e-3 + 1.0 / 256.0).collect();
        let mut rounded = vec![0.0; values.len()];
        Rounded.convert(&values, &mut rounded);
        let mut halves = vec![bf16::ZERO; values.len()];
        ToBf16.convert(&values, &mut halves);
        for ((value, rounded), half) in values.iter().zip(&rounded).zip(&halves) {
            assert_eq!(*rounded, bf16::from_f32(*value).to_f32(), "{value}");
            assert_eq!(*rounded, half.to_f32(), "{value}");
        }
        Rounded.convert(&[f32::NAN, f32::INFINITY, -f32::MAX], &mut rounded[..3]);
        assert!(rounded[0].is_nan() && rounded[1] == f32::INFINITY && rounded[2] == f32::NEG_INFINITY);
    }

    #[test]
    fn bytes_are_the_nearest_steps_on_every_set() {
        let range = InputRange::new(-1.5, 4.0).expect("finite");
        let quantiser = Quantiser::new(range);
        let values: Vec<f32> = (0..1000).map(|i| i as f32 * 0.01 - 4.0).chain([f32::NAN, 1e30, -1e30]).collect();
        let (mut bytes, mut plain) = (vec![7; values.len()], vec![9; values.len()]);
        quantiser.convert(&values, &mut bytes);
        quantise(&values, 1.0 / quantiser.scale, quantiser.zero, &mut plain);
        assert_eq!(bytes, plain);
        let mut words = vec![7; values.len()];
        quantiser.convert(&values, &mut words);
        assert_eq!(words, plain.iter().map(|byte| u16::from(*byte)).collect::<Vec<u16>>());
        for (value, byte) in values.iter().zip(&bytes).take(1000) {
            let back = (f32::from(*byte) - f32::from(quantiser.zero)) * quantiser.scale;
            let wanted = value.clamp(-1.5, 4.0);
            assert!((back - wanted).abs() <= quantiser.scale * 0.75, "{value} became {back}");
        }
        assert_eq!(bytes[1000..], [0, 255, 0]);
        assert_eq!(Convert::<u8>::zero(&quantiser), quantiser.zero);
    }
}
