//! MobileNetV3-Small and -Large (Howard et al. 2019, tables 2 and 1), as torchvision names and shapes them; Small also as the
//! attention network of LEA-Net (table 1).
//!
//! Stages of Small end where LEA-Net takes its attention: `features.0` (16 channels), `features.1` (16),
//! `features.3` (24), `features.8` (48) and `features.11` (96). The 3.042 M parameters of LEA-Net's
//! table 1 are those of an implementation whose squeeze-and-excitation keeps all channels between its
//! two layers ([`Squeeze::Full`]) and whose last hidden layer has 1280; torchvision keeps a quarter, and
//! has 1024.

use hotad_engine::ops::global_avg_pool2d;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result};

use super::inverted_residual::InvertedResidual;
use super::layer::{Layer, Weights};
use super::trunk::{Block, Trunk};
use super::{Classifier, POINTS, divisible_by_8};
use crate::export::{GraphValue, Writer};

const EPS: f32 = 1e-3;

/// Channels after the first convolution.
const STEM: usize = 16;

/// Channels between the two layers of a squeeze-and-excitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squeeze {
    /// A quarter, rounded to a multiple of 8: torchvision's.
    Quarter,
    /// All: LEA-Net's, by its number of parameters.
    Full,
}

/// A bottleneck.
#[derive(Clone, Copy)]
struct Row {
    /// Channels of the depthwise convolution.
    wide: usize,
    kernel: usize,
    /// Channels after it.
    channels: usize,
    /// Whether it has squeeze-and-excitation.
    excites: bool,
    /// Hard swish instead of ReLU.
    swish: bool,
    stride: usize,
}

const fn row(wide: usize, kernel: usize, channels: usize, excites: bool, swish: bool, stride: usize) -> Row {
    Row { wide, kernel, channels, excites, swish, stride }
}

const SMALL: [Row; 11] = [
    row(16, 3, 16, true, false, 2),
    row(72, 3, 24, false, false, 2),
    row(88, 3, 24, false, false, 1),
    row(96, 5, 40, true, true, 2),
    row(240, 5, 40, true, true, 1),
    row(240, 5, 40, true, true, 1),
    row(120, 5, 48, true, true, 1),
    row(144, 5, 48, true, true, 1),
    row(288, 5, 96, true, true, 2),
    row(576, 5, 96, true, true, 1),
    row(576, 5, 96, true, true, 1),
];

/// Entries of `features` in stages 1 to 5.
const STAGES: [std::ops::Range<usize>; POINTS] = [0..1, 1..2, 2..4, 4..9, 9..12];

const LARGE: [Row; 15] = [
    row(16, 3, 16, false, false, 1),
    row(64, 3, 24, false, false, 2),
    row(72, 3, 24, false, false, 1),
    row(72, 5, 40, true, false, 2),
    row(120, 5, 40, true, false, 1),
    row(120, 5, 40, true, false, 1),
    row(240, 3, 80, false, true, 2),
    row(200, 3, 80, false, true, 1),
    row(184, 3, 80, false, true, 1),
    row(184, 3, 80, false, true, 1),
    row(480, 3, 112, true, true, 1),
    row(672, 3, 112, true, true, 1),
    row(672, 5, 160, true, true, 2),
    row(960, 5, 160, true, true, 1),
    row(960, 5, 160, true, true, 1),
];

fn bottleneck(index: usize, from: usize, row: Row, squeeze: Squeeze) -> InvertedResidual {
    let Row { wide, kernel, channels: to, excites, swish, stride } = row;
    let activation = if swish { Activation::HardSwish } else { Activation::Relu };
    let part = |at: usize, kind: &str| format!("features.{index}.block.{at}.{kind}");
    let conv = |at: usize, from, to, kernel, stride| {
        Layer::conv(part(at, "0"), from, to, kernel, stride).norm(part(at, "1"), EPS)
    };
    let expand = (wide != from).then(|| conv(0, from, wide, 1, 1).then(activation));
    let first = usize::from(expand.is_some());
    let depthwise = conv(first, wide, wide, kernel, stride).depthwise().then(activation);
    let between = match squeeze {
        Squeeze::Full => wide,
        Squeeze::Quarter => divisible_by_8(wide as f64 / 4.0),
    };
    let squeeze = excites.then(|| {
        [
            Layer::linear(part(first + 1, "fc1"), wide, between).then(Activation::Relu),
            Layer::linear(part(first + 1, "fc2"), between, wide).then(Activation::HardSigmoid),
        ]
    });
    let project = conv(first + 1 + usize::from(excites), wide, to, 1, 1);
    InvertedResidual { expand, depthwise, squeeze, project }
}

fn bottlenecks(rows: &[Row], squeeze: Squeeze) -> Vec<InvertedResidual> {
    let mut from = STEM;
    let block = |(i, row): (usize, &Row)| bottleneck(i + 1, std::mem::replace(&mut from, row.channels), *row, squeeze);
    rows.iter().enumerate().map(block).collect()
}

/// A convolution of the first or last entry of `features`.
fn outer(name: &str, from: usize, to: usize, kernel: usize, stride: usize) -> Layer {
    Layer::conv(format!("{name}.0"), from, to, kernel, stride)
        .norm(format!("{name}.1"), EPS)
        .then(Activation::HardSwish)
}

fn trunk(rows: &[Row]) -> Trunk {
    let mut blocks: Vec<(String, Box<dyn Block>)> =
        vec![("features.0".into(), Box::new(outer("features.0", 3, STEM, 3, 2)))];
    for (i, block) in bottlenecks(rows, Squeeze::Quarter).into_iter().enumerate() {
        blocks.push((format!("features.{}", i + 1), Box::new(block)));
    }
    let (last, from) = (format!("features.{}", rows.len() + 1), rows[rows.len() - 1].channels);
    let layer = outer(&last, from, 6 * from, 1, 1);
    blocks.push((last, Box::new(layer)));
    Trunk::new(blocks)
}

/// The trunk of MobileNetV3-Small: cuts `features.0` to `features.12`.
pub fn small() -> Trunk {
    trunk(&SMALL)
}

/// The trunk of MobileNetV3-Large: cuts `features.0` to `features.16`.
pub fn large() -> Trunk {
    trunk(&LARGE)
}

/// MobileNetV3-Small.
pub struct MobileNetV3Small {
    stem: Layer,
    blocks: Vec<InvertedResidual>,
    last: Layer,
    hidden: Layer,
    output: Layer,
}

impl MobileNetV3Small {
    /// For images of `channels`, with `hidden` channels before the output (torchvision: 1024).
    pub fn new(channels: usize, squeeze: Squeeze, hidden: usize, outputs: usize) -> Self {
        Self {
            stem: outer("features.0", channels, STEM, 3, 2),
            blocks: bottlenecks(&SMALL, squeeze),
            last: outer("features.12", 96, 576, 1, 1),
            hidden: Layer::linear("classifier.0", 576, hidden).then(Activation::HardSwish),
            output: Layer::linear("classifier.3", hidden, outputs),
        }
    }

    /// Entry `index` (0 to 12) of `features`, then attention.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn feature(&self, index: usize, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        self.entry(index).run(weights, x, attention)
    }

    /// Entry `index` of `features`.
    fn entry(&self, index: usize) -> &dyn Block {
        match index.checked_sub(1) {
            None => &self.stem,
            Some(i) => self.blocks.get(i).map_or(&self.last, |block| block),
        }
    }
}

impl Classifier for MobileNetV3Small {
    fn layers(&self) -> Vec<&Layer> {
        let blocks = self.blocks.iter().flat_map(Block::layers);
        std::iter::once(&self.stem).chain(blocks).chain([&self.last, &self.hidden, &self.output]).collect()
    }

    fn stage(&self, point: usize, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        let entries = STAGES[point - 1].clone();
        let last = entries.end - 1;
        let mut entries = entries;
        entries.try_fold(x.clone(), |x, i| self.feature(i, weights, &x, attention.filter(|_| i == last)))
    }

    fn head(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let pooled = global_avg_pool2d(&self.feature(SMALL.len() + 1, weights, x, None)?)?;
        weights.linear(&self.output, &weights.linear(&self.hidden, &pooled)?)
    }

    fn export_stage(
        &self,
        point: usize,
        to: &Writer,
        x: &GraphValue,
        attention: Option<&GraphValue>,
    ) -> Result<GraphValue> {
        let mut entries = STAGES[point - 1].clone();
        let last = entries.end - 1;
        entries.try_fold(x.clone(), |x, i| self.entry(i).export(to, &x, attention.filter(|_| i == last)))
    }

    fn export_head(&self, to: &Writer, x: &GraphValue) -> Result<GraphValue> {
        let pooled = self.last.export(to, x, None)?.averaged();
        to.linear(&self.output, &to.linear(&self.hidden, &pooled)?)
    }
}
