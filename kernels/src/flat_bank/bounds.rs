//! What a first pass in 16-bit integers says of the distances of queries to the vectors of a panel.
//!
//! Of the bank vectors b, centred like the query q, those are nearest whose q.b - |b|^2 / 2 is largest:
//! |q - b|^2 = |q|^2 - 2 (q.b - |b|^2 / 2). The integers give it up to an error of at most
//!
//! `E = |q| e_b + e_q (|b| + 3 e_b) + 2^-20 (|q| + |b|)^2`
//!
//! with the quantisation errors e of panels.rs (Cauchy and Schwarz), the last term for what f32 rounds.

use std::cmp::Ordering;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::panels::{Panels, Scale, quantise_queries};
use super::tile::{ROWS, Sums};
use crate::device::Reused;
use crate::simd::{LANES, Lanes, lanes_fn};

/// Bound of what f32 rounds, relative to (|q| + |b|)^2.
const ROUNDING: f32 = 1.0 / (1 << 20) as f32;
/// Bound of what results that are flushed to 0 lose: there are six of them at most.
const FLUSHED: f32 = 8.0 * f32::MIN_POSITIVE;

/// Queries that pass the bank together.
pub(super) struct Queries<'a> {
    /// Row by row, as they came.
    pub values: &'a [f32],
    pub count: usize,
    /// Integers, `[group][pair][ROWS][2]`.
    pub groups: Reused<i16>,
    pub scales: Reused<GroupScale>,
}

/// Scales of the queries of a group, the first [`ROWS`] of whole registers; zeros where there is none.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct GroupScale {
    steps: [f32; LANES],
    /// |q|.
    norms: [f32; LANES],
    /// e_q.
    errors: [f32; LANES],
}

impl GroupScale {
    fn set(&mut self, m: usize, s: Scale) {
        (self.steps[m], self.norms[m], self.errors[m]) = (s.step, s.norm as f32, s.error as f32);
    }

    /// The largest E of queries from `at` on with any vector of a panel.
    ///
    /// # Safety
    /// The CPU has the set of `L`; `at` is a multiple of its width, below [`LANES`].
    #[inline(always)]
    unsafe fn error<L: Lanes>(&self, panel: &PanelScale, at: usize) -> L {
        // SAFETY: the caller's set; the arrays have LANES elements, a multiple of any width.
        unsafe {
            let (norms, errors) = (L::load(self.norms.as_ptr().add(at)), L::load(self.errors.as_ptr().add(at)));
            let [error, length, norm] = panel.largest.map(|v| L::splat(v));
            let rounded = norms.add(norm);
            let error = norms.mul_add(error, errors.mul(length));
            rounded.mul(rounded).mul_add(L::splat(ROUNDING), error).add(L::splat(FLUSHED))
        }
    }
}

impl<'a> Queries<'a> {
    /// Quantises all elements of queries.
    pub fn new(panels: &Panels, values: &'a [f32]) -> Self {
        let (d, mean) = (panels.dimension(), panels.mean());
        let (count, group_len) = (values.len() / d, d.next_multiple_of(2) * ROWS);
        let mut groups = Reused::filled(count.div_ceil(ROWS) * group_len, 0);
        let mut scales = Reused::filled(count.div_ceil(ROWS), GroupScale::default());
        let parts = groups.par_chunks_exact_mut(group_len).zip(values.par_chunks(ROWS * d)).zip(scales.par_iter_mut());
        parts.for_each(|((to, from), group)| {
            quantise_queries(from, d, mean, to, |m, scale| group.set(m, scale));
        });
        Self { values, count, groups, scales }
    }

    /// The values of query `q`.
    pub fn query(&self, q: usize) -> &'a [f32] {
        let d = self.values.len() / self.count;
        &self.values[q * d..(q + 1) * d]
    }
}

/// What the first pass needs of the vectors of a panel.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct PanelScale {
    steps: [f32; LANES],
    /// |b|^2 / 2; infinite where there is no vector.
    half_squares: [f32; LANES],
    /// The largest e_b, |b| + 3 e_b and |b|.
    largest: [f32; 3],
}

impl PanelScale {
    pub fn new(scales: &[Scale]) -> Self {
        let (mut steps, mut half_squares) = ([0.0; LANES], [f32::INFINITY; LANES]);
        for (n, s) in scales.iter().enumerate() {
            (steps[n], half_squares[n]) = (s.step, (s.norm * s.norm / 2.0) as f32);
        }
        // What is no number stays: then all vectors of the panel are candidates.
        let largest = |of: fn(&Scale) -> f64| {
            scales.iter().map(of).fold(0.0, |a: f64, v| if a.is_nan() || v < a { a } else { v }) as f32
        };
        Self {
            steps,
            half_squares,
            largest: [largest(|s| s.error), largest(|s| s.norm + 3.0 * s.error), largest(|s| s.norm)],
        }
    }

    /// Values of q.b - |b|^2 / 2 of lanes from `at` on, of the products of integers, and of the step of a query.
    ///
    /// # Safety
    /// `at` is a multiple of the width of `L`, below [`LANES`].
    #[inline(always)]
    unsafe fn values<L: Lanes>(&self, product: L, step: L, at: usize) -> L {
        // SAFETY: a value of `L` proves its set; the arrays have LANES elements, a multiple of any width.
        unsafe {
            let product = product.mul(step).mul(L::load(self.steps.as_ptr().add(at)));
            product.sub(L::load(self.half_squares.as_ptr().add(at)))
        }
    }
}

/// What a tile says of q.b - |b|^2 / 2.
#[derive(Default)]
pub(super) struct Estimate {
    pub values: [[f32; LANES]; ROWS],
    /// The largest E of a query with any vector of the panel, of the first [`ROWS`] of whole registers.
    pub errors: [f32; LANES],
}

lanes_fn! {
    /// Estimates for a tile; bit m of the answer says whether query m has an upper bound not below its `least`.
    pub(super) fn estimate<L>(sums: &Sums, group: &GroupScale, panel: &PanelScale, least: &[f32; ROWS], to: &mut Estimate) -> u32 {
        let mut near = 0;
        for at in (0..ROWS).step_by(L::WIDTH) {
            // SAFETY: errors have LANES elements, a multiple of any width. `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe { group.error::<L>(panel, at).store(to.errors.as_mut_ptr().add(at)) };
        }
        for m in 0..ROWS {
            // SAFETY: sums, scales and estimates have LANES elements, a multiple of any width. `lanes_fn` runs this
            // only on CPUs with the set of `L`.
            let largest = unsafe {
                let step = L::splat(group.steps[m]);
                let mut largest = L::splat(f32::NEG_INFINITY);
                for at in (0..LANES).step_by(L::WIDTH) {
                    let value = panel.values(L::load_i32(sums[m].as_ptr().add(at)), step, at);
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
pub(super) fn may_be_near(upper: f32, least: f32) -> bool {
    !matches!(upper.partial_cmp(&least), Some(Ordering::Less))
}
