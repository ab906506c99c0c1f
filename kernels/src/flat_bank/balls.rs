//! Balls around the vectors of each panel, which show of most panels at once that they have none that is near.
//!
//! With p the coordinates of a vector in the leading directions and the length of its rest, `|p_q - p_b| <= |q - b|` (projected.rs).
//! A ball of centre m and radius R holds those of a panel (Omohundro, "Five balltree construction algorithms", 1989), so that one of its
//! vectors is within t of q only if `|p_q - m| <= t + R`, which is
//!
//! `p_q.m + t R + (R^2 - |m|^2) / 2 >= (|q|^2 - t^2) / 2`
//!
//! With S the squared length of the longest vector, t^2 is `10 e (|q|^2 + S)` longer than what is asked for: with e for what
//! coordinates round, `|p|^2 <= |v|^2 + 5 e |v|^2` and `q.b <= p_q.p_b + e (|q| + |b|)^2`, 9 e together, and one
//! more for what centring rounds. What the sum is compared with is `2 s (|q|^2 + 4 S + t^2)` less, with s for what the sum rounds: its terms are no more than `(|q|^2 + t^2) / 2 + 5 S` together.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::projected::{FLUSHED, PANELS, Projected, ProjectedQueries, ROUNDING, ROWS, tile};
use crate::basis::{MOST_SQUARE, upwards};
use crate::device::HostBuffer;
use crate::simd::{LANES, lanes_fn};

/// Panels whose balls are looked at together.
pub(super) const FEW: usize = LANES * PANELS;

/// Steps towards the smallest ball; the radius is that of the centre that they end at.
const STEPS: usize = 32;

/// Balls around the vectors of panels.
#[derive(Clone, Debug)]
pub(super) struct Balls {
    /// `[panels / LANES][1 + dimensions + 1][LANES]`, whole [`PANELS`]: what the sum begins with, centres, radii.
    balls: HostBuffer<f32>,
    /// Elements of [`LANES`] balls.
    len: usize,
    /// e.
    rounding: f64,
    /// s.
    summing: f64,
    /// S.
    longest: f64,
}

/// What a group of queries asks of balls.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Asked {
    /// t.
    pub reach: [f32; ROWS],
    /// What the sum of a ball is not below that may hold a vector within reach.
    pub least: [f32; ROWS],
}

/// The smallest ball that is found around some points `[dimension][LANES]`, of which the first `count` are there, by the steps of
/// Badoiu and Clarkson ("Smaller core-sets for balls", 2003): its centre, and a radius that is not too small.
fn ball(points: &[f32], count: usize) -> (Vec<f32>, f32) {
    let at = |axis: &[f32], i: usize| f64::from(axis[i]);
    let axes = points.chunks_exact(LANES);
    let mut centre: Vec<f64> =
        axes.clone().map(|axis| (0..count).map(|i| at(axis, i)).sum::<f64>() / count as f64).collect();
    let farthest = |centre: &[f64]| {
        let square = |i| axes.clone().zip(centre).map(|(axis, c)| (at(axis, i) - c).powi(2)).sum::<f64>();
        (0..count).map(|i| (square(i), i)).fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a })
    };
    for step in 0..STEPS {
        let (_, far) = farthest(&centre);
        axes.clone().zip(&mut centre).for_each(|(axis, c)| *c += (at(axis, far) - *c) / (step + 2) as f64);
    }
    let rounded: Vec<f32> = centre.iter().map(|c| *c as f32).collect();
    let known: Vec<f64> = rounded.iter().map(|c| f64::from(*c)).collect();
    (rounded, upwards(farthest(&known).0.sqrt()))
}

impl Balls {
    /// Around the panels of vectors of which the longest has a squared length.
    pub fn new(projected: &Projected, longest: f64) -> Self {
        let dimensions = projected.panel_len() / LANES - 1;
        let len = (dimensions + 2) * LANES;
        let blocks = projected.panels().div_ceil(LANES).next_multiple_of(PANELS);
        let mut balls = HostBuffer::uninit(blocks * len);
        balls.par_chunks_exact_mut(len).enumerate().for_each(|(block, to)| {
            to.fill(0.0);
            to[..LANES].fill(f32::NEG_INFINITY);
            for (lane, panel) in (block * LANES..projected.panels()).take(LANES).enumerate() {
                let (starts, points) = projected.panel(panel).split_at(LANES);
                let count = starts.iter().filter(|start| **start > f32::NEG_INFINITY).count();
                if count == 0 {
                    continue;
                }
                let (centre, radius) = ball(points, count);
                let square: f64 = centre.iter().map(|c| f64::from(*c).powi(2)).sum();
                to[lane] = upwards((f64::from(radius).powi(2) - square) / 2.0);
                let values = centre.iter().chain([&radius]);
                to[LANES..].iter_mut().skip(lane).step_by(LANES).zip(values).for_each(|(to, v)| *to = *v);
            }
        });
        let summing = (dimensions + 4) as f64 / f64::from(1 << 24) + ROUNDING;
        Self { balls, len, rounding: projected.rounding(), summing, longest }
    }

    /// t, and what sums are compared with, of a query of squared length `query` and a squared distance.
    pub fn asked(&self, query: f64, distance: f64) -> (f32, f32) {
        let square = distance + 10.0 * self.rounding * (query + self.longest);
        // All vectors may be near a query that is too long for sums in f32, or that is no number.
        let least = if query < MOST_SQUARE {
            (query - square) / 2.0 - 2.0 * self.summing * (query + 4.0 * self.longest + square) - FLUSHED
        } else {
            f64::NEG_INFINITY
        };
        (upwards(square.sqrt()), least as f32)
    }

    /// Writes the numbers of those of the [`FEW`] panels from `first` on, a multiple of that, to `near` whose ball a query of group `g`
    /// may have something near in, and returns how many there are.
    pub fn near(
        &self,
        first: usize,
        queries: &ProjectedQueries,
        g: usize,
        asked: &Asked,
        near: &mut [u32; FEW],
    ) -> usize {
        near_balls(&self.balls[first / LANES * self.len..][..PANELS * self.len], queries.group(g), asked, near)
    }
}

lanes_fn! {
    /// Writes the numbers of those balls to `near` whose sum is not below the `least` of a query, and returns how many there
    /// are. What is no number is not below anything.
    #[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
    fn near_balls<L, V, R>(balls: &[f32], group: &[f32], asked: &Asked, near: &mut [u32; FEW]) -> usize {
        let steps = group.len() / ROWS;
        let len = (steps + 2) * LANES;
        assert!(balls.len() == PANELS * len, "whole tiles");
        const { assert!(PANELS.is_multiple_of(L::PANELS), "whole tiles of any set") };
        let (mut found, mut marks) = (0, [0.0f32; LANES]);
        for first in (0..PANELS).step_by(L::PANELS) {
            // SAFETY: as many blocks as a tile takes lie within `balls`, each with a start, `steps` steps and radii; the group has
            // `steps` steps. `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let block = balls.as_ptr().add(first * len);
                let sums = tile::<L, V>(group.as_ptr(), [block, block.add((L::PANELS - 1) * len)], steps);
                for p in 0..L::PANELS {
                    for v in 0..V {
                        let radius = L::load(block.add(p * len + (steps + 1) * LANES + v * L::WIDTH));
                        let (mut is_near, one) = (L::splat(0.0), L::splat(1.0));
                        for m in 0..ROWS {
                            let sum = L::splat(asked.reach[m]).mul_add(radius, sums[m][p][v]);
                            is_near = L::splat(asked.least[m]).above(sum, is_near, one);
                        }
                        is_near.store(marks.as_mut_ptr().add(v * L::WIDTH));
                    }
                    for (lane, mark) in marks.iter().enumerate() {
                        // No more are found than were looked at.
                        near[found] = ((first + p) * LANES + lane) as u32;
                        found += usize::from(*mark > 0.0);
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every point lies in the ball, which is smaller than that about the mean where points lie to one side.
    #[test]
    fn a_ball_holds_its_points() {
        for (count, dimensions) in [(1, 3), (2, 1), (9, 4), (LANES, 16)] {
            let hash = |i: u64| ((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32;
            let points: Vec<f32> = (0..(dimensions * LANES) as u64).map(|i| hash(i).powi(3)).collect();
            let (centre, radius) = ball(&points, count);
            let distance = |centre: &[f64], i: usize| {
                let square = |(axis, c): (&[f32], &f64)| (f64::from(axis[i]) - c).powi(2);
                points.chunks_exact(LANES).zip(centre).map(square).sum::<f64>().sqrt()
            };
            let centre: Vec<f64> = centre.into_iter().map(f64::from).collect();
            assert!((0..count).all(|i| distance(&centre, i) <= f64::from(radius)), "{count} points");
            let mean: Vec<f64> = points
                .chunks_exact(LANES)
                .map(|axis| axis[..count].iter().map(|v| f64::from(*v)).sum::<f64>() / count as f64)
                .collect();
            let about_mean = (0..count).map(|i| distance(&mean, i)).fold(0.0, f64::max);
            assert!(
                f64::from(radius) <= 1.0001 * about_mean + 1e-6,
                "{radius} about the centre, {about_mean} about the mean"
            );
        }
    }
}
