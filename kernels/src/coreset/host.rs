//! The choice in host memory: lazy, with the same result as a pass over all points for each choice.

use super::bounds::Bounds;
use super::clusters::Clusters;
use super::outlines::Outlines;
use super::{Watch, go_on};
use crate::error::Result;

/// A point, and its squared distance to the nearest centre.
#[derive(Clone, Copy)]
pub struct Far {
    pub square: f32,
    pub point: u32,
}

impl Far {
    pub const NONE: Self = Self { square: f32::NEG_INFINITY, point: u32::MAX };

    /// Whether it comes before another: farther, or as far with a lower number.
    pub fn is_before(&self, other: &Self) -> bool {
        self.square > other.square || (self.square == other.square && self.point < other.point)
    }
}

/// Upper bounds of every point's distance to its nearest centre.
pub trait Search {
    /// The farthest point from all centres.
    fn farthest(&mut self) -> Far;

    /// Makes a point a centre.
    fn choose(&mut self, point: u32);
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
    let mut search: Box<dyn Search> = match Outlines::of(x, d)? {
        Some(outlines) => Box::new(Clusters::around((x, d), start as u32, outlines)),
        None => Box::new(Bounds::around((x, d), start as u32)),
    };
    (index[0], distance[0]) = (start as u32, 0.0);
    for at in 1..index.len() {
        go_on(watch, at)?;
        let Far { square, point } = search.farthest();
        (index[at], distance[at]) = (point, square.sqrt());
        search.choose(point);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::{Bounds, Search, on_host};

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

    /// What both searches choose, which has to be the same.
    fn chosen(x: &[f32], d: usize, start: usize, count: usize) -> Vec<u32> {
        let (mut index, mut distance) = (vec![0; count], vec![0.0; count]);
        on_host((x, d), start, &mut index, &mut distance, &mut |_| ControlFlow::Continue(())).expect("points enough");
        let mut search = Bounds::around((x, d), start as u32);
        for at in 1..count {
            let far = search.farthest();
            assert_eq!((far.point, far.square.sqrt().to_bits()), (index[at], distance[at].to_bits()), "number {at}");
            search.choose(far.point);
        }
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
        // Those of few elements in clusters, 5,000 of them in several around the first centre; 20,000 in several scans.
        let cases =
            [(600, 1, 50), (600, 2, 4), (5000, 3, 30), (20_000, 2, 40), (600, 17, 9), (600, 40, 100), (3000, 152, 30)];
        for (m, d, most) in cases {
            let x = whole(m * d, most, d as u32);
            assert_eq!(chosen(&x, d, 7, 300), by_definition(&x, d, 7, 300), "{m} of {d} elements below {most}");
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
