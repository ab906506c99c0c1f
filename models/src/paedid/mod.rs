//! PAEDID: patch-autoencoder-based deep image decomposition (Mou et al., papers/paedid).
//!
//! 1. A patch autoencoder learns normal images by squared error (algorithm 1, step 1).
//! 2. A memory bank keeps its latent vectors, location by location (step 2).
//! 3. For a test image, the share alpha of locations least like any normal one, s = 1 - cosine, get
//!    their nearest normal vector; decoded, that is the background prior (steps 3 and 4). The paper
//!    writes argmin and min of the cosine; that is a slip, the nearest is the largest cosine.
//! 4. Decomposition: L minimises (1 - mean SSIM(L, prior)) + lambda * sum |X - L| (equation 3) by
//!    Adam from L = prior; the defect is S = X - L.
//! 5. |S|, averaged over channels, is the anomaly map. The image score is the mean of s over the
//!    replaced patches: the paper notes that s tells where the defect is; or, as a setting, the
//!    maximum of the map after a small blur.
//!
//! What the paper leaves open: steps and learning rate (see [`Config::steps`]); alpha and lambda
//! by cross-validation, here on synthetic cracks over held-out normals.

mod config;
mod decomposition;
mod explain;
pub mod inpainting;
pub mod pae;

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Error, Result};
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::autoencoder::{PatchAutoencoder, TrainedAutoencoder};
use crate::config::{SHARE, Settings, checked, damaged, require, require_square};
use crate::detector::{Detector, EditableBank, Exportable, Score};
use crate::explanation::{Explainable, Explanation, Illustration};
use crate::export::{self, Exported};
use crate::features::Extractor;
use crate::fit::{FitContext, Schedule};
use crate::method::{LoadContext, Method};
use crate::prior::{Background, BackgroundPrior, PatchPrior};
use crate::segmentation::{Aggregate, scores};
use crate::synthetic::{Cracks, cracks};

use decomposition::{Decomposition, lambdas, residual};

pub use config::{Config, ImageScore, NetworkChoice};

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(deserialize_with = "checked")]
    settings: Config,
    alpha: f64,
    lambda: Option<f32>,
    entries: Vec<String>,
}

impl Saved {
    /// Fails for what training never finds.
    fn check(&self) -> Result<()> {
        SHARE.require("alpha", self.alpha)?;
        check_lambda(self.lambda.unwrap_or(1.0))
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
        let chosen = choose(&mut model, context, true)?;
        model.lambda = Some(chosen.lambda);
        Ok(model)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone()).map_err(damaged)?;
        saved.check()?;
        require_square(file.image, saved.settings.image_size)?;
        let network = PatchAutoencoder::checked(&saved.settings.network.widths()?, file.image)?;
        let params = network.load(&container::restore(&file.tensors, "network.")?, context.device)?;
        let latent = network.latent();
        let data = match file.tensors.get("bank") {
            Some(Stored::F16(_, v)) => BankData::F16(v.clone()),
            Some(Stored::F32(_, v)) => BankData::F32(v.clone()),
            None => return Err(Error::Config("tensor \"bank\" is missing".into())),
        };
        let bank = LocationBank::new(latent.locations(), saved.entries.len(), latent.elements, data)?;
        let prior = PatchPrior {
            autoencoder: TrainedAutoencoder::new(network, params)?,
            bank,
            entries: saved.entries,
            alpha: saved.alpha,
        };
        Ok(Self { config: saved.settings, image: file.image, prior, lambda: saved.lambda })
    }
}

/// Trains everything before the decomposition.
pub(crate) fn fit_prior(config: Config, context: &FitContext, method: &str) -> Result<Paedid> {
    let channels = config.channels.resolve(context.gray)?;
    let image = ImageSpec { height: config.image_size, width: config.image_size, channels };
    let network = PatchAutoencoder::new(&config.network.widths()?, image);
    let schedule = Schedule { epochs: config.epochs, batch: config.batch, patience: config.patience };
    let settings = config.learning();
    let autoencoder = TrainedAutoencoder::fit(network, (&schedule, config.lr), context, (method, &settings))?;
    context.observer.say(&format!("building the memory bank from {} images", context.train.len()));
    let prior = PatchPrior::build(autoencoder, context.train, image, config.batch, config.bank, PAPER_ALPHA)?;
    Ok(Paedid { config, image, prior, lambda: None })
}

/// The paper's alpha, where there is nothing to choose on.
const PAPER_ALPHA: f64 = 0.03;

/// Alphas that are tried.
const ALPHAS: [f64; 6] = [0.03, 0.1, 0.2, 0.3, 0.5, 1.0];

/// Alpha and lambda with the Dice they reach.
pub(crate) struct Chosen {
    dice: f64,
    alpha: f64,
    lambda: f32,
}

/// Finds what is `auto` among alpha and lambda: the pair with the largest Dice on synthetic cracks
/// over held-out normals. Sets the model's alpha. Without decomposition (PAE) there is
/// no lambda to choose.
///
/// # Errors
/// When a held-out image cannot be read.
pub(crate) fn choose(model: &mut Paedid, context: &FitContext, decomposes: bool) -> Result<Chosen> {
    let alphas = model.config.alpha.fixed().map_or(ALPHAS.to_vec(), |a| vec![a]);
    let lambdas: Vec<f32> = match model.config.lambda.fixed() {
        Some(lambda) => vec![lambda as f32],
        None if decomposes => lambdas(model.image),
        None => vec![1.0],
    };
    let mut best = Chosen { dice: f64::NEG_INFINITY, alpha: alphas[0], lambda: lambdas[0] };
    if alphas.len() * lambdas.len() > 1 {
        let cracks: Cracks = cracks(context.holdout, model.image, context.seed)?;
        let images = cracks.images.to(context.device)?;
        for alpha in alphas {
            model.prior.alpha = alpha;
            let background = model.prior.background(&images)?.images;
            for lambda in &lambdas {
                hotad_engine::interrupt::check()?;
                let maps = match decomposes {
                    true => model.decomposition(*lambda).maps(&images, &background)?,
                    false => residual(&images, background.view())?,
                };
                let dice = cracks.best_dice(&maps).map_or(0.0, |(dice, _)| dice);
                if dice > best.dice {
                    best = Chosen { dice, alpha, lambda: *lambda };
                }
            }
        }
        let lambda = if decomposes { format!(", lambda {:.2e}", best.lambda) } else { String::new() };
        let line =
            format!("chose alpha {}{lambda}: Dice {:.4} on {} synthetic cracks", best.alpha, best.dice, cracks.len());
        context.observer.say(&line);
    }
    model.prior.alpha = best.alpha;
    Ok(best)
}

impl Paedid {
    /// How images are decomposed for some lambda.
    fn decomposition(&self, lambda: f32) -> Decomposition {
        Decomposition { lambda, steps: self.config.steps, lr: self.config.decompose_lr as f32 }
    }
}

impl Detector for Paedid {
    fn image(&self) -> ImageSpec {
        self.image
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        self.score_until(images, &Until::done())
    }

    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Vec<Score>> {
        let images = images.to(self.prior.autoencoder.params.device())?;
        let Background { images: prior, image_scores } = self.prior.background(&images)?;
        let maps = match self.lambda {
            Some(lambda) => self.decomposition(lambda).maps_until(&images, &prior, until)?,
            None => residual(&images, prior.view())?,
        };
        let mut scores = scores(maps, self.image, self.config.score_blur as f32, Aggregate::Max)?;
        if self.config.score == ImageScore::Patch {
            scores.iter_mut().zip(image_scores.into_vec()?).for_each(|(score, u)| score.value = u);
        }
        Ok(scores)
    }

    fn config(&self) -> Value {
        let saved = Saved {
            settings: self.config.clone(),
            alpha: self.prior.alpha,
            lambda: self.lambda,
            entries: self.prior.entries.clone(),
        };
        serde_json::to_value(saved).expect("settings are plain data")
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let (locations, entries, d) = self.prior.bank.shape();
        let shape = vec![locations, entries, d];
        let bank = match self.prior.bank.data() {
            BankData::F16(v) => Stored::F16(shape, v.clone()),
            BankData::F32(v) => Stored::F32(shape, v.clone()),
        };
        let mut tensors = container::store(&self.prior.autoencoder.params.values()?, "network.")?;
        tensors.insert("bank".into(), bank);
        Ok(tensors)
    }

    fn as_extractor(&self) -> Option<&dyn Extractor> {
        Some(&self.prior.autoencoder)
    }

    fn as_bank(&mut self) -> Option<&mut dyn EditableBank> {
        Some(&mut self.prior)
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
        let images = images.to(self.prior.autoencoder.params.device())?;
        explain::illustrations(self, &images, self.lambda.map(|lambda| self.decomposition(lambda)))
    }
}

impl Exportable for Paedid {
    fn export(&self) -> Result<Exported> {
        let left_out = "the memory bank, the replacement of patches, decomposition and score";
        export::patch_autoencoder(&self.prior.autoencoder, left_out)
    }
}
