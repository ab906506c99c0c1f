//! The search on the CPU in all elements.
//!
//! A first pass in integers (bounds.rs) leaves as candidates of a query the vectors whose upper bound is not below the k-th
//! largest lower bound; the distances of these, a few for each query, are measured in f64 from the vectors as they are. The
//! result is exact: it depends neither on the instruction set nor on how the bank is cut into tasks.
//!
//! Operations: 2 d per pair, in integers; bytes: the bank once for every [`QUERIES`] queries.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;
use smallvec::SmallVec;

use super::bounds::{Estimate, PanelScale, Queries, estimate, may_be_near};
use super::panels::Panels;
use super::tile::{PANELS, ROWS, Sums, products};
use crate::device::Reused;
use crate::simd::LANES;

/// Queries that pass the bank together: what is kept of them stays small.
pub(super) const QUERIES: usize = 256 * ROWS;
/// Bytes of panels that all queries of a task meet before the next ones: half of a usual L2 cache.
pub(super) const BLOCK: usize = 1 << 18;
/// Tasks that are on the stack.
const TASKS: usize = 64;
/// Candidates for each query that a task collects before it measures them.
const CANDIDATES: usize = 32;

/// A vector that may be among the nearest of a query.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Candidate {
    query: u32,
    vector: u32,
    /// The most that q.b - |b|^2 / 2 can be.
    upper: f32,
}

/// A vector whose distance is known.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Measured {
    pub query: u32,
    pub vector: u32,
    pub square: f64,
}

/// The search of some queries in a range of panels.
struct Task<'a> {
    panels: &'a Panels,
    queries: &'a Queries<'a>,
    k: usize,
    /// Lower bounds of the `k` nearest of each query, descending, `[query][k]`.
    lower: Reused<f32>,
    /// The last of them, `[group][ROWS]`; infinite where there is no query.
    least: Reused<f32>,
    candidates: Reused<Candidate>,
    measured: Reused<Measured>,
}

impl<'a> Task<'a> {
    fn new(panels: &'a Panels, queries: &'a Queries, k: usize) -> Self {
        let mut least = Reused::filled(queries.scales.len() * ROWS, f32::INFINITY);
        least[..queries.count].fill(f32::NEG_INFINITY);
        let lower = Reused::filled(queries.count * k, f32::NEG_INFINITY);
        // Enough for almost any bank: a buffer that grows on a worker is dropped by the caller, and the worker has to ask again.
        let candidates = Reused::with_capacity(2 * CANDIDATES * queries.count);
        Self { panels, queries, k, lower, least, candidates, measured: Reused::with_capacity(0) }
    }

    /// Passes the panels of a range block by block, and all queries over each.
    fn run(&mut self, range: Range<usize>) {
        let len = self.panels.panel_len();
        let per_block = (BLOCK / (len * size_of::<i16>())).clamp(1, range.len());
        let (mut wide, mut block) = (Reused::uninit(len), Reused::filled(per_block * len, 0i16));
        let mut scales = Reused::with_capacity(per_block);
        for first in range.clone().step_by(per_block) {
            let numbers = first..(first + per_block).min(range.end);
            let integers = block.chunks_exact_mut(len);
            numbers.clone().zip(integers).for_each(|(p, to)| self.panels.quantise(p, &mut wide, to));
            scales.clear();
            scales.extend(numbers.clone().map(|p| PanelScale::new(self.panels.scales(p))));
            self.pass(&block, &scales, numbers);
            if self.candidates.len() > CANDIDATES * self.queries.count {
                self.settle();
            }
        }
        forget_far(&mut self.candidates, &self.least);
    }

    /// Passes all queries over a block of panels.
    fn pass(&mut self, block: &[i16], scales: &[PanelScale], numbers: Range<usize>) {
        let len = self.panels.panel_len();
        let mut sums = [Sums::default(); PANELS];
        for (g, group) in self.queries.groups.chunks_exact(len / LANES * ROWS).enumerate() {
            let panels = block.chunks(PANELS * len).zip(scales.chunks(PANELS));
            for ((panels, scales), p) in panels.zip(numbers.clone().step_by(PANELS)) {
                match panels.split_at_checked(len) {
                    Some((first, second)) if second.len() == len => products(group, [first, second], &mut sums),
                    _ => products(group, [&panels[..len]], sums.first_chunk_mut().expect("one at least")),
                }
                for (i, (sums, scale)) in sums.iter().zip(scales).enumerate().take(numbers.end - p) {
                    self.look(g, p + i, sums, scale);
                }
            }
        }
    }

    /// Takes what may be near of the products of group `g` of queries with panel `p`.
    fn look(&mut self, g: usize, p: usize, sums: &Sums, scale: &PanelScale) {
        let mut estimates = Estimate::default();
        let least = self.least[g * ROWS..].first_chunk().expect("a whole group");
        let near = estimate(sums, &self.queries.scales[g], scale, least, &mut estimates);
        let rows = ROWS.min(self.queries.count - g * ROWS);
        for m in (0..rows).filter(|m| near >> m & 1 == 1) {
            self.take(g * ROWS + m, p * LANES, &estimates.values[m], estimates.errors[m]);
        }
    }

    /// Takes the candidates of a query in a panel.
    fn take(&mut self, query: usize, first: usize, values: &[f32; LANES], error: f32) {
        let values = &values[..LANES.min(self.panels.vectors() - first)];
        let lower = &mut self.lower[query * self.k..(query + 1) * self.k];
        values.iter().for_each(|v| keep_largest(lower, v - error));
        let least = lower[self.k - 1];
        self.least[query] = least;
        for (v, vector) in values.iter().zip(first as u32..) {
            if may_be_near(v + error, least) {
                self.candidates.push(Candidate { query: query as u32, vector, upper: v + error });
            }
        }
    }

    /// Makes the candidates few again: forgets the far ones, and where many remain, measures them.
    fn settle(&mut self) {
        forget_far(&mut self.candidates, &self.least);
        if self.candidates.len() > CANDIDATES / 2 * self.queries.count {
            self.measure();
            keep_nearest(&mut self.measured, self.k);
        }
    }

    /// Measures all candidates.
    fn measure(&mut self) {
        self.measured.reserve(self.candidates.len());
        for Candidate { query, vector, .. } in self.candidates.iter() {
            let square = self.panels.square(self.queries.query(*query as usize), *vector as usize);
            self.measured.push(Measured { query: *query, vector: *vector, square });
        }
        self.candidates.clear();
    }
}

/// Drops the candidates that are too far for the `least` of their queries.
fn forget_far(candidates: &mut Reused<Candidate>, least: &[f32]) {
    let far = |c: &Candidate| c.upper < least[c.query as usize];
    candidates.retain(|c| !far(c));
}

/// Puts a number into a descending list in place of its last, if it is larger.
#[inline(always)]
fn keep_largest(list: &mut [f32], v: f32) {
    let last = list.len() - 1;
    if v > list[last] {
        let at = list.partition_point(|l| *l >= v);
        list[at..].rotate_right(1);
        list[at] = v;
    }
}

/// Keeps the `k` nearest of each query, ascending.
pub(super) fn keep_nearest(found: &mut Reused<Measured>, k: usize) {
    found.sort_unstable_by(|a, b| {
        a.query.cmp(&b.query).then(a.square.total_cmp(&b.square)).then(a.vector.cmp(&b.vector))
    });
    let (mut query, mut kept) = (u32::MAX, 0);
    found.retain(|m| {
        kept = if m.query == query { kept + 1 } else { 1 };
        query = m.query;
        kept <= k
    });
}

/// The `k` nearest vectors of each query, the lower index first among equals; ranges of panels in parallel.
pub(super) fn nearest(panels: &Panels, values: &[f32], k: usize) -> Reused<Measured> {
    let queries = &Queries::new(panels, values);
    let count = (2 * rayon::current_num_threads()).min(panels.panels());
    let bound = |t: usize| t * panels.panels() / count;
    let mut tasks: SmallVec<[Task; TASKS]> = (0..count).map(|_| Task::new(panels, queries, k)).collect();
    tasks.par_iter_mut().enumerate().for_each(|(t, task)| task.run(bound(t)..bound(t + 1)));
    // The k-th largest lower bound in any part of the bank is one in the whole.
    let least = |q| tasks.iter().map(|t| t.least[q]).fold(f32::NEG_INFINITY, f32::max);
    let least = Reused::collect((0..queries.count).map(least));
    for task in &mut tasks {
        forget_far(&mut task.candidates, &least);
        // On this thread, which also drops it.
        task.measured.reserve(task.candidates.len());
    }
    tasks.par_iter_mut().for_each(Task::measure);
    let mut found = Reused::with_capacity(tasks.iter().map(|t| t.measured.len()).sum());
    found.extend(tasks.iter().flat_map(|t| t.measured.iter().copied()));
    keep_nearest(&mut found, k);
    found
}
