//! The fine network of I3AD's generator: a branch of dilated convolutions and one with self-attention, joined, and a decoder.

use hotad_engine::ops::{concat_channels, mix, self_attention};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result};

use super::gated::Gated;
use super::gated_chain::{Chain, through};
use super::inpainting::Inpainting;
use super::layer::Layer;

/// The network.
pub struct Refinement {
    branch: Vec<Gated>,
    before: Vec<Gated>,
    /// Keys, queries, values.
    projections: [Layer; 3],
    after: Vec<Gated>,
    decoder: Vec<Gated>,
    out: Layer,
}

/// The layer that gives an image: in -1..1 by tanh, in 0..1 by a sigmoid.
pub fn image_layer(name: &str, c: usize, range: Activation) -> Layer {
    Layer::conv(name, c / 4, 3, 3, 1).then(range)
}

impl Refinement {
    /// With `c` channels, for images in the range of an activation.
    pub fn new(c: usize, range: Activation) -> Self {
        let (one, two, four) = (c / 2, c, 2 * c);
        let branch = Chain::new("branch", 3).conv(one, 5, 1, 1).conv(one, 3, 2, 1).same(two).conv(two, 3, 2, 1);
        let branch = branch.same(four).same(four).dilated();
        let before = Chain::new("attention.before", 3).conv(one, 5, 1, 1).conv(one, 3, 2, 1).same(two);
        let mut before = before.conv(four, 3, 2, 1).same(four).same(four);
        before.layers.iter_mut().last().into_iter().for_each(|l| l.features = Activation::Relu);
        let after = Chain::new("attention.after", four).same(four).same(four);
        let decoder = Chain::new("fine", 2 * four).same(four).same(four).decoder(c);
        let keys = (four / 8).max(1);
        let projection = |name: &str, to| Layer::linear(format!("attention.{name}"), four, to);
        Self {
            branch: branch.layers,
            before: before.layers,
            projections: [projection("f", keys), projection("g", keys), projection("h", four)],
            after: after.layers,
            decoder: decoder.layers,
            out: image_layer("fine.out", c, range),
        }
    }

    /// Its gated convolutions.
    pub fn gated(&self) -> impl Iterator<Item = &Gated> {
        [&self.branch, &self.before, &self.after, &self.decoder].into_iter().flatten()
    }

    /// Its projections.
    pub fn projections(&self) -> &[Layer] {
        &self.projections
    }

    /// Its last layer.
    pub fn out(&self) -> &Layer {
        &self.out
    }

    /// Refines images `[n, h, w, 3]`.
    ///
    /// # Errors
    /// When rows or columns are no multiple of 4.
    pub fn run(&self, weights: &Inpainting, seen: Tensor) -> Result<Tensor> {
        let (gates, plain) = (weights.gates(), weights.plain());
        let branch = self.features(weights, seen.clone())?;
        let features = through(&gates, &self.before, seen)?;
        let [keys, queries, values] = [0, 1, 2].map(|i| plain.run(&self.projections[i], &features, None, None));
        let attended = self_attention(&keys?, &queries?, &values?)?;
        let attended = through(&gates, &self.after, mix(&attended, &weights.gamma()?, &features)?)?;
        let fine = through(&gates, &self.decoder, concat_channels(&branch, &attended)?)?;
        plain.run(&self.out, &fine, None, None)
    }

    /// The dilated branch: `[n, h / 4, w / 4, 2 c]`.
    ///
    /// # Errors
    /// When rows or columns are no multiple of 4.
    pub fn features(&self, weights: &Inpainting, images: Tensor) -> Result<Tensor> {
        through(&weights.gates(), &self.branch, images)
    }
}
