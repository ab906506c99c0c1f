//! The choice in host memory: lazy, with the same result as a pass over all points for each choice.
//!
//! Points are kept in clusters by their nearest centre. Distances only fall, so that the farthest point of a cluster
//! as it was some centres ago is a bound of what it is now, and a cluster is compared with the centres since only when
//! its bound is among the largest of all. A centre c can be nearer to a point p than the point's own centre a only if |a - c| < 2 |p - a|
//! (the triangle inequality; Elkan 2003 for k-means), and only if the outlines of c and p are as near (outlines.rs); what is
//! left is measured: of 266,560 patches of transistors, 13,328 of them chosen, 1 distance in 40, those between centres
//! included. Of noise nearly all is left.

use rayon::prelude::*;

use super::cluster::{Cluster, Far, Move};
use super::outlines::{Outline, Outlines, Panel, find_within};
use super::{Watch, go_on};
use crate::error::Result;
use crate::simd::{LANES, Lanes, lanes_fn};

/// Clusters that are compared with new centres together.
const TOGETHER: usize = 16;

/// The points and their centres so far.
pub struct Chosen<'a> {
    x: &'a [f32],
    d: usize,
    pub outlines: Outlines,
    /// Numbers of the centres.
    numbers: Vec<u32>,
    /// The centres themselves, one after another, and their outlines.
    centres: Vec<f32>,
    panels: Vec<Panel>,
    /// One and a bound of what f32 rounds in squared distances, relative.
    upwards: f32,
}

impl<'a> Chosen<'a> {
    fn none_of(x: &'a [f32], d: usize, count: usize) -> Result<Self> {
        Ok(Self {
            x,
            d,
            outlines: Outlines::of(x, d)?,
            numbers: Vec::with_capacity(count),
            centres: Vec::with_capacity(count * d),
            panels: Vec::with_capacity(count.div_ceil(LANES)),
            upwards: 1.0 + 8.0 * (d + 8) as f32 / (1 << 24) as f32,
        })
    }

    fn push(&mut self, point: u32) {
        let at = self.numbers.len();
        if at % LANES == 0 {
            self.panels.push(Panel::default());
        }
        self.panels[at / LANES].set(at % LANES, self.outlines.outline(point as usize));
        self.numbers.push(point);
        self.centres.extend_from_slice(&self.x[point as usize * self.d..][..self.d]);
    }

    /// No smaller than the square of the sum of two distances, and than the squared distance of two centres that is as large, as f32
    /// has them: a sum of d squares rounds by (d + 2) / 2^24 at most, and there are three.
    pub fn upwards(&self, square: f32) -> f32 {
        square * self.upwards + f32::MIN_POSITIVE
    }

    pub fn outline(&self, centre: usize) -> &Outline {
        self.outlines.outline(self.numbers[centre] as usize)
    }

    fn centre(&self, centre: usize) -> &[f32] {
        &self.centres[centre * self.d..][..self.d]
    }

    /// The centres from number `seen` on that are at most a squared distance from another, with theirs, the nearest first.
    pub fn within(&self, own: usize, seen: usize, square: f32) -> Vec<(f32, u32)> {
        let (first, mut found) = (seen / LANES, Vec::new());
        let limit = self.outlines.limit(square);
        find_within(self.outline(own), &self.panels[first..], limit, first * LANES, &mut found);
        found.retain(|centre| (seen..self.numbers.len()).contains(&(*centre as usize)));
        let mut squares = vec![0.0; found.len()];
        square_distances(self.centre(own), &self.centres, &found, &mut squares);
        let mut within: Vec<_> = squares.into_iter().zip(found).collect();
        within.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        within
    }

    /// Squared distances of a centre to some points.
    pub fn distances_of_points(&self, centre: usize, points: &[u32], squares: &mut Vec<f32>) {
        squares.resize(points.len(), 0.0);
        square_distances(self.centre(centre), self.x, points, squares);
    }
}

/// All points, each with its nearest centre as far as it is known.
struct Clusters<'a> {
    chosen: Chosen<'a>,
    /// One for each centre.
    each: Vec<Cluster>,
    /// The first of the centres that a cluster was not compared with.
    seen: Vec<u32>,
    far: Vec<Far>,
}

impl<'a> Clusters<'a> {
    /// All points around the first centre.
    fn around(mut chosen: Chosen<'a>, start: u32) -> Self {
        chosen.push(start);
        let m = chosen.x.len() / chosen.d;
        let points: Vec<u32> = (0..m as u32).collect();
        let mut squares = vec![0.0; m];
        let parts = points.par_chunks(1024).zip(squares.par_chunks_mut(1024));
        parts.for_each(|(points, squares)| square_distances(chosen.centre(0), chosen.x, points, squares));
        // What is no number is as far as can be.
        squares.iter_mut().filter(|square| square.is_nan()).for_each(|square| *square = f32::INFINITY);
        let cluster = Cluster { points, squares };
        Self { chosen, seen: vec![1], far: vec![cluster.farthest()], each: vec![cluster] }
    }

    /// A cluster of its own for a point; the points are compared with it when that can matter.
    fn open(&mut self, point: u32) {
        self.chosen.push(point);
        self.each.push(Cluster::default());
        self.seen.push(self.each.len() as u32);
        self.far.push(Far::NONE);
    }

    /// The farthest point from all centres.
    fn farthest(&mut self) -> Far {
        loop {
            let first = self.far.iter().enumerate();
            let (first, far) = first.fold((0, self.far[0]), |a, b| if b.1.is_before(&a.1) { (b.0, *b.1) } else { a });
            if self.is_compared(first) {
                return far;
            }
            self.compare_largest();
        }
    }

    fn is_compared(&self, cluster: usize) -> bool {
        self.seen[cluster] as usize == self.each.len()
    }

    /// Compares the clusters with the largest bounds with the centres that they have not seen.
    fn compare_largest(&mut self) {
        let mut stale: Vec<usize> = (0..self.each.len()).filter(|c| !self.is_compared(*c)).collect();
        if stale.len() > TOGETHER {
            let order = |a: &usize, b: &usize| self.far[*b].square.total_cmp(&self.far[*a].square);
            stale.select_nth_unstable_by(TOGETHER - 1, order);
            stale.truncate(TOGETHER);
        }
        let (chosen, seen) = (&self.chosen, &self.seen);
        let clusters: Vec<_> = stale.iter().map(|c| (*c, std::mem::take(&mut self.each[*c]))).collect();
        let compared = clusters.into_par_iter().map(|(own, mut cluster)| {
            let moves = cluster.compare(own, seen[own] as usize, chosen);
            (own, cluster, moves)
        });
        let mut moves = Vec::new();
        for (own, cluster, of_cluster) in compared.collect::<Vec<_>>() {
            self.far[own] = cluster.farthest();
            self.seen[own] = self.each.len() as u32;
            self.each[own] = cluster;
            moves.extend(of_cluster);
        }
        for Move { point, square, to } in moves {
            let (to, far) = (to as usize, Far { square, point });
            self.each[to].push(point, square);
            if far.is_before(&self.far[to]) {
                self.far[to] = far;
            }
        }
    }
}

pub fn on_host(
    (x, d): (&[f32], usize),
    start: usize,
    index: &mut [u32],
    distance: &mut [f32],
    watch: Watch,
) -> Result<()> {
    if index.is_empty() {
        return Ok(());
    }
    go_on(watch, 0)?;
    let mut clusters = Clusters::around(Chosen::none_of(x, d, index.len())?, start as u32);
    (index[0], distance[0]) = (start as u32, 0.0);
    for at in 1..index.len() {
        go_on(watch, at)?;
        let Far { square, point } = clusters.farthest();
        (index[at], distance[at]) = (point, square.sqrt());
        clusters.open(point);
    }
    Ok(())
}

/// Distances that are summed side by side.
const SIDE_BY_SIDE: usize = 4;

lanes_fn! {
    /// Squared distances of a point to those rows of `x` that have these numbers.
    fn square_distances<L>(point: &[f32], x: &[f32], numbers: &[u32], squares: &mut [f32]) {
        let d = point.len();
        let row = |number: u32| x[number as usize * d..][..d].as_ptr();
        let (groups, rest) = numbers.as_chunks::<SIDE_BY_SIDE>();
        let (of_groups, of_rest) = squares.as_chunks_mut::<SIDE_BY_SIDE>();
        assert!(of_groups.len() == groups.len() && of_rest.len() == rest.len(), "a square for each row");
        for (group, to) in groups.iter().zip(of_groups) {
            // SAFETY: rows of `d` values. `lanes_fn` runs this only on CPUs with the set of `L`.
            *to = unsafe { sums::<L, SIDE_BY_SIDE>(point, group.map(row)) };
        }
        for (number, to) in rest.iter().zip(of_rest) {
            // SAFETY: likewise.
            [*to] = unsafe { sums::<L, 1>(point, [row(*number)]) };
        }
    }
}

/// Squared distances of a point to `N` others.
///
/// # Safety
/// The CPU has the set of `L`; the others have as many values.
#[inline(always)]
unsafe fn sums<L: Lanes, const N: usize>(point: &[f32], others: [*const f32; N]) -> [f32; N] {
    // SAFETY: the caller vouches for set and values; the last register reads only what is left.
    unsafe {
        let d = point.len();
        let mut sums = [L::splat(0.0); N];
        let mut at = 0;
        while at + L::WIDTH <= d {
            let values = L::load(point.as_ptr().add(at));
            for (sum, other) in sums.iter_mut().zip(others) {
                let e = values.sub(L::load(other.add(at)));
                *sum = e.mul_add(e, *sum);
            }
            at += L::WIDTH;
        }
        if at < d {
            let values = L::load_part(point.as_ptr().add(at), d - at);
            for (sum, other) in sums.iter_mut().zip(others) {
                let e = values.sub(L::load_part(other.add(at), d - at));
                *sum = e.mul_add(e, *sum);
            }
        }
        sums.map(|sum| sum.sum())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::on_host;

    /// The choice by its definition: every point against every chosen one.
    fn by_definition(x: &[f32], d: usize, start: usize, count: usize) -> Vec<u32> {
        let point = |i: usize| &x[i * d..(i + 1) * d];
        let mut nearest = vec![f32::INFINITY; x.len() / d];
        let mut chosen = vec![start as u32];
        while chosen.len() < count {
            let last = point(chosen[chosen.len() - 1] as usize);
            for (i, nearest) in nearest.iter_mut().enumerate() {
                let square = point(i).iter().zip(last).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
                *nearest = if square < *nearest { square } else { *nearest };
            }
            let largest = nearest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            chosen.push(nearest.iter().position(|n| *n == largest).expect("one is the largest") as u32);
        }
        chosen
    }

    fn chosen(x: &[f32], d: usize, start: usize, count: usize) -> Vec<u32> {
        let (mut index, mut distance) = (vec![0; count], vec![0.0; count]);
        on_host((x, d), start, &mut index, &mut distance, &mut |_| ControlFlow::Continue(())).expect("points enough");
        index
    }

    /// Whole numbers from a fixed sequence, so that all distances are exact; small ones make many equal.
    fn whole(n: usize, most: u32, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) % most) as f32
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn the_choice_is_that_of_the_definition() {
        for (d, most) in [(1, 50), (2, 4), (3, 30), (17, 9), (40, 100), (152, 30)] {
            let x = whole(600 * d, most, d as u32);
            assert_eq!(chosen(&x, d, 7, 300), by_definition(&x, d, 7, 300), "{d} elements below {most}");
        }
    }

    /// Points near a line, whose outlines say nearly all, and clouds far apart.
    #[test]
    fn the_choice_is_that_of_the_definition_for_uneven_points() {
        let d = 24;
        let line: Vec<f32> = (0..500 * d).map(|i| ((i / d * 37 % 500) * (1 + i % d % 3)) as f32).collect();
        assert_eq!(chosen(&line, d, 0, 250), by_definition(&line, d, 0, 250));
        let mut clouds = whole(500 * d, 6, 5);
        clouds
            .chunks_mut(d)
            .enumerate()
            .for_each(|(i, point)| point.iter_mut().for_each(|v| *v += (i % 4 * 200) as f32));
        assert_eq!(chosen(&clouds, d, 499, 250), by_definition(&clouds, d, 499, 250));
        // One so far away that outlines tell the others apart no more.
        clouds[3 * d..4 * d].fill(40_000.0);
        assert_eq!(chosen(&clouds, d, 1, 250), by_definition(&clouds, d, 1, 250));
    }

    #[test]
    fn equal_points_and_what_is_no_number_are_chosen_in_order() {
        assert_eq!(chosen(&[2.0; 12], 3, 2, 4), [2, 0, 0, 0]);
        let odd = [0.0, f32::NAN, 1.0, f32::INFINITY, 5.0, 1e30, 1e-30, -1.0];
        assert_eq!(chosen(&odd, 1, 0, 4), by_definition(&odd, 1, 0, 4));
        let tiny: Vec<f32> = whole(200 * 2, 9, 3).into_iter().map(|v| v * 1e-21).collect();
        assert_eq!(chosen(&tiny, 2, 0, 20), by_definition(&tiny, 2, 0, 20));
    }
}
