//! The convolutional networks that methods are made of, each described once and run two ways: learning,
//! on the tape; and prepared, with batch normalisation folded and weights laid out for their device.

pub mod cnn;
pub mod discriminator;
pub mod efficientnet;
pub mod gated;
mod gated_chain;
pub mod import;
pub mod inpainting;
mod inputs;
pub mod inverted_residual;
pub mod latent_inpainting;
pub mod layer;
pub mod mobilenet;
pub mod mobilenet_v2;
mod refinement;
pub mod resnet;
pub mod trunk;
pub mod unet;
pub mod vgg;

use hotad_engine::params::{Params, State};
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Result, random};
use hotad_kernels::batch_norm::{Affine, After, Statistics, batch_norm2d_eval};

use crate::export::{GraphValue, Writer};
use layer::{Layer, Weights};

/// Attention points, that is stages, of a classifier.
pub const POINTS: usize = 5;

/// A classifier of five stages, each of which halves the map: what attention is taken from, and what it
/// is given to (LEA-Net, section 3-4).
pub trait Classifier: Send + Sync {
    /// Its layers, in order.
    fn layers(&self) -> Vec<&Layer>;

    /// Stage `point` (1 to 5): from the features of the stage before, or the image, to the features at
    /// the point, multiplied by 1 + an attention map of their size.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn stage(&self, point: usize, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor>;

    /// From the features at point 5 to logits `[n, outputs]`.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn head(&self, weights: &Weights, x: &Tensor) -> Result<Tensor>;

    /// [`Classifier::stage`] as nodes of a graph.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    fn export_stage(
        &self,
        point: usize,
        to: &Writer,
        x: &GraphValue,
        attention: Option<&GraphValue>,
    ) -> Result<GraphValue>;

    /// [`Classifier::head`] as nodes of a graph: logits as channels of one pixel.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    fn export_head(&self, to: &Writer, x: &GraphValue) -> Result<GraphValue>;

    /// Adds fresh parameters, names prefixed.
    fn init(&self, params: &mut Params, prefix: &str, seed: u64) {
        let mut rng = random::stream(seed, &format!("network {prefix}"), 0);
        self.layers().iter().for_each(|layer| layer.init(params, prefix, &mut rng));
    }
}

/// Logits `[n, outputs]` of images, with attention at one point.
///
/// # Errors
/// When shapes do not fit.
pub fn classify(
    network: &dyn Classifier,
    weights: &Weights,
    images: &Tensor,
    attention: Option<(usize, &Tensor)>,
) -> Result<Tensor> {
    let mut x = images.clone();
    for point in 1..=POINTS {
        let map = attention.filter(|(at, _)| *at == point).map(|(_, map)| map);
        x = network.stage(point, weights, &x, map)?;
    }
    network.head(weights, &x)
}

/// Features at the points from 1 to `last`.
///
/// # Errors
/// When shapes do not fit.
pub fn features(network: &dyn Classifier, weights: &Weights, images: &Tensor, last: usize) -> Result<Tensors> {
    let mut taps = Tensors::new();
    for point in 1..=last {
        let next = network.stage(point, weights, taps.last().unwrap_or(images), None)?;
        taps.push(next);
    }
    Ok(taps)
}

/// Mean and variance of the colours of ImageNet, which torchvision's weights expect to be removed.
pub(crate) const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub(crate) const VARIANCE: [f32; 3] = [0.229 * 0.229, 0.224 * 0.224, 0.225 * 0.225];

/// The images without the mean and the deviation of ImageNet's colours.
///
/// # Errors
/// When they do not have three channels.
pub fn standardised(images: &Tensor) -> Result<Tensor> {
    let device = images.device();
    let put = |values: [f32; 3]| device.constants(&values);
    let statistics = Statistics::running(&put(MEAN)?, &put(VARIANCE)?, 0.0)?;
    let (weight, bias) = (put([1.0; 3])?, put([0.0; 3])?);
    let affine = Affine { weight: weight.view(), bias: bias.view() };
    let mut y = device.alloc(images.len())?;
    batch_norm2d_eval(images.view(), affine, &statistics, After::default(), &mut y)?;
    Tensor::from_buffer(y, images.shape())
}

/// The part of a state whose names start with `prefix`, without it.
pub fn part(state: &State, prefix: &str) -> State {
    state.iter().filter_map(|(k, t)| Some((k.strip_prefix(prefix)?.to_string(), t.clone()))).collect()
}

/// The multiple of 8 nearest to a number of channels, at least 8, and not below nine tenths of it: how MobileNets and
/// EfficientNets round widths.
fn divisible_by_8(channels: f64) -> usize {
    let near = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (near as f64) < 0.9 * channels { near + 8 } else { near }
}

/// Parameters that a network learns: weights, biases, scales and shifts.
pub fn count(layers: &[&Layer]) -> usize {
    layers.iter().map(|l| l.count()).sum()
}
