//! Exported networks: ONNX Runtime gives what hotad gives.

mod common;
#[path = "common/formula.rs"]
mod formula;
#[path = "common/onnx_runtime.rs"]
mod onnx_runtime;

use std::path::Path;

use common::{ok, refused, small_data, text};
use formula::{hashed, state_dict};
use hotad_engine::container;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::ops::Mode;
use hotad_engine::params::Params;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_models::autoencoder::PatchAutoencoder;
use hotad_models::autoencoders::network::Autoencoder;
use hotad_models::detector::{Detector, Exportable};
use hotad_models::export::{Graph, Writer};
use hotad_models::features::Extractor;
use hotad_models::features::backbone::{Backbone, Network};
use hotad_models::features::settings::Layers;
use hotad_models::lea_net::{Attention, Config, DetectionNetwork, Input, LeaNet, Networks};
use hotad_models::model::Model;
use hotad_models::networks::import::from_torchvision;
use hotad_models::networks::layer::Weights;
use hotad_models::networks::part;
use onnx_runtime::{assert_near, is_there, output, run, run_on, to_nchw};

/// What tests/backbones.rs allows between hotad's maps and torchvision's, as a share of the largest value.
const MAPS: f32 = 2e-5;

/// For what goes through transcendental functions too.
const FORMULAS: f32 = 1e-4;

/// Two images of a size.
fn images(spec: ImageSpec) -> Tensor {
    let values = hashed(2 * spec.len(), "images").into_iter().map(|v| (0.5 + 0.5 * v) as f32).collect();
    Tensor::new(values, &[2, spec.height, spec.width, spec.channels]).expect("fits")
}

fn square(size: usize, channels: usize) -> ImageSpec {
    ImageSpec { height: size, width: size, channels }
}

/// Every map of every network, at a size whose SAME padding is uneven: the last blocks of the widest ones are left out, as they
/// repeat others and have most of the weights.
#[test]
fn trunks_give_the_same_maps() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    for network in Network::all() {
        let (name, trunk) = (network.facts().name, network.trunk());
        let blocks = if name.contains("resnet") { trunk.len().min(9) } else { trunk.len() };
        let layers = trunk.layers(blocks);
        let state = from_torchvision(Path::new(name), &state_dict(&layers), &layers).expect("all tensors");
        let backbone = Backbone::new(network, 45, state, blocks, &Device::CPU).expect("all tensors");
        let cuts: Vec<usize> = (0..blocks).collect();
        let (file, images) = (dir.path().join("trunk.onnx"), images(backbone.image()));
        std::fs::write(&file, backbone.export(&cuts).expect("a graph").file(name)).expect("written");
        run(&file, &images, dir.path());
        for (cut, map) in backbone.cuts().iter().zip(backbone.maps(&images, &cuts).expect("shapes fit")) {
            assert_near(&output(dir.path(), cut), &to_nchw(&map), MAPS, &format!("{name} {cut}"));
        }
    }
}

#[test]
fn the_shipped_backbone_is_exported_up_to_its_usual_cuts() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("own.onnx");
    let lines = ok(&["export", "--onnx", "hotad-lite0", "--out", text(&file), "-q"]);
    let wanted =
        ["input image n x 3 x 224 x 224", "output block4 n x 40 x 28 x 28", "output block10 n x 112 x 14 x 14"];
    let got: Vec<String> = lines.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(got, wanted);
    if !is_there() {
        return;
    }
    let layers = Layers::Word("auto".into());
    let (backbone, cuts) = Backbone::shipped(None, &layers, &Device::CPU).expect("part of hotad");
    let images = images(backbone.image());
    run(&file, &images, dir.path());
    for (cut, map) in ["block4", "block10"].iter().zip(backbone.maps(&images, &cuts).expect("shapes fit")) {
        assert_near(&output(dir.path(), cut), &to_nchw(&map), MAPS, cut);
    }
}

/// Trains a method for a moment and exports it; returns the model and the file.
fn exported(dir: &Path, method: &str, settings: &[&str]) -> (std::path::PathBuf, std::path::PathBuf) {
    let data = dir.join("data");
    if !data.exists() {
        small_data(&data, 64);
    }
    let (model, file) = (dir.join(format!("{method}.safetensors")), dir.join(format!("{method}.onnx")));
    let mut args = vec!["train", method, "--data", text(&data), "--out", text(&model), "-q"];
    settings.iter().for_each(|s| args.extend(["--set", s]));
    ok(&args);
    ok(&["export", "--onnx", text(&model), "--out", text(&file), "-q"]);
    (model, file)
}

#[test]
fn methods_on_features_export_their_trunk_at_their_cuts() {
    let dir = tempfile::tempdir().expect("a folder");
    for (method, more) in [("patchcore", "coreset=16"), ("padim", "dimensions=8"), ("simplenet", "epochs=1")] {
        let (model, file) = exported(dir.path(), method, &["image_size=64", "layers=[\"block2\", \"block5\"]", more]);
        if !is_there() {
            continue;
        }
        let model = Model::load(&model, &Device::CPU).expect("a model");
        let extractor = model.detector.as_extractor().expect("it has one");
        let images = images(extractor.image());
        run(&file, &images, dir.path());
        let cuts: Vec<usize> =
            ["block2", "block5"].iter().map(|n| extractor.cuts().iter().position(|c| c == n).expect("a cut")).collect();
        for (cut, map) in ["block2", "block5"].iter().zip(extractor.maps(&images, &cuts).expect("shapes fit")) {
            assert_near(&output(dir.path(), cut), &to_nchw(&map), MAPS, &format!("{method} {cut}"));
        }
    }
}

/// Parameters of a model file, in a network of the same layout.
fn params(model: &Path, fresh: impl FnOnce(&mut Params)) -> (Params, ImageSpec) {
    let file = ModelFile::load(model).expect("a model file");
    let state = container::restore(&file.tensors, "network.").expect("tensors");
    let state = state.into_iter().filter(|(name, _)| !name.starts_with("discriminator.")).collect();
    (Params::restored(&state, &Device::CPU, fresh).expect("all tensors"), file.image)
}

#[test]
fn autoencoders_give_the_same_reconstructions() {
    let dir = tempfile::tempdir().expect("a folder");
    let quick = ["latent=8", "epochs=1"];
    for (method, more) in [
        ("l2-ae", &[][..]),
        ("ssim-ae", &["image_size=256"]),
        ("ae-gan", &["discriminator_width=4"]),
        ("iterative-projection", &["steps=1"]),
        ("f-anogan", &["discriminator_width=4", "encoder_epochs=1"]),
    ] {
        let (model, file) = exported(dir.path(), method, &[&quick[..], more].concat());
        if !is_there() {
            continue;
        }
        let size = if method == "ssim-ae" { 256 } else { 128 };
        let network = Autoencoder::new(size, 1, 8);
        let (params, spec) = params(&model, |p| network.init(p, &mut random::stream(0, "any", 0)));
        let images = images(spec);
        run(&file, &images, dir.path());
        let latent = network.encode(&params, &images, false).expect("shapes fit");
        let made = network.decode(&params, &latent, false).expect("shapes fit");
        assert_near(&output(dir.path(), "latent"), &to_nchw(&latent), MAPS, method);
        assert_near(&output(dir.path(), "reconstruction"), &to_nchw(&made), MAPS, method);
    }
}

#[test]
fn patch_autoencoders_give_the_same_reconstructions() {
    let dir = tempfile::tempdir().expect("a folder");
    for (method, more) in [("pae", "epochs=1"), ("paedid", "steps=2")] {
        let settings = ["image_size=32", "network=[8, 16]", "epochs=1", more];
        let (model, file) = exported(dir.path(), method, &settings);
        if !is_there() {
            continue;
        }
        let network = PatchAutoencoder::new(&[8, 16], square(32, 1));
        let state = container::restore(&ModelFile::load(&model).expect("a model file").tensors, "network.");
        let params = network.load(&state.expect("tensors"), &Device::CPU).expect("all tensors");
        let images = images(network.image());
        run(&file, &images, dir.path());
        let weights = Weights::Learned(&params, "", Mode::Eval);
        let latent = network.encode(&weights, &images).expect("shapes fit");
        let made = network.decode(&weights, &latent).expect("shapes fit");
        assert_near(&output(dir.path(), "latent"), &to_nchw(&latent), MAPS, method);
        assert_near(&output(dir.path(), "reconstruction"), &to_nchw(&made), MAPS, method);
    }
}

/// Normal pictures in colour.
fn coloured(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    for i in 0..8 {
        let values = hashed(3 * 32 * 32, &format!("picture {i}")).into_iter().map(|v| (0.5 + 0.4 * v) as f32).collect();
        let picture = Picture { height: 32, width: 32, channels: 3, values };
        picture.write_png(&folder.join(format!("{i}.png"))).expect("a picture");
    }
}

#[test]
fn a_colour_network_gives_the_same_anomaly_maps() {
    for scale in ["fixed", "image"] {
        let dir = tempfile::tempdir().expect("a folder");
        coloured(&dir.path().join("data"));
        let scale = format!("map_scale=\"{scale}\"");
        let settings = ["image_size=32", "width=4", "epochs=1", &scale];
        let (model, file) = exported(dir.path(), "color-unet", &settings);
        if !is_there() {
            return;
        }
        let model = Model::load(&model, &Device::CPU).expect("a model");
        assert_same_scores(model.detector.as_ref(), &file, dir.path(), &scale);
    }
}

/// Anomaly maps, and scores where the file has them, are those of the detector.
fn assert_same_scores(detector: &dyn Detector, file: &Path, folder: &Path, what: &str) {
    let images = images(detector.image());
    run(file, &images, folder);
    let scores = detector.score(&images).expect("scores");
    let maps: Vec<f32> = scores.iter().flat_map(|s| &s.map.values).copied().collect();
    assert_near(&output(folder, "map"), &maps, FORMULAS, what);
    if folder.join("score.f32").exists() {
        // Weights are fresh, so most probabilities are 0 or 1; logits are compared apart.
        let got = output(folder, "score");
        assert_eq!(got.len(), scores.len(), "{what}");
        assert!(scores.iter().zip(&got).all(|(s, g)| (s.value - g).abs() < FORMULAS), "{what}: {got:?}");
    }
}

/// Logits of both networks together, on maps that are given.
fn assert_same_logits(config: &Config, folder: &Path, what: &str) {
    let (networks, size) = (Networks::new(config), config.image_size);
    let params = networks.init(config, 1).expect("fresh weights");
    let state = params.values().expect("on the host");
    let writer = |prefix| Writer::new(&part(&state, prefix)).expect("on the host");
    let graph = Graph::default();
    let (image, map) = (graph.input("image", [3, size, size]), graph.input("map", [1, size, size]));
    let logit = networks.export(&writer("detection."), &writer("attention."), &image, &map).expect("shapes fit");
    graph.output_numbers("logit", &logit);
    let file = folder.join("logit.onnx");
    std::fs::write(&file, graph.file("logit", "")).expect("written");
    let (images, maps) = (images(square(size, 3)), images(square(size, 1)));
    run_on(&file, &[("image", &images), ("map", &maps)], folder);
    let weights = |prefix| Weights::Learned(&params, prefix, Mode::Eval);
    let attention = config.attention.is_learned().then(|| weights("attention."));
    let (want, _) =
        networks.run(&weights("detection."), attention.as_ref(), &images, &maps, false).expect("shapes fit");
    assert_near(&output(folder, "logit"), &want.values().expect("read"), FORMULAS, what);
}

#[test]
fn lea_net_gives_the_same_probabilities() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    use {Attention as A, DetectionNetwork as D, Input as I};
    for (detector, attention, point, input) in [
        (D::Resnet18, A::Resnet, 2, I::Rgb),
        (D::Resnet50, A::Mobilenet, 4, I::RgbMap),
        (D::Vgg16, A::Direct, 3, I::Attended),
        (D::Vgg19, A::Mobilenet, 5, I::Rgb),
        (D::Cnn, A::None, 1, I::Map),
    ] {
        let config = Config { image_size: 64, detector, attention, point, input, width: 8, ..Config::default() };
        let what = format!("{detector:?} {attention:?} {point} {input:?}");
        let model = LeaNet::untrained(config.clone(), 1, &Device::CPU).expect("weights");
        let file = dir.path().join("lea.onnx");
        std::fs::write(&file, model.export().expect("a graph").file("lea")).expect("written");
        assert_same_scores(&model, &file, dir.path(), &what);
        assert_same_logits(&config, dir.path(), &what);
    }
}

#[test]
fn what_is_no_plain_network_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model, out) = (dir.path().join("data"), dir.path().join("m"), dir.path().join("m.onnx"));
    small_data(&data, 32);
    let train = |method: &str, settings: &[&str]| {
        let mut args = vec!["train", method, "--data", text(&data), "--out", text(&model), "-q", "--force"];
        settings.iter().for_each(|s| args.extend(["--set", s]));
        ok(&args);
    };
    let export = ["export", "--onnx", text(&model), "--out", text(&out)];
    train("rasl", &["image_size=32", "images=8", "rounds=1"]);
    refused(&export, &["rasl cannot be exported as ONNX", "no plain network", "patchcore", "lea-net"]);
    train("anogan", &["latent=4", "epochs=1", "test_steps=1", "discriminator_width=4"]);
    refused(&export, &["anogan cannot be exported as ONNX", "searches the latent vector", "f-anogan"]);
    let (inner, backbone) = (dir.path().join("inner"), format!("backbone=\"{}\"", text(&model)));
    train("pae", &["image_size=32", "network=[8, 16]", "epochs=1"]);
    ok(&["train", "padim", "--data", text(&data), "--out", text(&inner), "-q", "--set", &backbone]);
    refused(&["export", "--onnx", text(&inner), "--out", text(&out)], &["padim cannot be exported", "model m;"]);
    assert!(!out.exists(), "nothing is written");
    std::fs::write(&out, "mine").expect("written");
    refused(&["export", "--onnx", "hotad-lite0", "--out", text(&out)], &["is there already", "--force"]);
    ok(&["export", "--onnx", "hotad-lite0", "--out", text(&out), "--force", "-q"]);
    refused(&["export", "--onnx", "nothing", "--out", text(&out), "--force"], &["nothing", "no file"]);
}
