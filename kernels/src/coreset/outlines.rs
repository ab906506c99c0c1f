//! Lower bounds of distances, from a few numbers for each point.
//!
//! The outline of a point are its coordinates c in the directions in which points vary most (basis.rs), and g = sqrt(r^2 + k^2)
//! with the length r of what lies beyond them and a constant k. No two outlines are farther from each other than their points:
//! |c_p - c_q|^2 + (g_p - g_q)^2 <= |p - q|^2, as |g_p - g_q| <= |r_p - r_q|. With k of an eighth of the longest point g is
//! never small beside what f32 rounds in r^2, which is relative to the squared length of the point.

use rayon::prelude::*;

use crate::basis::{Basis, SAMPLE};
use crate::error::Result;
use crate::simd::{LANES, Lanes, lanes_fn};

/// Numbers of an outline.
const NUMBERS: usize = 16;
/// Share of the variance that the directions have to hold for outlines to be of use. Gaussian points, without any other
/// structure, took 1.0 to 1.2 times as long with clusters as without where they hold 0.7, and twice as long where they hold 0.5 (AVX-512).
const SHARE: f64 = 0.65;
/// Points whose coordinates are computed at once.
const AT_ONCE: usize = 8192;

/// The outline of a point.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Outline([f32; NUMBERS]);

/// Outlines of [`LANES`] points side by side.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Panel([[f32; LANES]; NUMBERS]);

impl Panel {
    pub fn set(&mut self, lane: usize, outline: &Outline) {
        self.0.iter_mut().zip(outline.0).for_each(|(to, v)| to[lane] = v);
    }
}

/// Of all points.
pub struct Outlines {
    each: Vec<Outline>,
    /// Of what f32 rounds in the distance of two outlines.
    rounding: f32,
}

impl Outlines {
    /// Of points `x` (`[m][d]`); none where the leading directions hold less than [`SHARE`] of the variance.
    ///
    /// # Errors
    /// When the points are more than a convolution takes.
    pub fn of(x: &[f32], d: usize) -> Result<Option<Self>> {
        let m = x.len() / d;
        let taken = m.min(SAMPLE);
        let sample: Vec<f32> = (0..taken).flat_map(|i| x[i * m / taken * d..][..d].iter().copied()).collect();
        let (basis, share) = Basis::first(&sample, d, NUMBERS - 1)?;
        // No number where all points are equal, or one is no number: either way serves.
        if share < SHARE {
            return Ok(None);
        }
        let mut squares = Vec::with_capacity(m);
        let mut each = vec![Outline::default(); m];
        for (x, each) in x.chunks(AT_ONCE * d).zip(each.chunks_mut(AT_ONCE)) {
            let coordinates = basis.coordinates(x)?;
            for (i, outline) in each.iter_mut().enumerate() {
                let (square, values) = coordinates.of(i);
                outline.0[..values.len()].copy_from_slice(values);
                squares.push(square);
            }
        }
        // A point that is no number has bounds that are none either, and needs no place in those of the others.
        let longest = squares.iter().copied().fold(0.0, f64::max).sqrt();
        let least = longest / 8.0;
        each.par_iter_mut().zip(&squares).for_each(|(outline, square)| {
            let known: f64 = outline.0.iter().map(|v| f64::from(*v).powi(2)).sum();
            outline.0[NUMBERS - 1] = ((square - known).max(0.0) + least.powi(2)).sqrt() as f32;
        });
        // Relative: of coordinates, and at least of the numbers themselves.
        let rounding = basis.rounding().max(4.0 / f64::from(1 << 24));
        // Of the coordinates, and of g: 3 times the rounding in r^2 (Basis::rest), over twice the least g.
        let of_one = rounding * (longest + 1.5 * longest.powi(2) / least.max(f64::MIN_POSITIVE));
        Ok(Some(Self { each, rounding: 2.0 * of_one as f32 }))
    }

    pub fn outline(&self, point: usize) -> &Outline {
        &self.each[point]
    }

    /// What the squared distance of two outlines cannot be above when that of their points is at most `square`:
    /// (s + e)^2 <= (1 + 1 / 32) s^2 + 33 e^2, and a little more for what the two squared distances round, and for what is flushed to 0.
    pub fn limit(&self, square: f32) -> f32 {
        square * (1.0 + 1.0 / 31.0) + 34.0 * self.rounding.powi(2) + f32::MIN_POSITIVE
    }
}

/// Squared distances of an outline to those of a panel, from lane `at` on, [`Lanes::WIDTH`] of them.
///
/// # Safety
/// The CPU has the set of `L`, and `at` is at most [`LANES`] less [`Lanes::WIDTH`].
#[inline(always)]
unsafe fn squares<L: Lanes>(outline: &Outline, panel: &Panel, at: usize) -> L {
    // SAFETY: the caller's.
    unsafe {
        let mut sum = L::splat(0.0);
        for (number, lanes) in outline.0.iter().zip(&panel.0) {
            let e = L::splat(*number).sub(L::load(lanes.as_ptr().add(at)));
            sum = e.mul_add(e, sum);
        }
        sum
    }
}

lanes_fn! {
    /// Appends the numbers of those outlines in panels, counted from `first`, that are not farther than `limit` from one.
    pub fn find_within<L>(outline: &Outline, panels: &[Panel], limit: f32, first: usize, found: &mut Vec<u32>) {
        for (p, panel) in panels.iter().enumerate() {
            for at in (0..LANES).step_by(L::WIDTH) {
                // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`, whose width divides LANES.
                let is_near = unsafe { squares::<L>(outline, panel, at).above(L::splat(limit), L::splat(0.0), L::splat(1.0)) };
                push_marked(is_near, first + p * LANES + at, found);
            }
        }
    }
}

/// Points that may be nearer to another than they are to their own centre.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Candidates {
    pub outlines: Panel,
    /// What the squared distance of outlines is not above if the points are nearer than what is known.
    pub limits: [f32; LANES],
    /// Likewise that of the centres; less than any distance where there is no point.
    pub spans: [f32; LANES],
}

impl Default for Candidates {
    fn default() -> Self {
        Self { outlines: Panel::default(), limits: [0.0; LANES], spans: [-1.0; LANES] }
    }
}

lanes_fn! {
    /// Appends the numbers of the candidates that may be nearer to the point of an outline, whose squared distance to their own
    /// centre is `between`. What is no number may be.
    pub fn find_candidates<L>(outline: &Outline, candidates: &[Candidates], between: f32, found: &mut Vec<u32>) {
        for (p, panel) in candidates.iter().enumerate() {
            for at in (0..LANES).step_by(L::WIDTH) {
                // SAFETY: as in `find_within`.
                let is_near = unsafe {
                    let (far, near) = (L::splat(0.0), L::splat(1.0));
                    let limit = L::load(panel.limits.as_ptr().add(at));
                    let is_within = squares::<L>(outline, &panel.outlines, at).above(limit, far, near);
                    L::splat(between).above(L::load(panel.spans.as_ptr().add(at)), far, is_within)
                };
                push_marked(is_near, p * LANES + at, found);
            }
        }
    }
}

/// Appends the numbers of the lanes that are not 0, counted from `first`.
#[inline(always)]
fn push_marked<L: Lanes>(marks: L, first: usize, found: &mut Vec<u32>) {
    if marks.any() {
        let mut each = [0.0; LANES];
        marks.write(&mut each[..L::WIDTH]);
        found.extend((0..L::WIDTH).filter(|lane| each[*lane] != 0.0).map(|lane| (first + lane) as u32));
    }
}
