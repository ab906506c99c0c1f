//! Convolutions over NHWC maps: dense, grouped, depthwise, dilated, strided, transposed, gated,
//! over a nearest-upsampled map, and the three of an inverted residual in one.
//!
//! All dense ones are an implicit matrix product over a zero-padded slab that lives in the cache
//! (dense.rs); strided data gradients and transposed convolutions are split into one dense pass
//! per output phase, so no multiplication by an inserted zero is ever done.

mod band;
#[cfg(feature = "cuda")]
mod cuda;
mod dense;
mod depthwise;
mod gated;
mod implicit_gemm;
mod inverted_residual;
mod masked;
pub(crate) mod micro;
pub(crate) mod packed;
mod padding;
mod pass;
mod prepared;
mod product;
mod reduced;
mod slab;
mod tensor_core;
mod weight_grad;
mod winograd;

mod conv2d;
mod transposed;
mod upsampled;

pub use conv2d::{conv2d, conv2d_backward_bias, conv2d_backward_data, conv2d_backward_weight, conv2d_max_pool2};
pub use gated::{PreparedGated, gate, gate_backward};
pub use inverted_residual::{ConvWeights, PreparedInvertedResidual};
pub use masked::{
    MASKED_CHANNELS, checkerboard_masks, join_checkerboard, masked_input, masked_input_backward, paste, paste_backward,
};
pub use padding::Padding;
pub use prepared::{Extra, PreparedConv};
pub use transposed::{
    conv_transpose2d, conv_transpose2d_backward_data, conv_transpose2d_backward_weight, conv_transpose2d_shape,
};
pub use upsampled::{upsample_conv2d, upsample_conv2d_backward_data, upsample_conv2d_backward_weight};

use crate::error::{Result, check_len, shape_error};
use crate::shape::Nhwc;
use padding::Axis;

/// Stride, zero padding, dilation (same for both axes) and channel groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Pixels from one window to the next, at least 1.
    pub stride: usize,
    /// Zero pixels added around the map.
    pub padding: Padding,
    /// Pixels from one tap to the next, at least 1.
    pub dilation: usize,
    /// Groups that input and output channels are split into.
    pub groups: usize,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { stride: 1, padding: Padding::Each(0), dilation: 1, groups: 1 }
    }
}

impl ConvOptions {
    /// Stride 1 and [`Padding::Each`] of `k / 2`: same size out as in, for odd `k`. What [`Padding::Same`]
    /// gives too at stride 1.
    pub fn same(k: usize) -> Self {
        Self { padding: Padding::Each(k / 2), ..Self::default() }
    }

    /// Output pixels along one axis of `n` pixels for a kernel of `k`; `None` when no window fits. With p
    /// zeros on every side floor((n + 2p - d(k-1) - 1) / s) + 1, for [`Padding::Same`] ceil(n / s).
    pub fn output(&self, n: usize, k: usize) -> Option<usize> {
        self.axis(n, k).map(|axis| axis.output)
    }

    /// Zero pixels before the first and after the last of `n` pixels for a kernel of `k`; `None` when no window fits.
    pub fn zeros(&self, n: usize, k: usize) -> Option<(usize, usize)> {
        self.axis(n, k).map(|axis| (axis.before, axis.after))
    }

    fn axis(&self, n: usize, k: usize) -> Option<Axis> {
        self.padding.resolve(n, self.dilation * (k - 1) + 1, self.stride)
    }
}

/// The shapes of one convolution, checked against each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Input map.
    pub x: Nhwc,
    /// Weights: out channels, kernel rows, kernel columns, in channels per group.
    pub w: [usize; 4],
    /// Output map.
    pub y: Nhwc,
    pub opts: ConvOptions,
    /// Rows of zeros above the map and columns left of it.
    pub before: [usize; 2],
    /// Rows of zeros below the map and columns right of it.
    pub after: [usize; 2],
}

impl Geometry {
    pub fn new(op: &'static str, x: Nhwc, w: [usize; 4], opts: ConvOptions) -> Result<Self> {
        let [n, h, wd, c] = x;
        let [co, kh, kw, ci] = w;
        if opts.stride == 0 || opts.dilation == 0 || opts.groups == 0 || kh == 0 || kw == 0 {
            return shape_error(op, "stride, dilation, groups and kernel sizes start at 1");
        }
        if c != ci * opts.groups || co % opts.groups != 0 {
            return shape_error(
                op,
                format!("weights {w:?} (OHWI) do not fit {c} input channels in {} groups", opts.groups),
            );
        }
        match (opts.axis(h, kh), opts.axis(wd, kw)) {
            (Some(rows), Some(columns)) => Ok(Self {
                x,
                w,
                y: [n, rows.output, columns.output, co],
                opts,
                before: [rows.before, columns.before],
                after: [rows.after, columns.after],
            }),
            _ => shape_error(op, format!("a {kh}x{kw} kernel does not fit into {h}x{wd} with {opts:?}")),
        }
    }

    pub fn is_depthwise(&self) -> bool {
        self.opts.groups > 1 && self.w[3] == 1 && self.w[0] == self.opts.groups
    }

    pub fn check_x(&self, op: &'static str, len: usize) -> Result<()> {
        check_len(op, "input", len, self.x.iter().product())
    }

    pub fn check_w(&self, op: &'static str, len: usize) -> Result<()> {
        check_len(op, "weights", len, self.w.iter().product())
    }

    pub fn check_y(&self, op: &'static str, len: usize) -> Result<()> {
        check_len(op, "output", len, self.y.iter().product())
    }
}
