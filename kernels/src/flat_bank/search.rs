//! The search on the CPU.
//!
//! Of the bank vectors b, centred like the query q, those are nearest whose q.b - |b|^2 / 2 is largest:
//! |q - b|^2 = |q|^2 - 2 (q.b - |b|^2 / 2). A first pass has it from integers up to an error of at most
//!
//! `E = |q| e_b + e_q (|b| + 3 e_b) + 2^-20 (|q| + |b|)^2`
//!
//! with the quantisation errors e of panels.rs (Cauchy and Schwarz), the last term for what f32 rounds.
//! A vector whose upper bound is not below the k-th largest lower bound is a candidate; the distances of
//! these, a few for each query, are measured in f64 from the vectors as they are. The result is exact:
//! it depends neither on the instruction set nor on how the bank is cut into tasks.
//!
//! Operations: 2 d per pair, in integers; bytes: the bank once for every [`QUERIES`] queries.

use std::cmp::Ordering;
use std::ops::Range;

use rayon::prelude::*;

use super::panels::{Panels, Scale};
use super::tile::{PANELS, ROWS, Sums, products};
use crate::device::Reused;
use crate::simd::{LANES, lanes_fn};

/// Queries that pass the bank together: what is kept of them stays small.
const QUERIES: usize = 256 * ROWS;
/// Bytes of quantised panels that all queries of a task meet before the next ones: half of a usual L2 cache.
const BLOCK: usize = 1 << 18;
/// Candidates for each query that a task collects before it measures them.
const CANDIDATES: usize = 32;
/// Bound of what f32 rounds, relative to (|q| + |b|)^2.
const ROUNDING: f32 = 1.0 / (1 << 20) as f32;

/// A vector that may be among the nearest of a query.
struct Candidate {
    query: u32,
    vector: u32,
    /// The most that q.b - |b|^2 / 2 can be.
    upper: f32,
}

/// A vector whose distance is known.
#[derive(Clone, Copy)]
struct Measured {
    query: u32,
    vector: u32,
    square: f64,
}

/// Queries that pass the bank together.
struct Queries<'a> {
    /// Row by row, as they came.
    values: &'a [f32],
    count: usize,
    /// Integers, `[group][pair][ROWS][2]`.
    groups: Vec<i16>,
    scales: Vec<GroupScale>,
}

/// Scales of the queries of a group; zeros where there is none.
#[derive(Clone, Default)]
struct GroupScale {
    steps: [f32; ROWS],
    /// |q|.
    norms: [f32; ROWS],
    /// e_q.
    errors: [f32; ROWS],
}

impl GroupScale {
    /// Of the queries of a group, whose integers are written to `to`.
    fn new(panels: &Panels, queries: &[f32], to: &mut [i16]) -> Self {
        let mut group = Self::default();
        panels.quantise_queries(queries, to, |m, s| {
            (group.steps[m], group.norms[m], group.errors[m]) = (s.step, s.norm as f32, s.error as f32);
        });
        group
    }
}

impl<'a> Queries<'a> {
    fn new(panels: &Panels, values: &'a [f32]) -> Self {
        let d = panels.dimension();
        let (count, group_len) = (values.len() / d, d.next_multiple_of(2) * ROWS);
        let mut groups = vec![0; count.div_ceil(ROWS) * group_len];
        let scales = groups
            .par_chunks_exact_mut(group_len)
            .zip(values.par_chunks(ROWS * d))
            .map(|(to, from)| GroupScale::new(panels, from, to))
            .collect();
        Self { values, count, groups, scales }
    }
}

/// What the first pass needs of the vectors of a panel.
struct PanelScale {
    steps: [f32; LANES],
    /// |b|^2 / 2; infinite where there is no vector.
    half_squares: [f32; LANES],
    /// The largest e_b, |b| + 3 e_b and |b|.
    largest: [f32; 3],
}

impl PanelScale {
    fn new(scales: &[Scale]) -> Self {
        let (mut steps, mut half_squares) = ([0.0; LANES], [f32::INFINITY; LANES]);
        for (n, s) in scales.iter().enumerate() {
            (steps[n], half_squares[n]) = (s.step, (s.norm * s.norm / 2.0) as f32);
        }
        // What is no number stays: then all vectors of the panel are candidates.
        let largest = |of: fn(&Scale) -> f64| scales.iter().map(of).fold(0.0, |a, v| if v < a { a } else { v }) as f32;
        Self {
            steps,
            half_squares,
            largest: [largest(|s| s.error), largest(|s| s.norm + 3.0 * s.error), largest(|s| s.norm)],
        }
    }
}

/// What a tile says of q.b - |b|^2 / 2.
#[derive(Default)]
struct Estimate {
    values: [[f32; LANES]; ROWS],
    /// The largest E of a query with any vector of the panel.
    errors: [f32; ROWS],
}

lanes_fn! {
    /// Estimates for a tile; bit m of the answer says whether query m has an upper bound not below its `least`.
    fn estimate<L>(sums: &Sums, group: &GroupScale, panel: &PanelScale, least: &[f32; ROWS], to: &mut Estimate) -> u32 {
        let mut near = 0;
        for m in 0..ROWS {
            let rounded = group.norms[m] + panel.largest[2];
            let error = group.norms[m] * panel.largest[0] + group.errors[m] * panel.largest[1];
            to.errors[m] = error + ROUNDING * rounded * rounded + f32::MIN_POSITIVE;
            // SAFETY: sums, scales and estimates have LANES elements, a multiple of any width. `lanes_fn` runs this
            // only on CPUs with the set of `L`.
            let largest = unsafe {
                let (step, mut largest) = (L::splat(group.steps[m]), L::splat(f32::NEG_INFINITY));
                for at in (0..LANES).step_by(L::WIDTH) {
                    let product = L::load_i32(sums[m].as_ptr().add(at)).mul(step);
                    let product = product.mul(L::load(panel.steps.as_ptr().add(at)));
                    let value = product.sub(L::load(panel.half_squares.as_ptr().add(at)));
                    value.store(to.values[m].as_mut_ptr().add(at));
                    largest = value.max(largest);
                }
                largest.largest()
            };
            near |= u32::from(may_be_near(largest + to.errors[m], least[m])) << m;
        }
        near
    }
}

/// Whether an upper bound is not below `least`. What is no number may be near: it is measured, and comes last.
#[inline(always)]
fn may_be_near(upper: f32, least: f32) -> bool {
    !matches!(upper.partial_cmp(&least), Some(Ordering::Less))
}

/// The search of some queries in a range of panels.
struct Task<'a> {
    panels: &'a Panels,
    queries: &'a Queries<'a>,
    k: usize,
    /// Lower bounds of the `k` nearest of each query, descending, `[query][k]`.
    lower: Vec<f32>,
    /// The last of them, `[group][ROWS]`; infinite where there is no query.
    least: Vec<f32>,
    candidates: Vec<Candidate>,
    measured: Vec<Measured>,
}

impl<'a> Task<'a> {
    fn new(panels: &'a Panels, queries: &'a Queries, k: usize) -> Self {
        let mut least = vec![f32::INFINITY; queries.scales.len() * ROWS];
        least[..queries.count].fill(f32::NEG_INFINITY);
        let lower = vec![f32::NEG_INFINITY; queries.count * k];
        let candidates = Vec::with_capacity(CANDIDATES / 4 * queries.count);
        Self { panels, queries, k, lower, least, candidates, measured: Vec::new() }
    }

    /// Passes the panels of a range block by block, and all queries over each.
    fn run(mut self, range: Range<usize>) -> Self {
        let len = self.panels.panel_len();
        let per_block = (BLOCK / (len * size_of::<i16>())).clamp(1, range.len());
        let (mut wide, mut block) = (Reused::uninit(len), Reused::filled(per_block * len, 0i16));
        let mut scales = Vec::with_capacity(per_block);
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
        self
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
            self.measured = nearest_of(std::mem::take(&mut self.measured), self.k);
        }
    }

    /// Measures all candidates.
    fn measure(&mut self) {
        let d = self.panels.dimension();
        self.measured.reserve(self.candidates.len());
        for Candidate { query, vector, .. } in self.candidates.drain(..) {
            let values = &self.queries.values[query as usize * d..(query as usize + 1) * d];
            let square = self.panels.square(values, vector as usize);
            self.measured.push(Measured { query, vector, square });
        }
    }
}

/// Drops the candidates that are too far for the `least` of their queries.
fn forget_far(candidates: &mut Vec<Candidate>, least: &[f32]) {
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

/// The `k` nearest of each query, ascending.
fn nearest_of(mut found: Vec<Measured>, k: usize) -> Vec<Measured> {
    found.sort_unstable_by(|a, b| {
        a.query.cmp(&b.query).then(a.square.total_cmp(&b.square)).then(a.vector.cmp(&b.vector))
    });
    let mut kept = Vec::with_capacity(found.len());
    for of_query in found.chunk_by(|a, b| a.query == b.query) {
        kept.extend_from_slice(&of_query[..k.min(of_query.len())]);
    }
    kept
}

/// The `k` nearest vectors of each query, the lower index first among equals; `index` and `distance`
/// are `[query][k]`.
pub(super) fn nearest(panels: &Panels, queries: &[f32], k: usize, index: &mut [u32], distance: &mut [f32]) {
    let results = index.chunks_mut(QUERIES * k).zip(distance.chunks_mut(QUERIES * k));
    for (values, (index, distance)) in queries.chunks(QUERIES * panels.dimension()).zip(results) {
        let found = pass(panels, &Queries::new(panels, values), k);
        for (found, (index, distance)) in found.iter().zip(index.iter_mut().zip(distance)) {
            (*index, *distance) = (found.vector, found.square.sqrt() as f32);
        }
    }
}

/// All queries over the bank, ranges of panels in parallel.
fn pass(panels: &Panels, queries: &Queries, k: usize) -> Vec<Measured> {
    let tasks = (2 * rayon::current_num_threads()).min(panels.panels());
    let bound = |t: usize| t * panels.panels() / tasks;
    let mut tasks: Vec<Task> =
        (0..tasks).into_par_iter().map(|t| Task::new(panels, queries, k).run(bound(t)..bound(t + 1))).collect();
    // The k-th largest lower bound in any part of the bank is one in the whole.
    let least: Vec<f32> =
        (0..queries.count).map(|q| tasks.iter().map(|t| t.least[q]).fold(f32::NEG_INFINITY, f32::max)).collect();
    tasks.par_iter_mut().for_each(|task| {
        forget_far(&mut task.candidates, &least);
        task.measure();
    });
    nearest_of(tasks.into_iter().flat_map(|t| t.measured).collect(), k)
}
