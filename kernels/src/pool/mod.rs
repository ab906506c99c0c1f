//! Pooling over NHWC maps: maxima, averages, and the average of a whole map.

mod average;
mod max;

pub use average::{avg_pool2d, avg_pool2d_backward, global_avg_pool2d, global_avg_pool2d_backward};
pub use max::{max_pool2d, max_pool2d_backward};

use cubecl::prelude::*;

use crate::conv::{ConvOptions, Nhwc};
use crate::error::{Result, shape_error};

/// Kernel, stride and padding of a pooling, the same for both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Pixels of the window.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Pixels added on every side.
    pub padding: usize,
}

impl PoolOptions {
    /// The shape that pooling `x` gives.
    ///
    /// # Errors
    /// When no window fits, or the padding is larger than half the kernel.
    pub fn output(&self, x: Nhwc) -> Result<Nhwc> {
        let conv = ConvOptions { stride: self.stride.max(1), padding: self.padding, dilation: 1, groups: 1 };
        let size = |n| if self.kernel == 0 || self.stride == 0 { None } else { conv.output(n, self.kernel) };
        match (size(x[1]), size(x[2])) {
            (Some(h), Some(w)) if self.padding * 2 <= self.kernel => Ok([x[0], h, w, x[3]]),
            _ => shape_error("pool2d", format!("{self:?} does not fit {}x{} pixels", x[1], x[2])),
        }
    }

    /// Input pixels of output `o` along one axis of `n`.
    pub(super) fn window(&self, o: usize, n: usize) -> std::ops::Range<usize> {
        let first = o * self.stride;
        first.saturating_sub(self.padding)..(first + self.kernel - self.padding).min(n)
    }
}

/// First input pixel of window `o`.
#[cube]
pub(super) fn first(o: usize, stride: usize, padding: usize) -> usize {
    usize::max(o * stride, padding) - padding
}

/// One after the last input pixel of window `o`.
#[cube]
pub(super) fn end(o: usize, stride: usize, padding: usize, kernel: usize, n: usize) -> usize {
    usize::min(o * stride + kernel - padding, n)
}
