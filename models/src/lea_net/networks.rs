//! The two networks of LEA-Net and how attention goes from one to the other.

use std::path::Path;

use hotad_engine::ops::{attend, attention_map, concat_channels};
use hotad_engine::params::{Params, State};
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Result, weights};
use hotad_kernels::resize::{Filter, resize};

use super::config::{Attention, Config, DetectionNetwork, Input};
use crate::export::{GraphValue, Writer};
use crate::networks::cnn::BasicCnn;
use crate::networks::layer::Weights;
use crate::networks::mobilenet::{MobileNetV3Small, Squeeze};
use crate::networks::resnet::ResNet;
use crate::networks::vgg::Vgg;
use crate::networks::{Classifier, POINTS, classify, count, features, import, standardised};

/// Prefix of the detection network's parameters.
pub const DETECTION: &str = "detection.";
/// Prefix of the attention network's parameters.
pub const ATTENTION: &str = "attention.";

/// Channels before the output of the MobileNet-based attention network (table 1).
const HIDDEN: usize = 1280;

/// The detection network (ADN) and, where attention is learned, the attention network (CAAN).
pub struct Networks {
    /// Sees the image.
    pub detection: Box<dyn Classifier>,
    /// Sees the anomaly map.
    pub attention: Option<Box<dyn Classifier>>,
    kind: Attention,
    point: usize,
    input: Input,
}

/// The attention network of a kind, for anomaly maps.
pub fn attention_network(kind: Attention, width: usize, outputs: usize) -> Option<Box<dyn Classifier>> {
    match kind {
        Attention::None | Attention::Direct => None,
        Attention::Resnet => Some(Box::new(ResNet::attention(1, width, outputs))),
        Attention::Mobilenet => Some(Box::new(MobileNetV3Small::new(1, Squeeze::Full, HIDDEN, outputs))),
    }
}

impl Networks {
    /// Networks as the settings say.
    pub fn new(config: &Config) -> Self {
        let (channels, size, width) = (config.input.channels(), config.image_size, config.width);
        let detection: Box<dyn Classifier> = match config.detector {
            DetectionNetwork::Resnet18 => Box::new(ResNet::resnet18(channels, width, 1)),
            DetectionNetwork::Resnet50 => Box::new(ResNet::resnet50(channels, width, 1)),
            DetectionNetwork::Vgg16 => Box::new(Vgg::vgg16(channels, size, width, 1)),
            DetectionNetwork::Vgg19 => Box::new(Vgg::vgg19(channels, size, width, 1)),
            DetectionNetwork::Cnn => Box::new(BasicCnn::new(channels, width, 1)),
        };
        let attention = attention_network(config.attention, width, 1);
        Self { detection, attention, kind: config.attention, point: config.point, input: config.input }
    }

    /// The weights of torchvision that the settings name, if they do.
    ///
    /// # Errors
    /// When the file cannot be read or holds the weights of another architecture.
    pub fn known_weights(&self, config: &Config) -> Result<State> {
        if config.weights.is_empty() {
            return Ok(State::new());
        }
        let (path, layers) = (Path::new(&config.weights), self.detection.layers());
        let mut file = weights::read(path)?;
        import::adapt_input(&mut file, layers[0], config.input.channels())?;
        import::from_torchvision(path, &file, &layers)
    }

    /// Fresh parameters, or torchvision's where the settings name a file.
    ///
    /// # Errors
    /// When the file holds the weights of another architecture.
    pub fn init(&self, config: &Config, seed: u64) -> Result<Params> {
        let mut params = Params::default();
        self.detection.init(&mut params, DETECTION, seed);
        if let Some(network) = &self.attention {
            network.init(&mut params, ATTENTION, seed);
        }
        let known = self.known_weights(config)?;
        if !known.is_empty() {
            let mut state: State = params.values()?;
            state.extend(known.into_iter().map(|(name, t)| (format!("{DETECTION}{name}"), t)));
            params.set_values(&state)?;
        }
        Ok(params)
    }

    /// Pixels of the smallest map that is normalised by batches, of square images of `size` pixels; the largest number without
    /// such a map.
    pub fn smallest_map(&self, size: usize) -> usize {
        let networks = std::iter::once(&self.detection).chain(&self.attention);
        let normalises = networks.flat_map(|n| n.layers()).any(|layer| layer.norm.is_some());
        if normalises { (size >> POINTS).pow(2) } else { usize::MAX }
    }

    /// Scalars that are learned.
    pub fn count(&self) -> usize {
        let attention = self.attention.as_ref().map_or(0, |n| count(&n.layers()));
        count(&self.detection.layers()) + attention
    }

    /// What the detection network sees of images and their anomaly maps.
    fn seen(&self, images: &Tensor, maps: &Tensor) -> Result<Tensor> {
        match self.input {
            Input::Map => Ok(maps.clone()),
            Input::Rgb => standardised(images),
            Input::RgbMap => concat_channels(&standardised(images)?, maps),
            Input::Attended => standardised(&attend(images, maps)?),
        }
    }

    /// Features of the detection network at the points from 1 to `last`, without attention.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn maps(&self, detection: &Weights, images: &Tensor, maps: &Tensor, last: usize) -> Result<Tensors> {
        features(self.detection.as_ref(), detection, &self.seen(images, maps)?, last)
    }

    /// Logits of the detection network and, with the attention network's head, of that.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn run(
        &self,
        detection: &Weights,
        attention: Option<&Weights>,
        images: &Tensor,
        maps: &Tensor,
        both: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let seen = self.seen(images, maps)?;
        let at = |map: &Tensor| classify(self.detection.as_ref(), detection, &seen, Some((self.point, map)));
        match (self.kind, &self.attention, attention) {
            (Attention::Direct, ..) => Ok((at(&shrunk(maps, self.point)?)?, None)),
            (_, Some(network), Some(weights)) => {
                let last = if both { POINTS } else { self.point };
                let taps = features(network.as_ref(), weights, maps, last)?;
                let logits = at(&attention_map(&taps[self.point - 1])?)?;
                Ok((logits, both.then(|| network.head(weights, &taps[last - 1])).transpose()?))
            }
            _ => Ok((classify(self.detection.as_ref(), detection, &seen, None)?, None)),
        }
    }

    /// [`Networks::run`] as nodes of a graph: the logit of the detection network.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn export(
        &self,
        detection: &Writer,
        attention: &Writer,
        images: &GraphValue,
        maps: &GraphValue,
    ) -> Result<GraphValue> {
        let seen = match self.input {
            Input::Map => maps.clone(),
            Input::Rgb => images.standardised(),
            Input::RgbMap => images.standardised().concat(maps),
            Input::Attended => images.attended(Some(maps)).standardised(),
        };
        let map = match (self.kind, &self.attention) {
            (Attention::Direct, _) => {
                let [_, rows, columns] = maps.shape();
                Some(maps.shrunk(rows >> self.point, columns >> self.point))
            }
            (_, Some(network)) => {
                let stages = 1..=self.point;
                let stage = |x: GraphValue, point| network.export_stage(point, attention, &x, None);
                Some(stages.into_iter().try_fold(maps.clone(), stage)?.attention())
            }
            _ => None,
        };
        let stage = |x: GraphValue, point| {
            let map = map.as_ref().filter(|_| point == self.point);
            self.detection.export_stage(point, detection, &x, map)
        };
        let last = (1..=POINTS).try_fold(seen, stage)?;
        self.detection.export_head(detection, &last)
    }

    /// At every point, the features before attention and the attention map there; upstream, attention
    /// is given at the network's own point.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn inside(
        &self,
        detection: &Weights,
        attention: Option<&Weights>,
        images: &Tensor,
        maps: &Tensor,
    ) -> Result<Vec<(Tensor, Tensor)>> {
        let all: Vec<Tensor> = match (&self.attention, attention) {
            (Some(network), Some(weights)) => {
                let taps = features(network.as_ref(), weights, maps, POINTS)?;
                taps.iter().map(attention_map).collect::<Result<_>>()?
            }
            _ => (1..=POINTS).map(|p| shrunk(maps, p)).collect::<Result<_>>()?,
        };
        let mut x = self.seen(images, maps)?;
        let mut inside = Vec::new();
        for (i, map) in all.into_iter().enumerate() {
            let before = self.detection.stage(i + 1, detection, &x, None)?;
            x = if i + 1 == self.point { attend(&before, &map)? } else { before.clone() };
            inside.push((before, map));
        }
        Ok(inside)
    }
}

/// Anomaly maps at the size of a point.
fn shrunk(maps: &Tensor, point: usize) -> Result<Tensor> {
    let [n, h, w, _] = maps.nhwc()?;
    let size = (h >> point, w >> point);
    let mut y = maps.device().alloc(n * size.0 * size.1)?;
    resize(maps.view(), maps.nhwc()?, size, Filter::BilinearAntialias, &mut y)?;
    Tensor::from_buffer(y, &[n, size.0, size.1, 1])
}
