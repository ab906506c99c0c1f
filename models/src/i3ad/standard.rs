//! Anomaly maps measured against those of normal images: less their mean, over their standard deviation.
//!
//! Edges and fine structure are painted worse than smooth regions in normal images too. Where parts lie alike each pixel has a
//! mean and a deviation of its own, over a neighbourhood; for textures there is one of each. They are taken from training
//! normals: thresholds are calibrated on the held-out ones, which must not have had a part in the map.

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::params::{State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::pooled;
use hotad_engine::until::Until;
use hotad_engine::{Result, interrupt, random};
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::window::Border;
use serde::{Deserialize, Serialize};

use super::I3ad;
use super::report::RESIDUALS;
use crate::residual::Residual;

/// Training images that are measured.
const IMAGES: usize = 64;

/// Images measured together.
const BATCH: usize = 8;

/// Neighbourhood of a pixel: standard deviation of a Gaussian, as a share of the side.
const NEIGHBOURHOOD: f32 = 1.0 / 64.0;

/// Part of the deviation of all pixels that is added, in squares, to that of each one.
const FLOOR: f64 = 0.1;

/// What an anomaly map is measured against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standardise {
    /// Nothing.
    #[default]
    None,
    /// Normal images at the same pixel.
    Pixel,
    /// Normal images at any pixel.
    All,
}

/// Mean and standard deviation of normal maps: of each pixel, or one of each.
#[derive(Clone, Debug)]
struct Moments {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

/// Of the maps of both residuals.
#[derive(Clone, Debug)]
pub struct Standard([Moments; 2]);

/// Where the moments of a residual are kept.
fn index(residual: Residual) -> usize {
    RESIDUALS.iter().position(|(_, r)| *r == residual).expect("both residuals are listed")
}

/// Sums over normal maps.
struct Sums {
    images: f64,
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl Sums {
    fn new(pixels: usize) -> Self {
        Self { images: 0.0, sum: vec![0.0; pixels], squares: vec![0.0; pixels] }
    }

    fn add(&mut self, map: &[f32]) {
        self.images += 1.0;
        for ((sum, squares), v) in self.sum.iter_mut().zip(&mut self.squares).zip(map) {
            *sum += f64::from(*v);
            *squares += f64::from(*v) * f64::from(*v);
        }
    }

    fn moments(&self, size: usize, kind: Standardise) -> Result<Moments> {
        let mean = |sums: &[f64]| sums.iter().map(|s| s / self.images).collect::<Vec<f64>>();
        let (first, second) = (mean(&self.sum), mean(&self.squares));
        let overall = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (m, q) = (overall(&first), overall(&second));
        let variance = (q - m * m).max(1e-12);
        if kind == Standardise::All {
            return Ok(Moments { mean: vec![m as f32], deviation: vec![variance.sqrt() as f32] });
        }
        let (first, second) = (smooth(&first, size)?, smooth(&second, size)?);
        let own = |(m, q): (&f32, &f32)| f64::from(*q) - f64::from(*m) * f64::from(*m);
        let deviation = first.iter().zip(&second).map(|p| (own(p).max(0.0) + FLOOR * FLOOR * variance).sqrt() as f32);
        Ok(Moments { deviation: deviation.collect(), mean: first })
    }
}

/// A map over the neighbourhood of each pixel.
fn smooth(map: &[f64], size: usize) -> Result<Vec<f32>> {
    let (sharp, mut out) = (map.iter().map(|v| *v as f32).collect::<Vec<f32>>(), vec![0.0; map.len()]);
    let sigma = NEIGHBOURHOOD * size as f32;
    gaussian_blur(&sharp, [1, size, size, 1], sigma, (4.0 * sigma).ceil() as usize, Border::Symmetric, &mut out)?;
    Ok(out)
}

impl Standard {
    /// Measured on training images drawn by the seed.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn measured(model: &I3ad, train: ImageFiles, seed: u64) -> Result<Self> {
        let size = model.config.image_size;
        let mut sums = RESIDUALS.map(|_| Sums::new(size * size));
        let mut order = random::shuffled(train.len(), seed, "images that maps are measured on", 0);
        order.truncate(IMAGES);
        for_each_batch(&Images::new(train, model.config.image()), &order, BATCH, |batch| {
            interrupt::check()?;
            let reached = pooled(|| model.iterate(&batch.images, &Until::done(), None))?;
            let values = batch.images.values()?;
            for (sums, (_, residual)) in sums.iter_mut().zip(RESIDUALS) {
                model.maps(residual, &values, &reached).for_each(|map| sums.add(&map));
            }
            Ok(())
        })?;
        let [ssim, l2] = sums.map(|sums| sums.moments(size, model.config.standardise));
        Ok(Self([ssim?, l2?]))
    }

    /// A map `[size, size]` on the scale of normal ones, in place.
    pub fn apply(&self, residual: Residual, map: &mut [f32]) {
        let Moments { mean, deviation } = &self.0[index(residual)];
        let moments = mean.iter().zip(deviation).cycle();
        map.iter_mut().zip(moments).for_each(|(v, (mean, deviation))| *v = (*v - mean) / deviation);
    }

    /// As tensors of a model file.
    ///
    /// # Errors
    /// None; lengths fit.
    pub fn state(&self) -> Result<State> {
        let mut state = State::new();
        for ((name, _), moments) in RESIDUALS.iter().zip(&self.0) {
            for (kind, values) in [("mean", &moments.mean), ("deviation", &moments.deviation)] {
                state.insert(format!("{name}.{kind}"), Tensor::new(values.clone(), &[values.len()])?);
            }
        }
        Ok(state)
    }

    /// From those of a model file with maps of `pixels` pixels.
    ///
    /// # Errors
    /// When one is missing or has another length.
    pub fn restored(state: &State, kind: Standardise, pixels: usize) -> Result<Self> {
        let len = if kind == Standardise::All { 1 } else { pixels };
        let values = |name: &str, kind| -> Result<Vec<f32>> {
            Ok(fetch(state, &format!("{name}.{kind}"), &[len])?.values()?.into_owned())
        };
        let moments = |name: &str| -> Result<Moments> {
            Ok(Moments { mean: values(name, "mean")?, deviation: values(name, "deviation")? })
        };
        let [ssim, l2] = RESIDUALS.map(|(name, _)| moments(name));
        Ok(Self([ssim?, l2?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deviations of 1 in one half and of 3 in the other; an outlier of 2 counts for more in the first.
    #[test]
    fn a_map_is_measured_against_normal_ones() {
        const SIZE: usize = 128;
        let mut sums = Sums::new(SIZE * SIZE);
        let spread = |at: usize| if at % SIZE < SIZE / 2 { 1.0 } else { 3.0 };
        for i in 0..10 {
            let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
            sums.add(&(0..SIZE * SIZE).map(|at| 5.0 + sign * spread(at)).collect::<Vec<f32>>());
        }
        let of = |kind| sums.moments(SIZE, kind).expect("lengths fit");
        let standard = Standard([of(Standardise::Pixel), of(Standardise::All)]);
        let mut map = vec![7.0; SIZE * SIZE];
        standard.apply(Residual::Ssim, &mut map);
        assert!((map[10] - 2.0).abs() < 0.1 && (map[120] - 2.0 / 3.0).abs() < 0.1, "{} {}", map[10], map[120]);
        let mut map = vec![7.0; SIZE * SIZE];
        standard.apply(Residual::L2, &mut map);
        let all = 2.0 / 5.0_f32.sqrt();
        assert!(map.iter().all(|v| (v - all).abs() < 1e-4), "{}", map[0]);
        let pixel = Standard([of(Standardise::Pixel), of(Standardise::Pixel)]);
        let again = Standard::restored(&pixel.state().expect("lengths fit"), Standardise::Pixel, SIZE * SIZE);
        assert_eq!(again.expect("all there").0[1].mean, pixel.0[1].mean);
    }
}
