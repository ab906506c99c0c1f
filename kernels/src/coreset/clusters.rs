//! Points in clusters, for those that vary most in a few directions.
//!
//! Points are kept in clusters by their nearest centre, which may have several. Distances only fall, so that the farthest point of a cluster
//! as it was some centres ago is a bound of what it is now, and a cluster is compared with the centres since only when
//! its bound is among the largest of all. A centre c can be nearer to a point p than the point's own centre a only if |a - c| < 2 |p - a|
//! (the triangle inequality; Elkan 2003 for k-means), and only if the outlines of c and p are as near (outlines.rs); what is
//! left is measured: of 266,560 patches of transistors, 13,328 of them chosen, 1 distance in 40, those between centres
//! included.

use rayon::prelude::*;

use super::cluster::{Cluster, Move};
use super::distance::square_distances;
use super::host::{Far, Search};
use super::outlines::{Outline, Outlines, Panel, find_within};
use crate::simd::LANES;

/// Clusters that are compared with new centres together.
const TOGETHER: usize = 16;
/// Points of a cluster at most. A centre with more has several clusters, which threads compare in parallel and whose points fit
/// into the cache.
const POINTS: usize = 1024;

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
    fn none_of(x: &'a [f32], d: usize, outlines: Outlines) -> Self {
        let upwards = 1.0 + 8.0 * (d + 8) as f32 / (1 << 24) as f32;
        Self { x, d, outlines, numbers: Vec::new(), centres: Vec::new(), panels: Vec::new(), upwards }
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
pub struct Clusters<'a> {
    chosen: Chosen<'a>,
    each: Vec<Cluster>,
    /// The first of the centres that a cluster was not compared with.
    seen: Vec<u32>,
    far: Vec<Far>,
    /// The cluster of each centre that points are added to.
    last: Vec<u32>,
}

impl<'a> Clusters<'a> {
    /// All points around the first centre.
    pub fn around((x, d): (&'a [f32], usize), start: u32, outlines: Outlines) -> Self {
        let chosen = Chosen::none_of(x, d, outlines);
        let mut clusters = Self { chosen, each: Vec::new(), seen: Vec::new(), far: Vec::new(), last: Vec::new() };
        clusters.choose(start);
        let m = x.len() / d;
        let points: Vec<u32> = (0..m as u32).collect();
        let mut squares = vec![0.0; m];
        let parts = points.par_chunks(POINTS).zip(squares.par_chunks_mut(POINTS));
        parts.for_each(|(points, squares)| square_distances(clusters.chosen.centre(0), x, points, squares));
        // What is no number is as far as can be.
        squares.iter_mut().filter(|square| square.is_nan()).for_each(|square| *square = f32::INFINITY);
        points.iter().zip(&squares).for_each(|(point, square)| clusters.put(*point, *square, 0));
        clusters
    }

    fn centres(&self) -> usize {
        self.last.len()
    }

    /// Adds an empty cluster to a centre. Without points it counts as compared with all centres.
    fn open(&mut self, centre: usize) {
        self.last[centre] = self.each.len() as u32;
        self.each.push(Cluster::of(centre as u32));
        self.seen.push(self.centres() as u32);
        self.far.push(Far::NONE);
    }

    /// Adds a point that was compared with all centres to the last cluster of its nearest.
    fn put(&mut self, point: u32, square: f32, centre: usize) {
        if self.each[self.last[centre] as usize].points.len() == POINTS {
            self.open(centre);
        }
        let (cluster, far) = (self.last[centre] as usize, Far { square, point });
        self.each[cluster].push(point, square);
        if far.is_before(&self.far[cluster]) {
            self.far[cluster] = far;
        }
    }

    fn is_compared(&self, cluster: usize) -> bool {
        self.seen[cluster] as usize == self.centres()
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
        let compared = clusters.into_par_iter().map(|(at, mut cluster)| {
            let moves = cluster.compare(seen[at] as usize, chosen);
            (at, cluster, moves)
        });
        let mut moves = Vec::new();
        for (at, cluster, of_cluster) in compared.collect::<Vec<_>>() {
            self.far[at] = cluster.farthest();
            self.seen[at] = self.centres() as u32;
            self.each[at] = cluster;
            moves.extend(of_cluster);
        }
        moves.into_iter().for_each(|Move { point, square, to }| self.put(point, square, to as usize));
    }
}

impl Search for Clusters<'_> {
    /// Other points are compared with the new centre when that can matter.
    fn choose(&mut self, point: u32) {
        self.chosen.push(point);
        self.last.push(0);
        self.open(self.centres() - 1);
    }

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
}
