//! The methods of hotad, each in a file or folder of its own, their list ([`registry`]), and what programs do with them ([`jobs`]).

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
pub mod pae;
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
pub use registry::{METHODS, method};
