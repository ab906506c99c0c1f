//! The methods of hotad, one file each, and their registry.

#![forbid(unsafe_code)]

pub mod autoencoder;
pub mod autoencoders;
pub mod calibrate;
pub mod color_unet;
pub mod config;
pub mod detector;
pub mod distill;
pub mod ensemble;
pub mod evaluate;
pub mod export;
pub mod fancy_pca;
pub mod features;
pub mod i3ad;
pub mod jobs;
pub mod lea_net;
pub mod member;
pub mod model;
pub mod networks;
pub mod padim;
pub mod pae;
pub mod paedid;
pub mod patchcore;
pub mod prior;
pub mod rasl;
pub mod rescoring;
pub mod residual;
pub mod segmentation;
pub mod simplenet;
pub mod sweep;
pub mod synthetic;

use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::{Error, Result};
use toml::Table;

use autoencoders::anogan::{self, AnoGan, Inversion};
use autoencoders::{adversarial, memory, plain, projection};
use config::{Declared, Setting, Settings};
use detector::{Detector, FitContext};
use paedid::inpainting;
use residual::Residual;

/// Trains a method with the settings of a table over its defaults.
type Fit = fn(&Table, &FitContext) -> Result<Box<dyn Detector>>;

/// A method that can be trained.
pub struct Method {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    /// Whether it learns from defective images too.
    pub supervised: bool,
    /// Its settings, documented.
    pub settings: fn() -> String,
    /// What is known of each of them.
    pub declared: fn() -> Vec<Setting>,
    /// Checks settings without training.
    pub check: fn(&Table) -> Result<()>,
    /// Training.
    pub fit: Fit,
    /// Reading a trained one, of which [`Method::load`] has checked what all methods have in common.
    load: fn(&ModelFile, &Device) -> Result<Box<dyn Detector>>,
}

impl Method {
    /// Whether there is a setting of this name.
    pub fn has(&self, setting: &str) -> bool {
        (self.declared)().iter().any(|s| s.key == setting)
    }

    /// Reads a trained one. A model file is believed no more than a command line: settings pass the checks of `--set`, and
    /// whatever they imply is compared with the tensors before memory is taken for it.
    ///
    /// # Errors
    /// Names the setting, tensor or number that cannot be.
    pub fn load(&self, file: &ModelFile, device: &Device) -> Result<Box<dyn Detector>> {
        file.check()?;
        let detector = (self.load)(file, device)?;
        let (says, takes) = (file.image, detector.image());
        if says == takes {
            return Ok(detector);
        }
        Err(config::damaged(format!("images of {says} for a method that takes {takes}")))
    }
}

/// All methods.
pub const METHODS: &[Method] = &[
    Method {
        name: "paedid",
        summary: "patch autoencoder, memory bank and deep image decomposition (PAEDID)",
        supervised: false,
        settings: paedid::Config::documented,
        declared: paedid::Config::declared,
        check: |t| paedid::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(paedid::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(paedid::Paedid::load(f, d)?)),
    },
    Method {
        name: "pae",
        summary: "PAEDID without decomposition (baseline)",
        supervised: false,
        settings: paedid::Config::documented,
        declared: paedid::Config::declared,
        check: |t| paedid::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(pae::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(paedid::Paedid::load(f, d)?)),
    },
    Method {
        name: "patchcore",
        summary: "distances to a coreset of normal patch features (PatchCore)",
        supervised: false,
        settings: patchcore::Config::documented,
        declared: patchcore::Config::declared,
        check: |t| patchcore::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(patchcore::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(patchcore::PatchCore::load(f, d)?)),
    },
    Method {
        name: "padim",
        summary: "Mahalanobis distances to a Gaussian of normal features at each location (PaDiM)",
        supervised: false,
        settings: padim::Config::documented,
        declared: padim::Config::declared,
        check: |t| padim::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(padim::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(padim::Padim::load(f, d)?)),
    },
    Method {
        name: "simplenet",
        summary: "a discriminator of normal patch features and noisy ones (SimpleNet)",
        supervised: false,
        settings: simplenet::Config::documented,
        declared: simplenet::Config::declared,
        check: |t| simplenet::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(simplenet::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(simplenet::SimpleNet::load(f, d)?)),
    },
    Method {
        name: "ensemble",
        summary: "features of several trained models, fused, under one head (--member)",
        supervised: false,
        settings: ensemble::features::Config::documented,
        declared: ensemble::features::Config::declared,
        check: |t| ensemble::features::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(ensemble::features::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(ensemble::fused::FeatureEnsemble::load(f, d)?)),
    },
    Method {
        name: "score-ensemble",
        summary: "calibrated scores of several trained models, combined (--member)",
        supervised: false,
        settings: ensemble::scores::Config::documented,
        declared: ensemble::scores::Config::declared,
        check: |t| ensemble::scores::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(ensemble::scores::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(ensemble::scores::ScoreEnsemble::load(f, d)?)),
    },
    Method {
        name: "i3ad",
        summary: "iterative inpainting under SSIM masks (I3AD)",
        supervised: false,
        settings: i3ad::Config::documented,
        declared: i3ad::Config::declared,
        check: |t| i3ad::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(i3ad::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(i3ad::I3ad::load(f, d)?)),
    },
    Method {
        name: "paedid-i3ad",
        summary: "PAEDID's decomposition over a background that I3AD paints",
        supervised: false,
        settings: inpainting::Config::documented,
        declared: inpainting::Config::declared,
        check: |t| inpainting::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(inpainting::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(inpainting::InpaintedPaedid::load(f, d)?)),
    },
    Method {
        name: "l2-ae",
        summary: "autoencoder trained with squared error (baseline)",
        supervised: false,
        settings: plain::Config::documented,
        declared: plain::Config::declared,
        check: |t| plain::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(plain::fit(Settings::from_table(t)?, Residual::L2, c)?)),
        load: |f, d| Ok(Box::new(plain::load(f, Residual::L2, d)?)),
    },
    Method {
        name: "ssim-ae",
        summary: "autoencoder trained with SSIM (baseline)",
        supervised: false,
        settings: plain::Config::documented,
        declared: plain::Config::declared,
        check: |t| plain::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(plain::fit(Settings::from_table(t)?, Residual::Ssim, c)?)),
        load: |f, d| Ok(Box::new(plain::load(f, Residual::Ssim, d)?)),
    },
    Method {
        name: "iterative-projection",
        summary: "autoencoder, test images moved until it reconstructs them (baseline)",
        supervised: false,
        settings: projection::Config::documented,
        declared: projection::Config::declared,
        check: |t| projection::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(projection::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(projection::Projection::load(f, d)?)),
    },
    Method {
        name: "anogan",
        summary: "generative network, its latent space searched for each test image (baseline)",
        supervised: false,
        settings: anogan::Config::documented,
        declared: anogan::Config::declared,
        check: |t| anogan::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(anogan::fit(Settings::from_table(t)?, Inversion::Search, c)?)),
        load: |f, d| Ok(Box::new(AnoGan::load(f, Inversion::Search, d)?)),
    },
    Method {
        name: "f-anogan",
        summary: "generative network with an encoder for test images (baseline)",
        supervised: false,
        settings: anogan::Config::documented,
        declared: anogan::Config::declared,
        check: |t| anogan::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(anogan::fit(Settings::from_table(t)?, Inversion::Encoder, c)?)),
        load: |f, d| Ok(Box::new(AnoGan::load(f, Inversion::Encoder, d)?)),
    },
    Method {
        name: "ae-gan",
        summary: "autoencoder with a discriminator (baseline)",
        supervised: false,
        settings: adversarial::Config::documented,
        declared: adversarial::Config::declared,
        check: |t| adversarial::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(adversarial::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(adversarial::AeGan::load(f, d)?)),
    },
    Method {
        name: "mem-ae",
        summary: "autoencoder with a memory of normal latent vectors (baseline)",
        supervised: false,
        settings: memory::Config::documented,
        declared: memory::Config::declared,
        check: |t| memory::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(memory::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(memory::MemAe::load(f, d)?)),
    },
    Method {
        name: "rasl",
        summary: "robust alignment by sparse and low-rank decomposition (baseline)",
        supervised: false,
        settings: rasl::Config::documented,
        declared: rasl::Config::declared,
        check: |t| rasl::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(rasl::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(rasl::Rasl::load(f, d)?)),
    },
    Method {
        name: "color-unet",
        summary: "recolouring of gray images and CIEDE2000 anomaly maps",
        supervised: false,
        settings: color_unet::Config::documented,
        declared: color_unet::Config::declared,
        check: |t| color_unet::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(color_unet::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(color_unet::ColorUnet::load(f, d)?)),
    },
    Method {
        name: "lea-net",
        summary: "colour anomaly maps as layer-wise attention of a classifier (LEA-Net); learns from defects too",
        supervised: true,
        settings: lea_net::Config::documented,
        declared: lea_net::Config::declared,
        check: |t| lea_net::Config::from_table(t).map(drop),
        fit: |t, c| Ok(Box::new(lea_net::fit(Settings::from_table(t)?, c)?)),
        load: |f, d| Ok(Box::new(lea_net::LeaNet::load(f, d)?)),
    },
];

/// A method by name.
///
/// # Errors
/// When there is none of that name; lists those there are.
pub fn method(name: &str) -> Result<&'static Method> {
    METHODS.iter().find(|m| m.name == name).ok_or_else(|| {
        let names: Vec<&str> = METHODS.iter().map(|m| m.name).collect();
        Error::Config(format!("unknown method {name:?}; known are {}", names.join(", ")))
    })
}
