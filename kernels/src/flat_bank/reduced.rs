//! The search on the CPU in the directions in which the bank varies most.
//!
//! A first pass has the inner products in a few directions, in integers, and so a lower bound of the distance to every vector
//! (bounds.rs). There is no close upper bound, so a vector that may be near is measured at once, from the vectors as they are, in
//! f32 and where that does not decide in f64; later ones must come nearer than the k-th nearest so far. The result is exact: it
//! depends on no direction, nor on the instruction set, nor on how the search is cut into tasks.
//!
//! Operations: 2 n per pair for n directions, in integers, and 3 d for each vector that is measured: of real patches some 50
//! for a query and k = 1, of images that are nothing like the bank some 250. Bytes: n integers of 16 bits for each vector beside
//! the vector.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::basis::{Basis, MOST_SQUARE};
use super::bounds::{Estimate, PanelScale, Queries, any_near, estimate, may_be_near};
use super::panels::Panels;
use super::rows::Rows;
use super::search::{BLOCK, Measured, keep_nearest};
use super::tile::{PANELS, ROWS, Sums, products};
use crate::bank_data::BankData;
use crate::device::Reused;
use crate::error::Result;
use crate::simd::LANES;

/// Vectors that are projected at a time.
const AT_ONCE: usize = 4096;

/// Vectors, and their coordinates as integers.
#[derive(Clone, Debug)]
pub(super) struct Reduced {
    rows: Rows,
    basis: Basis,
    /// `[panel][pair][LANES][2]`.
    integers: Vec<i16>,
    /// One for each panel.
    scales: Vec<PanelScale>,
}

impl Reduced {
    /// Prepares vectors for which there is a basis; gives them back where one is too long for bounds in f32.
    ///
    /// # Errors
    /// As for [`Basis::coordinates`].
    pub fn new(rows: Rows, basis: Basis) -> Result<std::result::Result<Self, Rows>> {
        let (mut coordinates, mut squares) = (Vec::new(), Vec::new());
        for first in (0..rows.len()).step_by(AT_ONCE) {
            let part = basis.coordinates(&rows.widened(first, AT_ONCE.min(rows.len() - first)))?;
            coordinates.extend_from_slice(&part.values);
            squares.extend_from_slice(&part.squares);
        }
        if !squares.iter().all(|s| *s < MOST_SQUARE) {
            return Ok(Err(rows));
        }
        let n = basis.count();
        let panels = Panels::centred(&BankData::F32(coordinates.clone()), n, vec![0.0; n]);
        let mut integers = vec![0; panels.panels() * panels.panel_len()];
        let parts = integers.par_chunks_exact_mut(panels.panel_len()).enumerate();
        let scales = parts
            .map(|(p, to)| {
                panels.quantise(p, &mut Reused::uninit(panels.panel_len()), to);
                let of_vector = coordinates[p * LANES * n..].chunks_exact(n).zip(&squares[p * LANES..]);
                let scales = panels.scales(p).iter().zip(of_vector).map(|(s, (c, square))| basis.scale(*s, *square, c));
                PanelScale::new(&scales.collect::<Vec<_>>())
            })
            .collect();
        Ok(Ok(Self { rows, basis, integers, scales }))
    }

    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The `k` nearest vectors of each query, the lower index first among equals; groups of queries in parallel, and ranges of
    /// panels where these are too few.
    ///
    /// # Errors
    /// As for [`Basis::coordinates`].
    pub fn nearest(&self, values: &[f32], k: usize) -> Result<Reused<Measured>> {
        let queries = self.queries(values)?;
        let (groups, panels, tasks) = (queries.scales.len(), self.scales.len(), 2 * rayon::current_num_threads());
        let each = groups.div_ceil(tasks.min(groups));
        let cuts = tasks.div_ceil(groups.div_ceil(each)).min(panels);
        // What is found in each part of the panels, `[part][group][ROWS][k]`.
        let mut found = Reused::filled(cuts * groups * ROWS * k, Near::NONE);
        let parts = found.par_chunks_mut(groups * ROWS * k).enumerate();
        parts.for_each(|(cut, of_part)| {
            let panels = cut * panels / cuts..(cut + 1) * panels / cuts;
            of_part.par_chunks_mut(each * ROWS * k).enumerate().for_each(|(i, nearest)| {
                Search::new(self, &queries, i * each, nearest, k).run(panels.clone());
            });
        });
        let measured = found.iter().enumerate().filter(|(_, near)| near.vector != u64::MAX).map(|(i, near)| Measured {
            query: (i / k % (groups * ROWS)) as u32,
            vector: near.vector as u32,
            square: near.square,
        });
        let mut nearest = Reused::with_capacity(cuts * queries.count * k);
        nearest.extend(measured);
        keep_nearest(&mut nearest, k);
        Ok(nearest)
    }

    fn queries<'a>(&self, values: &'a [f32]) -> Result<Queries<'a>> {
        let n = self.basis.count();
        let projected = self.basis.coordinates(values)?;
        let of_query = |q: usize| (projected.squares[q], &projected.values[q * n..(q + 1) * n]);
        Ok(Queries::of_elements(values, &projected.values, (n, &Reused::filled(n, 0.0)), |q, scale| {
            let (square, coordinates) = of_query(q);
            self.basis.scale(scale, square, coordinates)
        }))
    }

    /// Integers of panel `p`.
    fn panel(&self, p: usize) -> &[i16] {
        let len = self.basis.count() * LANES;
        &self.integers[p * len..(p + 1) * len]
    }
}

/// A vector and its squared distance.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Near {
    square: f64,
    vector: u64,
}

impl Near {
    /// No vector, at a distance that is no number.
    const NONE: Self = Self { square: f64::NAN, vector: u64::MAX };
}

/// The search of some groups of queries.
struct Search<'a> {
    bank: &'a Reduced,
    queries: &'a Queries<'a>,
    groups: Range<usize>,
    k: usize,
    /// The nearest so far of each query, ascending, `[query][k]`; [`Near::NONE`] where there are fewer.
    nearest: &'a mut [Near],
    /// What q.b - |b|^2 / 2 is at the k-th, `[group][ROWS]`; minus infinity before there are k, infinity where there is no query.
    least: Reused<[f32; ROWS]>,
    /// A vector in f32.
    wide: Reused<f32>,
}

impl<'a> Search<'a> {
    /// Of the groups from `first` on whose nearest are wanted.
    fn new(bank: &'a Reduced, queries: &'a Queries<'a>, first: usize, nearest: &'a mut [Near], k: usize) -> Self {
        let groups = first..first + nearest.len() / (ROWS * k);
        let missing = |g: usize| {
            std::array::from_fn(|m| if g * ROWS + m < queries.count { f32::NEG_INFINITY } else { f32::INFINITY })
        };
        Self {
            bank,
            queries,
            k,
            nearest,
            least: Reused::collect(groups.clone().map(missing)),
            wide: Reused::filled(bank.rows.dimension(), 0.0),
            groups,
        }
    }

    /// Passes the panels of a range block by block, and all groups over each.
    fn run(mut self, range: Range<usize>) {
        let per_block = (BLOCK / size_of_val(self.bank.panel(0))).max(PANELS) / PANELS * PANELS;
        for first in range.clone().step_by(per_block) {
            for g in self.groups.clone() {
                self.pass(g, first..(first + per_block).min(range.end));
            }
        }
    }

    /// Passes panels with group `g`.
    fn pass(&mut self, g: usize, panels: Range<usize>) {
        let bank = self.bank;
        let group = &self.queries.groups[g * bank.basis.count() * ROWS..(g + 1) * bank.basis.count() * ROWS];
        let mut sums = [Sums::default(); PANELS];
        for p in panels.clone().step_by(PANELS) {
            if p + 1 < panels.end {
                products(group, [bank.panel(p), bank.panel(p + 1)], &mut sums);
            } else {
                products(group, [bank.panel(p)], sums.first_chunk_mut().expect("one at least"));
            }
            for (i, sums) in sums.iter().enumerate().take(panels.end - p) {
                self.look(g, p + i, sums);
            }
        }
    }

    /// Measures what may be near of the products of group `g` with panel `p`.
    fn look(&mut self, g: usize, p: usize, sums: &Sums) {
        let (at, group, panel) = (g - self.groups.start, &self.queries.scales[g], &self.bank.scales[p]);
        if !any_near(sums, group, panel, &self.least[at]) {
            return;
        }
        let mut estimates = Estimate::default();
        let near = estimate(sums, group, panel, &self.least[at], &mut estimates);
        for m in (0..ROWS).filter(|m| near >> m & 1 == 1 && g * ROWS + m < self.queries.count) {
            self.look_at(g, m, p, &estimates.values[m], estimates.errors[m]);
        }
    }

    /// Measures vectors of panel `p` that may be near query `m` of group `g`: first the one that is most likely, which leaves
    /// fewer of the others.
    fn look_at(&mut self, g: usize, m: usize, p: usize, values: &[f32; LANES], error: f32) {
        let values = &values[..LANES.min(self.bank.rows.len() - p * LANES)];
        let likely = (1..values.len()).fold(0, |a, b| if values[b] > values[a] { b } else { a });
        self.measure(g, m, p * LANES + likely);
        for (lane, value) in values.iter().enumerate().filter(|(lane, _)| *lane != likely) {
            if may_be_near(value + error, self.least[g - self.groups.start][m]) {
                self.measure(g, m, p * LANES + lane);
            }
        }
    }

    /// Measures a vector, which takes its place among the nearest of query `m` of group `g` if it is one.
    fn measure(&mut self, g: usize, m: usize, vector: usize) {
        let (at, k) = (g - self.groups.start, self.k);
        let farthest = self.nearest[(at * ROWS + m + 1) * k - 1].square;
        let query = self.queries.query(g * ROWS + m);
        let Some(square) = self.bank.rows.square_within(query, vector, farthest, &mut self.wide) else { return };
        // Of all that is no number, the one that comes last.
        let square = if square.is_nan() { f64::NAN } else { square };
        let nearest = &mut self.nearest[(at * ROWS + m) * k..(at * ROWS + m + 1) * k];
        let place =
            nearest.partition_point(|n| n.square.total_cmp(&square).then(n.vector.cmp(&(vector as u64))).is_lt());
        if place < k {
            nearest[place..].rotate_right(1);
            nearest[place] = Near { square, vector: vector as u64 };
        }
        let Near { square: last, vector } = nearest[k - 1];
        let square = f64::from(self.queries.scales[g].norms[m]).powi(2);
        // All vectors are measured for a query that is too long for bounds in f32.
        if vector != u64::MAX && square < MOST_SQUARE {
            self.least[at][m] = ((square - last) / 2.0) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flat_bank::host::HostBank;

    const DIMENSION: usize = 80;

    /// Numbers between -1 and 1 that look drawn.
    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let hash = |i: u64| (i ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mix = |h: u64| (h ^ h >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
        (0..n as u64).map(|i| mix(hash(i)) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// Vectors along five directions but for a tenth.
    fn narrow(n: usize, seed: u64) -> Vec<f32> {
        let (along, own, directions) = (noise(5 * n, seed), noise(n * DIMENSION, seed + 1), noise(5 * DIMENSION, 9));
        let element = |i: usize, j: usize| {
            let sum: f32 = (0..5).map(|f| along[5 * i + f] * directions[f * DIMENSION + j]).sum();
            sum + 0.1 * own[i * DIMENSION + j]
        };
        (0..n * DIMENSION).map(|at| element(at / DIMENSION, at % DIMENSION)).collect()
    }

    fn reduced(vectors: Vec<f32>) -> Reduced {
        match HostBank::new(BankData::F32(vectors), DIMENSION).expect("memory") {
            HostBank::Reduced(bank) => *bank,
            HostBank::Whole(_) => panic!("searched in all elements"),
        }
    }

    #[test]
    fn even_vectors_are_searched_in_all_elements() {
        let bank = HostBank::new(BankData::F32(noise(3000 * DIMENSION, 1)), DIMENSION).expect("memory");
        assert!(matches!(bank, HostBank::Whole(_)));
    }

    /// No distance, in f64, is below its bound; and bounds are near enough to leave few vectors.
    #[test]
    fn bounds_hold_and_leave_few() {
        let (vectors, values) = (narrow(3000, 2), narrow(2 * ROWS, 4));
        let bank = reduced(vectors.clone());
        let queries = bank.queries(&values).expect("memory");
        let mut left = 0;
        for (g, p) in (0..2).flat_map(|g| (0..bank.scales.len()).map(move |p| (g, p))) {
            let (mut sums, mut estimates) = ([Sums::default()], Estimate::default());
            let len = bank.basis.count() * ROWS;
            products(&queries.groups[g * len..(g + 1) * len], [bank.panel(p)], &mut sums);
            let (scales, least) = ((&queries.scales[g], &bank.scales[p]), &[0.0; ROWS]);
            let near = estimate(&sums[0], scales.0, scales.1, least, &mut estimates);
            assert!(near == 0 || any_near(&sums[0], scales.0, scales.1, least));
            for m in 0..ROWS {
                let norm = f64::from(queries.scales[g].norms[m]).powi(2);
                let nearest = (0..3000)
                    .map(|i| bank.rows.square(queries.query(g * ROWS + m), i, &mut []))
                    .fold(f64::MAX, f64::min);
                for lane in 0..LANES.min(3000 - p * LANES) {
                    let upper = f64::from(estimates.values[m][lane] + estimates.errors[m]);
                    let square = bank.rows.square(queries.query(g * ROWS + m), p * LANES + lane, &mut []);
                    assert!(norm - 2.0 * upper <= square, "{} > {square}", norm - 2.0 * upper);
                    left += usize::from(norm - 2.0 * upper <= nearest);
                }
            }
        }
        assert!(left < 12 * 3000 / 20, "{left} of {} may be near", 12 * 3000);
    }

    /// The search in few directions finds what measuring all vectors does.
    fn agrees(vectors: &[f32], values: &[f32], k: usize) {
        let bank = reduced(vectors.to_vec());
        let found = bank.nearest(values, k).expect("shapes fit");
        let mut want = Vec::new();
        for (query, values) in values.chunks_exact(DIMENSION).enumerate() {
            let square = |i| bank.rows.square(values, i, &mut []);
            let square = |i| if square(i).is_nan() { f64::NAN } else { square(i) };
            let mut all: Vec<(f64, u32)> = (0..bank.rows.len()).map(|i| (square(i), i as u32)).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            want.extend(all[..k].iter().map(|(_, vector)| (query as u32, *vector)));
        }
        assert_eq!(found.iter().map(|m| (m.query, m.vector)).collect::<Vec<_>>(), want);
    }

    #[test]
    fn queries_that_are_no_numbers_or_very_long() {
        let vectors = narrow(3000, 6);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e35, -1e35, 1e19, -1e19] {
            let mut query = narrow(1, 8);
            query[3] = value;
            agrees(&vectors, &query, 1);
            let many = [query.repeat(ROWS), narrow(4, 10), query, narrow(1, 12)].concat();
            agrees(&vectors, &many, 1);
            agrees(&vectors, &many, 20);
        }
    }

    #[test]
    fn lengths_near_those_where_f32_ends() {
        for scale in [1e-9, 3e-6, 1e15] {
            let scaled = |v: Vec<f32>| v.into_iter().map(|v| v * scale).collect::<Vec<_>>();
            agrees(&scaled(narrow(3000, 14)), &scaled(narrow(7, 16)), 3);
        }
    }

    /// Queries beside many vectors that are nearly as near: a bound that is a little too low misses one.
    #[test]
    fn distances_that_are_nearly_equal() {
        let (mut vectors, queries) = (narrow(3000, 18), narrow(6, 20));
        let shifts = noise(600 * DIMENSION, 22);
        for (i, shift) in shifts.chunks_exact(DIMENSION).enumerate() {
            let norm = shift.iter().map(|v| v * v).sum::<f32>().sqrt();
            let radius = (1.0 + 2e-6 * (i * 389 % 600) as f32) / norm;
            let near = &queries[i % 6 * DIMENSION..][..DIMENSION];
            let to = vectors[(5 * i + 1) * DIMENSION..].iter_mut();
            to.zip(near.iter().zip(shift)).take(DIMENSION).for_each(|(to, (q, s))| *to = q + radius * s);
        }
        agrees(&vectors, &queries, 1);
        agrees(&vectors, &queries, 9);
    }
}
