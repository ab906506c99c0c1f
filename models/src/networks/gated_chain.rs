//! Chains of gated convolutions, as I3AD's generator is made of. `c` names the output channels of a convolution before they are
//! split into features and gates, so that half as many come out.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_kernels::conv::MASKED_CHANNELS;

use super::gated::{Gated, Gates};

/// A chain of gated convolutions under construction.
pub struct Chain {
    name: &'static str,
    channels: usize,
    /// What it is made of so far.
    pub layers: Vec<Gated>,
}

impl Chain {
    /// An empty one, whose input has some channels; `name` is the prefix of its parameters.
    pub fn new(name: &'static str, channels: usize) -> Self {
        Self { name, channels, layers: Vec::new() }
    }

    /// From a masked image to `2 c` channels at a quarter of the size, as the coarse network begins.
    pub fn encoder(name: &'static str, c: usize) -> Self {
        let (one, two, four) = (c / 2, c, 2 * c);
        let half = Self::new(name, MASKED_CHANNELS).conv(one, 5, 1, 1).conv(two, 3, 2, 1).same(two);
        half.conv(four, 3, 2, 1).same(four).same(four).dilated().same(four).same(four)
    }

    /// With a convolution more.
    pub fn conv(mut self, to: usize, kernel: usize, stride: usize, dilation: usize) -> Self {
        let name = format!("{}.{}", self.name, self.layers.len());
        self.layers.push(Gated::new(name, self.channels, to, kernel, stride, dilation));
        self.channels = to;
        self
    }

    /// 3x3 without stride.
    pub fn same(self, to: usize) -> Self {
        self.conv(to, 3, 1, 1)
    }

    /// 3x3 with dilations 2, 4, 8 and 16.
    pub fn dilated(self) -> Self {
        let c = self.channels;
        [2, 4, 8, 16].into_iter().fold(self, |chain, d| chain.conv(c, 3, 1, d))
    }

    /// 3x3 on a map that is enlarged twofold before.
    pub fn up(self, to: usize) -> Self {
        let mut chain = self.same(to);
        chain.layers.iter_mut().last().into_iter().for_each(|l| l.upsampled = true);
        chain
    }

    /// From a quarter of the size to the whole.
    pub fn decoder(self, c: usize) -> Self {
        let (one, two) = (c / 2, c);
        self.up(two).same(two).up(one).same(c / 4)
    }
}

/// Runs layers one after another.
///
/// # Errors
/// When shapes do not fit.
pub fn through(gates: &Gates, layers: &[Gated], x: Tensor) -> Result<Tensor> {
    layers.iter().try_fold(x, |x, layer| gates.run(layer, &x, None))
}
