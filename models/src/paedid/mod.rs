//! PAEDID: patch-autoencoder-based deep image decomposition (Mou et al., papers/paedid).
//!
//! 1. A patch autoencoder learns normal images by squared error (algorithm 1, step 1).
//! 2. A memory bank keeps its latent vectors, location by location (step 2).
//! 3. For a test image, the share alpha of locations least like any normal one, s = 1 - cosine, get
//!    their nearest normal vector; decoded, that is the background prior (steps 3 and 4). The paper
//!    writes argmin and min of the cosine; that is a slip, the nearest is the largest cosine.
//! 4. Decomposition: L minimises (1 - mean SSIM(L, prior)) + lambda * sum |X - L| (equation 3) by
//!    Adam from L = prior; the defect is S = X - L.
//! 5. |S|, averaged over channels, is the anomaly map. The paper has no image score; it notes that s tells
//!    where the defect is. Here it is the mean of the largest s, each measured against its location's spread
//!    over training images (spread.rs); or, as a setting, the mean of s over the replaced patches, or the
//!    maximum of the map after a small blur.
//!
//! What else the paper leaves open: steps and learning rate (decomposition.rs); alpha and lambda
//! by cross-validation, here on synthetic cracks over held-out normals (choose.rs). What it does not have:
//! a search of the most similar images alone, where that does better on the same cracks; single pixels taken
//! out of S; and, off by default, images aligned to the most similar ones of the bank, a search of neighbouring locations,
//! further views of each image in the bank and a soft threshold of S.

mod choose;
mod config;
mod decomposition;
mod explain;
pub mod inpainting;
mod lambda;
pub mod pae;
mod spread;

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::planned::{Outputs, Planned};
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Error, Result};
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::device::{Buffer, HostBuffer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smallvec::smallvec;

use crate::anomaly_map::AnomalyMap;
use crate::autoencoder::{PatchAutoencoder, TrainedAutoencoder};
use crate::config::{Choice, SHARE, Settings, damaged, require, require_sides};
use crate::detector::{Detector, EditableBank, Exportable, Score, Scores};
use crate::explanation::{Explainable, Explanation, Illustration};
use crate::export::{self, Exported};
use crate::features::Extractor;
use crate::fit::{FitContext, Schedule};
use crate::method::{LoadContext, Method};
use crate::prior::{Aligned, PatchPrior, Replaced, vectors_of_image};
use crate::segmentation::{largest, smooth};

use config::MOST_SIMILAR;
use decomposition::residual;
use spread::Spread;

pub use config::{Config, ImageScore, NetworkChoice};
pub use decomposition::DecompositionSettings;

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(deserialize_with = "config::of_file")]
    settings: Config,
    alpha: f64,
    lambda: Option<f32>,
    /// Images of the bank that are searched; files of earlier versions, whose settings say it, have none.
    similar: Option<f64>,
    /// What `score` was when training ended; files of earlier versions, whose settings say it, have none.
    score: Option<ImageScore>,
    entries: Vec<String>,
}

impl Saved {
    /// Fails for what training never finds.
    fn check(&self) -> Result<()> {
        SHARE.require("alpha", self.alpha)?;
        check_lambda(self.lambda.unwrap_or(1.0))?;
        if !Choice::Fixed(self.similar()?).is_auto_or_count(MOST_SIMILAR) {
            return Err(damaged("how many images are searched"));
        }
        if [self.score, Some(self.score())].contains(&Some(ImageScore::Auto)) {
            return Err(damaged("a score that is not chosen"));
        }
        Ok(())
    }

    /// Images of the bank that are searched.
    fn similar(&self) -> Result<f64> {
        let similar = self.similar.or_else(|| self.settings.similar.fixed());
        similar.ok_or_else(|| damaged("how many images are searched is not chosen"))
    }

    /// The image score: that of the settings, or what training has chosen.
    fn score(&self) -> ImageScore {
        match self.settings.score {
            ImageScore::Auto => self.score.unwrap_or(ImageScore::Auto),
            fixed => fixed,
        }
    }
}

/// Fails for a weight of the L1 term that is not one.
pub(super) fn check_lambda(lambda: f32) -> Result<()> {
    require(lambda > 0.0 && lambda.is_finite(), "lambda", lambda, "a number above 0")
}

/// A trained PAEDID, or PAE when there is no decomposition.
pub struct Paedid {
    config: Config,
    image: ImageSpec,
    prior: PatchPrior,
    /// Lambda of the decomposition; `None` for PAE.
    lambda: Option<f32>,
    /// What s is of normal images; files of earlier versions have none.
    spread: Option<Spread>,
    /// The image score, never `Auto`.
    score: ImageScore,
    planned: Planned,
}

impl Method for Paedid {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "paedid";
    const SUMMARY: &'static str = "patch autoencoder, memory bank and deep image decomposition (PAEDID)";
    const BANK: bool = true;
    const WARM_START: bool = true;
    const EXPLAINABLE: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let mut model = fit_prior(config, context, Self::NAME)?;
        model.choose(context, true)?;
        Ok(model)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone()).map_err(damaged)?;
        saved.check()?;
        require_sides(file.image, saved.settings.image_size)?;
        let network = PatchAutoencoder::checked(&saved.settings.network.widths()?, file.image)?;
        let params = network.load(&container::restore(&file.tensors, "network.")?, context.device)?;
        let latent = network.latent();
        let data = match file.tensors.get("bank") {
            Some(Stored::F16(_, v)) => BankData::F16(v.clone()),
            Some(Stored::F32(_, v)) => BankData::F32(v.clone()),
            None => return Err(Error::Config("tensor \"bank\" is missing".into())),
        };
        let views = saved.settings.bank_views.clone();
        let count = saved.entries.len() * vectors_of_image(&views);
        let bank = LocationBank::new(latent.locations(), count, latent.elements, data).map_err(damaged)?;
        let (score, similar) = (saved.score(), saved.similar()? as usize);
        let spread = match file.tensors.contains_key("spread.mean") {
            true => Some(Spread::restored(&container::restore(&file.tensors, "spread.")?, latent.locations())?),
            false if score == ImageScore::Standardised => {
                let reason = "this model does not know the spread of distances; train it again";
                return Err(Error::Config(format!("setting score = \"standardised\": {reason}")));
            }
            false => None,
        };
        let prior = PatchPrior {
            autoencoder: TrainedAutoencoder::new(network, params)?,
            bank,
            entries: saved.entries,
            views,
            alpha: saved.alpha,
            reach: saved.settings.reach,
            similar,
            align: saved.settings.align,
        };
        Ok(Self {
            config: saved.settings,
            image: file.image,
            prior,
            lambda: saved.lambda,
            spread,
            score,
            planned: Planned::default(),
        })
    }
}

/// Trains everything before the decomposition; what is `auto` and the spread of distances are still to be found.
pub(crate) fn fit_prior(config: Config, context: &FitContext, method: &str) -> Result<Paedid> {
    let channels = config.channels.resolve(context.gray)?;
    let image = config.image_size.image(channels);
    let network = PatchAutoencoder::new(&config.network.widths()?, image);
    let schedule = Schedule { epochs: config.epochs, batch: config.batch, patience: config.patience };
    let settings = config.learning();
    let start = (context, "network.");
    let autoencoder = TrainedAutoencoder::fit(network, (&schedule, config.lr), start, (method, &settings))?;
    let bank = (config.bank, config.bank_views.clone());
    let views = match vectors_of_image(&bank.1) {
        1 => String::new(),
        all => format!(", each with {} further views", all - 1),
    };
    context.observer.say(&format!("building the memory bank from {} images{views}", context.train.len()));
    let mut prior = PatchPrior::build(autoencoder, context.train, image, config.batch, bank, PAPER_ALPHA)?;
    (prior.reach, prior.similar, prior.align) = (config.reach, config.similar.fixed_count().unwrap_or(0), config.align);
    let (zeros, (locations, count, _)) = (prior.bank.zeros(), prior.bank.shape());
    if zeros > 0 {
        context.observer.say(&format!("{zeros} of {} vectors of the memory bank are zero", locations * count));
    }
    let score = config.score;
    Ok(Paedid { config, image, prior, lambda: None, spread: None, score, planned: Planned::default() })
}

/// The paper's alpha, where there is nothing to choose on.
const PAPER_ALPHA: f64 = 0.03;

impl Paedid {
    /// Images aligned to the bank, where they are.
    fn aligned(&self, images: &Tensor) -> Result<Option<Aligned>> {
        (self.prior.align > 0).then(|| self.prior.aligned(images, None)).transpose()
    }

    /// Anomaly maps of images on its device, and what the prior has found.
    fn maps(&self, images: &Tensor, until: &Until) -> Result<(Buffer, Replaced)> {
        let replaced = self.prior.replaced(images)?;
        let prior = self.prior.autoencoder.decode(&replaced.features)?;
        let maps = match self.lambda {
            Some(lambda) => self.config.decomposition.with(lambda).maps_until(images, &prior, until)?,
            None => residual(images, prior.view())?,
        };
        Ok((maps, replaced))
    }

    /// What image scores of a kind are taken from.
    fn evidence(&self, kind: ImageScore, maps: &Buffer, replaced: &Replaced) -> Result<Buffer> {
        match kind {
            ImageScore::Patch => Ok(replaced.image_scores.clone()),
            ImageScore::Standardised => Ok(replaced.distance.clone()),
            ImageScore::Map | ImageScore::Auto => smooth(maps, self.image, self.config.score_blur as f32),
        }
    }

    /// Image scores of a kind from the values of [`Paedid::evidence`].
    fn image_scores(&self, kind: ImageScore, evidence: &[f32]) -> HostBuffer<f32> {
        match (kind, &self.spread) {
            (ImageScore::Patch, _) => HostBuffer::copied(evidence),
            (ImageScore::Standardised, Some(spread)) => spread.scores(evidence, self.config.top_share),
            _ => HostBuffer::collect(evidence.chunks_exact(self.image.height * self.image.width).map(largest)),
        }
    }

    /// All that is computed on the device: anomaly maps, and what image scores are taken from.
    fn queued(&self, images: &Tensor, until: &Until) -> Result<Outputs> {
        let images = images.to(self.prior.autoencoder.params.device())?;
        let (maps, replaced) = self.maps(&images, until)?;
        let evidence = self.evidence(self.score, &maps, &replaced)?;
        Ok(smallvec![maps, evidence])
    }
}

impl Detector for Paedid {
    fn image(&self) -> ImageSpec {
        self.image
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        Until::interruptible(|until| self.score_until(images, until))
    }

    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Scores> {
        let (device, aligned) = (self.prior.autoencoder.params.device(), self.aligned(images)?);
        let images = aligned.as_ref().map_or(images, |aligned| &aligned.images);
        let mut values = self.planned.run(images, device, |images| self.queued(images, until))?;
        if let Some(aligned) = aligned {
            aligned.restore(&mut values[0]);
        }
        let scores = self.image_scores(self.score, &values[1]);
        let scores = scores.iter().zip(AnomalyMap::of_batch(&values[0], self.image));
        Ok(scores.map(|(value, map)| Score { value: *value, map }).collect())
    }

    fn config(&self) -> Value {
        let saved = Saved {
            settings: self.config.clone(),
            alpha: self.prior.alpha,
            lambda: self.lambda,
            similar: Some(self.prior.similar as f64),
            score: Some(self.score),
            entries: self.prior.entries.clone(),
        };
        serde_json::to_value(saved).expect("settings are plain data")
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let (locations, count, d) = self.prior.bank.shape();
        let shape = vec![locations, count, d];
        let bank = match self.prior.bank.data() {
            BankData::F16(v) => Stored::F16(shape, v.clone()),
            BankData::F32(v) => Stored::F32(shape, v.clone()),
        };
        let mut tensors = container::store(&self.prior.autoencoder.params.values()?, "network.")?;
        tensors.insert("bank".into(), bank);
        if let Some(spread) = &self.spread {
            tensors.extend(container::store(&spread.state()?, "spread.")?);
        }
        Ok(tensors)
    }

    fn as_extractor(&self) -> Option<&dyn Extractor> {
        Some(&self.prior.autoencoder)
    }

    fn as_bank(&mut self) -> Option<&mut dyn EditableBank> {
        // What is recorded searches the bank as it was.
        self.planned = Planned::default();
        Some(&mut self.prior)
    }

    fn bank_takes_holdout(&self) -> bool {
        self.config.bank_holdout
    }

    fn as_explainable(&self) -> Option<&dyn Explainable> {
        Some(self)
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Explainable for Paedid {
    fn explanation(&self) -> Result<Explanation> {
        Ok(explain::EXPLANATION)
    }

    fn explain(&self, images: &Tensor) -> Result<Vec<Vec<Illustration>>> {
        let aligned = self.aligned(images)?;
        let images = aligned.as_ref().map_or(images, |aligned| &aligned.images);
        let images = images.to(self.prior.autoencoder.params.device())?;
        explain::illustrations(self, &images, self.lambda.map(|lambda| self.config.decomposition.with(lambda)))
    }
}

impl Exportable for Paedid {
    fn export(&self) -> Result<Exported> {
        let left_out = "the memory bank, the replacement of patches, decomposition and score";
        export::patch_autoencoder(&self.prior.autoencoder, left_out)
    }
}
