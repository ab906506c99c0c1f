//! Arithmetic on raw buffers: the kernels of hotad.
//!
//! One file per operation: what it computes, the scalar formula as a `#[cube]` function, the loop over
//! it on the CPU, the GPU kernel over it, the public function that checks shapes and dispatches on
//! where its operands lie. Backward sits beside forward. Maps are NHWC, convolution weights OHWI. Every
//! result is bit-identical for any number of threads: work is cut into pieces by shape alone and partial
//! sums are added in a fixed order.
//!
//! ```
//! use hotad_kernels::activation::Activation;
//! use hotad_kernels::device::Device;
//!
//! # fn main() -> hotad_kernels::Result<()> {
//! let mut x = Device::CPU.upload(vec![-1.0f32, 0.5, 2.0])?;
//! Activation::Relu.apply(&mut x);
//! assert_eq!(x.to_vec()?, [0.0, 0.5, 2.0]);
//! # Ok(())
//! # }
//! ```
//!
//! A buffer of another device, `Device::open("cuda:0")` or `"wgpu:0"`, is taken the same way and stays there.

#![allow(missing_docs)]
// `#[cube]` and `CubeType` generate public items without documentation
// `is_multiple_of` is not a word of the kernel language.
#![allow(clippy::manual_is_multiple_of)]
// Without any GPU runtime a `Gpu` cannot exist, and what would run on one is never reached.
#![cfg_attr(not(any(feature = "cuda", feature = "wgpu")), allow(unreachable_code, unused, dead_code))]

pub mod absolute_difference;
pub mod activation;
pub mod adam;
pub mod addressing;
pub mod attention;
mod bank_data;
mod basis;
pub mod batch_norm;
pub mod blur;
pub(crate) mod border;
pub mod channel_scale;
pub mod ciede2000;
pub mod colour;
pub mod concat;
pub mod conv;
pub mod coreset;
pub mod cosine_nn;
pub mod covariance;
pub mod decompose;
pub mod despeckle;
pub mod device;
pub mod discounted_l1;
pub mod dropout;
pub mod elementwise;
mod error;
pub mod flat_bank;
pub mod fusion;
pub mod gather;
pub mod hinge;
pub mod loss;
pub mod mahalanobis;
pub mod math;
pub mod memory;
pub mod noise;
pub mod peak;
pub mod pool;
pub mod projection;
pub mod recolour;
pub(crate) mod reduce;
pub mod replacement;
pub mod resize;
pub mod rows;
pub mod self_attention;
pub mod shape;
pub mod simd;
pub mod soft_threshold;
pub mod softmax;
pub(crate) mod sparse_rows;
pub mod spectral_norm;
pub mod ssim;
pub mod window;

pub use error::{KernelError, Result};
