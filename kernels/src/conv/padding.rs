//! Zeros around a map, along one axis.
//!
//! `Same` is TensorFlow's "SAME" (`tf.nn.convolution`): as many outputs as strides fit, and where the zeros
//! needed for that are odd in number, one more below and to the right.

/// Zero pixels added around a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// So many on every side.
    Each(usize),
    /// As many as give ceil(n / stride) outputs along an axis of n pixels: with t =
    /// max((ceil(n / stride) - 1) * stride + dilation * (k - 1) + 1 - n, 0) in all, floor(t / 2) before the
    /// first pixel and the rest after the last. Rows and columns may differ.
    Same,
}

impl From<usize> for Padding {
    fn from(each: usize) -> Self {
        Self::Each(each)
    }
}

/// One axis of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// Output pixels.
    pub output: usize,
    /// Zeros before the first pixel.
    pub before: usize,
    /// Zeros after the last pixel.
    pub after: usize,
}

impl Padding {
    /// An axis of `n` pixels under windows of `reach` pixels; `None` when no window fits.
    pub(super) fn resolve(self, n: usize, reach: usize, stride: usize) -> Option<Axis> {
        match self {
            Self::Each(p) => {
                let spare = (n + 2 * p).checked_sub(reach)?;
                Some(Axis { output: spare / stride + 1, before: p, after: p })
            }
            Self::Same => {
                let output = n.div_ceil(stride);
                let total = (output.checked_sub(1)? * stride + reach).saturating_sub(n);
                Some(Axis { output, before: total / 2, after: total - total / 2 })
            }
        }
    }
}
