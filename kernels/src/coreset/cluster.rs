//! Points whose nearest centre is the same, and what new centres take from them.

use super::clusters::Chosen;
use super::host::Far;
use super::outlines::{Candidates, find_candidates};
use crate::simd::LANES;

/// Points that have a centre in common.
#[derive(Default)]
pub struct Cluster {
    /// Number of the centre.
    centre: u32,
    pub points: Vec<u32>,
    /// Squared distances to the nearest of those centres that the points were compared with.
    pub squares: Vec<f32>,
}

/// A point whose nearest centre is another now.
pub struct Move {
    pub point: u32,
    pub square: f32,
    pub to: u32,
}

impl Cluster {
    pub fn of(centre: u32) -> Self {
        Self { centre, ..Self::default() }
    }

    pub fn farthest(&self) -> Far {
        let each = self.squares.iter().zip(&self.points).map(|(square, point)| Far { square: *square, point: *point });
        each.fold(Far::NONE, |far, next| if next.is_before(&far) { next } else { far })
    }

    pub fn push(&mut self, point: u32, square: f32) {
        self.points.push(point);
        self.squares.push(square);
    }

    /// Compares the points with the centres from number `seen` on; takes away the points that are nearer to one of them.
    pub fn compare(&mut self, seen: usize, chosen: &Chosen) -> Vec<Move> {
        let own = self.centre as usize;
        let mut work = Work::new(self, own, chosen);
        for (between, centre) in chosen.within(own, seen, work.widest) {
            if between > work.widest {
                break;
            }
            work.compare(between, centre);
        }
        let nearest = work.nearest;
        let mut moves = Vec::new();
        for k in (0..nearest.len()).rev().filter(|k| nearest[*k] as usize != own) {
            let (point, square) = (self.points.swap_remove(k), self.squares.swap_remove(k));
            moves.push(Move { point, square, to: nearest[k] });
        }
        moves
    }
}

/// A cluster while it is compared with centres, the nearest first.
struct Work<'a> {
    cluster: &'a mut Cluster,
    chosen: &'a Chosen<'a>,
    candidates: Vec<Candidates>,
    /// Distances to the cluster's own centre.
    own: Vec<f32>,
    /// The nearest centre of each point.
    nearest: Vec<u32>,
    /// No centre whose squared distance to the cluster's own is above is nearer to any point.
    widest: f32,
    /// Numbers in the cluster of those points that may be nearer to a centre, their own numbers, and their squared distances.
    found: Vec<u32>,
    points: Vec<u32>,
    squares: Vec<f32>,
}

impl<'a> Work<'a> {
    fn new(cluster: &'a mut Cluster, own: usize, chosen: &'a Chosen<'a>) -> Self {
        let n = cluster.points.len();
        let mut work = Self {
            chosen,
            candidates: vec![Candidates::default(); n.div_ceil(LANES)],
            own: cluster.squares.iter().map(|square| square.sqrt()).collect(),
            nearest: vec![own as u32; n],
            widest: 0.0,
            found: Vec::new(),
            points: Vec::new(),
            squares: Vec::new(),
            cluster,
        };
        for k in 0..n {
            let outline = chosen.outlines.outline(work.cluster.points[k] as usize);
            work.candidates[k / LANES].outlines.set(k % LANES, outline);
            work.know(k);
        }
        work.widen();
        work
    }

    /// Brings what decides about point `k` in line with its squared distance. A centre c is nearer to a point p than a distance s
    /// only if it is nearer to p's own centre a than |p - a| + s.
    fn know(&mut self, k: usize) {
        let square = self.cluster.squares[k];
        let candidates = &mut self.candidates[k / LANES];
        candidates.limits[k % LANES] = self.chosen.outlines.limit(square);
        candidates.spans[k % LANES] = self.chosen.upwards((self.own[k] + square.sqrt()).powi(2));
    }

    fn widen(&mut self) {
        self.widest = self.candidates.iter().flat_map(|c| c.spans).fold(-1.0, f32::max);
    }

    /// Compares all points with a centre.
    fn compare(&mut self, between: f32, centre: u32) {
        let centre_at = centre as usize;
        self.found.clear();
        find_candidates(self.chosen.outline(centre_at), &self.candidates, between, &mut self.found);
        let points = &self.cluster.points;
        // Where the distance of the centres is no number, lanes without a point are found too.
        self.found.retain(|k| (*k as usize) < points.len());
        self.points.clear();
        self.points.extend(self.found.iter().map(|k| points[*k as usize]));
        self.chosen.distances_of_points(centre_at, &self.points, &mut self.squares);
        let mut changed = false;
        for i in 0..self.found.len() {
            let (k, square) = (self.found[i] as usize, self.squares[i]);
            if square < self.cluster.squares[k] {
                self.cluster.squares[k] = square;
                self.nearest[k] = centre;
                self.know(k);
                changed = true;
            }
        }
        if changed {
            self.widen();
        }
    }
}
