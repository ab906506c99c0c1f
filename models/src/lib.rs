//! The methods of hotad, each in a file or folder of its own, their list ([`METHODS`]), and what programs do with them ([`jobs`]).
//!
//! ```no_run
//! use hotad_engine::device::Device;
//! use hotad_models::jobs::{EvaluateJob, TrainJob};
//! use hotad_models::model::Model;
//!
//! # fn main() -> hotad_engine::Result<()> {
//! let job = TrainJob { out: Some("parts.safetensors".into()), ..TrainJob::new("patchcore", "parts") };
//! let model: Model = job.run(&())?; // `()` is an observer that is told the progress and says nothing
//! println!("an anomaly above {}", model.calibration.image_threshold);
//!
//! let metrics = EvaluateJob::new("parts.safetensors", "parts").run(&())?;
//! let again = Model::load("parts.safetensors".as_ref(), &Device::CPU)?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod autoencoder;
pub mod autoencoders;
pub mod calibrate;
pub mod color_unet;
pub mod config;
pub mod cross_validation;
pub mod detector;
pub mod distill;
pub mod ensemble;
pub mod evaluate;
pub mod explanation;
pub mod export;
pub mod fancy_pca;
pub mod features;
pub mod fit;
pub mod i3ad;
pub mod jobs;
pub mod lea_net;
pub mod member;
pub mod method;
pub mod model;
pub mod networks;
pub mod padim;
pub mod paedid;
pub mod patchcore;
pub mod prior;
pub mod rasl;
pub mod registry;
pub mod rescoring;
pub mod residual;
pub mod segmentation;
pub mod simplenet;
pub mod sweep;
pub mod synthetic;

pub use method::{Entry, Method};
pub use registry::method;

/// All methods, in the order they are listed.
pub const METHODS: method::Methods = &[
    Entry::of::<paedid::Paedid>(),
    Entry::of::<paedid::pae::Pae>(),
    Entry::of::<patchcore::PatchCore>(),
    Entry::of::<padim::Padim>(),
    Entry::of::<simplenet::SimpleNet>(),
    Entry::of::<ensemble::fused::FeatureEnsemble>(),
    Entry::of::<ensemble::scores::ScoreEnsemble>(),
    Entry::of::<i3ad::I3ad>(),
    Entry::of::<paedid::inpainting::InpaintedPaedid>(),
    Entry::of::<autoencoders::plain::L2Ae>(),
    Entry::of::<autoencoders::plain::SsimAe>(),
    Entry::of::<autoencoders::projection::Projection>(),
    Entry::of::<autoencoders::anogan::AnoGan>(),
    Entry::of::<autoencoders::anogan::FAnoGan>(),
    Entry::of::<autoencoders::adversarial::AeGan>(),
    Entry::of::<autoencoders::memory::MemAe>(),
    Entry::of::<rasl::Rasl>(),
    Entry::of::<color_unet::ColorUnet>(),
    Entry::of::<lea_net::LeaNet>(),
];
