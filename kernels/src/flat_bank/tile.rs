//! The register tile of the search: inner products of 6 queries with 16 bank vectors in 16-bit integers.
//!
//! `sums[m][n] = sum over i of q[i][m][0] * b[i][n][0] + q[i][m][1] * b[i][n][1]`
//!
//! An x86 CPU multiplies 16-bit pairs and adds the two products in one instruction: 16 products where a
//! multiply-add of AVX2 does 8. Two elements a step: 6 broadcasts, 2 loads, 12 products and 12 additions
//! (AVX2; SSE2 does that for each half of a panel). Sums are exact modulo 2^32; see panels.rs for why they fit.

use crate::simd::LANES;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Isa, isa};

/// Queries of a tile.
pub(super) const ROWS: usize = 6;

/// Sums of one tile.
pub(super) type Sums = [[i32; LANES]; ROWS];

/// Panels that AVX-512 takes at once: with one, six sums would wait for each other.
pub(super) const PANELS: usize = 2;

/// Writes the inner products of a group of queries `[pair][ROWS][2]` with panels of bank vectors `[pair][LANES][2]` to
/// `sums`.
pub(super) fn products<const P: usize>(group: &[i16], panels: [&[i16]; P], sums: &mut [Sums; P]) {
    let pairs = group.len() / (2 * ROWS);
    let whole = |panel: &&[i16]| panel.len() == pairs * 2 * LANES;
    assert!(group.len() == pairs * 2 * ROWS && panels.iter().all(whole), "operands of one dimension");
    #[cfg(target_arch = "x86_64")]
    if isa() >= Isa::Avx512 && std::arch::is_x86_feature_detected!("avx512vnni") {
        // SAFETY: `isa` answers Avx512 only where the CPU has it, the other feature was asked for; lengths are asserted above.
        return unsafe { products_vnni(group, panels, pairs, sums) };
    }
    for (panel, sums) in panels.into_iter().zip(sums) {
        products_of_one(group, panel, pairs, sums);
    }
}

/// The products with one panel; `pairs` steps of both, as [`products`] asserts.
#[cfg(target_arch = "x86_64")]
fn products_of_one(group: &[i16], panel: &[i16], pairs: usize, sums: &mut Sums) {
    if isa() == Isa::Portable {
        // SAFETY: every x86-64 CPU has SSE2; the caller asserts the lengths.
        return unsafe { products_sse2(group, panel, pairs, sums) };
    }
    // SAFETY: all other sets include AVX2; the caller asserts the lengths.
    unsafe { products_avx2(group, panel, pairs, sums) }
}

/// The products with one panel; `pairs` steps of both, as [`products`] asserts.
#[cfg(not(target_arch = "x86_64"))]
fn products_of_one(group: &[i16], panel: &[i16], _pairs: usize, sums: &mut Sums) {
    *sums = [[0; LANES]; ROWS];
    for (queries, vectors) in group.as_chunks::<{ 2 * ROWS }>().0.iter().zip(panel.as_chunks::<{ 2 * LANES }>().0) {
        for (row, query) in sums.iter_mut().zip(queries.as_chunks::<2>().0) {
            let query = query.map(i32::from);
            for (sum, vector) in row.iter_mut().zip(vectors.as_chunks::<2>().0) {
                let products = [query[0] * i32::from(vector[0]), query[1] * i32::from(vector[1])];
                *sum = sum.wrapping_add(products[0].wrapping_add(products[1]));
            }
        }
    }
}

/// A tile in two registers of `$width` sums for each row at a time: twelve of the sixteen hold sums.
#[cfg(target_arch = "x86_64")]
macro_rules! products_of_pairs {
    ($name:ident, $feature:literal, $width:literal, $zero:ident, $load:ident, $splat:ident, $madd:ident, $add:ident, $store:ident) => {
        /// # Safety
        /// The CPU has the instructions; `group` holds `pairs` steps of `2 * ROWS`, `panel` of `2 * LANES`.
        #[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
        #[target_feature(enable = $feature)]
        unsafe fn $name(group: &[i16], panel: &[i16], pairs: usize, sums: &mut Sums) {
            use std::arch::x86_64::{$add, $load, $madd, $splat, $store, $zero};
            for first in (0..LANES).step_by(2 * $width) {
                let mut acc = [[$zero(); 2]; ROWS];
                for i in 0..pairs {
                    // SAFETY: step i is within both operands, as the caller promises; loads are unaligned ones.
                    let (queries, vectors) = unsafe {
                        let vectors = panel.as_ptr().add((i * LANES + first) * 2);
                        let vectors = [$load(vectors.cast()), $load(vectors.add(2 * $width).cast())];
                        (group.as_ptr().add(i * 2 * ROWS).cast::<[i32; ROWS]>().read_unaligned(), vectors)
                    };
                    for m in 0..ROWS {
                        let query = $splat(queries[m]);
                        for v in 0..2 {
                            acc[m][v] = $add(acc[m][v], $madd(query, vectors[v]));
                        }
                    }
                }
                for (to, row) in sums.iter_mut().zip(acc) {
                    for (to, sum) in to[first..].as_chunks_mut::<$width>().0.iter_mut().zip(row) {
                        // SAFETY: `to` holds as many integers as are stored.
                        unsafe { $store(to.as_mut_ptr().cast(), sum) };
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
products_of_pairs!(
    products_sse2,
    "sse2",
    4,
    _mm_setzero_si128,
    _mm_loadu_si128,
    _mm_set1_epi32,
    _mm_madd_epi16,
    _mm_add_epi32,
    _mm_storeu_si128
);
#[cfg(target_arch = "x86_64")]
products_of_pairs!(
    products_avx2,
    "avx2",
    8,
    _mm256_setzero_si256,
    _mm256_loadu_si256,
    _mm256_set1_epi32,
    _mm256_madd_epi16,
    _mm256_add_epi32,
    _mm256_storeu_si256
);

/// # Safety
/// The CPU has AVX-512 F and VNNI; `group` holds `pairs` steps of `2 * ROWS`, every panel of `2 * LANES`.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn products_vnni<const P: usize>(group: &[i16], panels: [&[i16]; P], pairs: usize, sums: &mut [Sums; P]) {
    use std::arch::x86_64::{
        _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
    };
    let mut acc = [[_mm512_setzero_si512(); P]; ROWS];
    for i in 0..pairs {
        let mut vectors = [_mm512_setzero_si512(); P];
        for p in 0..P {
            // SAFETY: step i is within the panel, as the caller promises; the load is an unaligned one.
            vectors[p] = unsafe { _mm512_loadu_si512(panels[p].as_ptr().add(i * 2 * LANES).cast()) };
        }
        // SAFETY: step i is within the group, as the caller promises.
        let queries = unsafe { group.as_ptr().add(i * 2 * ROWS).cast::<[i32; ROWS]>().read_unaligned() };
        for m in 0..ROWS {
            let query = _mm512_set1_epi32(queries[m]);
            for p in 0..P {
                acc[m][p] = _mm512_dpwssd_epi32(acc[m][p], query, vectors[p]);
            }
        }
    }
    for (m, row) in acc.into_iter().enumerate() {
        for (sums, sum) in sums.iter_mut().zip(row) {
            // SAFETY: a row of sums holds the sixteen integers that are stored.
            unsafe { _mm512_storeu_si512(sums[m].as_mut_ptr().cast(), sum) };
        }
    }
}
