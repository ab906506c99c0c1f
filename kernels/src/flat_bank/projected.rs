//! What the coordinates of vectors in some directions say of their distances.
//!
//! Of the bank vectors b, centred like the query q, those are nearest whose q.b - |b|^2 / 2 is largest:
//! |q - b|^2 = |q|^2 - 2 (q.b - |b|^2 / 2). With the coordinates c in some of the directions of basis.rs and the lengths r of
//! what lies beyond them,
//!
//! `q.b - |b|^2 / 2 <= c_q.c_b + r_q r_b - |b|^2 / 2 + E`, `E = e (|q| + |b|)^2 <= 2 e |q|^2 + 2 e |b|^2`
//!
//! with e for what f32 rounds. The part of E that is of b is in what the sum begins with, the part of q is taken from what is
//! asked of it, so that a bound is one multiply-add for each direction and one for the rest.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::basis::{Basis, Coordinates, MOST_SQUARE, upwards};
use crate::device::{HostBuffer, Reused};
use crate::simd::{LANES, Lanes, lanes_fn};

/// Queries that are looked at together.
pub(super) const ROWS: usize = 6;
/// Panels that a register tile takes at once at most ([`Lanes::PANELS`]); there are whole ones.
pub(super) const PANELS: usize = 2;
/// Bound of what rounds but for sums and coordinates: centring, and what is asked of a bound.
pub(super) const ROUNDING: f64 = 1.0 / (1 << 20) as f64;
/// Bound of what results that are flushed to 0 lose: there are two for each direction, and some.
pub(super) const FLUSHED: f64 = 1024.0 * f32::MIN_POSITIVE as f64;

/// Bounds of a group with a panel.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Tile {
    pub bounds: [[f32; LANES]; ROWS],
    /// Bit m says whether query m has one that is not below its `least`.
    pub near: u32,
}

/// The vectors of a bank in the first of its directions.
#[derive(Clone, Debug)]
pub(super) struct Projected {
    /// Directions.
    count: usize,
    /// `[panel][1 + count + 1][LANES]`: what the sum begins with, coordinates, length of the rest.
    panels: HostBuffer<f32>,
    /// e.
    rounding: f64,
}

/// Some queries in the same directions.
pub(super) struct ProjectedQueries {
    /// `[group][count + 1][ROWS]`: coordinates, length of the rest; zeros where there is no query.
    groups: Reused<f32>,
    group_len: usize,
}

impl Projected {
    /// Of vectors in an order.
    pub fn new(basis: &Basis, coordinates: &Coordinates, order: &[u32], count: usize) -> Self {
        let rounding = basis.rounding() + (count + 2) as f64 / f64::from(1 << 24) + ROUNDING;
        let len = (count + 2) * LANES;
        let mut panels = HostBuffer::uninit(order.len().div_ceil(LANES).next_multiple_of(PANELS) * len);
        panels.fill(0.0);
        panels.chunks_exact_mut(len).for_each(|panel| panel[..LANES].fill(f32::NEG_INFINITY));
        panels.par_chunks_exact_mut(len).zip(order.par_chunks(LANES)).for_each(|(panel, numbers)| {
            for (lane, vector) in numbers.iter().enumerate() {
                let (square, of_vector) = coordinates.of(*vector as usize);
                panel[lane] = upwards(-square / 2.0 * (1.0 - 4.0 * rounding));
                let rest = basis.rest(square, &of_vector[..count]);
                let from = of_vector[..count].iter().chain([&rest]);
                panel[LANES..].iter_mut().skip(lane).step_by(LANES).zip(from).for_each(|(to, v)| *to = *v);
            }
        });
        Self { count, panels, rounding }
    }

    /// Values of a panel.
    pub fn panel_len(&self) -> usize {
        (self.count + 2) * LANES
    }

    /// A panel: what sums begin with, coordinates, lengths of the rest.
    pub fn panel(&self, number: usize) -> &[f32] {
        &self.panels[number * self.panel_len()..][..self.panel_len()]
    }

    /// e.
    pub fn rounding(&self) -> f64 {
        self.rounding
    }

    /// Panels of 16 vectors, whole [`PANELS`]: the last perhaps not full, or empty.
    pub fn panels(&self) -> usize {
        self.panels.len() / self.panel_len()
    }

    /// Queries in these directions, in an order.
    pub fn queries(&self, basis: &Basis, coordinates: &Coordinates, order: &[u32]) -> ProjectedQueries {
        let group_len = (self.count + 1) * ROWS;
        let mut groups = Reused::filled(order.len().div_ceil(ROWS) * group_len, 0.0);
        groups.par_chunks_exact_mut(group_len).zip(order.par_chunks(ROWS)).for_each(|(group, queries)| {
            for (m, query) in queries.iter().enumerate() {
                let (square, of_query) = coordinates.of(*query as usize);
                let rest = basis.rest(square, &of_query[..self.count]);
                let from = of_query[..self.count].iter().chain([&rest]);
                group.iter_mut().skip(m).step_by(ROWS).zip(from).for_each(|(to, v)| *to = *v);
            }
        });
        ProjectedQueries { groups, group_len }
    }

    /// A number that, of a query of squared length `query`, no bound of a vector as near as the square root of `distance` is below, in
    /// these directions or the first of them.
    pub fn least(&self, query: f64, distance: f64) -> f32 {
        // All vectors may be near a query that is too long for bounds in f32, or that is no number.
        if query < MOST_SQUARE {
            ((query - distance) / 2.0 - 2.0 * self.rounding * query - FLUSHED) as f32
        } else {
            f32::NEG_INFINITY
        }
    }

    /// Keeps those of some panels, whose numbers count from `first`, in which a bound of group `g` is not below the `least` of its
    /// query: brings their numbers to the beginning, and returns how many there are.
    pub fn keep_near(
        &self,
        (first, panels): (usize, &mut [u32]),
        queries: &ProjectedQueries,
        g: usize,
        least: &[f32; ROWS],
    ) -> usize {
        keep_near(&self.panels[first * self.panel_len()..], panels, queries.group(g), least)
    }

    /// The bounds of group `g` with panels, counted from `first`, one tile for each.
    pub fn bounds(
        &self,
        (first, panels): (usize, &[u32]),
        queries: &ProjectedQueries,
        g: usize,
        least: &[f32; ROWS],
        to: &mut [Tile],
    ) {
        bounds(&self.panels[first * self.panel_len()..], panels, queries.group(g), least, to);
    }
}

impl ProjectedQueries {
    pub fn group(&self, g: usize) -> &[f32] {
        &self.groups[g * self.group_len..(g + 1) * self.group_len]
    }
}

/// The bounds of a group `[steps][ROWS]` with [`Lanes::PANELS`] panels `[1 + steps][LANES]`.
///
/// # Safety
/// The CPU has the set of `L`, and `V` registers of it hold [`LANES`] values; `steps * ROWS` values can be read from `group` on, and
/// `(1 + steps) * LANES` from each of the first [`Lanes::PANELS`] panels on.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
pub(super) unsafe fn tile<L: Lanes, const V: usize>(
    group: *const f32,
    panels: [*const f32; PANELS],
    steps: usize,
) -> [[[L; V]; PANELS]; ROWS] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[[L::splat(0.0); V]; PANELS]; ROWS];
        for p in 0..L::PANELS {
            for v in 0..V {
                let start = L::load(panels[p].add(v * L::WIDTH));
                for m in 0..ROWS {
                    sums[m][p][v] = start;
                }
            }
        }
        for i in 0..steps {
            let mut vectors = [[L::splat(0.0); V]; PANELS];
            for p in 0..L::PANELS {
                for v in 0..V {
                    vectors[p][v] = L::load(panels[p].add((i + 1) * LANES + v * L::WIDTH));
                }
            }
            for m in 0..ROWS {
                let query = L::splat(*group.add(i * ROWS + m));
                for p in 0..L::PANELS {
                    for v in 0..V {
                        sums[m][p][v] = query.mul_add(vectors[p][v], sums[m][p][v]);
                    }
                }
            }
        }
        sums
    }
}

lanes_fn! {
    /// Brings the numbers of those panels to the beginning in which a bound of a group is not below the `least` of its query, and
    /// returns how many there are. What is no number is not below anything.
    #[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
    fn keep_near<L, V, R>(panels: &[f32], numbers: &mut [u32], group: &[f32], least: &[f32; ROWS]) -> usize {
        let steps = group.len() / ROWS;
        let len = (steps + 1) * LANES;
        let mut found = 0;
        for first in (0..numbers.len()).step_by(L::PANELS) {
            let (count, mut of_tile, mut at) = (L::PANELS.min(numbers.len() - first), [0; PANELS], [panels.as_ptr(); PANELS]);
            for p in 0..count {
                of_tile[p] = numbers[first + p];
                at[p] = panels[of_tile[p] as usize * len..][..len].as_ptr();
            }
            // SAFETY: the pointers are of whole panels, the first where one is missing; the group has `steps` steps. `lanes_fn` runs
            // this only on CPUs with the set of `L`.
            unsafe {
                let sums = tile::<L, V>(group.as_ptr(), at, steps);
                for p in 0..count {
                    let (mut is_near, one) = (L::splat(0.0), L::splat(1.0));
                    for m in 0..ROWS {
                        let least = L::splat(least[m]);
                        for v in 0..V {
                            is_near = least.above(sums[m][p][v], is_near, one);
                        }
                    }
                    // No more are found than were looked at.
                    numbers[found] = of_tile[p];
                    found += usize::from(is_near.any());
                }
            }
        }
        found
    }
}

lanes_fn! {
    /// Writes the bounds of a group with some of the panels, one tile for each.
    #[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
    fn bounds<L, V, R>(panels: &[f32], numbers: &[u32], group: &[f32], least: &[f32; ROWS], to: &mut [Tile]) {
        let steps = group.len() / ROWS;
        let len = (steps + 1) * LANES;
        assert!(to.len() >= numbers.len(), "a tile for each panel");
        for (numbers, to) in numbers.chunks(L::PANELS).zip(to.chunks_mut(L::PANELS)) {
            let mut at = [panels.as_ptr(); PANELS];
            for (i, number) in numbers.iter().enumerate() {
                at[i] = panels[*number as usize * len..][..len].as_ptr();
            }
            // SAFETY: the pointers are of whole panels, the first where one is missing; the group has `steps` steps; a row of a tile
            // has LANES elements. `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let sums = tile::<L, V>(group.as_ptr(), at, steps);
                for p in 0..L::PANELS.min(to.len()) {
                    let one = L::splat(1.0);
                    to[p].near = 0;
                    for m in 0..ROWS {
                        let (mut is_near, least) = (L::splat(0.0), L::splat(least[m]));
                        for v in 0..V {
                            sums[m][p][v].store(to[p].bounds[m].as_mut_ptr().add(v * L::WIDTH));
                            is_near = least.above(sums[m][p][v], is_near, one);
                        }
                        to[p].near |= u32::from(is_near.any()) << m;
                    }
                }
            }
        }
    }
}
