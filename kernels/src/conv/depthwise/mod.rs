//! Depthwise convolution: every channel with a kernel of its own, vectorised over channels.
//!
//! `y[n, j, i, c] = act(b[c] + sum over r, s of x[n, j*stride + r*dilation - p, i*stride + s*dilation - p, c] * w[r, s, c])`
//!
//! Bytes: input and output once from memory (rows stay in the cache). Operations: `2 * k * k` per element.
//! Any kernel, stride, dilation and number of channels; forward and data gradient are the same loop over
//! other lists of taps (runs.rs).

mod gpu;
mod host;
mod runs;
mod weight_grad;

pub(super) use gpu::{backward_data_on_gpu, backward_weight_on_gpu, forward_on_gpu};
pub(super) use host::{backward_data, by_tap, forward, forward_by_tap};
pub(super) use weight_grad::backward_weight;
