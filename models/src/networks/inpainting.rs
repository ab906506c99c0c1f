//! The coarse-to-fine generator of free-form inpainting (Yu et al. 2019, figure 3), with self-attention in
//! place of contextual attention (I3AD, section 2.2).
//!
//! Everything is gated convolutions; `c` names their output channels before they are split into features and
//! gates, so that half as many come out. Coarse: masked image, ones and mask to 5x5 c, 3x3 stride 2 to 2c, 2c, stride 2
//! to 4c, 4c, 4c, dilations 2, 4, 8, 16 at 4c, 4c, 4c, enlarged to 2c, 2c, enlarged to c, c/2, and 3 by tanh. The fine
//! network (refinement.rs) sees the image with the coarse result pasted in, as the public code of that paper has it: one branch
//! of dilated convolutions and one with attention, joined, and a decoder like the first. Images are in -1..1.

use hotad_engine::device::Device;
use hotad_engine::ops::{Mode, paste};
use hotad_engine::params::{Params, State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result, random};

use super::gated::{Gated, Gates, PreparedGates};
use super::gated_chain::{Chain, through};
use super::layer::{Layer, Prepared, Weights};
use super::refinement::{Refinement, image_layer};

/// Rows and columns are halved twice: sizes must be multiples of this.
pub const STRIDE: usize = 4;

/// Fewest rows and columns: with fewer, the widest dilation (16 at a quarter of the size) sees nothing but padding.
pub const REACH: usize = 64;

/// Name of the weight of the attention's residual.
pub(super) const GAMMA: &str = "attention.gamma";

/// The generator.
pub struct Generator {
    coarse: Vec<Gated>,
    coarse_out: Layer,
    fine: Refinement,
}

/// Both results, `[n, h, w, 3]`, whole images.
pub struct Inpainted {
    /// Of the first network.
    pub coarse: Tensor,
    /// Of the second.
    pub fine: Tensor,
}

impl Generator {
    /// With `c` channels (48 in the paper, a multiple of 4), for images in -1..1.
    pub fn new(c: usize) -> Self {
        Self::in_range(c, Activation::Tanh)
    }

    /// For images in the range of an activation: tanh, or sigmoid for 0..1.
    pub fn in_range(c: usize, range: Activation) -> Self {
        Self {
            coarse: Chain::encoder("coarse", c).decoder(c).layers,
            coarse_out: image_layer("coarse.out", c, range),
            fine: Refinement::new(c, range),
        }
    }

    fn gated(&self) -> impl Iterator<Item = &Gated> {
        self.coarse.iter().chain(self.fine.gated())
    }

    fn plain(&self) -> Vec<&Layer> {
        self.fine.projections().iter().chain([&self.coarse_out, self.fine.out()]).collect()
    }

    /// Adds fresh parameters.
    pub fn init(&self, params: &mut Params, seed: u64) {
        let mut rng = random::stream(seed, "inpainting generator", 0);
        self.gated().for_each(|layer| layer.init(params, &mut rng));
        self.plain().iter().for_each(|layer| layer.init(params, "", &mut rng));
        params.zeros(GAMMA, &[1]);
    }

    /// What the coarse network makes of images under masks.
    fn coarse(&self, weights: &Inpainting, images: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let gates = weights.gates();
        let first = gates.run(&self.coarse[0], images, Some(mask))?;
        weights.plain().run(&self.coarse_out, &through(&gates, &self.coarse[1..], first)?, None, None)
    }

    /// Paints the pixels of `images` (`[n, h, w, 3]` in -1..1) where `mask` (`[n, h, w, 1]`) is 1; what lies under
    /// it is not seen.
    ///
    /// # Errors
    /// When rows or columns are no multiple of [`STRIDE`].
    pub fn run(&self, weights: &Inpainting, images: &Tensor, mask: &Tensor) -> Result<Inpainted> {
        let coarse = self.coarse(weights, images, mask)?;
        let fine = self.fine.run(weights, paste(&coarse, images, mask)?)?;
        Ok(Inpainted { coarse, fine })
    }

    /// Paints whole images that nothing is hidden of, as an autoencoder does: the fine network sees the coarse result alone.
    ///
    /// # Errors
    /// When rows or columns are no multiple of [`STRIDE`].
    pub fn reconstruct(&self, weights: &Inpainting, images: &Tensor) -> Result<Inpainted> {
        let coarse = self.coarse(weights, images, &nothing(images)?)?;
        let fine = self.fine.run(weights, coarse.clone())?;
        Ok(Inpainted { coarse, fine })
    }

    /// Feature maps of whole images: what the dilated branch sees of `[n, h, w, 3]` in -1..1, `[n, h / 4, w / 4, 2 c]`.
    ///
    /// # Errors
    /// When rows or columns are no multiple of [`STRIDE`].
    pub fn features(&self, weights: &Inpainting, images: &Tensor) -> Result<Tensor> {
        self.fine.features(weights, images.clone())
    }
}

/// Masks `[n, h, w, 1]` that hide nothing of images.
pub(super) fn nothing(images: &Tensor) -> Result<Tensor> {
    let [n, h, w, _] = images.nhwc()?;
    Tensor::from_buffer(images.device().zeros(n * h * w)?, &[n, h, w, 1])
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
    pub(super) fn gates(&self) -> Gates<'_> {
        match self {
            Self::Learned(params, mode) => Gates::Learned(params, *mode),
            Self::Ready(ready) => Gates::Prepared(&ready.gates),
        }
    }

    pub(super) fn plain(&self) -> Weights<'_> {
        match self {
            Self::Learned(params, mode) => Weights::Learned(params, "", *mode),
            Self::Ready(ready) => Weights::Prepared(&ready.plain),
        }
    }

    pub(super) fn gamma(&self) -> Result<Tensor> {
        match self {
            Self::Learned(params, mode) => params.get(GAMMA, *mode != Mode::Eval),
            Self::Ready(ready) => Ok(ready.gamma.clone()),
        }
    }
}
