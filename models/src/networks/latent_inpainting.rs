//! I3AD's generator over latent vectors instead of masked images: for the generative baselines of its paper, which have "the same
//! network architecture" (appendix D) and leave open how a latent vector enters it.
//!
//! The coarse network is divided where it is smallest, at a quarter of the size, by a latent vector: its first half is followed by
//! gated 3x3 convolutions of stride 2 down to 8 x 8 and an 8x8 convolution to the vector; from the vector an 8x8 transposed
//! convolution and enlarging gated ones lead back to a quarter, its second half to a coarse image, and the fine network from that to
//! the image. Images are in 0..1.

use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result, random};
use hotad_kernels::conv::ConvOptions;

use super::gated::Gated;
use super::gated_chain::{Chain, through};
use super::inpainting::{GAMMA, Inpainting, STRIDE, nothing};
use super::layer::Layer;
use super::refinement::{Refinement, image_layer};

/// Rows and columns of the smallest map.
const SMALLEST: usize = 8;

/// The network.
pub struct LatentInpainting {
    latent: usize,
    encoder: Vec<Gated>,
    to_latent: Layer,
    from_latent: Layer,
    decoder: Vec<Gated>,
    coarse_out: Layer,
    fine: Refinement,
}

impl LatentInpainting {
    /// For colour images of `size` pixels a side, 8 times a power of 2, 64 or more; with `c` channels and latent vectors of
    /// `latent` elements.
    pub fn new(size: usize, c: usize, latent: usize) -> Self {
        let (four, halvings) = (2 * c, (size / STRIDE / SMALLEST).ilog2());
        let down = (0..halvings).fold(Chain::encoder("encoder", c), |chain, _| chain.conv(four, 3, 2, 1));
        let up = (0..halvings).fold(Chain::new("decoder", four), |chain, _| chain.up(four));
        let whole =
            |name: &str, from, to| Layer { opts: ConvOptions::default(), ..Layer::conv(name, from, to, SMALLEST, 1) };
        Self {
            latent,
            encoder: down.layers,
            to_latent: whole("encoder.latent", four, latent),
            from_latent: Layer { transposed: true, ..whole("decoder.latent", latent, four) }.then(Activation::Elu(1.0)),
            decoder: up.decoder(c).layers,
            coarse_out: image_layer("decoder.out", c, Activation::Sigmoid),
            fine: Refinement::new(c, Activation::Sigmoid),
        }
    }

    /// Elements of the latent vector.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// Adds fresh parameters; those of the encoder begin with `encoder.`.
    pub fn init(&self, params: &mut Params, seed: u64) {
        let mut rng = random::stream(seed, "latent inpainting generator", 0);
        let gated = self.encoder.iter().chain(&self.decoder).chain(self.fine.gated());
        gated.for_each(|layer| layer.init(params, &mut rng));
        let plain = self.fine.projections().iter().chain([&self.to_latent, &self.coarse_out, self.fine.out()]);
        plain.for_each(|layer| layer.init(params, "", &mut rng));
        // Each pixel sees the vector through one tap of the kernel.
        let from = &self.from_latent;
        params.he_uniform(&format!("{}.weight", from.name), &from.weight_shape(), self.latent, &mut rng);
        params.zeros(&format!("{}.bias", from.name), &[from.to]);
        params.zeros(GAMMA, &[1]);
    }

    /// Images `[n, h, w, 3]` to latent vectors `[n, 1, 1, latent]`.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn encode(&self, weights: &Inpainting, images: &Tensor) -> Result<Tensor> {
        let gates = weights.gates();
        let first = gates.run(&self.encoder[0], images, Some(&nothing(images)?))?;
        weights.plain().run(&self.to_latent, &through(&gates, &self.encoder[1..], first)?, None, None)
    }

    /// Latent vectors to images in 0..1.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn decode(&self, weights: &Inpainting, latent: &Tensor) -> Result<Tensor> {
        let plain = weights.plain();
        let small = plain.run(&self.from_latent, latent, None, None)?;
        let coarse = plain.run(&self.coarse_out, &through(&weights.gates(), &self.decoder, small)?, None, None)?;
        self.fine.run(weights, coarse)
    }
}
