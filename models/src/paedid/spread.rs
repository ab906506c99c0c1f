//! What s = 1 - cosine is of normal images, location by location: mean and standard deviation over training images, each compared
//! with the bank without the images of its own part, as it is and once more in other light, out of focus or with noise.
//!
//! Some locations vary from part to part more than others. Measured against its location's own spread, a distance says how
//! unusual it is, and a score of the largest ones does not depend on alpha.

use std::path::PathBuf;

use hotad_engine::data::corrupt::{Change, RandomChange};
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::params::{State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, interrupt, random};
use hotad_kernels::device::{Device, HostBuffer};
use hotad_kernels::replacement::mark_highest;

use crate::config::damaged;
use crate::fit::FitContext;
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

/// Sums over images of s and of its squares, at each location.
struct Sums {
    images: usize,
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl Sums {
    fn new(locations: usize) -> Self {
        Self { images: 0, sum: vec![0.0; locations], squares: vec![0.0; locations] }
    }

    /// Takes s of some images, `[image][location]`.
    fn add(&mut self, s: &[f32]) {
        for image in s.chunks_exact(self.sum.len()) {
            self.images += 1;
            for (s, (sum, squares)) in
                image.iter().map(|s| f64::from(*s)).zip(self.sum.iter_mut().zip(&mut self.squares))
            {
                *sum += s;
                *squares += s * s;
            }
        }
    }

    fn spread(&self) -> Spread {
        let images = self.images as f64;
        let variance = |(sum, squares): (&f64, &f64)| (squares / images - (sum / images).powi(2)).max(0.0);
        let variances: Vec<f64> = self.sum.iter().zip(&self.squares).map(variance).collect();
        let middle = variances.iter().sum::<f64>() / variances.len() as f64;
        let deviation = |variance: &f64| (variance + FLOOR * FLOOR * middle).sqrt().max(PRECISION) as f32;
        Spread {
            mean: self.sum.iter().map(|sum| (sum / images) as f32).collect(),
            deviation: variances.iter().map(deviation).collect(),
        }
    }
}

impl Spread {
    /// Measured on the images of a bank, or some drawn by the seed, as they are and changed. Where all are of one part there is
    /// nothing to compare with: means are 0 and deviations 1.
    ///
    /// # Errors
    /// When an image cannot be read, what goes wrong on the device, or an interruption.
    pub fn measured(
        prior: &PatchPrior,
        image: ImageSpec,
        change: Option<RandomChange>,
        context: &FitContext,
    ) -> Result<Self> {
        let (locations, parts) = (prior.bank.shape().0, &context.groups[..context.train.len()]);
        if parts.iter().all(|part| *part == parts[0]) {
            context
                .observer
                .say("all training images are of one part: distances count as they are, not by their spread");
            return Ok(Self { mean: vec![0.0; locations], deviation: vec![1.0; locations] });
        }
        let mut order = random::shuffled(parts.len(), context.seed, "images that distances are measured on", 0);
        order.truncate(IMAGES);
        let others = Others { prior, parts, device: context.device };
        let mut sums = Sums::new(locations);
        let paths: Vec<PathBuf> = order.iter().map(|i| context.train.paths()[*i].clone()).collect();
        let files = Images::new(context.train.with(&paths), image);
        let changed = change.map(|change| files.clone().changed(Some(Change::Random(change))));
        // Latent vectors of the images as they are stand in the bank; where they are aligned there are others.
        let as_they_are = (prior.align > 0).then_some(files);
        if as_they_are.is_none() {
            for batch in order.chunks(BATCH) {
                interrupt::check()?;
                sums.add(&others.distances(others.vectors(batch)?, batch)?);
            }
        }
        for views in as_they_are.into_iter().chain(changed) {
            for_all(&views, BATCH, |batch| {
                interrupt::check()?;
                let images: Vec<usize> = batch.files.iter().map(|file| order[file.index]).collect();
                sums.add(&others.distances(others.encoded(&batch.images, &images)?, &images)?);
                Ok(())
            })?;
        }
        Ok(sums.spread())
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

/// A bank of which the images of other parts alone are searched for an image.
struct Others<'a> {
    prior: &'a PatchPrior,
    /// The part that each image of the bank is of, and with it all of its views.
    parts: &'a [usize],
    device: &'a Device,
}

impl Others<'_> {
    /// The latent vectors of images of the bank as they are, `[image][location]`.
    fn vectors(&self, images: &[usize]) -> Result<Vec<f32>> {
        let ((locations, count, d), each) = (self.prior.bank.shape(), self.prior.vectors_of_image());
        let at = |image: &usize| (0..locations).map(|l| (l * count + image * each) as u32).collect::<Vec<u32>>();
        let index: Vec<u32> = images.iter().flat_map(at).collect();
        let mut vectors = vec![0.0; index.len() * d];
        self.prior.bank.gather(&index, &mut vectors)?;
        Ok(vectors)
    }

    /// The latent vectors of views of images of the bank, aligned to images of other parts where images are aligned,
    /// `[image][location]`.
    fn encoded(&self, views: &Tensor, images: &[usize]) -> Result<Vec<f32>> {
        let prior = self.prior;
        let latent = match prior.align {
            0 => prior.autoencoder.encode(views)?,
            _ => prior.autoencoder.encode(&prior.aligned(views, Some(&self.of_other_parts(images)))?.images)?,
        };
        Ok(latent.values()?.into_owned())
    }

    /// s of latent vectors of images of the bank, `[image][location]`.
    fn distances(&self, vectors: Vec<f32>, images: &[usize]) -> Result<Vec<f32>> {
        let searched = self.searched(&vectors, images)?;
        let grid = self.prior.autoencoder.network.latent();
        let shape = [images.len(), grid.rows, grid.columns, self.prior.bank.shape().2];
        let vectors = Tensor::new(vectors, &shape)?.to(self.device)?;
        Ok(self.prior.nearest(&vectors, Some(self.device.upload(searched)?.view()))?.1.into_vec()?)
    }

    /// 1 for the vectors of each location that are of other parts than an image, `[image][vector]`.
    fn of_other_parts(&self, images: &[usize]) -> Vec<u32> {
        let (parts, each) = (self.parts, self.prior.vectors_of_image());
        let other = |part: &usize, image: usize| std::iter::repeat_n(u32::from(*part != parts[image]), each);
        images.iter().flat_map(|image| parts.iter().flat_map(move |part| other(part, *image))).collect()
    }

    /// Which vectors of each location are searched for each image: those of other parts, or of these the most similar.
    fn searched(&self, vectors: &[f32], images: &[usize]) -> Result<Vec<u32>> {
        let (prior, mut others) = (self.prior, self.of_other_parts(images));
        if prior.similar == 0 {
            return Ok(others);
        }
        let count = prior.bank.shape().1;
        let mut means = vec![0.0; others.len()];
        prior.bank.mean_cosines(vectors, &mut means)?;
        for (others, means) in others.chunks_exact_mut(count).zip(means.chunks_exact_mut(count)) {
            let own = |(mean, other): (&mut f32, &u32)| {
                if *other == 0 {
                    *mean = f32::NEG_INFINITY
                }
            };
            means.iter_mut().zip(&*others).for_each(own);
            let left = others.iter().filter(|other| **other == 1).count();
            mark_highest(&*means, count, prior.similar.min(left), others)?;
        }
        Ok(others)
    }
}

#[cfg(test)]
mod tests {
    use hotad_kernels::cosine_nn::{BankData, LocationBank};

    use super::*;
    use crate::autoencoder::{PatchAutoencoder, TrainedAutoencoder};
    use crate::prior::BankView;

    /// Two locations, the second of which varies ten times as much.
    #[test]
    fn a_distance_counts_by_what_is_usual_at_its_location() {
        let sums = Sums { images: 4, sum: vec![2.0, 2.0], squares: vec![1.0 + 2e-4, 1.0 + 2e-2] };
        let spread = sums.spread();
        let close = |a: f32, b: f32| assert!((a - b).abs() < 0.01 * b.abs(), "{a} for {b}");
        spread.mean.iter().for_each(|mean| close(*mean, 0.5));
        let pooled = (5e-5_f32 + 5e-3) / 2.0;
        close(spread.deviation[0], (5e-5 + 0.01 * pooled).sqrt());
        close(spread.deviation[1], (5e-3 + 0.01 * pooled).sqrt());
        let scores = spread.scores(&[0.6, 0.5, 0.5, 0.6], 0.5);
        assert!(scores[0] > 5.0 * scores[1] && scores[1] > 1.0, "{scores:?}");
        close(spread.scores(&[0.6, 0.5], 1.0)[0], scores[0] / 2.0);
    }

    /// Three images of two parts, each with a view of itself; vectors are numbered.
    #[test]
    fn no_view_of_an_image_of_the_same_part_is_searched() {
        let network = PatchAutoencoder::new(&[2], ImageSpec { height: 4, width: 4, channels: 1 });
        let (params, latent) = (network.init(1), network.latent());
        let numbered = |d| (0..latent.locations() * 6).flat_map(|i| vec![i as f32; d]).collect();
        let data = BankData::F32(numbered(latent.elements));
        let mut prior = PatchPrior {
            bank: LocationBank::new(latent.locations(), 6, latent.elements, data).expect("fits"),
            autoencoder: TrainedAutoencoder::new(network, params).expect("weights"),
            entries: ["a", "b", "c"].map(String::from).to_vec(),
            views: vec![BankView::FlipHorizontal],
            alpha: 1.0,
            reach: 0,
            similar: 0,
            align: 0,
        };
        fn others(prior: &PatchPrior) -> Others<'_> {
            Others { prior, parts: &[7, 7, 9], device: &Device::CPU }
        }
        let vectors = others(&prior).vectors(&[2, 0]).expect("in the bank");
        assert_eq!(vectors, [4, 10, 16, 22, 0, 6, 12, 18].map(|i| [i as f32; 2]).concat());
        let searched = |prior: &PatchPrior| others(prior).searched(&vectors, &[2, 0]).expect("searched");
        assert_eq!(searched(&prior), [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        prior.similar = 1;
        let few = searched(&prior);
        let marked: Vec<usize> = (0..12).filter(|i| few[*i] == 1).collect();
        assert!(marked.len() == 2 && marked[0] < 4 && marked[1] >= 10, "one view of another part each: {few:?}");
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
