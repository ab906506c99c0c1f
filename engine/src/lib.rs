//! The engine of hotad: tensors and tape, training loop, data sets, metrics, model files.
//!
//! Methods are built from [`ops`] over [`tensor::Tensor`]; what runs where is decided below, in
//! hotad-kernels.

#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod beside;
pub mod calibration;
pub mod container;
pub mod data;
pub mod device;
pub mod error;
pub mod file_lock;
pub mod input_file;
pub mod interrupt;
pub mod metrics;
pub mod model_file;
pub mod observer;
pub mod ops;
pub mod params;
pub mod random;
pub mod shard;
pub mod signature;
pub mod tape;
pub mod tensor;
pub mod threads;
pub mod train;
pub mod until;
pub mod weights;

pub use error::{AtPath, Error, Result};
/// Activations, as the kernels fuse them.
pub use hotad_kernels::activation::Activation;
