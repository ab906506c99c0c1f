//! Sums that the mean and covariance at each location are made of, image by image.
//!
//! Of each location: `sum x` and the lower triangle of `sum x x^T`, both in f64, where the difference
//! `sum x x^T - n mu mu^T` loses nothing that matters of f32 vectors. Operations: `d^2` per location and image; bytes:
//! `4 d (d + 1)` per location, whatever the number of images.

use hotad_engine::{Error, Result};
use rayon::prelude::*;

/// Sums over images at each location.
pub struct Moments {
    d: usize,
    images: usize,
    /// `[location][d]`.
    sums: Vec<f64>,
    /// `[location][d (d + 1) / 2]`, row after row of the lower triangle.
    products: Vec<f64>,
}

/// Mean and covariance of one location.
pub struct Gaussian {
    /// `[d]`.
    pub mean: Vec<f64>,
    /// Lower triangle, row after row, `[d (d + 1) / 2]`; divided by the number of images less one.
    pub covariance: Vec<f64>,
}

/// Elements of a lower triangle.
fn triangle(d: usize) -> usize {
    d * (d + 1) / 2
}

/// Bytes of the sums at `locations` of vectors of `d` elements.
pub fn bytes(locations: usize, d: usize) -> usize {
    size_of::<f64>() * locations * (triangle(d) + d)
}

/// What the sums may take, and the setting that makes them smaller.
pub struct Limit {
    /// Memory.
    pub mebibytes: usize,
    /// Name of the setting.
    pub reduces: &'static str,
}

impl Moments {
    /// Of no images yet.
    ///
    /// # Errors
    /// When the sums would take more memory than is allowed: says how many dimensions would fit.
    pub fn new(locations: usize, d: usize, limit: &Limit) -> Result<Self> {
        let most = limit.mebibytes << 20;
        if bytes(locations, d) > most {
            let fit = (1..d).take_while(|fewer| bytes(locations, *fewer) <= most).last().unwrap_or(0);
            return Err(Error::Config(format!(
                "covariances of {d} channels at {locations} locations take {} MiB, {} at most; setting {} = {fit} would fit",
                bytes(locations, d).div_ceil(1 << 20),
                limit.mebibytes,
                limit.reduces
            )));
        }
        Ok(Self { d, images: 0, sums: vec![0.0; locations * d], products: vec![0.0; locations * triangle(d)] })
    }

    /// Images so far.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Takes the vectors `[image][location][d]` of some images.
    pub fn add(&mut self, x: &[f32]) {
        let d = self.d;
        let image = self.sums.len();
        self.images += x.len() / image;
        let places = self.sums.par_chunks_mut(d).zip(self.products.par_chunks_mut(triangle(d)));
        places.enumerate().for_each(|(location, (sums, products))| {
            let own: Vec<Vec<f64>> = x
                .chunks_exact(image)
                .map(|x| x[location * d..(location + 1) * d].iter().map(|v| f64::from(*v)).collect())
                .collect();
            let mut rest = products;
            for (i, sum) in sums.iter_mut().enumerate() {
                let (row, after) = std::mem::take(&mut rest).split_at_mut(i + 1);
                rest = after;
                for x in &own {
                    let (own, left) = (x[i], &x[..=i]);
                    *sum += own;
                    row.iter_mut().zip(left).for_each(|(p, v)| *p += own * v);
                }
            }
        });
    }

    /// Mean and covariance at a location.
    pub fn gaussian(&self, location: usize) -> Gaussian {
        let (d, n) = (self.d, self.images.max(1) as f64);
        let mean: Vec<f64> = self.sums[location * d..(location + 1) * d].iter().map(|s| s / n).collect();
        let mut covariance = self.products[location * triangle(d)..(location + 1) * triangle(d)].to_vec();
        let mut at = 0;
        for i in 0..d {
            for j in 0..=i {
                covariance[at] = (covariance[at] - n * mean[i] * mean[j]) / (n - 1.0).max(1.0);
                at += 1;
            }
            // Rounding of a channel that does not change.
            covariance[at - 1] = covariance[at - 1].max(0.0);
        }
        Gaussian { mean, covariance }
    }

    /// The mean variance of all locations and channels.
    pub fn mean_variance(&self) -> f64 {
        let locations = self.sums.len() / self.d;
        let total: f64 = (0..locations).into_par_iter().map(|l| self.trace(l)).collect::<Vec<_>>().iter().sum();
        total / self.sums.len() as f64
    }

    /// The sum of the variances at a location.
    fn trace(&self, location: usize) -> f64 {
        let n = self.images.max(1) as f64;
        let products = &self.products[location * triangle(self.d)..];
        let variance = |(i, sum): (usize, &f64)| (products[triangle(i + 1) - 1] - sum * sum / n).max(0.0);
        let sums = &self.sums[location * self.d..(location + 1) * self.d];
        sums.iter().enumerate().map(variance).sum::<f64>() / (n - 1.0).max(1.0)
    }
}
