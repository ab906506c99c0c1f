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

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::ssim::SsimOptions;
use hotad_kernels::window::{Border, Window};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::autoencoder::{ELPV, PatchAutoencoder, VGG};
use crate::config::{Settings, require};
use crate::detector::{Detector, EditableBank, FitContext, Schedule, Score, Training};
use crate::prior::{Background, BackgroundPrior, BankType, PatchPrior};
use crate::segmentation::{magnitude, scores};
use crate::synthetic::{Cracks, cracks};

/// A number, or how it is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    /// This value.
    Fixed(f64),
    /// `"auto"`: the best on synthetic cracks over held-out normals.
    Word(String),
}

impl Choice {
    /// The value, when it is fixed.
    fn fixed(&self) -> Option<f64> {
        match self {
            Self::Fixed(v) => Some(*v),
            Self::Word(_) => None,
        }
    }

    fn check(&self, key: &str, allowed: &str, ok: impl Fn(f64) -> bool) -> Result<()> {
        match self {
            Self::Word(word) => require(word == "auto", key, word, allowed),
            Self::Fixed(v) => require(ok(*v), key, v, allowed),
        }
    }
}

/// Settings of the patch autoencoder, its bank and the prior; shared with `pae`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Rows and columns of the images, a multiple of 2 for each layer.
    pub image_size: usize,
    /// `auto`, 1 or 3.
    pub channels: Channels,
    /// `vgg`, `elpv`, or a list of widths.
    pub network: Network,
    /// Most epochs.
    pub epochs: usize,
    /// Images of one step.
    pub batch: usize,
    /// Learning rate of the autoencoder.
    pub lr: f64,
    /// Epochs without improvement before stopping.
    pub patience: usize,
    /// Share of locations that are replaced.
    pub alpha: Choice,
    /// Precision of the memory bank.
    pub bank: BankType,
    /// Weight of the L1 term.
    pub lambda: Choice,
    /// Adam steps of the decomposition. At the default rate the objective has settled by then: on
    /// cracks over solar cells the last ten of 100 steps change it by less than 0.1 %.
    pub steps: u32,
    /// Learning rate of the decomposition.
    pub decompose_lr: f64,
    /// Where the image score comes from.
    pub score: ImageScore,
    /// Blur of the anomaly map before its maximum is taken, in pixels.
    pub score_blur: f64,
}

/// Where the image score comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageScore {
    /// The mean of s = 1 - cosine over the replaced patches: how far they are from any normal one.
    #[default]
    Patch,
    /// The largest value of the blurred anomaly map.
    Map,
}

/// Number of channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Channels {
    /// 1 or 3.
    Count(usize),
    /// `"auto"`: 1 when all images are gray.
    Word(String),
}

impl Channels {
    /// The number, once it is known whether the images are gray.
    ///
    /// # Errors
    /// For anything but `auto`, 1 and 3.
    pub fn resolve(&self, gray: bool) -> Result<usize> {
        match self {
            Self::Word(word) if word == "auto" => Ok(if gray { 1 } else { 3 }),
            Self::Count(n @ (1 | 3)) => Ok(*n),
            Self::Word(word) => Err(Error::Config(format!("setting channels = {word:?}: use \"auto\", 1 or 3"))),
            Self::Count(n) => Err(Error::Config(format!("setting channels = {n}: use \"auto\", 1 or 3"))),
        }
    }
}

/// Widths of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Network {
    /// `vgg` or `elpv`.
    Name(String),
    /// One width for each layer.
    Widths(Vec<usize>),
}

impl Network {
    fn widths(&self) -> Result<Vec<usize>> {
        match self {
            Self::Name(name) if name == "vgg" => Ok(VGG.to_vec()),
            Self::Name(name) if name == "elpv" => Ok(ELPV.to_vec()),
            Self::Name(name) => {
                Err(Error::Config(format!("setting network = {name:?}: use \"vgg\", \"elpv\" or a list of widths")))
            }
            Self::Widths(widths) => Ok(widths.clone()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image_size: 128,
            channels: Channels::Word("auto".into()),
            network: Network::Name("elpv".into()),
            epochs: 100,
            batch: 16,
            lr: 1e-3,
            patience: 20,
            alpha: Choice::Word("auto".into()),
            bank: BankType::F16,
            lambda: Choice::Word("auto".into()),
            steps: 100,
            decompose_lr: 0.02,
            score: ImageScore::Patch,
            score_blur: 1.0,
        }
    }
}

impl Settings for Config {
    const DOCS: &'static [(&'static str, &'static str)] = &[
        ("image_size", "rows and columns the images are brought to; a multiple of 2 for each layer"),
        ("channels", "\"auto\" (1 when all images are gray, else 3), 1 or 3"),
        ("network", "\"vgg\" (64, 128), \"elpv\" (3, 9, 27, 81) or a list of widths, one for each layer"),
        ("epochs", "most epochs of the autoencoder"),
        ("batch", "images of one step"),
        ("lr", "learning rate of the autoencoder (Adam)"),
        ("patience", "epochs without a lower validation loss before stopping; 0 never stops early"),
        (
            "alpha",
            "share of patches that are replaced by their nearest normal one, 0 to 1 (paper: 0.03), or \"auto\": as lambda",
        ),
        ("bank", "\"f16\" or \"f32\": precision of the memory bank"),
        (
            "lambda",
            "weight of the L1 term (paper: 1e-5, 6e-4), or \"auto\": the best on synthetic cracks over held-out normals",
        ),
        ("steps", "Adam steps of the decomposition"),
        ("decompose_lr", "learning rate of the decomposition"),
        (
            "score",
            "image score: \"patch\" (mean distance of the replaced patches to the bank) or \"map\" (largest value of the blurred anomaly map)",
        ),
        ("score_blur", "for score = \"map\": blur in pixels before the largest value is taken; 0 for none"),
    ];

    fn check(&self) -> Result<()> {
        let widths = self.network.widths()?;
        let layers = widths.len();
        require(
            (1..=6).contains(&layers) && widths.iter().all(|w| (1..=1024).contains(w)),
            "network",
            format!("{widths:?}"),
            "1 to 6 widths of 1 to 1024",
        )?;
        require(
            self.image_size.is_multiple_of(1 << layers) && (16..=1024).contains(&self.image_size),
            "image_size",
            self.image_size,
            &format!("16 to 1024, a multiple of {}", 1 << layers),
        )?;
        self.channels.resolve(true)?;
        require(self.epochs >= 1, "epochs", self.epochs, "1 or more")?;
        require((1..=1024).contains(&self.batch), "batch", self.batch, "1 to 1024")?;
        require(self.lr > 0.0 && self.lr < 1.0, "lr", self.lr, "above 0, below 1")?;
        self.alpha.check("alpha", "0 to 1, or \"auto\"", |v| (0.0..=1.0).contains(&v))?;
        self.lambda.check("lambda", "a number above 0, or \"auto\"", |v| v > 0.0 && v.is_finite())?;
        require((1..=10_000).contains(&self.steps), "steps", self.steps, "1 to 10000")?;
        require(
            self.decompose_lr > 0.0 && self.decompose_lr < 1.0,
            "decompose_lr",
            self.decompose_lr,
            "above 0, below 1",
        )?;
        require((0.0..=20.0).contains(&self.score_blur), "score_blur", self.score_blur, "0 to 20")
    }
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    settings: Config,
    alpha: f64,
    lambda: Option<f32>,
    entries: Vec<String>,
}

/// A trained PAEDID, or PAE when there is no decomposition.
pub struct Paedid {
    config: Config,
    image: ImageSpec,
    prior: PatchPrior,
    /// Lambda of the decomposition; `None` for PAE.
    lambda: Option<f32>,
}

/// Trains PAEDID.
///
/// # Errors
/// Bad settings or images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<Paedid> {
    let mut model = fit_prior(config, context, "paedid")?;
    let chosen = choose(&mut model, context, true)?;
    model.lambda = Some(chosen.lambda);
    Ok(model)
}

/// Trains everything before the decomposition.
pub(crate) fn fit_prior(config: Config, context: &FitContext, method: &str) -> Result<Paedid> {
    let channels = config.channels.resolve(context.gray)?;
    let image = ImageSpec { height: config.image_size, width: config.image_size, channels };
    let network = PatchAutoencoder::new(&config.network.widths()?, image);
    let mut learner = Training {
        params: network.init(context.seed),
        adam: AdamOptions { lr: config.lr as f32, ..AdamOptions::default() },
        loss: |params: &_, images: &_, tracked| network.reconstruction_loss(params, images, tracked),
    };
    let schedule = Schedule { epochs: config.epochs, batch: config.batch, patience: config.patience };
    let settings = serde_json::to_value(&config).expect("settings are plain data");
    context.run(&mut learner, image, &schedule, method, &settings)?;
    let params = learner.params;
    (context.say)(&format!("building the memory bank from {} images", context.train.len()));
    let options = (config.batch, config.bank, PAPER_ALPHA);
    let prior = PatchPrior::build(network, params, context.train, image, options)?;
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
/// over held-out normals. Lambdas are spaced by half a decade around 1 / (number of elements), where
/// both terms of equation 3 pull equally. Sets the model's alpha. Without decomposition (PAE) there is
/// no lambda to choose.
///
/// # Errors
/// When a held-out image cannot be read.
pub(crate) fn choose(model: &mut Paedid, context: &FitContext, decomposes: bool) -> Result<Chosen> {
    let middle = 1.0 / model.image.len() as f32;
    let grid = || (-1..=3).map(|e| middle * 10f32.powf(e as f32 * 0.5)).collect();
    let alphas = model.config.alpha.fixed().map_or(ALPHAS.to_vec(), |a| vec![a]);
    let lambdas: Vec<f32> = match model.config.lambda.fixed() {
        Some(lambda) => vec![lambda as f32],
        None if decomposes => grid(),
        None => vec![middle],
    };
    let mut best = Chosen { dice: f64::NEG_INFINITY, alpha: alphas[0], lambda: lambdas[0] };
    if alphas.len() * lambdas.len() > 1 {
        let cracks: Cracks = cracks(context.holdout, model.image, context.seed)?;
        for alpha in alphas {
            model.prior.alpha = alpha;
            let background = model.prior.background(&cracks.images)?.images;
            for lambda in &lambdas {
                hotad_engine::interrupt::check()?;
                let maps = match decomposes {
                    true => model.defect_maps(&cracks.images, &background, *lambda)?,
                    false => residual(&cracks.images, background.data()),
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
        (context.say)(&line);
    }
    model.prior.alpha = best.alpha;
    Ok(best)
}

impl Paedid {
    /// |X - L| averaged over channels, L the decomposed background.
    fn defect_maps(&self, images: &Tensor, prior: &Tensor, lambda: f32) -> Result<Vec<f32>> {
        let mut background = vec![0.0; images.data().len()];
        let opts = DecomposeOptions {
            lambda,
            steps: self.config.steps,
            adam: AdamOptions { lr: self.config.decompose_lr as f32, ..AdamOptions::default() },
            ssim: SsimOptions {
                window: Window::Gaussian { size: 11, sigma: 1.5 },
                border: Border::Symmetric,
                ..SsimOptions::default()
            },
        };
        decompose(images.data(), prior.data(), images.nhwc()?, &opts, &mut background)?;
        Ok(residual(images, &background))
    }

    /// Reads a model of method `method`.
    pub(crate) fn load(file: &ModelFile) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone())
            .map_err(|e| Error::Config(format!("damaged settings in the model file ({e})")))?;
        let network = PatchAutoencoder::new(&saved.settings.network.widths()?, file.image);
        let params = network.load(&container::restore(&file.tensors, "network.")?)?;
        let (p1, p2, d) = network.latent();
        let data = match file.tensors.get("bank") {
            Some(Stored::F16(_, v)) => BankData::F16(v.clone()),
            Some(Stored::F32(_, v)) => BankData::F32(v.clone()),
            None => return Err(Error::Config("tensor \"bank\" is missing".into())),
        };
        let bank = LocationBank::new(p1 * p2, saved.entries.len(), d, data)?;
        let prior = PatchPrior { network, params, bank, entries: saved.entries, alpha: saved.alpha };
        Ok(Self { config: saved.settings, image: file.image, prior, lambda: saved.lambda })
    }
}

/// |X - L| averaged over channels.
fn residual(images: &Tensor, background: &[f32]) -> Vec<f32> {
    let defect = images.data().iter().zip(background).map(|(x, l)| x - l);
    magnitude(defect, images.shape()[3])
}

impl Detector for Paedid {
    fn method(&self) -> &'static str {
        if self.lambda.is_some() { "paedid" } else { "pae" }
    }

    fn image(&self) -> ImageSpec {
        self.image
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        let Background { images: prior, unlikeness } = self.prior.background(images)?;
        let maps = match self.lambda {
            Some(lambda) => self.defect_maps(images, &prior, lambda)?,
            None => residual(images, prior.data()),
        };
        let mut scores = scores(maps, self.image, self.config.score_blur as f32)?;
        if self.config.score == ImageScore::Patch {
            scores.iter_mut().zip(unlikeness).for_each(|(score, u)| score.value = u);
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

    fn tensors(&self) -> BTreeMap<String, Stored> {
        let (locations, entries, d) = self.prior.bank.shape();
        let shape = vec![locations, entries, d];
        let bank = match self.prior.bank.data() {
            BankData::F16(v) => Stored::F16(shape, v.clone()),
            BankData::F32(v) => Stored::F32(shape, v.clone()),
        };
        let mut tensors: BTreeMap<_, _> = container::store(&self.prior.params.values(), "network.").collect();
        tensors.insert("bank".into(), bank);
        tensors
    }

    fn bank(&mut self) -> Option<&mut dyn EditableBank> {
        Some(&mut self.prior)
    }
}
