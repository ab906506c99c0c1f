//! The engine of hotad: tensors and tape, training loop, data sets, metrics, model files.
//!
//! Methods are built from [`ops`] over [`tensor::Tensor`]; what runs where is decided below, in
//! hotad-kernels.
//!
//! ```
//! use hotad_engine::Activation;
//! use hotad_engine::ops::{activate, mean};
//! use hotad_engine::tape::backward;
//! use hotad_engine::tensor::Tensor;
//!
//! # fn main() -> hotad_engine::Result<()> {
//! let x = Tensor::new(vec![1.0, -2.0], &[2])?.leaf();
//! let value = mean(&activate(&x, Activation::Relu)?, 1.0)?;
//! assert_eq!(value.item()?, 0.5);
//! let gradient = backward(&value)?.take(&x).expect("the mean depends on x");
//! assert_eq!(gradient.to_vec()?, [0.5, 0.0]);
//! # Ok(())
//! # }
//! ```

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
pub mod planned;
mod pooled;
pub mod random;
pub mod repeated;
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
