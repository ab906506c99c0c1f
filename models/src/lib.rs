//! The methods of hotad, each in a file or folder of its own, their list ([`methods`]), and what programs do with them ([`jobs`]).
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

pub mod anomaly_map;
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
pub mod normal_pixels;
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

pub use anomaly_map::AnomalyMap;
pub use method::{Method, Registration};
pub use registry::method;

/// All methods, in the order they are listed: what they point to is compiled in this crate alone, and only in programs that ask.
#[inline(never)]
pub fn methods() -> method::Methods {
    const {
        &[
            Registration::of::<paedid::Paedid>(),
            Registration::of::<paedid::pae::Pae>(),
            Registration::of::<patchcore::PatchCore>(),
            Registration::of::<padim::Padim>(),
            Registration::of::<simplenet::SimpleNet>(),
            Registration::of::<ensemble::fused::FeatureEnsemble>(),
            Registration::of::<ensemble::scores::ScoreEnsemble>(),
            Registration::of::<i3ad::I3ad>(),
            Registration::of::<paedid::inpainting::InpaintedPaedid>(),
            Registration::of::<autoencoders::plain::L2Ae>(),
            Registration::of::<autoencoders::plain::SsimAe>(),
            Registration::of::<autoencoders::projection::Projection>(),
            Registration::of::<autoencoders::anogan::AnoGan>(),
            Registration::of::<autoencoders::anogan::FAnoGan>(),
            Registration::of::<autoencoders::adversarial::AeGan>(),
            Registration::of::<autoencoders::memory::MemAe>(),
            Registration::of::<rasl::Rasl>(),
            Registration::of::<color_unet::ColorUnet>(),
            Registration::of::<lea_net::LeaNet>(),
        ]
    }
}
