//! Points one by one, for those that vary in many directions alike.
//!
//! A distance to the nearest centre only decreases as centres are added, so that an older one is an upper bound. A point is compared
//! with the centres chosen since, all of them at once, only when its bound could make it the farthest.

use rayon::prelude::*;

use super::distance::nearest_square;
use super::host::{Far, Search};

/// Bounds that one task looks through.
const SCAN: usize = 1 << 14;
/// How many of the largest bounds are made exact one after another, before all others that can matter are in parallel.
const TRIED: usize = 16;
/// Points that one task measures at least.
const TASK: usize = 16;

/// All points, each with a bound of its distance to the nearest centre.
pub struct Bounds<'a> {
    x: &'a [f32],
    d: usize,
    /// Squared.
    bound: Vec<f32>,
    /// Centres that each point was compared with.
    seen: Vec<u32>,
    /// The centres, one after another.
    centres: Vec<f32>,
}

impl<'a> Bounds<'a> {
    pub fn around((x, d): (&'a [f32], usize), start: u32) -> Self {
        let m = x.len() / d;
        let mut bounds = Self { x, d, bound: vec![f32::INFINITY; m], seen: vec![0; m], centres: Vec::new() };
        bounds.choose(start);
        bounds
    }

    fn point(&self, i: usize) -> &'a [f32] {
        &self.x[i * self.d..(i + 1) * self.d]
    }

    fn chosen(&self) -> usize {
        self.centres.len() / self.d
    }

    fn is_exact(&self, i: usize) -> bool {
        self.seen[i] as usize == self.chosen()
    }

    /// The point with the largest bound, the lowest number among equals.
    fn largest(&self) -> usize {
        let parts = self.bound.par_chunks(SCAN).enumerate();
        let best = parts.map(|(part, bounds)| {
            let largest = bounds.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let at = bounds.iter().position(|b| *b == largest).unwrap_or(0);
            (largest, part * SCAN + at)
        });
        best.reduce(|| (f32::NEG_INFINITY, usize::MAX), |a, b| if (b.0, a.1) > (a.0, b.1) { b } else { a }).1
    }

    /// The squared distance of a point to its nearest centre.
    fn exact(&self, i: usize) -> f32 {
        nearest_square(self.point(i), &self.centres[self.seen[i] as usize * self.d..], self.bound[i])
    }

    fn settle(&mut self, i: usize, square: f32) {
        (self.bound[i], self.seen[i]) = (square, self.chosen() as u32);
    }

    fn far(&self, i: usize) -> Far {
        Far { square: self.bound[i], point: i as u32 }
    }
}

impl Search for Bounds<'_> {
    fn choose(&mut self, point: u32) {
        self.centres.extend_from_slice(self.point(point as usize));
    }

    /// First the largest bounds are made exact, a few; every point whose bound reaches the best of these is then measured, and no
    /// other can be farther.
    fn farthest(&mut self) -> Far {
        let mut reached = f32::NEG_INFINITY;
        for _ in 0..TRIED {
            let i = self.largest();
            if self.is_exact(i) {
                return self.far(i);
            }
            let square = self.exact(i);
            self.settle(i, square);
            reached = reached.max(square);
        }
        let stale: Vec<usize> =
            (0..self.bound.len()).filter(|i| self.bound[*i] >= reached && !self.is_exact(*i)).collect();
        let exact: Vec<f32> = stale.par_iter().with_min_len(TASK).map(|i| self.exact(*i)).collect();
        stale.into_iter().zip(exact).for_each(|(i, square)| self.settle(i, square));
        self.far(self.largest())
    }
}
