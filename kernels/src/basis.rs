//! The directions in which vectors vary most.
//!
//! Elements of feature vectors depend on each other: of the 152 of EfficientNet-Lite0's, 60 directions hold 95 % of the variance
//! of real patches, and 15 of them 75 %. With orthonormal directions O, the coordinates c = O^T v of a centred vector v, and the length
//! `r = sqrt(|v|^2 - |c|^2)` of the rest, q.b = c_q.c_b + rest with |rest| <= r_q r_b (Cauchy and Schwarz). The bound holds for
//! any orthonormal directions; those of largest variance make it small. They are found by orthogonal iteration (Golub and Van
//! Loan, "Matrix Computations", section 8.2.4) on the covariance of some of the vectors.

use rayon::prelude::*;

use crate::activation::Activation;
use crate::conv::{ConvOptions, conv2d};
use crate::covariance::moments;
use crate::device::{Device, HostBuffer, Reused};
use crate::error::Result;

/// Vectors that directions are chosen by, at most.
pub(crate) const SAMPLE: usize = 8192;
/// Share of the variance that directions hold. Less leaves more to measure, more is slower to look at.
const SHARE: f64 = 0.95;
/// What the most directions have to hold where that takes more.
const LEAST_SHARE: f64 = 0.9;
/// Share of the variance that the leading directions hold, which all vectors are looked at in.
const LEADING_SHARE: f64 = 0.75;
/// Directions at most.
const MOST_DIRECTIONS: usize = 256;
const ITERATIONS: usize = 4;
/// Squared lengths of vectors: far from where f32 rounds to 0 on average, and from where it overflows.
const LEAST_SQUARE: f64 = 1e-20;
pub(crate) const MOST_SQUARE: f64 = 1e36;

/// Orthonormal directions about a mean.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    /// `[d]`.
    mean: Vec<f32>,
    /// `[count][d]`.
    directions: Vec<f32>,
    count: usize,
    /// How many of them hold [`LEADING_SHARE`].
    leading: usize,
    /// Bound of what f32 rounds in coordinates, relative to the length of a vector: of a sum of d products, and of directions
    /// that are rounded themselves.
    rounding: f64,
}

/// Coordinates of vectors `[n][count]`, and the sum of squares of each vector.
pub(crate) struct Coordinates {
    pub values: HostBuffer<f32>,
    pub squares: Reused<f64>,
}

impl Coordinates {
    /// Vectors.
    pub fn len(&self) -> usize {
        self.squares.len()
    }

    /// Sum of squares and coordinates of a vector.
    pub fn of(&self, vector: usize) -> (f64, &[f32]) {
        let count = self.values.len() / self.len();
        (self.squares[vector], &self.values[vector * count..(vector + 1) * count])
    }
}

impl Basis {
    /// Of a sample of vectors about a mean, where most of the variance is in at most half as many directions as there are elements,
    /// and in [`MOST_DIRECTIONS`]; none for others, and where something is no number.
    ///
    /// # Errors
    /// When the vectors are more than a convolution takes.
    pub fn of(sample: &[f32], mean: Vec<f32>) -> Result<Option<Self>> {
        let d = mean.len();
        let variances = Variances::of(sample, &mean, MOST_DIRECTIONS.min(d / 2))?;
        let is_usual = variances.total / (sample.len() / d) as f64 > LEAST_SQUARE && variances.total < MOST_SQUARE;
        let enough =
            variances.holding(SHARE).or_else(|| variances.holding(LEAST_SHARE).map(|_| variances.lengths.len()));
        let counts = enough.filter(|_| is_usual).zip(variances.holding(LEADING_SHARE));
        Ok(counts.map(|(count, leading)| Self::new(mean, &variances.directions[..count * d], leading)))
    }

    /// The first directions of a sample of vectors of `d` elements about their mean, `most` where there are so many, and the share of
    /// the variance that they hold.
    ///
    /// # Errors
    /// As for [`Basis::of`].
    pub fn first(sample: &[f32], d: usize, most: usize) -> Result<(Self, f64)> {
        let mut sums = vec![0.0f64; d];
        sample.chunks_exact(d).for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v)));
        let mean: Vec<f32> = sums.into_iter().map(|sum| (sum / (sample.len() / d) as f64) as f32).collect();
        let variances = Variances::of(sample, &mean, most.min(d))?;
        let share = variances.lengths.iter().sum::<f64>() / variances.total;
        Ok((Self::new(mean, &variances.directions, variances.lengths.len()), share))
    }

    fn new(mean: Vec<f32>, directions: &[f64], leading: usize) -> Self {
        let d = mean.len();
        let count = directions.len() / d;
        Self {
            mean,
            directions: directions.iter().map(|v| *v as f32).collect(),
            count,
            leading,
            rounding: (count as f64).sqrt() * (d + 2) as f64 / f64::from(1 << 24),
        }
    }

    /// How many directions there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of them, from the first on, hold most of the variance.
    pub fn leading(&self) -> usize {
        self.leading
    }

    /// Bound of what f32 rounds in products of coordinates, relative to the squared sum of the lengths of both vectors.
    pub fn rounding(&self) -> f64 {
        self.rounding
    }

    /// Coordinates of vectors `[n][d]`.
    ///
    /// # Errors
    /// When they are more than a convolution takes.
    pub fn coordinates(&self, vectors: &[f32]) -> Result<Coordinates> {
        let d = self.mean.len();
        let n = vectors.len() / d;
        let mut centred = Reused::uninit(vectors.len());
        let mut squares = Reused::uninit(n);
        let parts = centred.par_chunks_exact_mut(d).zip(vectors.par_chunks_exact(d)).zip(squares.par_iter_mut());
        parts.for_each(|((to, from), square)| {
            to.iter_mut().zip(from.iter().zip(&self.mean)).for_each(|(to, (v, m))| *to = v - m);
            *square = to.iter().map(|v| f64::from(*v).powi(2)).sum();
        });
        let mut values = HostBuffer::uninit(n * self.count);
        let (x, w) = ([1, n, 1, d], [self.count, 1, 1, d]);
        conv2d(
            &centred[..],
            x,
            &self.directions,
            w,
            None,
            ConvOptions::default(),
            Activation::Identity,
            &mut values[..],
        )?;
        Ok(Coordinates { values, squares })
    }

    /// A bound in f32 of the length of what lies beyond some directions, of a vector's sum of squares and its coordinates.
    pub fn rest(&self, square: f64, coordinates: &[f32]) -> f32 {
        let known: f64 = coordinates.iter().map(|v| f64::from(*v).powi(2)).sum();
        let rest = (square - known).max(0.0) + 3.0 * self.rounding * square;
        // What is no number has to stay so: `max` would make a 0 of it.
        if square.is_finite() && known.is_finite() { upwards(rest.sqrt()) } else { f32::NAN }
    }
}

/// A bound in f32 that is no smaller.
pub(crate) fn upwards(bound: f64) -> f32 {
    (bound + bound.abs() * 1e-6) as f32
}

/// How vectors vary about a mean.
struct Variances {
    /// Of all elements together.
    total: f64,
    /// Orthonormal, `[..][d]`.
    directions: Vec<f64>,
    /// Along each of the directions, about descending.
    lengths: Vec<f64>,
}

impl Variances {
    /// In at most `most` directions.
    fn of(sample: &[f32], mean: &[f32], most: usize) -> Result<Self> {
        let d = mean.len();
        let (_, products) = moments(sample, mean, &Device::CPU)?;
        let products = products.into_vec()?;
        let total = products.iter().step_by(d + 1).map(|v| f64::from(*v)).sum();
        let (directions, lengths) = dominant(&products, d, most);
        Ok(Self { total, directions, lengths })
    }

    /// How many of the directions hold a share of the variance.
    fn holding(&self, share: f64) -> Option<usize> {
        let mut held = 0.0;
        let last = self.lengths.iter().position(|length| {
            held += length;
            held >= share * self.total
        });
        last.map(|last| last + 1)
    }
}

/// Up to `count` orthonormal directions `[..][d]` that a symmetric matrix `[d][d]` makes longest, and how much longer, about
/// descending.
fn dominant(matrix: &[f32], d: usize, count: usize) -> (Vec<f64>, Vec<f64>) {
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|a, b| matrix[b * (d + 1)].total_cmp(&matrix[a * (d + 1)]));
    let mut directions = vec![0.0; count * d];
    directions.chunks_exact_mut(d).zip(order).for_each(|(direction, at)| direction[at] = 1.0);
    for _ in 0..ITERATIONS {
        directions = multiplied(matrix, &directions, d);
        let independent = orthonormalise(&mut directions, d);
        directions.truncate(independent * d);
    }
    let images = multiplied(matrix, &directions, d);
    let lengths = directions.chunks_exact(d).zip(images.chunks_exact(d)).map(|(a, b)| dot(a, b)).collect();
    (directions, lengths)
}

/// Each vector `[..][d]` times a symmetric matrix.
fn multiplied(matrix: &[f32], vectors: &[f64], d: usize) -> Vec<f64> {
    let mut images = vec![0.0; vectors.len()];
    images.par_chunks_exact_mut(d).zip(vectors.par_chunks_exact(d)).for_each(|(to, vector)| {
        for (row, factor) in matrix.chunks_exact(d).zip(vector) {
            to.iter_mut().zip(row).for_each(|(to, m)| *to += factor * f64::from(*m));
        }
    });
    images
}

/// Makes vectors `[..][d]` orthonormal, one after the other (Gram and Schmidt, twice), and returns how many: up to the first
/// that depends on those before it.
fn orthonormalise(vectors: &mut [f64], d: usize) -> usize {
    let count = vectors.len() / d;
    for i in 0..count {
        let (before, rest) = vectors.split_at_mut(i * d);
        let vector = &mut rest[..d];
        let whole = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for direction in before.chunks_exact(d) {
                let along = dot(direction, vector);
                vector.iter_mut().zip(direction).for_each(|(v, o)| *v -= along * o);
            }
        }
        let length = dot(vector, vector).sqrt();
        if !(length > 1e-9 * whole && length.is_finite()) {
            return i;
        }
        vector.iter_mut().for_each(|v| *v /= length);
    }
    count
}

/// Partial sums of a product of vectors, which do not wait for each other.
const SUMS: usize = 8;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (whole, rest) = a.as_chunks::<SUMS>();
    let (other, other_rest) = b.as_chunks::<SUMS>();
    let mut sums = [0.0; SUMS];
    for (a, b) in whole.iter().zip(other) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f64>() + rest.iter().zip(other_rest).map(|(a, b)| a * b).sum::<f64>()
}
