//! Differentiable operations: one file for each kernel file, one [`Grad`](crate::tape::Grad) rule
//! for each operation. Nothing is recorded when no input wants a gradient.

mod conv;
mod loss;
mod pool;
mod ssim;

pub use conv::{ConvParams, conv_transpose2d, conv2d, conv2d_max_pool2, upsample_conv2d};
pub use loss::loss;
pub use pool::max_pool2d;
pub use ssim::ssim_loss;
