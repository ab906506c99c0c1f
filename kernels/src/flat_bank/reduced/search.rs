//! The search of some queries in some panels.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::super::projected::{PANELS, ROWS, Tile};
use super::super::search::BLOCK;
use super::{Queries, Reduced};
use crate::device::Reused;
use crate::simd::LANES;

/// Panels that are passed before what may be near in them is measured.
const FEW: usize = 32;

/// A vector and its squared distance.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Near {
    pub square: f64,
    pub vector: u64,
}

impl Near {
    /// No vector, at a distance that is no number.
    pub const NONE: Self = Self { square: f64::NAN, vector: u64::MAX };
}

/// The search of some groups of queries.
pub(super) struct Search<'a> {
    bank: &'a Reduced,
    queries: &'a Queries<'a>,
    groups: Range<usize>,
    k: usize,
    /// The nearest so far of each query, ascending, `[query][k]`; [`Near::NONE`] where there are fewer.
    nearest: &'a mut [Near],
    /// What bounds of vectors that may be nearer than the k-th are not below, `[group][ROWS]`; minus infinity before there are k,
    /// infinity where there is no query.
    least: Reused<[f32; ROWS]>,
    /// A vector in f32.
    wide: Reused<f32>,
}

impl<'a> Search<'a> {
    /// Of the groups from `first` on whose nearest are wanted.
    pub fn new(bank: &'a Reduced, queries: &'a Queries<'a>, first: usize, nearest: &'a mut [Near], k: usize) -> Self {
        let groups = first..first + nearest.len() / (ROWS * k);
        let is_query = |g: usize, m: usize| g * ROWS + m < queries.coordinates.len();
        let missing =
            |g: usize| std::array::from_fn(|m| if is_query(g, m) { f32::NEG_INFINITY } else { f32::INFINITY });
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
    pub fn run(mut self, range: Range<usize>) {
        self.groups.clone().for_each(|g| self.begin(g, &range));
        let per_block = (BLOCK / (self.bank.leading.panel_len() * size_of::<f32>())).max(PANELS) / PANELS * PANELS;
        for first in range.clone().step_by(per_block) {
            for g in self.groups.clone() {
                self.pass(g, first..(first + per_block).min(range.end));
            }
        }
    }

    /// Measures the vectors about the panel in which each query of group `g` would be that may be among the nearest, at least k of a
    /// range of panels.
    fn begin(&mut self, g: usize, range: &Range<usize>) {
        // All but the last are full.
        let panels = (self.k - 1).div_ceil(LANES) + 1;
        let end = range.end.min(self.bank.rows.len().div_ceil(LANES));
        let last = end.saturating_sub(panels).max(range.start);
        let (at, mut tile) = (g - self.groups.start, [Tile::default()]);
        for m in 0..ROWS.min(self.queries.coordinates.len() - g * ROWS) {
            let (_, coordinates) = self.queries.coordinates.of(g * ROWS + m);
            let first = self.bank.tree.panel_of(coordinates).clamp(range.start, last);
            for p in first..(first + panels).min(end) {
                self.bank.whole.bounds((p, &[0]), &self.queries.whole, g, &self.least[at], &mut tile);
                if tile[0].near >> m & 1 == 1 {
                    self.look(g, m, p, &tile[0].bounds[m]);
                }
            }
        }
    }

    /// Passes panels with group `g`, a few at a time: what is found in them leaves fewer of the next ones.
    fn pass(&mut self, g: usize, panels: Range<usize>) {
        let (at, mut tiles) = (g - self.groups.start, [Tile::default(); FEW]);
        let (all, mut near) = (std::array::from_fn(|p| p as u32), [0; FEW]);
        let mut leading = true;
        for first in panels.clone().step_by(FEW) {
            let count = FEW.min(panels.end - first);
            let mut found = count;
            if leading {
                let few = (first, count);
                found = self.bank.leading.near_panels(few, &self.queries.leading, g, &self.least[at], &mut near);
                // Of what is like nothing in the bank they leave nearly all.
                leading = 8 * found <= 7 * count;
            } else {
                near = all;
            }
            self.bank.whole.bounds((first, &near[..found]), &self.queries.whole, g, &self.least[at], &mut tiles);
            for (p, tile) in near[..found].iter().zip(&tiles) {
                for m in (0..ROWS).filter(|m| tile.near >> m & 1 == 1 && g * ROWS + m < self.queries.coordinates.len())
                {
                    self.look(g, m, first + *p as usize, &tile.bounds[m]);
                }
            }
        }
    }

    /// Measures vectors of panel `p` that may be near query `m` of group `g`: first the one that is most likely, which leaves
    /// fewer of the others.
    fn look(&mut self, g: usize, m: usize, p: usize, bounds: &[f32; LANES]) {
        // What is no number is not below anything.
        let is_far = |search: &Self, bound: f32| bound < search.least[g - search.groups.start][m];
        if bounds.iter().all(|bound| is_far(self, *bound)) {
            return;
        }
        let vectors = self.bank.vectors(p..p + 1);
        let Some(likely) = (0..vectors.len()).reduce(|a, b| if bounds[b] > bounds[a] { b } else { a }) else { return };
        self.measure(g, m, vectors[likely]);
        for (vector, bound) in vectors.iter().zip(bounds) {
            if *vector != vectors[likely] && !is_far(self, *bound) {
                self.measure(g, m, *vector);
            }
        }
    }

    /// Measures a vector, which takes its place among the nearest of query `m` of group `g` if it is one.
    fn measure(&mut self, g: usize, m: usize, vector: u32) {
        let (at, k, q) = (g - self.groups.start, self.k, g * ROWS + m);
        let nearest = &mut self.nearest[(at * ROWS + m) * k..(at * ROWS + m + 1) * k];
        let (query, farthest) = (self.queries.query(q), nearest[k - 1].square);
        let Some(square) = self.bank.rows.square_within(query, vector as usize, farthest, &mut self.wide) else {
            return;
        };
        // Of all that is no number, the one that comes last.
        let square = if square.is_nan() { f64::NAN } else { square };
        let vector = u64::from(vector);
        let place = nearest.partition_point(|n| n.square.total_cmp(&square).then(n.vector.cmp(&vector)).is_lt());
        // It may have been measured at the beginning.
        if place == k || nearest[place].vector == vector {
            return;
        }
        nearest[place..].rotate_right(1);
        nearest[place] = Near { square, vector };
        let Near { square: last, vector } = nearest[k - 1];
        if vector != u64::MAX {
            self.least[at][m] = self.bank.whole.least(self.queries.coordinates.of(q).0, last);
        }
    }
}
