//! The maps of the teacher that a student is compared with, standardised channel by channel.

use std::path::PathBuf;
use std::sync::Mutex;

use hotad_engine::data::crop::Crop;
use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::ops::{BatchNormParams, Mode, add, batch_norm2d, loss};
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::threads::pooled;
use hotad_engine::{Activation, Result};
use hotad_kernels::device::{Buffer, Device};
use hotad_kernels::loss::Loss;

/// Batches that mean and deviation are measured on.
const BATCHES: usize = 8;

/// Passes of random views begin here for the measurement, so that training sees others.
const PASS: u64 = 1 << 40;

/// Least variance of a channel, as a share of the map's mean one: a channel that hardly varies has little say.
const LEAST: f32 = 0.05;

/// Mean and variance of one map's channels over the teacher's images.
pub struct Hint {
    /// For each channel.
    pub mean: Vec<f32>,
    /// For each channel.
    pub variance: Vec<f32>,
    running: [Mutex<Buffer>; 2],
    affine: [Tensor; 2],
}

impl Hint {
    fn new(sums: &Sums, device: &Device) -> Result<Self> {
        let n = sums.count.max(1) as f64;
        let mean: Vec<f64> = sums.first.iter().map(|s| s / n).collect();
        let mut variance =
            sums.second.iter().zip(&mean).map(|(s, m)| (s / n - m * m).max(0.0) as f32).collect::<Vec<_>>();
        let least = (LEAST * variance.iter().sum::<f32>() / variance.len().max(1) as f32).max(1e-8);
        variance.iter_mut().for_each(|v| *v = v.max(least));
        let mean: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
        let running = [Mutex::new(device.upload(mean.clone())?), Mutex::new(device.upload(variance.clone())?)];
        let row = |value: f32| Tensor::from_buffer(device.upload(vec![value; mean.len()])?, &[mean.len()]);
        let affine = [row(1.0)?, row(0.0)?];
        Ok(Self { mean, variance, running, affine })
    }

    /// A map without the mean, divided by the deviation.
    fn standardised(&self, map: &Tensor) -> Result<Tensor> {
        let [weight, bias] = self.affine.clone();
        let running = [&self.running[0], &self.running[1]];
        let statistics = BatchNormParams { weight, bias, running, eps: 0.0, momentum: 0.0 };
        batch_norm2d(map, &statistics, Mode::Eval, None, Activation::Identity)
    }
}

/// All hints of a distillation.
pub struct Hints(pub Vec<Hint>);

impl Hints {
    /// Measures a teacher's maps of random views.
    ///
    /// # Errors
    /// Broken images, or when the device is out of memory.
    pub fn measured(
        teacher: impl Fn(&Tensor) -> Result<Tensors> + Sync,
        (paths, crop): (&[PathBuf], Crop),
        batch: usize,
        device: &Device,
    ) -> Result<Self> {
        let (images, mut sums) = (Images::cropped(paths, crop), Vec::new());
        // As many images as are needed, spread over all of them; several views of each where there are few.
        let few = (BATCHES * batch).min(paths.len());
        let order: Vec<usize> = (0..few).map(|i| i * paths.len() / few).collect();
        for pass in 0..(BATCHES * batch).div_ceil(few) as u64 {
            for_each_batch(&images.clone().pass(PASS + pass), &order, batch, |loaded| {
                let maps = pooled(|| teacher(&loaded.images))?;
                sums.resize_with(maps.len(), Sums::default);
                sums.iter_mut().zip(&maps).try_for_each(|(sums, map)| sums.add(map))
            })?;
        }
        sums.iter().map(|sums| Hint::new(sums, device)).collect::<Result<_>>().map(Self)
    }

    /// The loss of each hint.
    ///
    /// # Errors
    /// When maps differ in shape.
    pub fn losses(&self, student: &[Tensor], teacher: &[Tensor]) -> Result<Vec<Tensor>> {
        let pairs = student.iter().zip(teacher);
        let one = |(hint, (s, t)): (&Hint, (&Tensor, &Tensor))| {
            loss(Loss::Mse, &hint.standardised(s)?, &hint.standardised(t)?)
        };
        self.0.iter().zip(pairs).map(one).collect()
    }
}

/// The sum of some losses.
///
/// # Errors
/// When the device is out of memory.
pub fn total(losses: &[Tensor]) -> Result<Tensor> {
    losses[1..].iter().try_fold(losses[0].clone(), |sum, loss| add(&sum, loss))
}

/// Sums over the pixels of a map, channel by channel.
#[derive(Clone, Default)]
struct Sums {
    count: usize,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Sums {
    fn add(&mut self, map: &Tensor) -> Result<()> {
        let [n, h, w, c] = map.nhwc()?;
        self.first.resize(c, 0.0);
        self.second.resize(c, 0.0);
        self.count += n * h * w;
        for pixel in map.values()?.chunks_exact(c) {
            for (k, v) in pixel.iter().enumerate() {
                self.first[k] += f64::from(*v);
                self.second[k] += f64::from(*v) * f64::from(*v);
            }
        }
        Ok(())
    }
}
