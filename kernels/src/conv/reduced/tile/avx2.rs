//! Tiles by AVX2: bytes widened to 16 bits, whose products two by two fit into 32.
//!
//! `vpmaddubsw` would take bytes as they are, but its sums of two products saturate at 16 bits.

use std::arch::x86_64::*;

use super::{Operands, ROWS, Sums};
use crate::conv::micro::{NR, for_rows, tiles};

/// Pixels at a time: eight registers of sums, four of weights.
const PIXELS: usize = 2;
/// Registers that hold the terms of [`NR`] channels.
const PARTS: usize = NR / 4;

/// # Safety
/// As for [`super::Unit::run`]; the CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn tile(o: &Operands, windows: usize, panels: usize, sums: &mut Sums) {
    for window in 0..windows {
        for panel in 0..panels {
            for (first, count) in tiles(o.pixels, PIXELS) {
                // SAFETY: `count` pixels from `first` on are pixels of the window; the caller vouches for the rest.
                unsafe { for_rows!(count, PIXELS, M => part::<M>(o, (window, panel), first, sums)) };
            }
        }
    }
}

/// `M` pixels from `first` on by one panel.
///
/// # Safety
/// As for [`tile`].
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[target_feature(enable = "avx2")]
unsafe fn part<const M: usize>(o: &Operands, (window, panel): (usize, usize), first: usize, sums: &mut Sums) {
    // Of each channel two sums, which are joined at the end.
    let mut tile = [[_mm256_setzero_si256(); PARTS]; M];
    // SAFETY: every run has its bytes, rounded up to four, within its pieces; the panel has rows for them.
    unsafe {
        for (number, run) in o.runs.iter().enumerate() {
            let from = o.windows[window].add(first * o.stride + run);
            let skipped = number * o.pieces * ROWS;
            for step in 0..o.run.div_ceil(4) {
                let row: *const u8 = o.panels[panel].add(skipped + step).cast();
                let mut right = [_mm256_setzero_si256(); PARTS];
                for (part, right) in right.iter_mut().enumerate() {
                    *right = _mm256_cvtepi8_epi16(_mm_load_si128(row.add(16 * part).cast()));
                }
                for (m, sums) in tile.iter_mut().enumerate() {
                    let four = from.add(m * o.stride + 4 * step).cast::<i32>().read_unaligned();
                    let left = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
                    for part in 0..PARTS {
                        sums[part] = _mm256_add_epi32(sums[part], _mm256_madd_epi16(left, right[part]));
                    }
                }
            }
        }
    }
    for (m, halves) in tile.iter().enumerate() {
        let lanes = &mut sums.0[window][panel][first + m];
        for (part, half) in halves.iter().enumerate() {
            let mut pairs = [0u32; 8];
            // SAFETY: eight values of 32 bits.
            unsafe { _mm256_storeu_si256(pairs.as_mut_ptr().cast(), *half) };
            for (channel, pair) in pairs.chunks_exact(2).enumerate() {
                let at = 4 * part + channel;
                lanes[at] = o.starts[panel][at].wrapping_add(pair[0]).wrapping_add(pair[1]);
            }
        }
    }
}
