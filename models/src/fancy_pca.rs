//! Fancy PCA, the colour augmentation of Krizhevsky et al. 2012 (section 4.1): every pixel of an image
//! is shifted along the principal axes of the colours of the training set.
//!
//! The shift is `sum over axes of alpha_i s_i p_i`, alpha_i normal with the given deviation, drawn anew for
//! each image. The paper multiplies by the variance along the axis, which has a meaning only for its
//! scale of pixel values; here s_i is the standard deviation, so that alpha is a share of it.

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::{Result, random};
use rand_chacha::ChaCha8Rng;

/// Training images that the axes are taken from, at most.
const IMAGES: usize = 64;

type Matrix = [[f64; 3]; 3];

/// Principal axes of the colours of a data set, each as long as the standard deviation along it.
pub struct FancyPca {
    axes: [[f32; 3]; 3],
    deviation: f32,
}

impl FancyPca {
    /// Axes of the colours of up to 64 images, drawn by the seed.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn of(files: ImageFiles, spec: ImageSpec, deviation: f32, seed: u64) -> Result<Self> {
        let (mut sum, mut products, mut n) = ([0.0; 3], [[0.0; 3]; 3], 0.0);
        let order = random::shuffled(files.len(), seed, "images of colour axes", 0);
        for i in order.into_iter().take(IMAGES) {
            let picture = files.read(i, spec)?;
            for pixel in picture.values.as_chunks::<3>().0 {
                let p = pixel.map(f64::from);
                n += 1.0;
                for i in 0..3 {
                    sum[i] += p[i];
                    (0..3).for_each(|j| products[i][j] += p[i] * p[j]);
                }
            }
        }
        let count: f64 = f64::max(n, 1.0);
        let covariance = std::array::from_fn(|i| {
            std::array::from_fn(|j| products[i][j] / count - sum[i] * sum[j] / (count * count))
        });
        let (values, vectors) = eigen(covariance);
        let axes = std::array::from_fn(|i| std::array::from_fn(|k| (vectors[k][i] * values[i].max(0.0).sqrt()) as f32));
        Ok(Self { axes, deviation })
    }

    /// Shifts the colours of an image (interleaved RGB in 0..1), clamped to 0..1.
    pub fn apply(&self, image: &mut [f32], rng: &mut ChaCha8Rng) {
        let mut shift = [0.0; 3];
        for axis in &self.axes {
            let alpha = self.deviation * random::normal(rng);
            shift.iter_mut().zip(axis).for_each(|(s, a)| *s += alpha * a);
        }
        for pixel in image.as_chunks_mut::<3>().0 {
            pixel.iter_mut().zip(shift).for_each(|(v, s)| *v = (*v + s).clamp(0.0, 1.0));
        }
    }
}

/// Eigenvalues of a symmetric matrix and eigenvectors as columns, by Jacobi's rotations.
fn eigen(mut a: Matrix) -> ([f64; 3], Matrix) {
    const SWEEPS: usize = 16;
    let mut v: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for _ in 0..SWEEPS {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if a[p][q] == 0.0 {
                continue;
            }
            let angle = 0.5 * f64::atan2(2.0 * a[p][q], a[q][q] - a[p][p]);
            let (s, c) = angle.sin_cos();
            let rotate = |row: &mut [f64; 3]| (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            a.iter_mut().for_each(rotate);
            v.iter_mut().for_each(rotate);
            let (rp, rq) = (a[p], a[q]);
            for k in 0..3 {
                (a[p][k], a[q][k]) = (c * rp[k] - s * rq[k], s * rp[k] + c * rq[k]);
            }
        }
    }
    ([a[0][0], a[1][1], a[2][2]], v)
}
