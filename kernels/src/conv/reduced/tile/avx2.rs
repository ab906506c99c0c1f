//! Tiles by AVX2: pairs of 16 bits, whose products are added in 32.
//!
//! `vpmaddubsw` would take bytes as they are, but its sums of two products saturate at 16 bits. Inputs and weights are widened
//! once, when they are laid out.

use std::arch::x86_64::*;

use super::{Operands, ROWS, Row, Sums};
use crate::conv::micro::{NR, for_rows, tiles};

/// Pixels at a time: twelve registers of sums, two of weights.
const PIXELS: usize = 6;
/// Registers that hold the terms, or the sums, of [`NR`] channels.
const PARTS: usize = NR / 8;

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
    // SAFETY: every run has its bytes, rounded up to four, within its pieces; the panel has rows for them. Starts and sums are
    // of NR values.
    unsafe {
        let starts: *const __m256i = o.starts[panel].as_ptr().cast();
        let mut tile = [[_mm256_loadu_si256(starts), _mm256_loadu_si256(starts.add(1))]; M];
        for (number, run) in o.runs.iter().enumerate() {
            let from = o.windows[window].add(first * o.stride + run);
            let rows: *const Row = o.panels[panel].add(number * o.pieces * ROWS);
            for step in 0..o.run.div_ceil(4) {
                let row: *const __m256i = rows.add(step).cast();
                let mut right = [_mm256_setzero_si256(); PARTS];
                for part in 0..PARTS {
                    right[part] = _mm256_load_si256(row.add(part));
                }
                for m in 0..M {
                    let left = _mm256_set1_epi32(from.add(m * o.stride + 4 * step).cast::<i32>().read_unaligned());
                    for part in 0..PARTS {
                        tile[m][part] = _mm256_add_epi32(tile[m][part], _mm256_madd_epi16(left, right[part]));
                    }
                }
            }
        }
        for m in 0..M {
            let to: *mut __m256i = sums.0[window][panel][first + m].as_mut_ptr().cast();
            for part in 0..PARTS {
                _mm256_storeu_si256(to.add(part), tile[m][part]);
            }
        }
    }
}
