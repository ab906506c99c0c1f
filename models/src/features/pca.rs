//! Principal components of feature vectors, fitted from a stream of them.
//!
//! The covariance is accumulated batch by batch, less the mean of the first batch so that nothing is cancelled; sums of
//! batches are kept in f64. Variances divide by n - 1. Memory: two times `8 d^2` bytes, whatever the number of vectors.

use faer::{Mat, Side};
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_kernels::covariance::moments;

/// How many components are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Components {
    /// This many.
    Count(usize),
    /// As few as have at least this share of the variance.
    Share(f64),
}

/// Principal components, in order of falling variance.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// `[d]`.
    pub mean: Vec<f32>,
    /// `[k][d]`, unit rows.
    pub components: Vec<f32>,
    /// `[k]`.
    pub variance: Vec<f32>,
}

/// Mean and covariance of a stream of vectors.
pub struct Covariance {
    device: Device,
    shift: Vec<f32>,
    rows: usize,
    sums: Vec<f64>,
    products: Vec<f64>,
}

impl Covariance {
    /// Of no vectors yet.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), shift: Vec::new(), rows: 0, sums: Vec::new(), products: Vec::new() }
    }

    /// Takes the vectors `[..., d]` of a batch.
    ///
    /// # Errors
    /// When they have another length than those before, or the device is out of memory.
    pub fn add(&mut self, x: &Tensor) -> Result<()> {
        let d = x.shape().last().copied().unwrap_or(0);
        if self.rows == 0 {
            self.shift = column_means(&x.values()?, d);
            (self.sums, self.products) = (vec![0.0; d], vec![0.0; d * d]);
        }
        let x = x.to(&self.device)?;
        let shift = self.device.upload(self.shift.clone())?;
        let (sums, products) = moments(x.view(), &shift, &self.device)?;
        let add = |(total, v): (&mut f64, f32)| *total += f64::from(v);
        self.sums.iter_mut().zip(sums.into_vec()?).for_each(add);
        self.products.iter_mut().zip(products.into_vec()?).for_each(add);
        self.rows += x.len() / d.max(1);
        Ok(())
    }

    /// Mean of each element.
    pub fn mean(&self) -> Vec<f32> {
        let n = self.rows.max(1) as f64;
        self.shift.iter().zip(&self.sums).map(|(s, sum)| (f64::from(*s) + sum / n) as f32).collect()
    }

    /// Variance of each element.
    pub fn variances(&self) -> Vec<f64> {
        let d = self.sums.len();
        (0..d).map(|i| self.covariance(i, i)).collect()
    }

    fn covariance(&self, i: usize, j: usize) -> f64 {
        let n = self.rows as f64;
        (self.products[i * self.sums.len() + j] - self.sums[i] * self.sums[j] / n) / (n - 1.0).max(1.0)
    }

    /// Vectors so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The lower triangle of the covariance, row after row, `[d (d + 1) / 2]`.
    pub fn lower(&self) -> Vec<f64> {
        let d = self.sums.len();
        let entry = |i: usize, j: usize| (self.covariance(i, j) + self.covariance(j, i)) / 2.0;
        (0..d).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect()
    }

    /// The components of elements `first..end`, each multiplied by its `scale` before.
    ///
    /// # Errors
    /// When more are asked for than there are elements, or values are not finite.
    pub fn components(&self, (first, end): (usize, usize), scale: &[f64], keep: Components) -> Result<Pca> {
        let d = end - first;
        if let Components::Count(k) = keep
            && k > d
        {
            return Err(Error::Config(format!("PCA: {k} maps are asked for, and there are only {d} to make them of")));
        }
        let entry = |i: usize, j: usize| self.covariance(first + i, first + j) * scale[i] * scale[j];
        // Both triangles of the sums are the same up to rounding; the solver wants them equal.
        let symmetric = Mat::from_fn(d, d, |i, j| (entry(i, j) + entry(j, i)) / 2.0);
        if !symmetric.is_all_finite() {
            return Err(Error::Config("PCA: features of the training images are not finite; use other members".into()));
        }
        let eigen = symmetric.self_adjoint_eigen(Side::Lower);
        let eigen = eigen
            .map_err(|_| Error::Config("PCA: the principal components did not converge; use other members".into()))?;
        // They come in rising order.
        let variances = (0..d).rev().map(|i| eigen.S()[i].max(0.0));
        let kept = match keep {
            Components::Count(k) => k,
            Components::Share(share) => enough(variances.clone(), share),
        };
        let vectors = eigen.U().subcols(d - kept, kept);
        Ok(Pca {
            mean: self.mean()[first..end].to_vec(),
            components: (0..kept).rev().flat_map(|i| vectors.col(i).iter()).map(|v| *v as f32).collect(),
            variance: variances.take(kept).map(|v| v as f32).collect(),
        })
    }

    /// The components of all elements.
    ///
    /// # Errors
    /// As [`Covariance::components`].
    pub fn pca(&self, keep: Components) -> Result<Pca> {
        let d = self.sums.len();
        self.components((0, d), &vec![1.0; d], keep)
    }
}

/// How many of falling variances make up a share of their sum, at least 1.
fn enough(variances: impl Iterator<Item = f64> + Clone, share: f64) -> usize {
    let wanted = share * variances.clone().sum::<f64>();
    let mut sum = 0.0;
    // A hair less: the parts of a whole need not add up to it in floating point.
    1 + variances
        .take_while(|v| {
            sum += v;
            sum < wanted * (1.0 - 1e-12)
        })
        .count()
}

fn column_means(x: &[f32], d: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; d];
    for row in x.chunks_exact(d.max(1)) {
        sums.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
    }
    let n = (x.len() / d.max(1)).max(1) as f64;
    sums.into_iter().map(|s| (s / n) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_are_not_finite_are_refused() {
        let mut covariance = Covariance::new(&Device::CPU);
        let x = Tensor::new(vec![1.0, 2.0, f32::NAN, 3.0, 0.5, 1.0], &[3, 2]).expect("lengths fit");
        covariance.add(&x).expect("summed");
        let error = covariance.pca(Components::Count(1)).expect_err("not finite").to_string();
        assert!(error.contains("not finite"), "{error}");
    }
}
