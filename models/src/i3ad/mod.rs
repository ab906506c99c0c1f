//! I3AD: iterative image inpainting with structural similarity masks (papers/i3ad).
//!
//! 1. A generator learns to paint what free-form masks hide of normal images, against a discriminator
//!    (section 2.2; networks/inpainting.rs, networks/discriminator.rs).
//! 2. Of a test image, four checkerboard masks give a first whole reconstruction (section 2.4).
//! 3. Where it is unlike the image by SSIM is the next mask; only that is painted again, everything else is the image
//!    itself; and so on, so that normal regions come to be known and defects stay masked (sections 2.3 and 2.5).
//! 4. The last 1 - SSIM (or squared difference) is the anomaly map, its mean the image score.
//!
//! What the paper leaves open: the fine network sees the pasted image without the mask, as the public code of
//! free-form inpainting has it; the L1 of known pixels weighs 1.
//! Gray images are painted as colour images. Sides that are no multiple of 4 are padded by repetition and
//! the map is cut back.

mod config;
mod iteration;
mod learner;
mod masks;
mod picture;
mod threshold;

use std::collections::BTreeMap;

use hotad_engine::Result;
use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;
use serde_json::Value;

use crate::config::{Settings, damaged, require};
use crate::detector::{Detector, Explanation, FitContext, Illustration, Schedule, Score, Sweep};
use crate::features::Extractor;
use crate::networks::inpainting::STRIDE;
use crate::prior::{Background, BackgroundPrior};
use crate::residual::Residual;
use crate::segmentation::scores;

pub use config::{Config, Preset};
use iteration::{Moment, Painter, Reached, Search, Watch};
use learner::AdversarialLearner;
pub use masks::free_form;
use picture::{cropped, seen};

/// Iterations that a report shows.
const SHOWN: [usize; 7] = [1, 2, 3, 5, 10, 20, 30];

/// Blur in pixels before the largest value of a map is taken.
const SCORE_BLUR: f32 = 1.0;

/// A trained I3AD.
pub struct I3ad {
    config: Config,
    /// Threshold of the mask.
    u: f32,
    /// The generator's weights.
    state: State,
    painter: Painter,
}

/// Rows and columns that the generator sees.
fn side(config: &Config) -> usize {
    config.image_size.next_multiple_of(STRIDE)
}

/// Trains I3AD.
///
/// # Errors
/// Bad settings or images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<I3ad> {
    let mut learner = AdversarialLearner::new(&config, side(&config), context.seed, context.device)?;
    let steps = context.train.len().div_ceil(config.batch) as u64;
    let epochs = config.iterations.div_ceil(steps.max(1)) as usize;
    let schedule = Schedule { epochs, batch: config.batch, patience: 0 };
    let settings = config.learning();
    context.run(&mut learner, config.image(), &schedule, "i3ad", &settings)?;
    let mut state = learner.params.values()?;
    state.retain(|name, _| !name.starts_with("discriminator."));
    let painter = Painter::new(config.width, side(&config), &state, context.device)?;
    let u = match config.u.fixed() {
        Some(u) => u as f32,
        None => {
            (context.say)("choosing the threshold of the mask on training normals");
            let (image, limit) = (config.image(), config.u_limit);
            match threshold::choose(&painter, context.train, image, config.patches, limit)? {
                (Some(u), l1) => {
                    (context.say)(&format!("u = {u}: mean L1 of training normals after 10 iterations is {l1:.1e}"));
                    u
                }
                (None, l1) => {
                    let largest = threshold::CANDIDATES[threshold::CANDIDATES.len() - 1];
                    (context.say)(&format!(
                        "hotad: warning: no u brings training normals below an L1 of {limit:.1e} (at {largest} it is {l1:.1e}); took {largest}: train longer, or --set u=VALUE"
                    ));
                    largest
                }
            }
        }
    };
    Ok(I3ad { config, u, state, painter })
}

impl I3ad {
    /// With fresh weights: as fast as a trained one.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn untrained(config: Config, u: f32, seed: u64, device: &Device) -> Result<Self> {
        let learner = AdversarialLearner::new(&config, side(&config), seed, &Device::Cpu)?;
        Self::new(config, u, learner.params.values()?, device)
    }

    fn new(config: Config, u: f32, state: State, device: &Device) -> Result<Self> {
        let painter = Painter::new(config.width, side(&config), &state, device)?;
        Ok(Self { config, u, state, painter })
    }

    /// Reads a model.
    pub(crate) fn load(file: &ModelFile, device: &Device) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        let u = file.config["u"].as_f64().ok_or_else(|| damaged("no u"))? as f32;
        require(u > 0.0 && u < 2.0, "u", u, "above 0, below 2")?;
        Self::new(config, u, container::restore(&file.tensors, "network.")?, device)
    }

    /// Feature maps of images `[n, h, w, 3]` in 0..1: `[n, side / 4, side / 4, 2 width]`, side the image size brought up
    /// to a multiple of 4.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        self.painter.features(&seen(images, self.painter.side)?)
    }

    fn search(&self) -> Search {
        Search { u: self.u, iterations: self.config.test_iterations, stop: self.config.stop as f32 }
    }

    /// Iterates from the checkerboards on.
    fn iterate(&self, images: &Tensor, search: &Search, watch: Option<Watch>) -> Result<Vec<Reached>> {
        let first = self.painter.first(images, self.config.patches)?;
        self.painter.iterate(images, first, search, watch)
    }

    /// The anomaly map of an image, at the generator's size.
    fn map(&self, residual: Residual, image: &[f32], reached: &Reached) -> Vec<f32> {
        match residual {
            Residual::Ssim => reached.dissimilarity.clone(),
            Residual::L2 => {
                let pixels = image.chunks_exact(3).zip(reached.reconstruction.chunks_exact(3));
                // Values are in -1..1, differences of 0..1 half as large.
                let square = |(a, b): (&f32, &f32)| (a - b) * (a - b) / 4.0;
                pixels.map(|(a, b)| a.iter().zip(b).map(square).sum::<f32>() / 3.0).collect()
            }
        }
    }

    fn cut(&self, map: &[f32], channels: usize) -> Vec<f32> {
        cropped(map, self.painter.side, (self.config.image_size, self.config.image_size), channels)
    }

    /// Image score of one residual.
    fn value(&self, residual: Residual, image: &[f32], reached: &Reached) -> f32 {
        let map = self.cut(&self.map(residual, image, reached), 1);
        map.iter().sum::<f32>() / map.len() as f32
    }

    /// A map on a scale from 0 to 1 as a picture.
    fn picture(&self, values: &[f32], channels: usize) -> Picture {
        let size = self.config.image_size;
        Picture { height: size, width: size, channels, values: self.cut(values, channels) }
    }
}

impl BackgroundPrior for I3ad {
    fn background(&self, images: &Tensor) -> Result<Background> {
        let [n, h, w, c] = images.nhwc()?;
        let reached = self.iterate(&seen(images, self.painter.side)?, &self.search(), None)?;
        let mean = |map: &[f32]| map.iter().sum::<f32>() / map.len() as f32;
        let unlikeness = reached.iter().map(|r| mean(&self.cut(&r.dissimilarity, 1))).collect();
        let painted = |r: &Reached| self.cut(&r.reconstruction, c).into_iter().map(|v| (v + 1.0) / 2.0);
        let made = Tensor::new(reached.iter().flat_map(painted).collect(), &[n, h, w, c])?;
        let device = images.device();
        Ok(Background { images: made.to(&device)?, unlikeness: device.upload(unlikeness)? })
    }
}

/// The maps before the dilated branch, at a quarter of the size.
impl Extractor for I3ad {
    fn image(&self) -> ImageSpec {
        self.config.image()
    }

    fn cuts(&self) -> Vec<String> {
        vec!["generator".into()]
    }

    fn usual(&self) -> Vec<usize> {
        vec![0]
    }

    fn maps(&self, images: &Tensor, cuts: &[usize]) -> Result<Vec<Tensor>> {
        cuts.iter().map(|_| self.features(images)).collect()
    }
}

/// The values of one image of a batch.
fn image_of(values: &[f32], n: usize, i: usize) -> &[f32] {
    let len = values.len() / n;
    &values[i * len..(i + 1) * len]
}

impl Detector for I3ad {
    fn method(&self) -> &'static str {
        "i3ad"
    }

    fn image(&self) -> ImageSpec {
        self.config.image()
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        let images = seen(images, self.painter.side)?;
        let reached = self.iterate(&images, &self.search(), None)?;
        let (values, n) = (images.values()?, reached.len());
        let map = |(i, r): (usize, &Reached)| self.cut(&self.map(self.config.residual, image_of(&values, n, i), r), 1);
        scores(reached.iter().enumerate().flat_map(map).collect(), self.config.image(), SCORE_BLUR, self.config.score)
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config, "u": self.u })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.state, "network.")
    }

    fn extractor(&self) -> Option<&dyn Extractor> {
        Some(self)
    }

    fn explanation(&self) -> Result<Explanation> {
        Ok(Explanation {
            heading: "Iterations",
            text: "Mask, reconstruction, and what is left of the difference after some iterations: an image is done when its mask no longer changes.",
        })
    }

    fn explain(&self, images: &Tensor) -> Result<Vec<Vec<Illustration>>> {
        let images = seen(images, self.painter.side)?;
        let (values, n, pixels) = (images.values()?, images.shape()[0], self.painter.side * self.painter.side);
        let mut all = vec![Vec::new(); n];
        let mut watch = |moment: &Moment| -> Result<()> {
            if !SHOWN.contains(&moment.iteration) {
                return Ok(());
            }
            let column = format!("iteration {}", moment.iteration);
            for (k, (image, reached)) in moment.images.iter().zip(&moment.reached).enumerate() {
                let painted: Vec<f32> = reached.reconstruction.iter().map(|v| (v + 1.0) / 2.0).collect();
                // A difference of a quarter of the range is white.
                let l2 = self.map(Residual::L2, image_of(&values, n, *image), reached);
                let l2: Vec<f32> = l2.iter().map(|v| v.sqrt() * 4.0).collect();
                let pictures = [
                    ("reconstruction", self.picture(&painted, 3)),
                    ("difference", self.picture(&l2, 1)),
                    ("1 - SSIM", self.picture(&reached.dissimilarity, 1)),
                    ("next mask", self.picture(&moment.masks[k * pixels..(k + 1) * pixels], 1)),
                ];
                let cell =
                    |(row, picture): (&str, _)| Illustration { row: row.into(), column: column.clone(), picture };
                all[*image].extend(pictures.into_iter().map(cell));
            }
            Ok(())
        };
        self.iterate(&images, &self.search(), Some(&mut watch))?;
        Ok(all)
    }

    /// Figures 4 and 5: scores by iteration, and by threshold after 10 iterations.
    fn sweeps(&self, images: &Tensor) -> Result<Vec<Vec<Sweep>>> {
        let images = seen(images, self.painter.side)?;
        let (values, n) = (images.values()?, images.shape()[0]);
        let residuals = [("SSIM", Residual::Ssim), ("L2", Residual::L2)];
        let first = self.painter.first(&images, self.config.patches)?;
        let iterations = self.config.test_iterations;
        let mut by_iteration = vec![[vec![0.0; iterations], vec![0.0; iterations]]; n];
        let mut watch = |moment: &Moment| -> Result<()> {
            for (image, reached) in moment.images.iter().zip(&moment.reached) {
                for (line, (_, residual)) in by_iteration[*image].iter_mut().zip(residuals) {
                    // What an image has reached when it is done, it keeps.
                    let value = self.value(residual, image_of(&values, n, *image), reached);
                    line[moment.iteration - 1..].fill(value);
                }
            }
            Ok(())
        };
        let last = self.painter.iterate(&images, first.clone(), &self.search(), Some(&mut watch))?;
        let mut by_u = vec![[const { Vec::new() }; 2]; n];
        for u in threshold::CANDIDATES {
            let search = Search { u, iterations: iterations.min(10), ..self.search() };
            for (i, reached) in self.painter.iterate(&images, first.clone(), &search, None)?.iter().enumerate() {
                for (line, (_, residual)) in by_u[i].iter_mut().zip(residuals) {
                    line.push(self.value(residual, image_of(&values, n, i), reached));
                }
            }
        }
        let numbers: Vec<f32> = (1..=iterations).map(|i| i as f32).collect();
        let sweeps = (0..n).map(|i| {
            // An empty mask ends an image one step early, restored.
            let mut lines = by_iteration[i].clone();
            for (line, (_, residual)) in lines.iter_mut().zip(residuals) {
                line[iterations - 1] = self.value(residual, image_of(&values, n, i), &last[i]);
            }
            let sweep = |chart, x: &[f32], lines: &[Vec<f32>; 2]| -> Vec<Sweep> {
                let one = |((name, _), line): (&(&'static str, Residual), &Vec<f32>)| Sweep {
                    chart,
                    name,
                    x: x.to_vec(),
                    scores: line.clone(),
                };
                residuals.iter().zip(lines).map(one).collect()
            };
            let mut all = sweep("iteration", &numbers, &lines);
            all.extend(sweep("threshold u, after 10 iterations", &threshold::CANDIDATES, &by_u[i]));
            all
        });
        Ok(sweeps.collect())
    }
}
