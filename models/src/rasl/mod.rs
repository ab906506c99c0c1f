//! RASL: robust alignment by sparse and low-rank decomposition (Peng et al. 2012), as PAEDID's tables have it.
//!
//! Normal images, gray, are the columns of a matrix; affine motions are found that leave as little as possible of it
//! beside a matrix of low rank: `minimise |A|_* + lambda |E|_1 over A, E, tau under D o tau = A + E`, linearised in the motions and
//! repeated (algorithm 1; lambda = 1 / sqrt(pixels), columns of norm 1). A test image is aligned to the basis of A and written as
//! a sum over it plus a sparse rest, by `minimise |e|_1`; |e| is the anomaly map, in the gray values of the image. A margin
//! of 5 pixels, into which motions may reach, is left out of the map.

mod against;
mod align;
mod decompose;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use faer::{Mat, MatRef};
use hotad_engine::container::{self, Stored};
use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::params::{State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, random};
use hotad_kernels::device::{Buffer, HostBuffer};
use rayon::prelude::*;
use serde_json::Value;

use crate::config::{BLUR, Interval, Settings, require, settings};
use crate::detector::{Detector, Scores};
use crate::fit::FitContext;
use crate::method::{LoadContext, Method};
use crate::segmentation::{Aggregate, Aggregation};
pub(crate) use against::Against;
use align::MOTION;
pub(crate) use align::{Frame, Motion};
pub(crate) use decompose::basis;
use decompose::low_rank;

settings! {
    /// Settings.
    pub struct Config {
        /// rows and columns the images are brought to
        image_size: usize = 128, in 32..=512;
        /// most normal images that are aligned, drawn at random
        images: usize = 40, in 2..=500;
        /// margin in pixels that motions may reach into
        inset: usize = 5;
        /// weight of the sparse part, in parts of 1 / sqrt(pixels)
        lambda: f64 = 1.0, in Interval::LeftOpen(0.0, 100.0);
        /// most rounds of alignment
        rounds: usize = 10, in 1..=1000;
        /// image score: after a blur "max" of the map or "top", the mean of its largest 1 %; or its "mean"
        score: Aggregate = Aggregate::Max, for Scoring;
        /// blur in pixels before the largest value of the anomaly map is taken as score; 0 for none
        score_blur: f64 = 1.0, in BLUR, for Scoring;
    }
}

impl Settings for Config {
    fn check_together(&self) -> Result<()> {
        require(self.inset < self.image_size.div_ceil(4), "inset", self.inset, "less than a quarter of image_size")
    }
}

impl Config {
    fn image(&self) -> ImageSpec {
        ImageSpec { height: self.image_size, width: self.image_size, channels: 1 }
    }

    fn frame(&self) -> Frame {
        Frame { size: self.image_size, inset: self.inset }
    }
}

/// A moved image of norm 1, and its Jacobian.
fn normalised(frame: &Frame, image: &[f64], motion: &Motion) -> (Vec<f64>, Mat<f64>) {
    let pixels = frame.pixels();
    let (mut unit, mut jacobian) = (vec![0.0; pixels], vec![0.0; MOTION * pixels]);
    frame.normalised(image, motion, &mut unit, &mut jacobian);
    (unit, MatRef::from_column_major_slice(&jacobian, pixels, MOTION).to_owned())
}

/// An aligned basis of normal images.
pub struct Rasl {
    config: Config,
    /// `[pixels, rank]`, orthonormal columns.
    basis: Mat<f64>,
    /// Mean motion of the normal images.
    rest: Motion,
    /// Memory for as many images as are scored at the same time.
    spaces: Mutex<Vec<Space>>,
}

/// What scoring an image works with.
struct Space {
    against: Against,
    image: Vec<f64>,
    /// The sparse rest of the best round.
    best: Vec<f64>,
}

impl Method for Rasl {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "rasl";
    const SUMMARY: &'static str = "robust alignment by sparse and low-rank decomposition (baseline)";

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let order = random::shuffled(context.train.len(), context.seed, "rasl images", 0);
        let mut images: Vec<Vec<f64>> = Vec::new();
        let chosen = &order[..order.len().min(config.images)];
        for_each_batch(&Images::new(context.train, config.image()), chosen, 8, |batch| {
            let pixels = config.image().len();
            images
                .extend(batch.images.values()?.chunks_exact(pixels).map(|i| i.iter().map(|v| f64::from(*v)).collect()));
            Ok(())
        })?;
        let (frame, mut motions) = (config.frame(), vec![Motion::default(); images.len()]);
        let lambda = config.lambda / (frame.pixels() as f64).sqrt();
        let mut last = f64::INFINITY;
        let mut low = Mat::zeros(0, 0);
        for round in 1..=config.rounds {
            let moved: Vec<_> = images.par_iter().zip(&motions).map(|(i, m)| normalised(&frame, i, m)).collect();
            let columns = Mat::from_fn(frame.pixels(), moved.len(), |i, j| moved[j].0[i]);
            let jacobians: Vec<Mat<f64>> = moved.into_iter().map(|(_, jacobian)| jacobian).collect();
            let parts = low_rank(&columns, &jacobians, lambda)?;
            for (motion, step) in motions.iter_mut().zip(parts.motions.col_iter()) {
                motion.iter_mut().zip(step.iter()).for_each(|(m, s)| *m += s);
            }
            low = parts.low;
            context.observer.say(&format!("alignment {round}: objective {:.4}", parts.objective));
            if last - parts.objective < 1e-3 * parts.objective {
                break;
            }
            last = parts.objective;
        }
        let mut rest = Motion::default();
        for motion in &motions {
            rest.iter_mut().zip(motion).for_each(|(r, m)| *r += m / motions.len() as f64);
        }
        Ok(Self::new(config, basis(&low)?, rest))
    }

    fn load(file: &ModelFile, _: &LoadContext) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        let state: State = container::restore(&file.tensors, "rasl.")?;
        let pixels = config.frame().pixels();
        let rank = state.get("basis").map_or(0, |t| t.len() / pixels);
        let values = fetch(&state, "basis", &[rank, pixels])?.values()?;
        let basis = Mat::from_fn(pixels, rank, |i, j| f64::from(values[j * pixels + i]));
        let mut rest = Motion::default();
        let stored = fetch(&state, "motion", &[MOTION])?.values()?;
        rest.iter_mut().zip(stored.iter()).for_each(|(r, v)| *r = f64::from(*v));
        Ok(Self::new(config, basis, rest))
    }
}

impl Rasl {
    fn new(config: Config, basis: Mat<f64>, rest: Motion) -> Self {
        Self { config, basis, rest, spaces: Mutex::default() }
    }

    fn space(&self) -> Space {
        let (image, frame) = (self.config.image(), self.config.frame());
        Space { against: Against::new(&self.basis), image: vec![0.0; image.len()], best: vec![0.0; frame.pixels()] }
    }

    /// Takes the memory for a batch ahead: for each of its images, and for no more than there are threads.
    fn prepare(&self, images: usize) {
        let mut spaces = self.spaces();
        let wanted = images.min(rayon::current_num_threads());
        while spaces.len() < wanted {
            spaces.push(self.space());
        }
    }

    fn spaces(&self) -> MutexGuard<'_, Vec<Space>> {
        // A poisoned lock only says that another thread has panicked; the list is whole.
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the sparse rest of one image.
    fn map(&self, image: &[f32], map: &mut [f32]) -> Result<()> {
        let kept = self.spaces().pop();
        let mut space = kept.unwrap_or_else(|| self.space());
        let motion = self.aligned(image, &mut space)?;
        self.config.frame().restored(&space.best, &motion, map);
        self.spaces().push(space);
        Ok(())
    }

    /// The motion of an image; leaves its sparse rest.
    fn aligned(&self, image: &[f32], Space { against, image: values, best }: &mut Space) -> Result<Motion> {
        values.iter_mut().zip(image).for_each(|(to, from)| *to = f64::from(*from));
        best.fill(0.0);
        let (frame, mut motion, mut aligned) = (self.config.frame(), self.rest, self.rest);
        let mut last = f64::INFINITY;
        for _ in 0..self.config.rounds {
            let norm = against.solve(&self.basis, &frame, values, &motion)?;
            let left: f64 = against.rest().iter().map(|v| v.abs()).sum();
            if last - left < 1e-3 * left {
                break;
            }
            last = left;
            best.iter_mut().zip(against.rest()).for_each(|(best, e)| *best = e.abs() * norm);
            aligned = motion;
            motion.iter_mut().zip(against.change()).for_each(|(m, s)| *m += s);
        }
        Ok(aligned)
    }
}

impl Detector for Rasl {
    fn image(&self) -> ImageSpec {
        self.config.image()
    }

    /// On the host, whatever the device: it is linear algebra in f64.
    fn score(&self, images: &Tensor) -> Result<Scores> {
        let values = images.values()?;
        let image = self.config.image();
        let mut maps = HostBuffer::try_uninit(values.len())?;
        self.prepare(values.len() / image.len());
        let each = values.par_chunks_exact(image.len()).zip(maps.par_chunks_exact_mut(image.len()));
        each.try_for_each(|(image, map)| self.map(image, map))?;
        Aggregation::new(image, self.config.score_blur, self.config.score).of(Buffer::Host(maps))
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let narrow = |v: &f64| *v as f32;
        let basis = self.basis.col_iter().flat_map(|column| column.iter().map(narrow)).collect();
        let state = State::from([
            ("basis".to_string(), Tensor::new(basis, &[self.basis.ncols(), self.basis.nrows()])?),
            ("motion".to_string(), Tensor::new(self.rest.iter().map(narrow).collect(), &[MOTION])?),
        ]);
        container::store(&state, "rasl.")
    }
}
