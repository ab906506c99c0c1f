//! The bank in host memory, and how its vectors and the queries become 16-bit integers.
//!
//! Vectors lie in panels of 16, `[panel][pair][16][2]`: a step of the register tile (tile.rs) takes two
//! elements of each. This is their only copy; a panel is widened and quantised when a search comes to it.
//!
//! A vector x is centred on the bank's mean, v = x - mean, which changes no distance but makes inner
//! products small beside them, and quantised with a step of its own, v = step * n + e with whole numbers n.
//! The step is |v| / limit with limit = sqrt(2^31) - (1 + sqrt(d) / 2), so that |n| <= sqrt(2^31) for any
//! vector and, by Cauchy and Schwarz, the sum of d products of two such vectors fits 32 bits. The error |e|
//! is measured, not estimated: it bounds what a search must look at again (bounds.rs).

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::tile::ROWS;
use crate::bank_data::BankData;
use crate::device::Reused;
use crate::simd::{LANES, simd_fn};

/// Added to a number below 2^22 it leaves the nearest whole number in the low bits (1.5 * 2^23).
const ROUND: f32 = 12_582_912.0;

/// What the integers of a vector stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Integers of one unit.
    pub inverse: f32,
    /// 1 / inverse.
    pub step: f32,
    /// |v|.
    pub norm: f64,
    /// |e|.
    pub error: f64,
}

/// Elements in panels.
#[derive(Clone, Debug)]
enum Elements {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

/// A bank in host memory.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    vectors: usize,
    d: usize,
    elements: Elements,
    /// Mean of all vectors, padded to whole pairs.
    mean: Vec<f32>,
    /// One for each vector.
    scales: Vec<Scale>,
}

/// Elements of a panel of vectors of `d` elements.
fn panel_len(d: usize) -> usize {
    d.next_multiple_of(2) * LANES
}

/// Lays rows of `d` elements out in panels.
fn pack<T: Copy + Default + Send + Sync>(rows: &[T], d: usize) -> Vec<T> {
    let mut packed = vec![T::default(); (rows.len() / d).div_ceil(LANES) * panel_len(d)];
    packed.par_chunks_exact_mut(panel_len(d)).zip(rows.par_chunks(LANES * d)).for_each(|(panel, rows)| {
        for (lane, row) in rows.chunks_exact(d).enumerate() {
            for (pair, values) in row.chunks(2).enumerate() {
                let at = (pair * LANES + lane) * 2;
                panel[at..at + values.len()].copy_from_slice(values);
            }
        }
    });
    packed
}

/// One vector of a panel.
fn lane<T: Copy>(panel: &[T], lane: usize, d: usize) -> impl Iterator<Item = T> {
    panel.as_chunks::<{ 2 * LANES }>().0.iter().flat_map(move |step| [step[2 * lane], step[2 * lane + 1]]).take(d)
}

/// Mean of rows, summed in f64; padded to whole pairs.
pub(super) fn mean(data: &BankData, d: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; d.next_multiple_of(2)];
    let mut wide = vec![0.0; d];
    let mut add = |row: &[f32]| sums.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
    let rows = match data {
        BankData::F32(v) => {
            v.chunks_exact(d).for_each(add);
            v.len() / d
        }
        BankData::F16(v) => {
            for row in v.chunks_exact(d) {
                row.convert_to_f32_slice(&mut wide);
                add(&wide);
            }
            v.len() / d
        }
    };
    sums.into_iter().map(|s| (s / rows as f64) as f32).collect()
}

simd_fn! {
    /// Integers of the vectors of a panel.
    fn quantise_panel(panel: &[f32], mean: &[f32], inverse: &[f32; LANES], to: &mut [i16]) {
        let steps = panel.as_chunks::<{ 2 * LANES }>().0.iter().zip(to.as_chunks_mut::<{ 2 * LANES }>().0);
        for ((from, to), mean) in steps.zip(mean.as_chunks::<2>().0) {
            for n in 0..LANES {
                for j in 0..2 {
                    to[2 * n + j] = whole((from[2 * n + j] - mean[j]) * inverse[n]);
                }
            }
        }
    }
}

/// The nearest whole number of a number between -32767 and 32767.
#[inline(always)]
fn whole(v: f32) -> i16 {
    (v + ROUND).to_bits() as i16
}

/// Partial sums of a loop over elements.
const SUMS: usize = 8;

simd_fn! {
    /// Sum of squares and largest magnitude.
    fn magnitude(v: &[f32]) -> (f64, f32) {
        let (mut squares, mut largest) = ([0.0f64; SUMS], [0.0f32; SUMS]);
        let (whole, rest) = v.as_chunks::<SUMS>();
        let mut last = [0.0; SUMS];
        last[..rest.len()].copy_from_slice(rest);
        for v in whole.iter().chain([&last]) {
            for n in 0..SUMS {
                squares[n] += f64::from(v[n]) * f64::from(v[n]);
                largest[n] = largest[n].max(v[n].abs());
            }
        }
        (squares.iter().sum(), largest.iter().copied().fold(0.0, f32::max))
    }
}

simd_fn! {
    /// Integers of a centred vector, and the sum of squares of what they leave; both have whole [`SUMS`].
    fn quantise(v: &[f32], inverse: f32, step: f32, to: &mut [i16]) -> f64 {
        let mut squares = [0.0f64; SUMS];
        for (v, to) in v.as_chunks::<SUMS>().0.iter().zip(to.as_chunks_mut::<SUMS>().0) {
            for n in 0..SUMS {
                to[n] = whole(v[n] * inverse);
                let left = f64::from(v[n]) - f64::from(step) * f64::from(to[n]);
                squares[n] += left * left;
            }
        }
        squares.iter().sum()
    }
}

/// A centred vector and its integers, with zeros up to whole [`SUMS`].
struct Quantised {
    centred: Reused<f32>,
    integers: Reused<i16>,
}

impl Quantised {
    fn new(d: usize) -> Self {
        let len = d.next_multiple_of(SUMS);
        Self { centred: Reused::filled(len, 0.0), integers: Reused::filled(len, 0) }
    }

    /// Takes the next vector.
    fn take(&mut self, vector: impl Iterator<Item = f32>, mean: &[f32]) -> Scale {
        self.centred.iter_mut().zip(vector.zip(mean)).for_each(|(to, (v, m))| *to = v - m);
        let (square, largest) = magnitude(&self.centred);
        let norm = square.sqrt();
        let limit = (2f64.powi(31).sqrt() - 1.0 - (self.centred.len() as f64).sqrt() / 2.0).max(1.0);
        // The margin is for the rounding of `inverse` itself.
        let inverse = ((limit / norm).min(32_766.0 / f64::from(largest)) * (1.0 - 1e-6)) as f32;
        // A vector of zeros, or of numbers too small for a scale, is all error.
        let inverse = if inverse.is_finite() && inverse.recip().is_normal() { inverse } else { 0.0 };
        let step = if inverse > 0.0 { inverse.recip() } else { 0.0 };
        let error = quantise(&self.centred, inverse, step, &mut self.integers).sqrt();
        Scale { inverse, step, norm, error }
    }
}

impl Panels {
    /// Lays rows of `d` elements out.
    pub fn new(data: &BankData, d: usize) -> Self {
        let mean = mean(data, d);
        let room = || Quantised::new(d);
        let (elements, scales): (_, Vec<Scale>) = match data {
            BankData::F32(v) => {
                let scale = |q: &mut Quantised, row: &[f32]| q.take(row.iter().copied(), &mean);
                (Elements::F32(pack(v, d)), v.par_chunks(d).map_init(room, scale).collect())
            }
            BankData::F16(v) => {
                let scale = |q: &mut Quantised, row: &[f16]| q.take(row.iter().map(|v| v.to_f32()), &mean);
                (Elements::F16(pack(v, d)), v.par_chunks(d).map_init(room, scale).collect())
            }
        };
        Self { vectors: scales.len(), d, elements, mean, scales }
    }

    /// Elements of a vector.
    pub fn dimension(&self) -> usize {
        self.d
    }

    /// Vectors.
    pub fn vectors(&self) -> usize {
        self.vectors
    }

    /// Scales of the vectors of panel `p`.
    pub fn scales(&self, p: usize) -> &[Scale] {
        &self.scales[p * LANES..((p + 1) * LANES).min(self.vectors)]
    }

    /// Panels of 16 vectors, the last perhaps not full.
    pub fn panels(&self) -> usize {
        self.vectors.div_ceil(LANES)
    }

    /// All vectors, row by row.
    pub fn rows(&self) -> BankData {
        match &self.elements {
            Elements::F16(v) => BankData::F16(self.unpack(v)),
            Elements::F32(v) => BankData::F32(self.unpack(v)),
        }
    }

    fn unpack<T: Copy>(&self, packed: &[T]) -> Vec<T> {
        let mut rows = Vec::with_capacity(self.vectors * self.d);
        (0..self.vectors).for_each(|i| rows.extend(self.lane_of(packed, i)));
        rows
    }

    fn lane_of<'a, T: Copy>(&self, packed: &'a [T], i: usize) -> impl Iterator<Item = T> + use<'a, T> {
        lane(self.panel(packed, i / LANES), i % LANES, self.d)
    }

    /// Appends vector `i`, widened.
    pub fn read(&self, i: usize, to: &mut [f32]) {
        match &self.elements {
            Elements::F16(v) => to.iter_mut().zip(self.lane_of(v, i)).for_each(|(to, v)| *to = v.to_f32()),
            Elements::F32(v) => to.iter_mut().zip(self.lane_of(v, i)).for_each(|(to, v)| *to = v),
        }
    }

    /// Squared Euclidean distance of a query to vector `i`, in f64.
    pub fn square(&self, query: &[f32], i: usize) -> f64 {
        match &self.elements {
            Elements::F16(v) => square(query, self.panel(v, i / LANES), i % LANES, f16::to_f64),
            Elements::F32(v) => square(query, self.panel(v, i / LANES), i % LANES, f64::from),
        }
    }

    fn panel<'a, T>(&self, packed: &'a [T], p: usize) -> &'a [T] {
        &packed[p * panel_len(self.d)..(p + 1) * panel_len(self.d)]
    }

    /// Writes the integers of panel `p` to `to`; `wide` is room for a panel.
    pub fn quantise(&self, p: usize, wide: &mut [f32], to: &mut [i16]) {
        let mut inverse = [0.0; LANES];
        inverse.iter_mut().zip(&self.scales[p * LANES..]).for_each(|(to, s)| *to = s.inverse);
        match &self.elements {
            Elements::F16(v) => {
                self.panel(v, p).convert_to_f32_slice(wide);
                quantise_panel(wide, &self.mean, &inverse, to);
            }
            Elements::F32(v) => quantise_panel(self.panel(v, p), &self.mean, &inverse, to),
        }
    }

    /// Elements of a panel.
    pub fn panel_len(&self) -> usize {
        panel_len(self.d)
    }

    /// Mean of all vectors, with whole pairs.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }
}

/// Writes the integers `[pair][ROWS][2]` of up to [`ROWS`] queries of `d` elements, less `mean`, to `to` and tells the number and
/// scale of each; those of missing queries stay as they are.
pub(super) fn quantise_queries(
    queries: &[f32],
    d: usize,
    mean: &[f32],
    to: &mut [i16],
    mut each: impl FnMut(usize, Scale),
) {
    let mut quantised = Quantised::new(d);
    for (m, query) in queries.chunks_exact(d).enumerate() {
        let scale = quantised.take(query.iter().copied(), mean);
        let pairs = quantised.integers.as_chunks::<2>().0;
        to.as_chunks_mut::<{ 2 * ROWS }>().0.iter_mut().zip(pairs).for_each(|(to, pair)| {
            to[2 * m..2 * m + 2].copy_from_slice(pair);
        });
        each(m, scale);
    }
}

/// Sum of squared differences to a vector of a panel, in f64.
fn square<T: Copy>(query: &[f32], panel: &[T], lane: usize, wide: impl Fn(T) -> f64) -> f64 {
    let steps = panel.as_chunks::<{ 2 * LANES }>().0;
    let (pairs, last) = query.as_chunks::<2>();
    let square = |q: f32, v: T| (f64::from(q) - wide(v)).powi(2);
    // Sums of their own, which do not wait for each other.
    let mut sums = [[0.0; 2]; 2];
    for (i, (q, step)) in pairs.iter().zip(steps).enumerate() {
        sums[i % 2][0] += square(q[0], step[2 * lane]);
        sums[i % 2][1] += square(q[1], step[2 * lane + 1]);
    }
    let last: f64 = last.iter().map(|q| square(*q, steps[pairs.len()][2 * lane])).sum();
    (sums[0][0] + sums[1][0]) + (sums[0][1] + sums[1][1]) + last
}
