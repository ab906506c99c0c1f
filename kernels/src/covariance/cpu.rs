//! The sums on the CPU. A part of [`ROWS`] rows is centred and packed while it is in cache; as the products are symmetric,
//! only the tiles on and above the diagonal are computed.
//!
//! Columns are cut into strips of [`STRIP`]. A task multiplies one strip with all columns up to its own end; tasks are cut
//! by shape alone and every sum is taken in the order of the rows, so the result does not depend on the number of threads.

use rayon::prelude::*;

use crate::conv::micro::{MOST_ROWS, NR, Sums, accumulate, load, store};
use crate::device::HostBuffer;
use crate::simd::{Lanes, by_registers, lanes_fn};

/// Rows of a part: both operands of a tile stay in the first cache.
const ROWS: usize = 128;
/// Panels of [`NR`] columns in a strip.
const PANELS: usize = 2;
/// Columns of a strip.
const STRIP: usize = PANELS * NR;
/// Packed values of the parts that are packed before they are multiplied (1 MiB).
const PACKED: usize = 1 << 18;

/// Adds column sums and products of the rows `x` less `shift` to `sums` `[d]` and `products` `[d][d]`.
pub(super) fn add_moments(x: &[f32], shift: &[f32], sums: &mut [f32], products: &mut [f32]) {
    let d = shift.len();
    let strips = d.div_ceil(STRIP);
    let parts = (PACKED / (ROWS * strips * STRIP)).max(1);
    let mut packed = HostBuffer::uninit(parts * strips * ROWS * STRIP);
    let mut strip_sums = vec![[0.0; STRIP]; parts * strips];
    let mut tiles: Vec<HostBuffer<f32>> = (0..strips).map(strip_of_zeros).collect();
    for rows in x.chunks(parts * ROWS * d) {
        let part = |at: usize| &rows[at * ROWS * d..rows.len().min((at + 1) * ROWS * d)];
        let parts = rows.len().div_ceil(ROWS * d);
        let pieces = packed[..parts * strips * ROWS * STRIP].par_chunks_mut(ROWS * STRIP);
        pieces.zip(&mut strip_sums).enumerate().for_each(|(at, (packed, sums))| {
            pack(part(at / strips), shift, at % strips * STRIP, packed, sums);
        });
        for own in strip_sums[..parts * strips].chunks_exact(strips) {
            sums.iter_mut().zip(own.as_flattened()).for_each(|(sum, own)| *sum += own);
        }
        tiles.par_iter_mut().enumerate().for_each(|(strip, tiles)| {
            for (at, packed) in packed.chunks_exact(strips * ROWS * STRIP).take(parts).enumerate() {
                add_strip(part(at).len() / d, strip, packed, tiles);
            }
        });
    }
    products.par_chunks_exact_mut(d).enumerate().for_each(|(i, row)| {
        for (j, product) in row.iter_mut().enumerate() {
            let (upper, lower) = (i.max(j), i.min(j));
            *product += tiles[upper / STRIP][lower * STRIP + upper % STRIP];
        }
    });
}

/// Zeros for the products of all columns up to the end of a strip and the strip, `[column][STRIP]`.
fn strip_of_zeros(strip: usize) -> HostBuffer<f32> {
    let mut tiles = HostBuffer::uninit(((strip + 1) * STRIP).next_multiple_of(MOST_ROWS) * STRIP);
    tiles.fill(0.0);
    tiles
}

lanes_fn! {
    /// Centres the columns of a strip, which begins at column `first`, and lays them out as `[panel][row][NR]`, zeros
    /// beyond the last column; their sums over the rows go to `sums`.
    fn pack<L>(rows: &[f32], shift: &[f32], first: usize, packed: &mut [f32], sums: &mut [f32; STRIP]) {
        let d = shift.len();
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (panel, sums) in sums.as_chunks_mut::<NR>().0.iter_mut().enumerate() {
            let columns = (first + panel * NR).min(d)..(first + (panel + 1) * NR).min(d);
            let packed = &mut packed.as_chunks_mut::<NR>().0[panel * ROWS..][..rows.len() / d];
            for (row, to) in rows.chunks_exact(d).zip(&mut *packed) {
                let (row, shift) = (&row[columns.clone()], &shift[columns.clone()]);
                by_registers!(L, columns.len(), |part| {
                    zero.read(&row[part.clone()]).sub(zero.read(&shift[part.clone()])).write(&mut to[part]);
                });
                to[columns.len()..].fill(0.0);
            }
            by_registers!(L, NR, |part| {
                let sum = packed.iter().fold(zero, |sum, row| sum.add(zero.read(&row[part.clone()])));
                sum.write(&mut sums[part]);
            });
        }
    }
}

lanes_fn! {
    /// Adds the products of a part's `rows` to those of a strip.
    fn add_strip<L, V, R>(rows: usize, strip: usize, packed: &[f32], tiles: &mut [f32]) {
        const { assert!(MOST_ROWS.is_multiple_of(R), "tiles are whole") };
        let end = (strip + 1) * STRIP;
        assert!(rows <= ROWS && packed.len() >= end * ROWS, "packed strips up to this one");
        let column = |at: usize| &raw const packed[at / NR * ROWS * NR + at % NR];
        let own: [_; PANELS] = std::array::from_fn(|panel| column(strip * STRIP + panel * NR));
        for (tile, to) in tiles.chunks_exact_mut(R * STRIP).enumerate().take(end.div_ceil(R)) {
            // Rows of the last tile that are beyond the end take the last column again; nothing reads their sums.
            let left = std::array::from_fn(|m| column((tile * R + m).min(end - 1)));
            // SAFETY: a part has ROWS rows of NR columns at each panel, and a tile R rows of PANELS panels.
            // `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                if L::PANELS == PANELS {
                    add_tile::<L, V, PANELS, R>(&left, &own, rows, to.as_mut_ptr());
                } else {
                    for (panel, own) in own.into_iter().enumerate() {
                        add_tile::<L, V, 1, R>(&left, &[own], rows, to.as_mut_ptr().add(panel * NR));
                    }
                }
            }
        }
    }
}

/// Adds the products of `R` columns and `P` panels to sums whose rows lie [`STRIP`] apart.
///
/// # Safety
/// The CPU has the set of `L`; each column has `rows` values [`NR`] apart, each panel as many rows of [`NR`], and `to`
/// leads to `R` rows of `P` times [`NR`] sums.
#[inline(always)]
unsafe fn add_tile<L: Lanes, const V: usize, const P: usize, const R: usize>(
    columns: &[*const f32; R],
    panels: &[*const f32; P],
    rows: usize,
    to: *mut f32,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        let mut sums: Sums<L, V, P, R> = [[[L::splat(0.0); V]; P]; R];
        accumulate(columns, NR, panels, rows, &mut sums);
        for (m, sums) in sums.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                let to = to.add(m * STRIP + p * NR);
                let before = load::<L, V>(to);
                store::<L, V>(&std::array::from_fn(|v| before[v].add(sums[v])), to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_double_precision_for_every_cut() {
        // One row, part of a strip, several parts, more parts than are packed at once.
        for (n, d) in [(0, 5), (1, 1), (129, 31), (128, 32), (130, 67), (256, 96), (900, 300)] {
            let value = |i: usize, of: usize| ((i * 7919 + of) % 1009) as f32 / 1009.0;
            let x: Vec<f32> = (0..n * d).map(|i| value(i, 0)).collect();
            let shift: Vec<f32> = (0..d).map(|i| value(i, 400)).collect();
            let (mut sums, mut products) = (vec![1.0; d], vec![1.0; d * d]);
            add_moments(&x, &shift, &mut sums, &mut products);
            let centred = |row: &[f32], i: usize| f64::from(row[i] - shift[i]);
            for i in 0..d {
                let sum: f64 = x.chunks(d).map(|row| centred(row, i)).sum();
                assert!((f64::from(sums[i]) - 1.0 - sum).abs() <= 1e-4 * n as f64, "sum of column {i} of {n} x {d}");
                for j in 0..d {
                    let product: f64 = x.chunks(d).map(|row| centred(row, i) * centred(row, j)).sum();
                    let got = f64::from(products[i * d + j]) - 1.0;
                    assert!((got - product).abs() < 1e-5 * (1.0 + n as f64), "product {i}, {j} of {n} x {d}");
                }
            }
        }
    }
}
