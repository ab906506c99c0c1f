//! Whole networks against torchvision, and their sizes against the paper's tables.
//!
//! The logits in tests/vectors were made by tests/vectors/export.py, under weights that a formula
//! gives (common/formula.rs).

#[path = "common/devices.rs"]
mod devices;
#[path = "common/formula.rs"]
mod formula;

use std::collections::BTreeMap;
use std::path::Path;

use formula::{hashed, state_dict};
use hotad_engine::device::Device;
use hotad_engine::ops::Mode;
use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_models::config::Settings;
use hotad_models::lea_net::{self, Attention, attention_network};
use hotad_models::networks::cnn::BasicCnn;
use hotad_models::networks::import::{from_torchvision, torchvision};
use hotad_models::networks::layer::{Layer, Prepared, Weights};
use hotad_models::networks::mobilenet::{MobileNetV3Small, Squeeze};
use hotad_models::networks::resnet::ResNet;
use hotad_models::networks::unet::UNet;
use hotad_models::networks::vgg::Vgg;
use hotad_models::networks::{Classifier, POINTS, classify, count};

fn logits_of(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(format!("tests/vectors/{name}.safetensors")).expect("the vectors are in the repository");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let data = file.tensor("logits").expect("it holds logits").data();
    data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The network's logits lie within a share of the largest one of torchvision's.
fn agrees(name: &str, network: &dyn Classifier, size: usize) {
    let layers = network.layers();
    let state =
        from_torchvision(Path::new(name), &state_dict(&layers), &layers).expect("torchvision's names and shapes");
    let ready = Prepared::new(&layers, &state, &Device::CPU).expect("all weights are there");
    let nchw = hashed(3 * size * size, "image");
    let pixels = size * size;
    let nhwc = (0..3 * pixels).map(|i| nchw[i % 3 * pixels + i / 3] as f32).collect();
    let image = Tensor::new(nhwc, &[1, size, size, 3]).expect("lengths fit");
    let got = classify(network, &Weights::Prepared(&ready), &image, None).expect("shapes fit");
    let (got, want) = (got.values().expect("on the host"), logits_of(name));
    let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!((g - w).abs() < 2e-5 * largest, "{name}: logit {i} is {g}, {w} expected (largest {largest})");
    }
}

#[test]
fn resnet18_is_torchvisions() {
    agrees("resnet18", &ResNet::resnet18(3, 64, 1000), 64);
}

#[test]
fn resnet50_is_torchvisions() {
    agrees("resnet50", &ResNet::resnet50(3, 64, 1000), 64);
}

#[test]
fn vgg16_is_torchvisions() {
    agrees("vgg16", &Vgg::vgg16(3, 224, 64, 1000), 224);
}

#[test]
fn mobilenet_v3_small_is_torchvisions() {
    agrees("mobilenet_v3_small", &MobileNetV3Small::new(3, Squeeze::Quarter, 1024, 1000), 64);
}

/// Parameters as Keras counts them, which the paper's table 1 was made with: a bias in every convolution,
/// and the running statistics of every normalisation.
fn keras_count(layers: &[&Layer]) -> usize {
    count(layers) + layers.iter().filter(|l| l.norm.is_some()).map(|l| 3 * l.to).sum::<usize>()
}

#[test]
fn sizes_are_those_of_the_papers_tables() {
    // Table 1, two outputs.
    let mobilenet = attention_network(Attention::Mobilenet, 64, 2).expect("a network");
    let millions = keras_count(&mobilenet.layers()) as f64 / 1e6;
    assert!((millions - 3.042).abs() < 0.001, "{millions}");
    // Tables 3 to 8: 16.1 M - 11.2 M and 8.9 M - 4.0 M. Table 1's 4.491 M is less than the 3x3 convolutions
    // of its own rows.
    let resnet = attention_network(Attention::Resnet, 64, 1).expect("a network");
    assert_eq!(format!("{:.1}", keras_count(&resnet.layers()) as f64 / 1e6), "4.9");
    let square = |l: &&&Layer| l.kernel == 3;
    let inner: usize = resnet.layers().iter().filter(square).map(|l| l.weight_shape().iter().product::<usize>()).sum();
    assert!(inner > 4_491_000, "{inner}");
    // Tables 3 to 8, detection networks.
    let known = BTreeMap::from([
        ("resnet18", "11.2"),
        ("resnet50", "23.6"),
        ("vgg16", "165.7"),
        ("vgg19", "171.0"),
        ("cnn", "4.0"),
    ]);
    for (detector, size) in known {
        let table = format!("detector = \"{detector}\"\nattention = \"none\"").parse().expect("TOML");
        let config = lea_net::Config::from_table(&table).expect("settings in range");
        let count = keras_count(&lea_net::Networks::new(&config).detection.layers());
        assert_eq!(format!("{:.1}", count as f64 / 1e6), size, "{detector}");
    }
}

/// Numbers in 0..1 as a tensor on a device.
fn numbers(device: &Device, shape: &[usize], name: &str) -> Tensor {
    let values = hashed(shape.iter().product(), name).into_iter().map(|v| (0.5 + 0.5 * v) as f32).collect();
    Tensor::new(values, shape).expect("lengths fit").to(device).expect("memory")
}

fn close(what: &str, got: &Tensor, want: &Tensor) {
    let (got, want) = (got.values().expect("read"), want.values().expect("read"));
    let largest = want.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    for (g, w) in got.iter().zip(want.iter()) {
        assert!((g - w).abs() < 2e-4 * largest, "{what}: {g}, {w} expected (largest {largest})");
    }
}

/// Folding, epilogues and packed weights against the layers as they learn, with attention at every point.
#[test]
fn prepared_networks_say_what_learning_ones_say() {
    let networks: [(&str, Box<dyn Classifier>); 5] = [
        ("resnet18", Box::new(ResNet::resnet18(3, 8, 2))),
        ("resnet50", Box::new(ResNet::resnet50(3, 4, 2))),
        ("vgg16", Box::new(Vgg::vgg16(3, 32, 4, 2))),
        ("cnn", Box::new(BasicCnn::new(3, 8, 2))),
        ("mobilenet", Box::new(MobileNetV3Small::new(3, Squeeze::Full, 40, 2))),
    ];
    for device in devices::under_test() {
        for (name, network) in &networks {
            let mut params = Params::default();
            network.init(&mut params, "", 1);
            let params = params.to(&device).expect("memory");
            let images = numbers(&device, &[2, 32, 32, 3], "images");
            let learned = |mode| Weights::Learned(&params, "", mode);
            // Running statistics that are not those of the start.
            classify(network.as_ref(), &learned(Mode::Train), &images, None).expect("shapes fit");
            let state = params.values().expect("read");
            let ready = Prepared::new(&network.layers(), &state, &device).expect("all weights are there");
            for point in 1..=POINTS {
                let map = numbers(&device, &[2, 32 >> point, 32 >> point, 1], "map");
                let run = |weights: &Weights| {
                    classify(network.as_ref(), weights, &images, Some((point, &map))).expect("shapes fit")
                };
                let what = format!("{name} on {}, point {point}", device.name());
                close(&what, &run(&Weights::Prepared(&ready)), &run(&learned(Mode::Eval)));
            }
        }
        let unet = UNet::new(1, 2, 32, 4);
        let params = unet.init(3).to(&device).expect("memory");
        let x = numbers(&device, &[2, 32, 32, 1], "lightness");
        unet.learn(&params, &x, Mode::Train, None).expect("shapes fit");
        let ready = Prepared::new(&unet.layers(), &params.values().expect("read"), &device).expect("all weights");
        let got = unet.run(&Weights::Prepared(&ready), &x, None).expect("shapes fit");
        close("u-net", &got, &unet.learn(&params, &x, Mode::Eval, None).expect("shapes fit"));
    }
}

/// VGG on images of another size: its convolutions are taken, the layer over the last map starts afresh.
#[test]
fn layers_over_a_map_of_another_size_are_left_out() {
    let (own, theirs) = (Vgg::vgg16(3, 32, 4, 1), Vgg::vgg16(3, 64, 4, 1000));
    let state = state_dict(&theirs.layers());
    let taken = from_torchvision(Path::new("theirs"), &state, &own.layers()).expect("one architecture");
    assert!(
        ["classifier.0.weight", "classifier.0.bias", "classifier.6.weight"].iter().all(|k| !taken.contains_key(*k))
    );
    assert_eq!(taken.len(), state.len() - 4);
    assert!(taken.contains_key("features.28.weight") && taken.contains_key("classifier.3.weight"));
}

#[test]
fn weights_of_a_file_are_taken_by_name_and_another_head_is_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let (own, theirs) = (ResNet::resnet18(3, 64, 1), ResNet::resnet18(3, 64, 10));
    let state = state_dict(&theirs.layers());
    let bytes: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = state
        .iter()
        .map(|(k, t)| (k, (t.shape().to_vec(), bytemuck::cast_slice(&t.values().expect("on the host")).to_vec())))
        .collect();
    let views = bytes.iter().map(|(k, (shape, data))| {
        (*k, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).expect("lengths fit"))
    });
    let path = dir.path().join("theirs.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).expect("tensors")).expect("written");
    let taken = torchvision(&path, &own.layers()).expect("one architecture");
    assert!(!taken.contains_key("fc.weight") && !taken.contains_key("fc.bias"), "the head has other outputs");
    assert_eq!(taken.len(), state.len() - 2);
    let stem = taken["conv1.weight"].values().expect("on the host").into_owned();
    let oihw = state["conv1.weight"].values().expect("on the host").into_owned();
    // Filter 5, row 2, column 3, channel 1.
    assert_eq!(stem[((5 * 7 + 2) * 7 + 3) * 3 + 1], oihw[((5 * 3 + 1) * 7 + 2) * 7 + 3]);
    for (network, word) in [
        (Box::new(ResNet::resnet50(3, 64, 1)) as Box<dyn Classifier>, "layer1.0.conv1.weight"),
        (Box::new(ResNet::resnet18(4, 64, 1)), "conv1.weight"),
        (Box::new(Vgg::vgg16(3, 32, 64, 1)), "features.0.weight"),
    ] {
        let error = torchvision(&path, &network.layers()).map(drop).expect_err("another architecture").to_string();
        assert!(error.contains("theirs.safetensors") && error.contains(word), "{error}");
    }
}
