//! The patch autoencoder of PAEDID: an encoder whose latent map keeps one vector per patch, and the
//! mirrored decoder.
//!
//! Encoder: conv 3x3 to each width, ReLU, max pool 2. Decoder: for each width backwards, nearest x2
//! up-sampling and conv 3x3 with ReLU, the last one linear to the image (section 3.1: conv 64, pool,
//! conv 128, pool; section 4: 3, 9, 27, 81). The paper's ELPV decoder puts up-sampling after each
//! convolution; here it comes before, in one fused operation, so that the output is not made of
//! 2x2 blocks.

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::ops::{Mode, loss};
use hotad_engine::params::{Params, State};
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Activation, Result, random};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::loss::Loss;
use serde_json::Value;

use crate::config::require;
use crate::export::{GraphValue, Writer};
use crate::features::Extractor;
use crate::fit::{FitContext, Schedule, Training};
use crate::networks::layer::{Layer, Prepared, Weights};

/// Widths of the network that the paper takes from VGG.
pub const VGG: [usize; 2] = [64, 128];
/// Widths of the network of the paper's case study.
pub const ELPV: [usize; 4] = [3, 9, 27, 81];

/// Fails for widths that no network has.
///
/// # Errors
/// Names them and what is allowed.
pub fn check_widths(widths: &[usize]) -> Result<()> {
    let known = (1..=6).contains(&widths.len()) && widths.iter().all(|w| (1..=1024).contains(w));
    require(known, "network", format!("{widths:?}"), "1 to 6 widths of 1 to 1024")
}

/// Layout of the network.
#[derive(Clone, Debug)]
pub struct PatchAutoencoder {
    widths: Vec<usize>,
    image: ImageSpec,
    /// Each followed by a pooling.
    encoder: Vec<Layer>,
    /// In the order in which they are run.
    decoder: Vec<Layer>,
}

/// The shape of latent maps: a vector for each patch of an image.
#[derive(Clone, Copy, Debug)]
pub struct Latent {
    /// Patches one above the other.
    pub rows: usize,
    /// Patches side by side.
    pub columns: usize,
    /// Elements of each vector.
    pub elements: usize,
}

impl Latent {
    /// Patches of an image.
    pub fn locations(self) -> usize {
        self.rows * self.columns
    }
}

impl PatchAutoencoder {
    /// A network for images whose sides are multiples of `2^widths.len()`.
    pub fn new(widths: &[usize], image: ImageSpec) -> Self {
        let from = std::iter::once(image.channels).chain(widths.iter().copied());
        let steps = || from.clone().zip(widths.iter().copied()).enumerate();
        let encoder =
            steps().map(|(i, (from, to))| Layer::conv(format!("encoder.{i}"), from, to, 3, 1).then(Activation::Relu));
        let decoder = steps().map(|(i, (to, from))| {
            let activation = if i == 0 { Activation::Identity } else { Activation::Relu };
            Layer::conv(format!("decoder.{i}"), from, to, 3, 1).upsampled().then(activation)
        });
        let (encoder, mut decoder): (Vec<_>, Vec<_>) = (encoder.collect(), decoder.collect());
        decoder.reverse();
        Self { widths: widths.to_vec(), image, encoder, decoder }
    }

    /// Of a file: as [`PatchAutoencoder::new`], once it is known that there can be such a network.
    ///
    /// # Errors
    /// Names what is out of range.
    pub fn checked(widths: &[usize], image: ImageSpec) -> Result<Self> {
        check_widths(widths)?;
        image.check()?;
        let stride = 1 << widths.len();
        let fits = image.height.is_multiple_of(stride) && image.width.is_multiple_of(stride);
        let sides = format!("{} x {}", image.height, image.width);
        require(fits, "image_size", sides, format!("multiples of {stride}"))?;
        Ok(Self::new(widths, image))
    }

    /// What images it takes.
    pub fn image(&self) -> ImageSpec {
        self.image
    }

    /// Channels after each layer of the encoder.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Names of its encoder's layers.
    pub fn cuts(&self) -> Vec<String> {
        (0..self.widths.len()).map(|i| format!("encoder.{i}")).collect()
    }

    /// The shape of its latent maps.
    pub fn latent(&self) -> Latent {
        let shrink = 1 << self.widths.len();
        let (rows, columns) = (self.image.height / shrink, self.image.width / shrink);
        Latent { rows, columns, elements: *self.widths.last().unwrap_or(&0) }
    }

    /// Weights laid out for inference on a device.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn prepared(&self, state: &State, device: &Device) -> Result<Prepared> {
        Prepared::new(&self.layers().collect::<Vec<_>>(), state, device)
    }

    /// All layers.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.encoder.iter().chain(&self.decoder)
    }

    /// Fresh parameters.
    pub fn init(&self, seed: u64) -> Params {
        let mut params = Params::default();
        self.add(&mut params, seed);
        params
    }

    /// Adds fresh parameters.
    fn add(&self, params: &mut Params, seed: u64) {
        let mut rng = random::stream(seed, "patch autoencoder", 0);
        self.layers().for_each(|layer| layer.init(params, "", &mut rng));
    }

    /// Parameters from a model file, on a device.
    ///
    /// # Errors
    /// When one is missing or has another shape, or the device is out of memory.
    pub fn load(&self, state: &State, device: &Device) -> Result<Params> {
        Params::restored(state, device, |params| self.add(params, 0))
    }

    /// `[n, h, w, c]` to the latent map `[n, p1, p2, d]`.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn encode(&self, weights: &Weights, images: &Tensor) -> Result<Tensor> {
        self.encoder.iter().try_fold(images.clone(), |x, layer| weights.run_pooled(layer, &x, None))
    }

    /// The maps after the first layers of the encoder.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn encoded(&self, weights: &Weights, images: &Tensor, layers: usize) -> Result<Tensors> {
        let mut maps = Tensors::new();
        for layer in self.encoder.iter().take(layers) {
            let map = weights.run_pooled(layer, maps.last().unwrap_or(images), None)?;
            maps.push(map);
        }
        Ok(maps)
    }

    /// The latent map back to images.
    ///
    /// # Errors
    /// When the map has another shape.
    pub fn decode(&self, weights: &Weights, latent: &Tensor) -> Result<Tensor> {
        self.decoder.iter().try_fold(latent.clone(), |x, layer| weights.run(layer, &x, None, None))
    }

    /// [`PatchAutoencoder::encoded`] as nodes of a graph.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn export_encoder(&self, to: &Writer, images: &GraphValue, layers: usize) -> Result<Vec<GraphValue>> {
        let mut maps: Vec<GraphValue> = Vec::with_capacity(layers);
        for layer in self.encoder.iter().take(layers) {
            let map = to.run_pooled(layer, maps.last().unwrap_or(images), None)?;
            maps.push(map);
        }
        Ok(maps)
    }

    /// [`PatchAutoencoder::decode`] as nodes of a graph.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn export_decoder(&self, to: &Writer, latent: &GraphValue) -> Result<GraphValue> {
        self.decoder.iter().try_fold(latent.clone(), |x, layer| to.run(layer, &x.doubled(), None, None))
    }

    /// Mean squared error of the reconstruction (algorithm 1, step 1).
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn reconstruction_loss(&self, params: &Params, images: &Tensor, tracked: bool) -> Result<Tensor> {
        let weights = Weights::Learned(params, "", if tracked { Mode::Train } else { Mode::Eval });
        let latent = self.encode(&weights, images)?;
        loss(Loss::Mse, &self.decode(&weights, &latent)?, images)
    }
}

/// A patch autoencoder with its weights.
pub struct TrainedAutoencoder {
    /// Network.
    pub network: PatchAutoencoder,
    /// Its weights.
    pub params: Params,
    /// The same, laid out for inference.
    ready: Prepared,
}

impl TrainedAutoencoder {
    /// A network with weights, on their device.
    ///
    /// # Errors
    /// When a weight is missing or has another shape.
    pub fn new(network: PatchAutoencoder, params: Params) -> Result<Self> {
        let ready = network.prepared(&params.values()?, params.device())?;
        Ok(Self { network, params, ready })
    }

    /// Trains on the context's normal images by squared error; training may start from the tensors under a prefix.
    ///
    /// # Errors
    /// Broken images, divergence, interruption.
    pub fn fit(
        network: PatchAutoencoder,
        (schedule, lr): (&Schedule, f64),
        (context, prefix): (&FitContext, &str),
        (method, settings): (&str, &Value),
    ) -> Result<Self> {
        let mut params = network.init(context.seed);
        context.warm_start(&mut params, prefix)?;
        let mut learner = Training {
            params: params.to(context.device)?,
            adam: AdamOptions { lr: lr as f32, ..AdamOptions::default() },
            loss: |params: &_, images: &_, tracked| network.reconstruction_loss(params, images, tracked),
        };
        context.run(&mut learner, network.image(), schedule, method, settings)?;
        let params = learner.params;
        Self::new(network, params)
    }

    /// The latent maps of images.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn encode(&self, images: &Tensor) -> Result<Tensor> {
        self.network.encode(&Weights::Prepared(&self.ready), &images.to(self.params.device())?)
    }

    /// The images of latent maps.
    ///
    /// # Errors
    /// When the map has another shape.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.network.decode(&Weights::Prepared(&self.ready), latent)
    }
}

/// The layers of the encoder.
impl Extractor for TrainedAutoencoder {
    fn image(&self) -> ImageSpec {
        self.network.image()
    }

    fn cuts(&self) -> Vec<String> {
        self.network.cuts()
    }

    /// The last two.
    fn usual(&self) -> Vec<usize> {
        let layers = self.network.widths().len();
        (layers.saturating_sub(2)..layers).collect()
    }

    fn maps(&self, images: &Tensor, cuts: &[usize]) -> Result<Tensors> {
        let last = cuts.last().map_or(0, |c| c + 1);
        let maps = self.network.encoded(&Weights::Prepared(&self.ready), &images.to(self.params.device())?, last)?;
        Ok(cuts.iter().map(|c| maps[*c].clone()).collect())
    }
}
