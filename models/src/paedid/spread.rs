//! What s = 1 - cosine is of normal images, location by location: mean and standard deviation over training images, each compared
//! with the bank without the images of its own part.
//!
//! Some locations vary from part to part more than others. Measured against its location's own spread, a distance says how
//! unusual it is, and a score of the largest ones does not depend on alpha.

use hotad_engine::params::{State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, interrupt, random};
use hotad_kernels::device::{Device, HostBuffer};
use hotad_kernels::replacement::mark_highest;

use crate::config::damaged;
use crate::prior::PatchPrior;
use crate::segmentation::top_mean;

/// Most images of the bank that are measured.
const IMAGES: usize = 256;

/// Images measured together.
const BATCH: usize = 16;

/// Part of the deviation of all locations that is added, in squares, to that of each one.
const FLOOR: f64 = 0.1;

/// Smallest deviation: cosines are not more precise.
const PRECISION: f64 = 1e-6;

/// Mean and standard deviation of s at each location.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Spread {
    /// Measured on images of a bank, drawn by the seed; `parts` tells of which part each is. Where all are of one part there is
    /// nothing to compare with: means are 0 and deviations 1.
    ///
    /// # Errors
    /// What goes wrong on the device, or an interruption.
    pub fn measured(prior: &PatchPrior, parts: &[usize], device: &Device, seed: u64) -> Result<Self> {
        let locations = prior.bank.shape().0;
        if parts.iter().all(|part| *part == parts[0]) {
            return Ok(Self { mean: vec![0.0; locations], deviation: vec![1.0; locations] });
        }
        let mut order = random::shuffled(parts.len(), seed, "images that distances are measured on", 0);
        order.truncate(IMAGES);
        let (mut sum, mut squares) = (vec![0.0; locations], vec![0.0; locations]);
        for batch in order.chunks(BATCH) {
            interrupt::check()?;
            for image in apart(prior, batch, parts, device)?.chunks_exact(locations) {
                for (s, (sum, squares)) in image.iter().map(|s| f64::from(*s)).zip(sum.iter_mut().zip(&mut squares)) {
                    *sum += s;
                    *squares += s * s;
                }
            }
        }
        Ok(Self::of_sums(&sum, &squares, order.len() as f64))
    }

    /// From sums over images of s and of its squares.
    fn of_sums(sum: &[f64], squares: &[f64], images: f64) -> Self {
        let variance = |(sum, squares): (&f64, &f64)| (squares / images - (sum / images).powi(2)).max(0.0);
        let variances: Vec<f64> = sum.iter().zip(squares).map(variance).collect();
        let middle = variances.iter().sum::<f64>() / variances.len() as f64;
        let deviation = |variance: &f64| (variance + FLOOR * FLOOR * middle).sqrt().max(PRECISION) as f32;
        Self {
            mean: sum.iter().map(|sum| (sum / images) as f32).collect(),
            deviation: variances.iter().map(deviation).collect(),
        }
    }

    /// Image scores from s, `[image][location]`: the mean of the largest standardised values, a share of all, one at least.
    pub fn scores(&self, s: &[f32], share: f64) -> HostBuffer<f32> {
        let score = |image: &[f32]| {
            let normal = self.mean.iter().zip(&self.deviation);
            let all = image.iter().zip(normal).map(|(s, (mean, deviation))| (s - mean) / deviation);
            top_mean(&mut HostBuffer::collect(all), share)
        };
        HostBuffer::collect(s.chunks_exact(self.mean.len()).map(score))
    }

    /// As tensors of a model file.
    ///
    /// # Errors
    /// None; lengths fit.
    pub fn state(&self) -> Result<State> {
        let tensor = |values: &Vec<f32>| Tensor::new(values.clone(), &[values.len()]);
        Ok(State::from([("mean".into(), tensor(&self.mean)?), ("deviation".into(), tensor(&self.deviation)?)]))
    }

    /// From those of a model file.
    ///
    /// # Errors
    /// When one is missing or has another length, or a deviation is none.
    pub fn restored(state: &State, locations: usize) -> Result<Self> {
        let values = |name| -> Result<Vec<f32>> { Ok(fetch(state, name, &[locations])?.values()?.into_owned()) };
        let (mean, deviation) = (values("mean")?, values("deviation")?);
        match deviation.iter().find(|d| **d <= 0.0) {
            Some(d) => Err(damaged(format!("a deviation of distances of {d}"))),
            None => Ok(Self { mean, deviation }),
        }
    }
}

/// s of images of a bank, `[image][location]`, with those of other parts alone searched.
fn apart(prior: &PatchPrior, images: &[usize], parts: &[usize], device: &Device) -> Result<Vec<f32>> {
    let (locations, entries, d) = prior.bank.shape();
    let index: Vec<u32> = images.iter().flat_map(|i| (0..locations).map(move |l| (l * entries + i) as u32)).collect();
    let mut vectors = vec![0.0; index.len() * d];
    prior.bank.gather(&index, &mut vectors)?;
    let mut others: Vec<u32> =
        images.iter().flat_map(|i| parts.iter().map(|part| u32::from(*part != parts[*i]))).collect();
    if prior.similar > 0 {
        let mut means = vec![0.0; others.len()];
        prior.bank.mean_cosines(&vectors, &mut means)?;
        for (others, means) in others.chunks_exact_mut(entries).zip(means.chunks_exact_mut(entries)) {
            let own = |(mean, other): (&mut f32, &u32)| {
                if *other == 0 {
                    *mean = f32::NEG_INFINITY
                }
            };
            means.iter_mut().zip(&*others).for_each(own);
            let count = others.iter().filter(|other| **other == 1).count();
            mark_highest(&*means, entries, prior.similar.min(count), others)?;
        }
    }
    let grid = prior.autoencoder.network.latent();
    let vectors = Tensor::new(vectors, &[images.len(), grid.rows, grid.columns, d])?.to(device)?;
    Ok(prior.nearest(&vectors, Some(device.upload(others)?.view()))?.1.into_vec()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two locations, the second of which varies ten times as much.
    #[test]
    fn a_distance_counts_by_what_is_usual_at_its_location() {
        let spread = Spread::of_sums(&[2.0, 2.0], &[1.0 + 2e-4, 1.0 + 2e-2], 4.0);
        let close = |a: f32, b: f32| assert!((a - b).abs() < 0.01 * b.abs(), "{a} for {b}");
        spread.mean.iter().for_each(|mean| close(*mean, 0.5));
        let pooled = (5e-5_f32 + 5e-3) / 2.0;
        close(spread.deviation[0], (5e-5 + 0.01 * pooled).sqrt());
        close(spread.deviation[1], (5e-3 + 0.01 * pooled).sqrt());
        let scores = spread.scores(&[0.6, 0.5, 0.5, 0.6], 0.5);
        assert!(scores[0] > 5.0 * scores[1] && scores[1] > 1.0, "{scores:?}");
        close(spread.scores(&[0.6, 0.5], 1.0)[0], scores[0] / 2.0);
    }

    #[test]
    fn what_a_file_holds_is_checked() {
        let spread = Spread { mean: vec![0.1, 0.2], deviation: vec![1.0, 2.0] };
        let mut state = spread.state().expect("lengths fit");
        assert_eq!(Spread::restored(&state, 2).expect("all there"), spread);
        assert!(Spread::restored(&state, 3).expect_err("short").to_string().contains("[3] expected"));
        state.insert("deviation".into(), Tensor::new(vec![1.0, 0.0], &[2]).expect("fits"));
        assert!(
            Spread::restored(&state, 2).expect_err("no deviation").to_string().contains("deviation of distances of 0")
        );
    }
}
