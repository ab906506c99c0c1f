//! Pooling over NHWC maps: maxima, averages, and the average of a whole map.

mod average;
mod max;

pub use average::{avg_pool2d, avg_pool2d_backward, global_avg_pool2d, global_avg_pool2d_backward};
pub use max::{max_pool2d, max_pool2d_backward};

use cubecl::prelude::*;

use crate::conv::ConvOptions;
use crate::error::{Result, shape_error};
use crate::shape::Nhwc;

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
        let conv = ConvOptions { stride: self.stride.max(1), padding: self.padding.into(), dilation: 1, groups: 1 };
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

/// Sizes of a pooling, as kernels see them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct PoolSizes {
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl PoolSizes {
    pub(super) fn new(x: Nhwc, y: Nhwc, opts: PoolOptions) -> Self {
        let PoolOptions { kernel, stride, padding } = opts;
        Self { h: x[1], w: x[2], c: x[3], oh: y[1], ow: y[2], kernel, stride, padding }
    }

    /// As kernel arguments.
    pub(super) fn arg<R: Runtime>(&self) -> PoolSizesLaunch<R> {
        PoolSizesLaunch::new(self.h, self.w, self.c, self.oh, self.ow, self.kernel, self.stride, self.padding)
    }
}

/// From `first` to before `end`.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Span {
    first: usize,
    end: usize,
}

/// Input pixels of window `o` along an axis of `n`.
#[cube]
pub(super) fn inputs(o: usize, n: usize, s: PoolSizes) -> Span {
    Span {
        first: usize::max(o * s.stride, s.padding) - s.padding,
        end: usize::min(o * s.stride + s.kernel - s.padding, n),
    }
}

/// Windows that hold input pixel `p` along an axis of `outputs` windows.
#[cube]
pub(super) fn windows(p: usize, outputs: usize, s: PoolSizes) -> Span {
    Span {
        first: (usize::max(p + s.padding + 1, s.kernel) - s.kernel).div_ceil(s.stride),
        end: usize::min((p + s.padding) / s.stride + 1, outputs),
    }
}
