//! The register tile behind every dense product: `M` rows by `P` panels of [`NR`] columns of sums.
//!
//! `sums[m][p][n] += sum over i of rows[m][i * stride] * panels[p][i * NR + n]`
//!
//! Forward and data gradient take output pixels of the padded input for rows and packed weights for panels; the
//! weight gradient takes columns of the input and gradients, and sums over pixels. Per step: `M` broadcasts,
//! `P * NR / lanes` loads, `M * P * NR` multiply-adds.
//!
//! | set | registers | largest tile | registers of sums |
//! |---|---|---|---|
//! | portable (SSE2) | 16 of 4 | 2 x 16 | 8 |
//! | AVX2 | 16 of 8 | 6 x 16 | 12 |
//! | AVX-512 | 32 of 16 | 12 x 32 | 24 |
//! | NEON | 32 of 4 | 6 x 16 | 24 |
//!
//! One panel alone would leave AVX-512 waiting for its loads: 12 x 16 does 0.79 of what 12 x 32 does (125 and
//! 157 GFLOP/s of 177, one core of a Xeon of model 207); 14 x 32 gives 160, but has no registers left for its rows.
//! A tile of fewer rows is compiled for each number of rows, and [`tiles`] cuts evenly, so that none is nearly empty.
//!
//! Loops over registers go by index, here and in the innermost loops of the tiles that have their own: `Iterator::zip` calls a
//! function that builds without link-time optimisation (`lto = "off"`) do not inline, and a call there sends all sums through
//! memory (training took ten times as long).

use crate::simd::{LANES, Lanes};

/// Columns of a panel.
pub const NR: usize = LANES;
/// Features of a gated panel; their gates are the other half.
pub const HALF: usize = NR / 2;
/// Most rows of a tile on any instruction set; a multiple of those of every set.
pub const MOST_ROWS: usize = 12;

/// Sums of a tile in registers: `V` registers are a row of a panel.
pub type Sums<L, const V: usize, const P: usize, const M: usize> = [[[L; V]; P]; M];

/// Adds `steps` products to every sum.
///
/// # Safety
/// The CPU has the set of `L`; every row has `steps` values `stride` apart, every panel `steps` rows of [`NR`].
#[allow(clippy::needless_range_loop)] // registers by index, as said above
#[inline(always)]
pub unsafe fn accumulate<L: Lanes, const V: usize, const P: usize, const M: usize>(
    rows: &[*const f32; M],
    stride: usize,
    panels: &[*const f32; P],
    steps: usize,
    sums: &mut Sums<L, V, P, M>,
) {
    let mut tile = *sums;
    for i in 0..steps {
        // SAFETY: the caller vouches for step `i` of rows and panels.
        unsafe {
            let mut right = [[L::splat(0.0); V]; P];
            for p in 0..P {
                right[p] = load(panels[p].add(i * NR));
            }
            for m in 0..M {
                let left = L::splat(*rows[m].add(i * stride));
                for p in 0..P {
                    for v in 0..V {
                        tile[m][p][v] = left.mul_add(right[p][v], tile[m][p][v]);
                    }
                }
            }
        }
    }
    *sums = tile;
}

/// [`NR`] values in `V` registers.
///
/// # Safety
/// The CPU has the set of `L`, and so many values can be read there.
#[inline(always)]
pub unsafe fn load<L: Lanes, const V: usize>(from: *const f32) -> [L; V] {
    // SAFETY: `V` registers of `WIDTH` are NR values, for which the caller vouches.
    unsafe {
        let mut values = [L::splat(0.0); V];
        for (v, value) in values.iter_mut().enumerate() {
            *value = L::load(from.add(v * L::WIDTH));
        }
        values
    }
}

/// Writes [`NR`] values.
///
/// # Safety
/// So many values can be written there.
#[inline(always)]
pub unsafe fn store<L: Lanes, const V: usize>(values: &[L; V], to: *mut f32) {
    for (v, value) in values.iter().enumerate() {
        // SAFETY: `V` registers of `WIDTH` are NR values, for which the caller vouches.
        unsafe { value.store(to.add(v * L::WIDTH)) };
    }
}

/// Brings sums between bounds.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
pub unsafe fn clamp<L: Lanes, const V: usize>(sums: &mut [L; V], bounds: Option<(f32, f32)>) {
    let Some((least, most)) = bounds else { return };
    // SAFETY: the caller vouches for the set.
    let (least, most) = unsafe { (L::splat(least), L::splat(most)) };
    for value in sums {
        *value = value.max(least).min(most);
    }
}

/// Cuts `rows` into the fewest tiles of at most `most`, as even as can be: first row and number of rows of each.
pub fn tiles(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(most);
    let first = move |tile: usize| tile * rows / count.max(1);
    (0..count).map(move |tile| (first(tile), first(tile + 1) - first(tile)))
}

/// Evaluates an expression with the constant `$m` equal to `$rows`, which is between 1 and `$most`.
macro_rules! for_rows {
    ($rows:expr, $most:expr, $m:ident => $body:expr) => {
        $crate::conv::micro::for_rows!(@ $rows, $most, $m => $body, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@ $rows:expr, $most:expr, $m:ident => $body:expr, $($number:literal)*) => {
        match $rows {
            $($number if $number <= $most => {
                const $m: usize = $number;
                $body
            })*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(crate) use for_rows;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_rows_evenly() {
        for (rows, most) in [(0, 6), (1, 12), (12, 12), (13, 12), (32, 12), (255, 6), (7, 2)] {
            let cut: Vec<_> = tiles(rows, most).collect();
            assert_eq!(cut.len(), rows.div_ceil(most));
            let mut next = 0;
            for (first, count) in cut {
                assert!(first == next && count <= most && count + 1 >= rows / rows.div_ceil(most));
                next += count;
            }
            assert_eq!(next, rows);
        }
    }
}
