//! Differentiable operations: one file for each kernel file, one [`Grad`](crate::tape::Grad) rule
//! for each operation. Nothing is recorded when no input wants a gradient.

mod activation;
mod addressing;
mod attention;
mod batch_norm;
mod channel_scale;
mod concat;
mod conv;
mod dropout;
mod elementwise;
mod gated;
mod loss;
mod noise;
mod pool;
mod rows;
mod self_attention;
mod spectral_norm;
mod ssim;

pub use activation::activate;
pub use addressing::{address, normalise_rows, weight_entropy};
pub use attention::{attend, attention_map};
pub use batch_norm::{BatchNormParams, Mode, batch_norm2d};
pub use channel_scale::channel_scale;
pub use concat::concat_channels;
pub use conv::{ConvParams, conv_transpose2d, conv2d, conv2d_max_pool2, upsample_conv2d};
pub use dropout::dropout;
pub use elementwise::{add, reshape};
pub use gated::{gate, gated_conv2d, gated_upsample_conv2d, masked_input, paste};
pub use loss::{hinge_loss, loss, mean, weighted_l1};
pub use noise::add_noise;
pub use pool::{global_avg_pool2d, max_pool2d};
pub use rows::{join_rows, rows};
pub use self_attention::{mix, self_attention};
pub use spectral_norm::spectral_norm;
pub use ssim::ssim_loss;
