//! MobileNetV2 (Sandler et al. 2018, table 2), as torchvision names and shapes it: the trunk, without the classifier.

use hotad_engine::Activation;

use super::inverted_residual::InvertedResidual;
use super::layer::Layer;
use super::trunk::{Block, Trunk};

const EPS: f32 = 1e-5;

/// Channels after the first convolution.
const STEM: usize = 32;

/// Channels after the last.
const LAST: usize = 1280;

/// Expansion, output channels, repeats, stride of the first.
const ROWS: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// A convolution, its normalisation and ReLU6, named by the prefixes of both.
fn conv(name: String, norm: String, from: usize, to: usize, kernel: usize, stride: usize) -> Layer {
    Layer::conv(name, from, to, kernel, stride).norm(norm, EPS).then(Activation::Relu6)
}

fn block(index: usize, from: usize, to: usize, expansion: usize, stride: usize) -> InvertedResidual {
    let part = |at: String| format!("features.{index}.conv.{at}");
    let inner = |at: usize, from, to, kernel, stride| {
        conv(part(format!("{at}.0")), part(format!("{at}.1")), from, to, kernel, stride)
    };
    let wide = from * expansion;
    let expand = (expansion > 1).then(|| inner(0, from, wide, 1, 1));
    let at = usize::from(expand.is_some());
    let depthwise = inner(at, wide, wide, 3, stride).depthwise();
    let (name, norm) = (part((at + 1).to_string()), part((at + 2).to_string()));
    let project = conv(name, norm, wide, to, 1, 1).then(Activation::Identity);
    InvertedResidual { expand, depthwise, squeeze: None, project }
}

/// The trunk: cuts `features.0` to `features.18`.
pub fn trunk() -> Trunk {
    let outer = |index: usize, from, to, kernel, stride| -> (String, Box<dyn Block>) {
        let name = format!("features.{index}");
        let layer = conv(format!("{name}.0"), format!("{name}.1"), from, to, kernel, stride);
        (name, Box::new(layer))
    };
    let mut blocks = vec![outer(0, 3, STEM, 3, 2)];
    let mut from = STEM;
    for (expansion, to, repeats, stride) in ROWS {
        for repeat in 0..repeats {
            let (index, stride) = (blocks.len(), if repeat == 0 { stride } else { 1 });
            let block = block(index, std::mem::replace(&mut from, to), to, expansion, stride);
            blocks.push((format!("features.{index}"), Box::new(block)));
        }
    }
    blocks.push(outer(blocks.len(), from, LAST, 1, 1));
    Trunk::new(blocks)
}
