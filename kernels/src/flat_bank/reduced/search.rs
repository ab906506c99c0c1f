//! The search of some queries in some panels.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::super::balls::{Asked, FEW};
use super::super::projected::{ROWS, Tile};
use super::{Queries, Reduced};
use crate::device::Reused;
use crate::simd::LANES;

/// After so many times [`FEW`] panels balls and leading directions are tried again where they had left nearly all.
const AGAIN: usize = 8;

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
    /// The same of balls, and how far from a query they may begin.
    asked: Reused<Asked>,
    /// Of each group 1 where balls, and leading directions, have left few panels; of what is like nothing in the bank they leave
    /// nearly all.
    leave_few: Reused<[u8; 2]>,
    /// Bounds of the vectors of some panels.
    tiles: Reused<Tile>,
    /// A vector in f32.
    wide: Reused<f32>,
}

impl<'a> Search<'a> {
    /// Of the groups from `first` on whose nearest are wanted.
    pub fn new(bank: &'a Reduced, queries: &'a Queries<'a>, first: usize, nearest: &'a mut [Near], k: usize) -> Self {
        let groups = first..first + nearest.len() / (ROWS * k);
        let is_query = |g: usize, m: usize| g * ROWS + m < queries.len();
        let missing =
            |g: usize| std::array::from_fn(|m| if is_query(g, m) { f32::NEG_INFINITY } else { f32::INFINITY });
        let missing_of_balls = |g: usize| Asked { reach: [0.0; ROWS], least: missing(g) };
        Self {
            bank,
            queries,
            k,
            nearest,
            least: Reused::collect(groups.clone().map(missing)),
            asked: Reused::collect(groups.clone().map(missing_of_balls)),
            leave_few: Reused::filled(groups.len(), [1; 2]),
            tiles: Reused::filled(FEW, Tile::default()),
            wide: Reused::filled(bank.rows.dimension(), 0.0),
            groups,
        }
    }

    /// Passes the panels of a range, a few at a time, which stay in the second cache while all groups pass them, and in the first
    /// in their leading directions.
    pub fn run(mut self, range: Range<usize>) {
        self.groups.clone().for_each(|g| self.begin(g, &range));
        let firsts = range.clone().step_by(FEW);
        for (i, first) in firsts.enumerate() {
            if i % AGAIN == 0 {
                self.leave_few.fill([1; 2]);
            }
            for g in self.groups.clone() {
                self.pass(g, first..(first + FEW).min(range.end));
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
        for m in 0..ROWS.min(self.queries.len() - g * ROWS) {
            let (_, coordinates) = self.queries.coordinates(g * ROWS + m);
            let first = self.bank.tree.panel_of(coordinates).clamp(range.start, last);
            for p in first..(first + panels).min(end) {
                self.bank.whole.bounds((p, &[0]), &self.queries.whole, g, &self.least[at], &mut tile);
                if tile[0].near >> m & 1 == 1 {
                    self.look(g, m, p, &tile[0].bounds[m]);
                }
            }
        }
    }

    /// Passes at most [`FEW`] panels with group `g`: balls leave some of them, leading directions some of these.
    fn pass(&mut self, g: usize, panels: Range<usize>) {
        let at = g - self.groups.start;
        let mut near: [u32; FEW] = std::array::from_fn(|p| p as u32);
        let mut found = panels.len();
        let [balls, leading] = &mut self.leave_few[at];
        let leaves_few = |found: usize, of: usize| u8::from(8 * found <= 7 * of);
        if *balls == 1 {
            let of_all = self.bank.balls.near(panels.start, &self.queries.leading, g, &self.asked[at], &mut near);
            found = near[..of_all].partition_point(|p| (*p as usize) < panels.len());
            *balls = leaves_few(found, panels.len());
        }
        if *leading == 1 {
            let before = found;
            let some = (panels.start, &mut near[..before]);
            found = self.bank.leading.keep_near(some, &self.queries.leading, g, &self.least[at]);
            *leading = leaves_few(found, before);
        }
        let some = (panels.start, &near[..found]);
        self.bank.whole.bounds(some, &self.queries.whole, g, &self.least[at], &mut self.tiles);
        let tiles = std::mem::take(&mut self.tiles);
        for (p, tile) in near[..found].iter().zip(&*tiles) {
            for m in (0..ROWS).filter(|m| tile.near >> m & 1 == 1 && g * ROWS + m < self.queries.len()) {
                self.look(g, m, panels.start + *p as usize, &tile.bounds[m]);
            }
        }
        self.tiles = tiles;
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
        let (query, farthest) = (self.queries.values(q), nearest[k - 1].square);
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
            let (query, _) = self.queries.coordinates(q);
            self.least[at][m] = self.bank.whole.least(query, last);
            (self.asked[at].reach[m], self.asked[at].least[m]) = self.bank.balls.asked(query, last);
        }
    }
}
