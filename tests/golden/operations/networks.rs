//! Networks with torchvision's weights, prepared for inference: batch norm folded.

use std::path::Path;

use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;
use hotad_models::networks::import::from_torchvision;
use hotad_models::networks::layer::{Layer, Prepared, Weights};
use hotad_models::networks::mobilenet::{MobileNetV3Small, Squeeze};
use hotad_models::networks::resnet::ResNet;
use hotad_models::networks::{Classifier, features};

use crate::case::{Case, Outputs, floats, permute};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "resnet18_features" => Some(resnet(case)),
        "mobilenet_v3_small_features" => Some(mobilenet(case)),
        _ => None,
    }
}

/// The layers whose weights the case has, ready for inference.
fn prepared(case: &Case, layers: &[&Layer]) -> Prepared {
    let state: State = case
        .names("in.sd.")
        .map(|name| {
            let full = format!("sd.{name}");
            let tensor = Tensor::new(case.flat(&full), case.shape(&full)).expect("as many values as the shape says");
            (name.to_string(), tensor)
        })
        .collect();
    let known: Vec<&Layer> =
        layers.iter().copied().filter(|l| state.contains_key(&format!("{}.weight", l.name))).collect();
    let state = from_torchvision(Path::new(&case.name), &state, &known).expect("torchvision's names and shapes");
    Prepared::new(&known, &state, &case.device).expect("memory for a network")
}

fn image(case: &Case) -> Tensor {
    let (x, shape) = case.map("x");
    Tensor::from_buffer(case.put(x), &shape).expect("as many values as the shape says")
}

fn nchw(map: &Tensor) -> Vec<f64> {
    floats(&permute(&map.values().expect("the device has done its work"), map.nhwc().expect("a map"), [0, 3, 1, 2]))
}

fn resnet(case: &Case) -> Outputs {
    let network = ResNet::resnet18(3, 64, 1000);
    let ready = prepared(case, &network.layers());
    let wanted: Vec<usize> =
        case.texts("outputs").iter().filter_map(|n| n.strip_prefix("layer")?.parse().ok()).collect();
    let last = wanted.iter().max().map_or(1, |n| n + 1);
    let taps = features(&network, &Weights::Prepared(&ready), &image(case), last).expect("shapes fit");
    wanted.into_iter().map(|n| (format!("layer{n}"), nchw(&taps[n]))).collect()
}

fn mobilenet(case: &Case) -> Outputs {
    let network = MobileNetV3Small::new(3, Squeeze::Quarter, 1024, 1000);
    let ready = prepared(case, &network.layers());
    let mut x = image(case);
    let mut out = Outputs::new();
    for i in 0..case.count("blocks") {
        x = network.feature(i, &Weights::Prepared(&ready), &x, None).expect("shapes fit");
        out.insert(format!("features.{i}"), nchw(&x));
    }
    out
}
