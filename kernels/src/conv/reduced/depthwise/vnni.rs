//! Four rows of 16 channels in one instruction of AVX-512 VNNI.

use std::arch::x86_64::*;

use super::super::tile::Lane;
use super::{PIXELS, Tile};

/// # Safety
/// As for [`Tile::run`]; the CPU has AVX-512 F and VNNI.
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn tile<const M: usize>(tile: &Tile, sums: &mut [Lane; PIXELS]) {
    // SAFETY: the caller vouches for words, weights and starts of 16 channels.
    unsafe {
        let mut all = [_mm512_loadu_si512(tile.starts.as_ptr().cast()); M];
        for (tap, weights) in tile.taps.iter().zip(tile.weights) {
            let right = _mm512_load_si512(weights.0.as_ptr().cast());
            for m in 0..M {
                let left = _mm512_loadu_si512(tile.words.add(tap + m * tile.step).cast());
                all[m] = _mm512_dpbusd_epi32(all[m], left, right);
            }
        }
        for m in 0..M {
            _mm512_storeu_si512(sums[m].as_mut_ptr().cast(), all[m]);
        }
    }
}
