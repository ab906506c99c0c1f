//! The search on the CPU in the directions in which the bank varies most.
//!
//! The bank lies in the order of a k-d tree (tree.rs), so that the vectors of a panel are near each other. A query begins with the
//! vectors of the panel it would be in, which leaves an upper bound of what it looks for. Balls around the panels (balls.rs) then
//! leave some of them, lower bounds of the distances to their vectors (projected.rs) from a few leading directions some of these,
//! and bounds from all directions of the basis some vectors. Each of these is measured at once, from the vectors as they are, in f32 and
//! where that does not decide in f64; later ones must come nearer than the k-th nearest so far. Queries that belong to panels near each
//! other are looked at together. The result is exact: it depends on no direction and no order, nor on the instruction set, nor on
//! how the search is cut into tasks.
//!
//! Operations: (n + 2) / 8 per pair for the balls of n leading directions, 2 (n + 1) for half the pairs, on real patches, as much
//! for all directions of a tenth, and 3 d for each vector that is measured. Bytes: 4 for each direction of a
//! vector beside the vector, and 4 for each leading one again.

mod search;

use std::ops::Range;

use rayon::prelude::*;

use super::balls::{Balls, FEW};
use super::projected::{Projected, ProjectedQueries, ROWS};
use super::rows::Rows;
use super::search::{Measured, keep_nearest};
use super::tree::Tree;
use crate::basis::{Basis, Coordinates, MOST_SQUARE};
use crate::device::{HostBuffer, Reused};
use crate::error::Result;
use crate::simd::LANES;
use search::{Near, Search};

/// Vectors that are projected at a time.
const AT_ONCE: usize = 4096;

/// Vectors, and what bounds their distances.
#[derive(Clone, Debug)]
pub(super) struct Reduced {
    rows: Rows,
    basis: Basis,
    tree: Tree,
    /// In the leading directions, and in all of the basis.
    leading: Projected,
    whole: Projected,
    /// Around the panels in the leading directions.
    balls: Balls,
}

/// Queries that pass the bank together.
struct Queries<'a> {
    /// `[query][d]`, as they came.
    values: &'a [f32],
    coordinates: Coordinates,
    /// Their numbers in the order of the panels that they would be in: those of a group are near each other.
    order: Reused<u32>,
    leading: ProjectedQueries,
    whole: ProjectedQueries,
}

impl Reduced {
    /// Prepares vectors for which there is a basis; gives them back where one is too long for bounds in f32.
    ///
    /// # Errors
    /// As for [`Basis::coordinates`].
    pub fn new(rows: Rows, basis: Basis) -> Result<std::result::Result<Self, Rows>> {
        let mut values = HostBuffer::uninit(rows.len() * basis.count());
        let mut squares = Reused::with_capacity(rows.len());
        for (i, to) in values.chunks_mut(AT_ONCE * basis.count()).enumerate() {
            let part = basis.coordinates(&rows.widened(i * AT_ONCE, to.len() / basis.count()))?;
            to.copy_from_slice(&part.values);
            squares.extend(part.squares.iter().copied());
        }
        if !squares.iter().all(|s| *s < MOST_SQUARE) {
            return Ok(Err(rows));
        }
        let longest = squares.iter().copied().fold(0.0, f64::max);
        let coordinates = Coordinates { values, squares };
        let tree = Tree::new(&coordinates.values, basis.count());
        let leading = Projected::new(&basis, &coordinates, tree.order(), basis.leading());
        let whole = Projected::new(&basis, &coordinates, tree.order(), basis.count());
        let balls = Balls::new(&leading, longest);
        Ok(Ok(Self { rows, basis, tree, leading, whole, balls }))
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
        let (count, tasks) = (queries.coordinates.len(), 2 * rayon::current_num_threads());
        let parts = self.leading.panels().div_ceil(FEW);
        let groups = count.div_ceil(ROWS);
        let each = groups.div_ceil(tasks.min(groups));
        let cuts = tasks.div_ceil(groups.div_ceil(each)).min(parts);
        // What is found in each part of the panels, `[part][group][ROWS][k]`.
        let mut found = Reused::filled(cuts * groups * ROWS * k, Near::NONE);
        found.par_chunks_mut(groups * ROWS * k).enumerate().for_each(|(cut, of_part)| {
            let end = |cut: usize| (cut * parts / cuts * FEW).min(self.leading.panels());
            let panels = end(cut)..end(cut + 1);
            of_part.par_chunks_mut(each * ROWS * k).enumerate().for_each(|(i, nearest)| {
                Search::new(self, &queries, i * each, nearest, k).run(panels.clone());
            });
        });
        let measured = found.iter().enumerate().filter(|(_, near)| near.vector != u64::MAX).map(|(i, near)| Measured {
            query: queries.order[i / k % (groups * ROWS)],
            vector: near.vector as u32,
            square: near.square,
        });
        let mut nearest = Reused::with_capacity(cuts * count * k);
        nearest.extend(measured);
        keep_nearest(&mut nearest, k);
        Ok(nearest)
    }

    /// The numbers of the vectors of panels.
    fn vectors(&self, panels: Range<usize>) -> &[u32] {
        let end = |p: usize| (p * LANES).min(self.rows.len());
        &self.tree.order()[end(panels.start)..end(panels.end)]
    }

    fn queries<'a>(&self, values: &'a [f32]) -> Result<Queries<'a>> {
        let coordinates = self.basis.coordinates(values)?;
        let mut places = Reused::collect((0..coordinates.len()).map(|query| {
            let panel = self.tree.panel_of(coordinates.of(query).1);
            [panel as u32, query as u32]
        }));
        places.sort_unstable();
        let order = Reused::collect(places.iter().map(|[_, query]| *query));
        let leading = self.leading.queries(&self.basis, &coordinates, &order);
        let whole = self.whole.queries(&self.basis, &coordinates, &order);
        Ok(Queries { values, coordinates, order, leading, whole })
    }
}

impl<'a> Queries<'a> {
    /// How many there are.
    fn len(&self) -> usize {
        self.order.len()
    }

    /// The values of the query at a place of the order.
    fn values(&self, place: usize) -> &'a [f32] {
        let (d, query) = (self.values.len() / self.len(), self.order[place] as usize);
        &self.values[query * d..(query + 1) * d]
    }

    /// Its sum of squares and its coordinates.
    fn coordinates(&self, place: usize) -> (f64, &[f32]) {
        self.coordinates.of(self.order[place] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank_data::BankData;
    use crate::flat_bank::balls::Asked;
    use crate::flat_bank::host::HostBank;
    use crate::flat_bank::projected::Tile;

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

    /// No vector is nearer than its bounds allow, in all directions or the leading ones; and bounds leave few vectors.
    #[test]
    fn bounds_hold_and_leave_few() {
        let (vectors, values) = (narrow(3000, 2), narrow(2 * ROWS, 4));
        let bank = reduced(vectors);
        let queries = bank.queries(&values).expect("memory");
        let panels: Vec<u32> = (0..bank.whole.panels() as u32).collect();
        let mut left = 0;
        for q in 0..2 * ROWS {
            let least = |square| bank.whole.least(queries.coordinates(q).0, square);
            let squares: Vec<f64> = (0..3000).map(|i| bank.rows.square(queries.values(q), i, &mut [])).collect();
            let of_nearest = least(squares.iter().copied().fold(f64::MAX, f64::min));
            for (projected, of_queries) in [(&bank.leading, &queries.leading), (&bank.whole, &queries.whole)] {
                let mut tiles = vec![Tile::default(); panels.len()];
                projected.bounds((0, &panels), of_queries, q / ROWS, &[0.0; ROWS], &mut tiles);
                let bounds = tiles.iter().flat_map(|tile| tile.bounds[q % ROWS]);
                for (bound, vector) in bounds.zip(bank.tree.order()) {
                    let of_vector = least(squares[*vector as usize]);
                    assert!(bound >= of_vector, "{bound} < {of_vector}");
                    left += usize::from(bound >= of_nearest);
                }
            }
        }
        assert!(left < 2 * 12 * 3000 / 20, "{left} of {} may be near", 2 * 12 * 3000);
    }

    /// Panels are near where a bound of theirs is; the last, which is empty, never is.
    #[test]
    fn panels_are_near_as_their_bounds_are() {
        let (vectors, values) = (narrow(2990, 2), narrow(2 * ROWS - 1, 4));
        let bank = reduced(vectors);
        let queries = bank.queries(&values).expect("memory");
        let count = bank.leading.panels();
        for g in 0..2 {
            let mut least = [f32::INFINITY; ROWS];
            let nearest =
                |q| (0..2990).map(|i| bank.rows.square(queries.values(q), i, &mut [])).fold(f64::MAX, f64::min);
            let of_query = |q| bank.whole.least(queries.coordinates(q).0, nearest(q));
            (g * ROWS..queries.len()).zip(&mut least).for_each(|(q, least)| *least = of_query(q));
            let (mut near, mut tiles) = (vec![0; count], vec![Tile::default(); count]);
            let panels: Vec<u32> = (0..count as u32).collect();
            near.copy_from_slice(&panels);
            let found = bank.leading.keep_near((0, &mut near), &queries.leading, g, &least);
            bank.leading.bounds((0, &panels), &queries.leading, g, &least, &mut tiles);
            for tile in &tiles {
                let is_near = |m: usize| u32::from(tile.bounds[m].iter().any(|v| *v >= least[m]));
                assert_eq!(tile.near, (0..ROWS).map(|m| is_near(m) << m).sum::<u32>());
            }
            let want: Vec<u32> = panels.into_iter().filter(|p| tiles[*p as usize].near > 0).collect();
            assert_eq!(near[..found], want);
            assert!(found > 0 && found < count - 1, "{found} of {count}");
            // No ball leaves one of these out, and they leave out many.
            let mut asked = Asked { reach: [0.0; ROWS], least };
            for (m, q) in (g * ROWS..queries.len()).enumerate().take(ROWS) {
                (asked.reach[m], asked.least[m]) = bank.balls.asked(queries.coordinates(q).0, nearest(q));
            }
            let mut of_balls = Vec::new();
            for first in (0..count).step_by(FEW) {
                let mut near = [0; FEW];
                let found = bank.balls.near(first, &queries.leading, g, &asked, &mut near);
                of_balls.extend(near[..found].iter().map(|p| *p + first as u32));
            }
            assert!(want.iter().all(|p| of_balls.contains(p)), "{want:?} of {of_balls:?}");
            assert!(4 * of_balls.len() < 3 * count, "{} of {count}", of_balls.len());
        }
    }

    /// A query that lies beyond a vector at the edge of a panel, as seen from the middle, asks for that panel where it reaches as far as the
    /// vector.
    #[test]
    fn balls_hold_what_is_just_within_reach() {
        let vectors = narrow(2990, 2);
        let bank = reduced(vectors.clone());
        let of = |vector: &u32| &vectors[*vector as usize * DIMENSION..][..DIMENSION];
        let square = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let (mut values, mut squares) = (Vec::new(), Vec::new());
        for panel in bank.tree.order().chunks(LANES) {
            let sum = |j: usize| panel.iter().map(|vector| of(vector)[j]).sum::<f32>();
            let middle: Vec<f32> = (0..DIMENSION).map(|j| sum(j) / panel.len() as f32).collect();
            let farther = |a: &&u32, b: &&u32| square(of(a), &middle).total_cmp(&square(of(b), &middle));
            let edge = of(panel.iter().max_by(farther).expect("a vector"));
            let query: Vec<f32> = edge.iter().zip(&middle).map(|(v, m)| v + 3.0 * (v - m)).collect();
            squares.push(square(&query, edge));
            values.extend(query);
        }
        let queries = bank.queries(&values).expect("memory");
        for place in 0..queries.len() {
            let (g, m, panel) = (place / ROWS, place % ROWS, queries.order[place] as usize);
            let mut asked = Asked { reach: [0.0; ROWS], least: [f32::INFINITY; ROWS] };
            (asked.reach[m], asked.least[m]) = bank.balls.asked(queries.coordinates(place).0, squares[panel]);
            let (first, mut near) = (panel / FEW * FEW, [0; FEW]);
            let found = bank.balls.near(first, &queries.leading, g, &asked, &mut near);
            assert!(near[..found].contains(&((panel - first) as u32)), "panel {panel}");
        }
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
        // The last panel is empty.
        let vectors = narrow(2990, 6);
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
