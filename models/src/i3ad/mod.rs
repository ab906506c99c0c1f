//! I3AD: iterative image inpainting with structural similarity masks (papers/i3ad).
//!
//! 1. A generator learns to paint what masks hide of normal images, against a discriminator
//!    (section 2.2; networks/inpainting.rs, networks/discriminator.rs). The moving average of its weights is kept.
//! 2. Of a test image, four checkerboard masks give a first whole reconstruction (section 2.4).
//! 3. Where it is unlike the image by SSIM is the next mask; only that is painted again, everything else is the image
//!    itself; and so on, so that normal regions come to be known and defects stay masked (sections 2.3 and 2.5).
//! 4. The last 1 - SSIM (or squared difference) is the anomaly map, on request measured against those of normal images
//!    (standard.rs); the image score is its mean (paper), its largest value or the mean of its largest.
//!
//! What the paper leaves open: the fine network sees the pasted image without the mask, as the public code of
//! free-form inpainting has it.
//! Gray images are painted as colour images. Sides that are no multiple of 4 are padded by repetition and
//! the map is cut back. Where the setting `tile` is not 0, the generator sees random tiles of images in training, and all tiles of
//! a test image, which overlap, at once: masks, iterations and their end are those of tiles; maps are stitched (tiles.rs), then
//! standardised and scored.

mod active;
mod augment;
mod config;
mod iteration;
mod learner;
mod masks;
mod phases;
mod picture;
mod report;
mod standard;
mod threshold;
mod tiles;
mod whole;

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::params::State;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::until::Until;
use hotad_engine::{Error, Result};
use hotad_kernels::device::{Buffer, HostBuffer};
use serde_json::Value;

use crate::config::{Interval, Settings, damaged};
use crate::detector::{Detector, Scores};
use crate::explanation::{Explainable, Explanation, Illustration, Sweep};
use crate::features::Extractor;
use crate::fit::{FitContext, Schedule};
use crate::method::{LoadContext, Method};
use crate::networks::inpainting::STRIDE;
use crate::prior::BackgroundPrior;
use crate::residual::Residual;
use crate::segmentation::Aggregation;

pub use augment::Augment;
pub use config::{Config, Kept, Preset};
use iteration::{Moment, Painter, Reached, ReachedAll, Search, Watch};
use learner::AdversarialLearner;
pub use masks::{MaskKinds, free_form};
use picture::padded;
use standard::Standard;
pub use standard::Standardise;
use whole::{Following, stitched};

/// A trained I3AD.
pub struct I3ad {
    config: Config,
    /// Threshold of the mask.
    u: f32,
    /// The generator's weights.
    state: State,
    painter: Painter,
    /// What maps are measured against.
    standard: Option<Standard>,
}

impl Method for I3ad {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "i3ad";
    const SUMMARY: &'static str = "iterative inpainting under SSIM masks (I3AD)";
    const WARM_START: bool = true;
    const EXPLAINABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let steps = context.train.len().div_ceil(config.batch).max(1) as u64;
        let epochs = config.iterations.div_ceil(steps);
        let mut learner = AdversarialLearner::new(&config, epochs * steps, context.seed, context.device)?;
        context.warm_start(&mut learner.params, "network.")?;
        let schedule = Schedule { epochs: epochs as usize, batch: config.batch, patience: 0 };
        let settings = config.learning();
        context.run(&mut learner, config.image(), &schedule, Self::NAME, &settings)?;
        let mut state = learner.params.values()?;
        state.retain(|name, _| !name.starts_with("discriminator."));
        let painter = Painter::new(config.width, config.side(), &state, context.device)?;
        let u = threshold::resolve(&config, &painter, context)?;
        let mut model = I3ad { config, u, state, painter, standard: None };
        if model.config.standardise != Standardise::None {
            context.observer.say("measuring the maps of training normals");
            model.standard = Some(Standard::measured(&model, context.train, context.seed)?);
        }
        Ok(model)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        if file.config["settings"].get("keep").is_none() {
            let reason = "trained by an earlier hotad, whose I3AD compared images in -1..1; train it again";
            return Err(Error::Config(reason.into()));
        }
        let config = Config::of_file(&file.config["settings"])?;
        let u = file.config["u"].as_f64().ok_or_else(|| damaged("no u"))? as f32;
        Interval::Open(0.0, 2.0).require("u", u)?;
        let state = container::restore(&file.tensors, "network.")?;
        let painter = Painter::new(config.width, config.side(), &state, context.device)?;
        let standard = match config.standardise {
            Standardise::None => None,
            kind => {
                let stored = container::restore(&file.tensors, "standard.")?;
                Some(Standard::restored(&stored, kind, config.image_size * config.image_size)?)
            }
        };
        Ok(Self { config, u, state, painter, standard })
    }
}

impl I3ad {
    /// With fresh weights: as fast as a trained one.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn untrained(config: Config, u: f32, seed: u64, device: &Device) -> Result<Self> {
        let learner = AdversarialLearner::new(&config, 0, seed, &Device::CPU)?;
        let (state, config) = (learner.params.values()?, Config { standardise: Standardise::None, ..config });
        let painter = Painter::new(config.width, config.side(), &state, device)?;
        Ok(Self { config, u, state, painter, standard: None })
    }

    /// Feature maps of images `[n, h, w, 3]` in 0..1: `[n, side / 4, side / 4, 2 width]`, side the image size brought up
    /// to a multiple of 4.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        self.painter.features(&padded(images, self.config.image_size.next_multiple_of(STRIDE))?)
    }

    fn search(&self) -> Search {
        Search { u: self.u, iterations: self.config.test_iterations, stop: self.config.stop as f32 }
    }

    /// All tiles of images on the host, on its device.
    fn tiles(&self, images: &Tensor) -> Result<Tensor> {
        self.config.tiles().cut(images)?.to(&self.painter.device)
    }

    /// The reconstructions of tiles under the checkerboards.
    fn first(&self, tiles: &Tensor, patches: usize) -> Result<Tensor> {
        self.painter.first(tiles, patches, self.config.shifts)
    }

    /// Iterates over images from the checkerboards on; where they get to.
    fn iterate(&self, images: &Tensor, until: &Until, watch: Option<Watch>) -> Result<ReachedAll> {
        let tiles = self.tiles(images)?;
        let first = self.first(&tiles, self.config.patches)?;
        self.iterate_from(&tiles, first, &self.search(), until, watch)
    }

    /// Iterates over tiles from their first reconstructions; where the images get to that they are of.
    fn iterate_from(
        &self,
        tiles: &Tensor,
        first: Tensor,
        search: &Search,
        until: &Until,
        watch: Option<Watch>,
    ) -> Result<ReachedAll> {
        let known = watch.is_some().then(|| tiles.to(&Device::CPU)).transpose()?;
        let mut see = watch.zip(known).map(|(watch, known)| {
            let mut following = Following::new(self.config.tiles(), known);
            move |moment: &Moment| following.whole(moment, |whole| watch(whole))
        });
        let see = see.as_mut().map(|see| see as Watch);
        Ok(stitched(&self.config.tiles(), &self.painter.iterate(tiles, first, search, until, see)?))
    }

    /// The anomaly map of an image `[size, size, 3]`.
    fn map(&self, residual: Residual, image: &[f32], reached: &Reached) -> HostBuffer<f32> {
        match residual {
            Residual::Ssim => reached.dissimilarity.clone(),
            Residual::L2 => {
                let pixels = image.chunks_exact(3).zip(reached.reconstruction.chunks_exact(3));
                let square = |(a, b): (&f32, &f32)| (a - b) * (a - b);
                HostBuffer::collect(pixels.map(|(a, b)| a.iter().zip(b).map(square).sum::<f32>() / 3.0))
            }
        }
    }

    /// Image scores and maps of one residual; `values` are the images.
    fn scores(&self, residual: Residual, values: &[f32], reached: &[Reached]) -> Result<Scores> {
        let Config { score, score_blur, top_share, .. } = self.config;
        let pixels = self.config.image_size * self.config.image_size;
        let mut all = HostBuffer::try_uninit(reached.len() * pixels)?;
        for (to, map) in all.chunks_exact_mut(pixels).zip(self.maps(residual, values, reached)) {
            to.copy_from_slice(&map);
            self.standard.iter().for_each(|standard| standard.apply(residual, to));
        }
        let aggregation = Aggregation::new(self.config.image(), score_blur, score);
        Aggregation { share: top_share, ..aggregation }.of(Buffer::Host(all))
    }

    /// Anomaly maps `[size, size]` of images.
    fn maps(&self, residual: Residual, values: &[f32], reached: &[Reached]) -> impl Iterator<Item = HostBuffer<f32>> {
        let n = reached.len();
        reached.iter().enumerate().map(move |(i, r)| self.map(residual, image_of(values, n, i), r))
    }
}
impl I3ad {
    /// [`BackgroundPrior::background`] with what is reached at a moment.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn background_until(&self, images: &Tensor, until: &Until) -> Result<Tensor> {
        let reached = self.iterate(images, until, None)?;
        let mut made = HostBuffer::try_uninit(images.len())?;
        let image = images.len() / reached.len().max(1);
        let parts = made.chunks_exact_mut(image.max(1)).zip(&reached);
        parts.for_each(|(to, reached)| to.copy_from_slice(&reached.reconstruction));
        Tensor::from_buffer(Buffer::Host(made), images.shape())?.to(&images.device())
    }
}

impl BackgroundPrior for I3ad {
    fn background(&self, images: &Tensor) -> Result<Tensor> {
        self.background_until(images, &Until::done())
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

    fn maps(&self, images: &Tensor, cuts: &[usize]) -> Result<Tensors> {
        cuts.iter().map(|_| self.features(images)).collect()
    }
}

/// The values of one image of a batch.
fn image_of(values: &[f32], n: usize, i: usize) -> &[f32] {
    let len = values.len() / n;
    &values[i * len..(i + 1) * len]
}

impl Detector for I3ad {
    fn image(&self) -> ImageSpec {
        self.config.image()
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        Until::interruptible(|until| self.score_until(images, until))
    }

    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Scores> {
        let reached = self.iterate(images, until, None)?;
        self.scores(self.config.residual, &images.values()?, &reached)
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config, "u": self.u })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = container::store(&self.state, "network.")?;
        if let Some(standard) = &self.standard {
            tensors.extend(container::store(&standard.state()?, "standard.")?);
        }
        Ok(tensors)
    }

    fn as_extractor(&self) -> Option<&dyn Extractor> {
        Some(self)
    }

    fn as_explainable(&self) -> Option<&dyn Explainable> {
        Some(self)
    }
}

impl Explainable for I3ad {
    fn explanation(&self) -> Result<Explanation> {
        Ok(Explanation {
            heading: "Iterations",
            text: "Mask, reconstruction, and what is left of the difference after some iterations: an image is done when its mask no longer changes.",
        })
    }

    fn explain(&self, images: &Tensor) -> Result<Vec<Vec<Illustration>>> {
        self.illustrations(images)
    }

    fn sweeps(&self, images: &Tensor) -> Result<Vec<Vec<Sweep>>> {
        self.curves(images)
    }
}
