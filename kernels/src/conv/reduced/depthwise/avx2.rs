//! Four rows of 8 channels with AVX2: even and odd rows apart, each in 16 bits.

use std::arch::x86_64::*;

use super::super::tile::Lane;
use super::{PIXELS, Tile};

/// # Safety
/// As for [`Tile::run`]; the CPU has AVX2.
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[target_feature(enable = "avx2")]
pub(super) unsafe fn tile<const M: usize>(tile: &Tile, sums: &mut [Lane; PIXELS]) {
    let low = _mm256_set1_epi16(0xff);
    for half in 0..2 {
        // SAFETY: the caller vouches for words, weights and starts of 16 channels, of which this is a half.
        unsafe {
            let starts: *const __m256i = tile.starts.as_ptr().cast();
            let mut all = [_mm256_loadu_si256(starts.add(half)); M];
            for (tap, weights) in tile.taps.iter().zip(tile.weights) {
                let bytes = _mm256_load_si256(weights.0.as_ptr().cast::<__m256i>().add(half));
                let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
                let odd = _mm256_srai_epi16::<8>(bytes);
                for m in 0..M {
                    let words: *const __m256i = tile.words.add(tap + m * tile.step).cast();
                    let words = _mm256_loadu_si256(words.add(half));
                    let of_even = _mm256_madd_epi16(_mm256_and_si256(words, low), even);
                    let of_odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(words), odd);
                    all[m] = _mm256_add_epi32(all[m], _mm256_add_epi32(of_even, of_odd));
                }
            }
            for m in 0..M {
                _mm256_storeu_si256(sums[m].as_mut_ptr().cast::<__m256i>().add(half), all[m]);
            }
        }
    }
}
