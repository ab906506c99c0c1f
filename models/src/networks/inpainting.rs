//! The coarse-to-fine generator of free-form inpainting (Yu et al. 2019, figure 3), with self-attention in
//! place of contextual attention (I3AD, section 2.2).
//!
//! Everything is gated convolutions; `c` names their output channels before they are split into features and
//! gates, so that half as many come out. Coarse: masked image, ones and mask to 5x5 c, 3x3 stride 2 to 2c, 2c, stride 2
//! to 4c, 4c, 4c, dilations 2, 4, 8, 16 at 4c, 4c, 4c, enlarged to 2c, 2c, enlarged to c, c/2, and 3 by tanh. The fine
//! network sees the image with the coarse result pasted in, as the public code of that paper has it: one branch
//! of dilated convolutions and one with attention, joined, and a decoder like the first. Images are in -1..1.

use hotad_engine::device::Device;
use hotad_engine::ops::{Mode, concat_channels, mix, paste, self_attention};
use hotad_engine::params::{Params, State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result, random};

use super::gated::{Gated, Gates, PreparedGates};
use super::layer::{Layer, Prepared, Weights};

/// Rows and columns are halved twice: sizes must be multiples of this.
pub const STRIDE: usize = 4;

/// Fewest rows and columns: with fewer, the widest dilation (16 at a quarter of the size) sees nothing but padding.
pub const REACH: usize = 64;

/// Name of the weight of the attention's residual.
const GAMMA: &str = "attention.gamma";

/// The generator.
pub struct Generator {
    coarse: Vec<Gated>,
    coarse_out: Layer,
    branch: Vec<Gated>,
    before: Vec<Gated>,
    /// Keys, queries, values.
    projections: [Layer; 3],
    after: Vec<Gated>,
    decoder: Vec<Gated>,
    out: Layer,
}

/// Both results, `[n, h, w, 3]` in -1..1, whole images.
pub struct Inpainted {
    /// Of the first network.
    pub coarse: Tensor,
    /// Of the second.
    pub fine: Tensor,
}

/// A chain of gated convolutions under construction.
struct Chain {
    name: &'static str,
    channels: usize,
    layers: Vec<Gated>,
}

impl Chain {
    fn new(name: &'static str, channels: usize) -> Self {
        Self { name, channels, layers: Vec::new() }
    }

    fn conv(mut self, to: usize, kernel: usize, stride: usize, dilation: usize) -> Self {
        let name = format!("{}.{}", self.name, self.layers.len());
        self.layers.push(Gated::new(name, self.channels, to, kernel, stride, dilation));
        self.channels = to;
        self
    }

    /// 3x3 without stride.
    fn same(self, to: usize) -> Self {
        self.conv(to, 3, 1, 1)
    }

    fn dilated(self) -> Self {
        let c = self.channels;
        [2, 4, 8, 16].into_iter().fold(self, |chain, d| chain.conv(c, 3, 1, d))
    }

    fn up(self, to: usize) -> Self {
        let mut chain = self.same(to);
        chain.layers.iter_mut().last().into_iter().for_each(|l| l.upsampled = true);
        chain
    }

    /// From a quarter of the size to the whole.
    fn decoder(self, c: usize) -> Self {
        let (one, two) = (c / 2, c);
        self.up(two).same(two).up(one).same(c / 4)
    }
}

impl Generator {
    /// With `c` channels (48 in the paper, a multiple of 4).
    pub fn new(c: usize) -> Self {
        let (one, two, four) = (c / 2, c, 2 * c);
        let coarse = Chain::new("coarse", 5).conv(one, 5, 1, 1).conv(two, 3, 2, 1).same(two).conv(four, 3, 2, 1);
        let coarse = coarse.same(four).same(four).dilated().same(four).same(four).decoder(c);
        let branch = Chain::new("branch", 3).conv(one, 5, 1, 1).conv(one, 3, 2, 1).same(two).conv(two, 3, 2, 1);
        let branch = branch.same(four).same(four).dilated();
        let before = Chain::new("attention.before", 3).conv(one, 5, 1, 1).conv(one, 3, 2, 1).same(two);
        let mut before = before.conv(four, 3, 2, 1).same(four).same(four);
        before.layers.iter_mut().last().into_iter().for_each(|l| l.features = Activation::Relu);
        let after = Chain::new("attention.after", four).same(four).same(four);
        let decoder = Chain::new("fine", 2 * four).same(four).same(four).decoder(c);
        let keys = (four / 8).max(1);
        let projection = |name: &str, to| Layer::linear(format!("attention.{name}"), four, to);
        let out = |name: &str| Layer::conv(name, c / 4, 3, 3, 1).then(Activation::Tanh);
        Self {
            coarse: coarse.layers,
            coarse_out: out("coarse.out"),
            branch: branch.layers,
            before: before.layers,
            projections: [projection("f", keys), projection("g", keys), projection("h", four)],
            after: after.layers,
            decoder: decoder.layers,
            out: out("fine.out"),
        }
    }

    fn gated(&self) -> impl Iterator<Item = &Gated> {
        [&self.coarse, &self.branch, &self.before, &self.after, &self.decoder].into_iter().flatten()
    }

    fn plain(&self) -> Vec<&Layer> {
        self.projections.iter().chain([&self.coarse_out, &self.out]).collect()
    }

    /// Adds fresh parameters.
    pub fn init(&self, params: &mut Params, seed: u64) {
        let mut rng = random::stream(seed, "inpainting generator", 0);
        self.gated().for_each(|layer| layer.init(params, &mut rng));
        self.plain().iter().for_each(|layer| layer.init(params, "", &mut rng));
        params.zeros(GAMMA, &[1]);
    }

    /// Paints the pixels of `images` (`[n, h, w, 3]` in -1..1) where `mask` (`[n, h, w, 1]`) is 1; what lies under
    /// it is not seen.
    ///
    /// # Errors
    /// When rows or columns are no multiple of [`STRIDE`].
    pub fn run(&self, weights: &Inpainting, images: &Tensor, mask: &Tensor) -> Result<Inpainted> {
        let gates = weights.gates();
        let through = |layers: &[Gated], x: Tensor| layers.iter().try_fold(x, |x, l| gates.run(l, &x, None));
        let first = gates.run(&self.coarse[0], images, Some(mask))?;
        let coarse = weights.plain().run(&self.coarse_out, &through(&self.coarse[1..], first)?, None, None)?;
        let seen = paste(&coarse, images, mask)?;
        let branch = through(&self.branch, seen.clone())?;
        let features = through(&self.before, seen)?;
        let [keys, queries, values] =
            [0, 1, 2].map(|i| weights.plain().run(&self.projections[i], &features, None, None));
        let attended = self_attention(&keys?, &queries?, &values?)?;
        let attended = through(&self.after, mix(&attended, &weights.gamma()?, &features)?)?;
        let fine = through(&self.decoder, concat_channels(&branch, &attended)?)?;
        Ok(Inpainted { coarse, fine: weights.plain().run(&self.out, &fine, None, None)? })
    }
}

impl Generator {
    /// Feature maps of whole images: what the dilated branch sees of `[n, h, w, 3]` in -1..1, `[n, h / 4, w / 4, 2 c]`.
    ///
    /// # Errors
    /// When rows or columns are no multiple of [`STRIDE`].
    pub fn features(&self, weights: &Inpainting, images: &Tensor) -> Result<Tensor> {
        let gates = weights.gates();
        self.branch.iter().try_fold(images.clone(), |x, layer| gates.run(layer, &x, None))
    }
}

/// The generator's weights laid out for inference.
pub struct Ready {
    gates: PreparedGates,
    plain: Prepared,
    gamma: Tensor,
}

impl Ready {
    /// Lays weights out for a device.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(generator: &Generator, state: &State, device: &Device) -> Result<Self> {
        Ok(Self {
            gates: PreparedGates::new(generator.gated(), state, device)?,
            plain: Prepared::new(&generator.plain(), state, device)?,
            gamma: fetch(state, GAMMA, &[1])?.to(device)?.detached(),
        })
    }
}

/// The weights that the generator is run with.
pub enum Inpainting<'a> {
    /// Parameters, on the tape in training.
    Learned(&'a Params, Mode),
    /// For inference.
    Ready(&'a Ready),
}

impl Inpainting<'_> {
    fn gates(&self) -> Gates<'_> {
        match self {
            Self::Learned(params, mode) => Gates::Learned(params, *mode),
            Self::Ready(ready) => Gates::Prepared(&ready.gates),
        }
    }

    fn plain(&self) -> Weights<'_> {
        match self {
            Self::Learned(params, mode) => Weights::Learned(params, "", *mode),
            Self::Ready(ready) => Weights::Prepared(&ready.plain),
        }
    }

    fn gamma(&self) -> Result<Tensor> {
        match self {
            Self::Learned(params, mode) => params.get(GAMMA, *mode != Mode::Eval),
            Self::Ready(ready) => Ok(ready.gamma.clone()),
        }
    }
}
