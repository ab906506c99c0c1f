//! MobileNetV3-Small (Howard et al. 2019, table 2), as torchvision names and shapes it, and as the
//! attention network of LEA-Net (table 1).
//!
//! Stages end where LEA-Net takes its attention: `features.0` (16 channels), `features.1` (16),
//! `features.3` (24), `features.8` (48) and `features.11` (96). The 3.042 M parameters of LEA-Net's
//! table 1 are those of an implementation whose squeeze-and-excitation keeps all channels between its
//! two layers ([`Squeeze::Full`]) and whose last hidden layer has 1280; torchvision keeps a quarter, and
//! has 1024.

use hotad_engine::ops::{channel_scale, global_avg_pool2d};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result};

use super::layer::{Layer, Weights};
use super::{Classifier, POINTS};

const EPS: f32 = 1e-3;

/// Channels between the two layers of a squeeze-and-excitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squeeze {
    /// A quarter, rounded to a multiple of 8: torchvision's.
    Quarter,
    /// All: LEA-Net's, by its number of parameters.
    Full,
}

/// Expanded channels, kernel, output channels, squeeze-and-excitation, hard swish, stride.
type Row = (usize, usize, usize, bool, bool, usize);

const ROWS: [Row; 11] = [
    (16, 3, 16, true, false, 2),
    (72, 3, 24, false, false, 2),
    (88, 3, 24, false, false, 1),
    (96, 5, 40, true, true, 2),
    (240, 5, 40, true, true, 1),
    (240, 5, 40, true, true, 1),
    (120, 5, 48, true, true, 1),
    (144, 5, 48, true, true, 1),
    (288, 5, 96, true, true, 2),
    (576, 5, 96, true, true, 1),
    (576, 5, 96, true, true, 1),
];

/// Entries of `features` in stages 1 to 5.
const STAGES: [std::ops::Range<usize>; POINTS] = [0..1, 1..2, 2..4, 4..9, 9..12];

/// An inverted residual: expansion, depthwise convolution, squeeze-and-excitation, projection.
struct Bottleneck {
    expand: Option<Layer>,
    depthwise: Layer,
    squeeze: Option<[Layer; 2]>,
    project: Layer,
    residual: bool,
}

impl Bottleneck {
    fn new(index: usize, from: usize, row: Row, squeeze: Squeeze) -> Self {
        let (wide, kernel, to, excites, swish, stride) = row;
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
            Squeeze::Quarter => divisible_by_8(wide / 4),
        };
        let squeeze = excites.then(|| {
            [
                Layer::linear(part(first + 1, "fc1"), wide, between).then(Activation::Relu),
                Layer::linear(part(first + 1, "fc2"), between, wide).then(Activation::HardSigmoid),
            ]
        });
        let project = conv(first + 1 + usize::from(excites), wide, to, 1, 1);
        Self { expand, depthwise, squeeze, project, residual: stride == 1 && from == to }
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        let squeeze = self.squeeze.iter().flatten();
        self.expand.iter().chain([&self.depthwise]).chain(squeeze).chain([&self.project])
    }

    fn run(&self, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        let mut y = match &self.expand {
            Some(layer) => weights.run(layer, x, None, None)?,
            None => x.clone(),
        };
        y = weights.run(&self.depthwise, &y, None, None)?;
        if let Some([first, second]) = &self.squeeze {
            let hidden = weights.linear(first, &global_avg_pool2d(&y)?)?;
            y = channel_scale(&y, &weights.linear(second, &hidden)?)?;
        }
        weights.run(&self.project, &y, self.residual.then_some(x), attention)
    }
}

/// The nearest multiple of 8, at least 8, not below nine tenths.
fn divisible_by_8(n: usize) -> usize {
    let near = ((n + 4) / 8 * 8).max(8);
    if near * 10 < n * 9 { near + 8 } else { near }
}

/// MobileNetV3-Small.
pub struct MobileNetV3Small {
    stem: Layer,
    blocks: Vec<Bottleneck>,
    last: Layer,
    hidden: Layer,
    output: Layer,
}

impl MobileNetV3Small {
    /// For images of `channels`, with `hidden` channels before the output (torchvision: 1024).
    pub fn new(channels: usize, squeeze: Squeeze, hidden: usize, outputs: usize) -> Self {
        let swish = Activation::HardSwish;
        let conv = |name: &str, from, to, kernel, stride| {
            Layer::conv(format!("{name}.0"), from, to, kernel, stride).norm(format!("{name}.1"), EPS).then(swish)
        };
        let mut from = 16;
        let block =
            |(i, row): (usize, &Row)| Bottleneck::new(i + 1, std::mem::replace(&mut from, row.2), *row, squeeze);
        Self {
            stem: conv("features.0", channels, 16, 3, 2),
            blocks: ROWS.iter().enumerate().map(block).collect(),
            last: conv("features.12", 96, 576, 1, 1),
            hidden: Layer::linear("classifier.0", 576, hidden).then(swish),
            output: Layer::linear("classifier.3", hidden, outputs),
        }
    }

    /// Entry `index` (0 to 12) of `features`, then attention.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn feature(&self, index: usize, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        match index.checked_sub(1) {
            None => weights.run(&self.stem, x, None, attention),
            Some(i) => match self.blocks.get(i) {
                Some(block) => block.run(weights, x, attention),
                None => weights.run(&self.last, x, None, attention),
            },
        }
    }
}

impl Classifier for MobileNetV3Small {
    fn layers(&self) -> Vec<&Layer> {
        let blocks = self.blocks.iter().flat_map(Bottleneck::layers);
        std::iter::once(&self.stem).chain(blocks).chain([&self.last, &self.hidden, &self.output]).collect()
    }

    fn stage(&self, point: usize, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        let entries = STAGES[point - 1].clone();
        let last = entries.end - 1;
        let mut entries = entries;
        entries.try_fold(x.clone(), |x, i| self.feature(i, weights, &x, attention.filter(|_| i == last)))
    }

    fn head(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let pooled = global_avg_pool2d(&self.feature(ROWS.len() + 1, weights, x, None)?)?;
        weights.linear(&self.output, &weights.linear(&self.hidden, &pooled)?)
    }
}
