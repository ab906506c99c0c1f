//! Tiles by AVX-512 VNNI: four terms of 16 channels in one instruction.

use std::arch::x86_64::*;

use super::{Operands, ROWS, Row, Sums};
use crate::conv::micro::{for_rows, tiles};

/// Pixels at a time: with two panels sixteen registers of sums, and the terms of both.
const PIXELS: usize = 8;

/// # Safety
/// As for [`super::Unit::run`]; the CPU has AVX-512 F and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn tile(o: &Operands, windows: usize, panels: usize, sums: &mut Sums) {
    for window in 0..windows {
        for (first, count) in tiles(o.pixels, PIXELS) {
            // SAFETY: `count` pixels from `first` on are pixels of the window; the caller vouches for the rest.
            unsafe {
                if panels == 2 {
                    for_rows!(count, PIXELS, M => part::<M, 2>(o, window, first, sums));
                } else {
                    for_rows!(count, PIXELS, M => part::<M, 1>(o, window, first, sums));
                }
            }
        }
    }
}

/// `M` pixels from `first` on by `P` panels.
///
/// # Safety
/// As for [`tile`].
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn part<const M: usize, const P: usize>(o: &Operands, window: usize, first: usize, sums: &mut Sums) {
    let mut tile = [[_mm512_setzero_si512(); P]; M];
    // SAFETY: every run has its bytes, rounded up to four, within its pieces; every panel has rows for them. Starts and sums
    // are whole registers.
    unsafe {
        for sums in &mut tile {
            for (p, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_si512(o.starts[p].as_ptr().cast());
            }
        }
        for (number, run) in o.runs.iter().enumerate() {
            let from = o.windows[window].add(first * o.stride + run);
            let skipped = number * o.pieces * ROWS;
            for step in 0..o.run.div_ceil(4) {
                let mut right = [_mm512_setzero_si512(); P];
                for (p, right) in right.iter_mut().enumerate() {
                    let row: *const Row = o.panels[p].add(skipped + step);
                    *right = _mm512_load_si512(row.cast());
                }
                for (m, sums) in tile.iter_mut().enumerate() {
                    let left = _mm512_set1_epi32(from.add(m * o.stride + 4 * step).cast::<i32>().read_unaligned());
                    for p in 0..P {
                        sums[p] = _mm512_dpbusd_epi32(sums[p], left, right[p]);
                    }
                }
            }
        }
        for (m, sums_of) in tile.iter().enumerate() {
            for (p, sum) in sums_of.iter().enumerate() {
                _mm512_storeu_si512(sums.0[window][p][first + m].as_mut_ptr().cast(), *sum);
            }
        }
    }
}
