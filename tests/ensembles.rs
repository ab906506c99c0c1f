//! PatchCore, SimpleNet and ensembles end to end: backbones, banks, members, bad input.

mod common;
#[path = "common/devices.rs"]
mod devices;

use std::path::{Path, PathBuf};

use common::{ok, refused, small_data, text};
use hotad_engine::container::{Stored, store};
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::ops::Mode;
use hotad_engine::params::{Params, State};
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_models::METHODS;
use hotad_models::autoencoder::{PatchAutoencoder, TrainedAutoencoder};
use hotad_models::detector::Detector;
use hotad_models::ensemble::calibration::{Rule, Scale};
use hotad_models::ensemble::combination::{Combination, Combine, by_skill};
use hotad_models::ensemble::evidence::Sample;
use hotad_models::ensemble::isotonic::Isotonic;
use hotad_models::ensemble::logistic::Logistic;
use hotad_models::features::backbone::Backbone;
use hotad_models::features::embedding::{Part, Reduction, Standard};
use hotad_models::features::pca::{Covariance, Keep};
use hotad_models::features::settings::Layers;
use hotad_models::features::{Embedding, Extractor, FeatureSettings, Fusion, Source};
use hotad_models::fit::FitContext;
use hotad_models::method::{LoadContext, Method};
use hotad_models::model::Model;
use hotad_models::networks::layer::{Layer, Weights};
use hotad_models::networks::resnet::ResNet;
use hotad_models::patchcore::{self, PatchCore};
use hotad_models::prior::BankType;
use hotad_models::simplenet::folded::Folded;
use hotad_models::simplenet::head::Head;
use rand::Rng;

const SMALL: [&str; 6] = ["--set", "image_size=64", "--set", "backbone=", "--set", "backbone_epochs=15"];

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).expect("one JSON object")
}

/// Trains on a data set of 64 pixels; returns the model.
fn train(dir: &Path, method: &str, more: &[&str]) -> PathBuf {
    let model = dir.join(format!("{method}.safetensors"));
    ok(&[&["train", method, "--data", text(&dir.join("data")), "--out", text(&model), "-q", "--force"], more].concat());
    model
}

fn auroc(dir: &Path, model: &Path) -> (f64, f64) {
    let metrics = json(&ok(&["eval", "--model", text(model), "--data", text(&dir.join("data")), "--json", "-q"]));
    let value = |name: &str| metrics[name].as_f64().expect("both classes are there");
    (value("image_auroc"), value("pixel_auroc"))
}

/// Saved again it is the same file, and every device scores alike.
fn survives(dir: &Path, model: &Path) {
    let spec = Model::load(model, &Device::CPU).expect("a model").detector.image();
    let picture = Picture::read(&dir.join("data/test/crack/000.png")).expect("a picture").fit(spec).expect("fits");
    let images = Tensor::new(picture.values, &[1, spec.height, spec.width, spec.channels]).expect("lengths fit");
    let want = Model::load(model, &Device::CPU).expect("a model").score(&images).expect("scored");
    for device in devices::under_test() {
        let first = Model::load(model, &device).expect("a model");
        let again = dir.join("again.safetensors");
        first.save(&again).expect("saved");
        assert!(std::fs::read(model).expect("bytes") == std::fs::read(&again).expect("bytes"), "{}", model.display());
        let got = first.score(&images).expect("scored");
        let (g, w) = (got[0].value, want[0].value);
        assert!((g - w).abs() <= 1e-3 * w.abs().max(0.1), "{} on {}: {g}, {w}", model.display(), device.name());
        let largest = want[0].map.iter().fold(0.1f32, |m, v| m.max(v.abs()));
        let off = got[0].map.iter().zip(&want[0].map).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(off <= 2e-3 * largest, "{} on {}: the map is off by {off}", model.display(), device.name());
    }
}

#[test]
fn patchcore_simplenet_and_ensembles_find_cracks() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let patchcore = train(dir, "patchcore", &[&SMALL[..], &["--set", "blur=1"]].concat());
    let (images, pixels) = auroc(dir, &patchcore);
    assert!(images > 0.9 && pixels > 0.8, "patchcore: {images} {pixels}");
    let backbone = format!("backbone={}", text(&patchcore));
    let head = ["--set", "hidden=256", "--epochs", "80", "--batch", "4", "--set", "blur=1"];
    let simplenet = train(dir, "simplenet", &[&["--set", &backbone], &head[..]].concat());
    let (images, pixels) = auroc(dir, &simplenet);
    assert!(images > 0.9 && pixels > 0.7, "simplenet: {images} {pixels}");
    // A member of another size.
    let other = ["--set", "image_size=32", "--set", "network=[8, 16]", "--set", "steps=20", "--epochs", "5"];
    let paedid = train(dir, "paedid", &other);
    let members = ["--member", text(&patchcore), "--member", text(&paedid)];
    for more in [
        &["head=discriminator", "whiten=true", "standardise=true", "fusion=global", "maps=40", "member_maps=true"][..],
        &["head=discriminator", "whiten=true", "standardise=true", "fusion=individual", "maps=20"],
        &["head=mahalanobis", "member_maps=true", "maps=30"],
        &["head=nearest", "coreset=200", "maps=0.99"],
    ] {
        let more: Vec<&str> = more.iter().flat_map(|set| ["--set", *set]).collect();
        let ensemble = train(dir, "ensemble", &[&members, &head[..], &more].concat());
        let (images, pixels) = auroc(dir, &ensemble);
        assert!(images > 0.9 && pixels > 0.7, "ensemble {more:?}: {images} {pixels}");
        survives(dir, &ensemble);
    }
    // Without whitening noise drowns what varies least, and one Gaussian for all places is wide on bars: pixels are ranked,
    // images not as well.
    for more in [
        ["standardise=true", "fusion=individual", "head=discriminator"],
        ["standardise=true", "fusion=global", "head=global-mahalanobis"],
    ] {
        let more: Vec<&str> = more.iter().flat_map(|set| ["--set", *set]).collect();
        let ensemble = train(dir, "ensemble", &[&members, &head[..], &more].concat());
        assert!(auroc(dir, &ensemble).1 > 0.7);
        survives(dir, &ensemble);
    }
    for (combine, calibration) in [
        ("mean", "logistic"),
        ("mean", "isotonic"),
        ("max", "minmax"),
        ("max", "platt"),
        ("majority", "quantile"),
        ("softmax", "platt"),
        ("stacking", "isotonic"),
        ("stacking", "logistic"),
    ] {
        let set = [format!("combine={combine}"), format!("calibration={calibration}")];
        let scores = train(dir, "score-ensemble", &[&members[..], &["--set", &set[0], "--set", &set[1]]].concat());
        let (images, _) = auroc(dir, &scores);
        assert!(images > 0.8, "{set:?}: {images}");
        survives(dir, &scores);
    }
    let skill = ["--set", "combine=weighted", "--set", "weights=skill"];
    let skilled = train(dir, "score-ensemble", &[&members[..], &skill].concat());
    assert!(auroc(dir, &skilled).0 > 0.8);
    survives(dir, &skilled);
    let weighted = train(
        dir,
        "score-ensemble",
        &[&members[..], &["--set", "combine=weighted", "--set", "weights=[3, 1]"]].concat(),
    );
    [&patchcore, &simplenet, &weighted].into_iter().for_each(|m| survives(dir, m));
    // The files are self-contained.
    std::fs::remove_file(&paedid).expect("a file");
    std::fs::remove_file(&patchcore).expect("a file");
    assert!(auroc(dir, &weighted).0 > 0.8);
    refused(
        &[
            "train",
            "ensemble",
            "--data",
            text(&dir.join("data")),
            "--out",
            text(&dir.join("x")),
            "--member",
            text(&simplenet),
        ],
        &["two members"],
    );
    let (data, out) = (dir.join("data"), dir.join("x"));
    let two = ["--member", text(&simplenet), "--member", text(&simplenet)];
    let ensemble = |more: &[&str], words: &[&str]| {
        let args = ["train", "ensemble", "--data", text(&data), "--out", text(&out)];
        refused(&[&args, &two[..], more].concat(), words);
    };
    ensemble(&["--set", "maps=100000"], &["maps", "100000"]);
    ensemble(&["--set", "maps=999"], &["999", "384"]);
    ensemble(&["--set", "noise_range=[2, 1]"], &["noise_range", "2"]);
    ensemble(&["--set", "head=oracle"], &["head", "oracle", "mahalanobis"]);
    ensemble(&["--set", "coreset=1.5"], &["coreset", "1.5"]);
    let args = ["train", "score-ensemble", "--data", text(&data), "--out", text(&out)];
    let weights = ["--set", "combine=weighted", "--set", "weights=[1, 2, 3]"];
    refused(&[&args, &two[..], &weights].concat(), &["weights", "3", "2"]);
    refused(&[&args, &two[..], &["--set", "weights=skill"]].concat(), &["weights", "skill", "weighted"]);
    let weights = ["--set", "combine=weighted", "--set", "weights=guess"];
    refused(&[&args, &two[..], &weights].concat(), &["weights", "guess"]);
}

#[test]
fn members_without_feature_maps_and_wrong_layers_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let rasl = train(dir, "rasl", &["--set", "image_size=40", "--set", "images=8", "--set", "rounds=1"]);
    let (data, out) = (dir.join("data"), dir.join("x.safetensors"));
    let args = ["train", "patchcore", "--data", text(&data), "--out", text(&out)];
    let backbone = format!("backbone={}", text(&rasl));
    refused(&[&args[..], &["--set", &backbone]].concat(), &["rasl", "no feature maps"]);
    refused(&[&args[..], &SMALL, &["--set", "layers=[\"layer9\"]"]].concat(), &["layer9", "encoder.0"]);
    refused(&[&args[..], &["--member", text(&rasl)]].concat(), &["--member", "patchcore"]);
    refused(&[&args[..], &["--set", "backbone=/nowhere.safetensors"]].concat(), &["/nowhere.safetensors"]);
    refused(&[&args[..], &["--set", "coreset=1.5"]].concat(), &["coreset", "1.5"]);
    refused(&[&args[..], &["--set", "neighbourhood=2"]].concat(), &["neighbourhood", "2"]);
    refused(&[&args[..], &["--set", "max_latency_ms=-1"]].concat(), &["max_latency_ms", "-1"]);
    assert!(!out.exists());
}

#[test]
fn a_patchcore_bank_is_as_large_as_the_latency_allows() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let out = dir.join("model.safetensors");
    let data = dir.join("data");
    let args = ["train", "patchcore", "--data", text(&data), "--out", text(&out)];
    let quick = ["--set", "image_size=64", "--set", "backbone=", "--set", "backbone_epochs=1"];
    let within = |limit: &'static str| [&args[..], &quick, &["--set", limit]].concat();
    ok(&within("max_latency_ms=60000"));
    let bank = |path: &Path| ModelFile::load(path).expect("a model").tensors["bank"].shape()[0];
    // 19 of the 24 images are learned from, 8 x 8 patches each.
    assert_eq!(bank(&out), 19 * 64, "a minute is enough for all patches");
    std::fs::remove_file(&out).expect("a file");
    refused(&within("max_latency_ms=0.01"), &["max_latency_ms = 0.01", "features of an image alone take", " ms"]);
    assert!(!out.exists());
}

/// Fitted, saved and read again, a model scores the same to the last bit, in both precisions of the bank.
#[test]
fn a_patchcore_scores_the_same_after_reading() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let trained = train(dir, "patchcore", &[&SMALL[..4], &["--set", "backbone_epochs=1"]].concat());
    let normal: Vec<PathBuf> = (0..4).map(|i| dir.join(format!("data/train/good/{i:03}.png"))).collect();
    let picture = Picture::read(&dir.join("data/test/crack/000.png")).expect("a picture");
    for bank in [BankType::F16, BankType::F32] {
        let features = FeatureSettings { backbone: text(&trained).into(), ..FeatureSettings::default() };
        let config = patchcore::Config { coreset: 100.0, neighbours: 3, bank, features, ..Default::default() };
        let context = FitContext {
            train: ImageFiles::whole(&normal),
            defective: ImageFiles::whole(&[]),
            holdout: ImageFiles::whole(&[]),
            groups: &[0, 1, 2, 3],
            gray: false,
            members: &[],
            device: &Device::CPU,
            methods: METHODS,
            seed: 1,
            chosen: &Default::default(),
            model_path: None,
            stage: None,
            resume: false,
            observer: &(),
        };
        let fitted: Box<dyn Detector> = Box::new(PatchCore::fit(config, &context).expect("fitted"));
        let spec = fitted.image();
        let values = picture.clone().fit(spec).expect("fits").values;
        let images = Tensor::new(values, &[1, spec.height, spec.width, spec.channels]).expect("lengths fit");
        let before = fitted.score(&images).expect("scored");
        let path = dir.join("fitted.safetensors");
        Model { detector: fitted, ..Model::load(&trained, &Device::CPU).expect("a model") }.save(&path).expect("saved");
        let after = Model::load(&path, &Device::CPU).expect("a model").detector.score(&images).expect("scored");
        assert!(before == after, "{bank:?}: {} before, {} after", before[0].value, after[0].value);
    }
}

#[test]
fn a_patchcore_bank_is_extended_and_pruned() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let model = train(dir, "patchcore", &[&SMALL[..], &["--set", "coreset=60", "--set", "reservoir=0.2"]].concat());
    let entries = |model: &Path| ok(&["bank", "list", text(model)]).lines().count();
    let before = entries(&model);
    let worst = || {
        let lines = ok(&["score", "--model", text(&model), text(&dir.join("data/test/crack/000.png"))]);
        json(lines.lines().next().expect("a line"))["score"].as_f64().expect("a score")
    };
    let far = worst();
    ok(&["bank", "add", text(&model), text(&dir.join("data/test/crack/000.png"))]);
    assert_eq!(entries(&model), before + 1);
    let near = worst();
    assert!(near < 0.7 * far, "{near} after, {far} before");
    ok(&["bank", "remove", text(&model), "000.png"]);
    let names = ok(&["bank", "list", text(&model)]);
    assert!(!names.lines().any(|n| n == "000.png"));
}

/// A file with the weights of some layers under torchvision's names, OIHW, drawn at random.
fn torchvision_file(path: &Path, layers: &[&Layer], more: &[&str]) {
    let mut rng = random::stream(3, "weights", 0);
    let mut state = State::new();
    let mut put = |name: String, shape: &[usize], around: f32, spread: f32| {
        let n = shape.iter().product();
        let values = (0..n).map(|_| around + spread * (rng.random::<f32>() - 0.5)).collect();
        state.insert(name, Tensor::new(values, shape).expect("lengths fit"));
    };
    for l in layers {
        let fan = l.from * l.kernel * l.kernel;
        put(format!("{}.weight", l.name), &[l.to, l.from, l.kernel, l.kernel], 0.0, 3.0 / (fan as f32).sqrt());
        let norm = l.norm.as_ref().expect("a ResNet's layers are normalised").name.clone();
        put(format!("{norm}.weight"), &[l.to], 1.0, 0.2);
        put(format!("{norm}.bias"), &[l.to], 0.0, 0.2);
        put(format!("{norm}.running_mean"), &[l.to], 0.0, 0.2);
        put(format!("{norm}.running_var"), &[l.to], 1.0, 0.2);
    }
    more.iter().for_each(|name| put((*name).into(), &[3], 0.0, 1.0));
    let stored = store(&state, "").expect("on the host");
    let views = stored.iter().map(|(k, t)| match t {
        Stored::F32(shape, v) => {
            let bytes = bytemuck::cast_slice(v);
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
            (k.clone(), view.expect("lengths fit"))
        }
        Stored::F16(..) => unreachable!("all are f32"),
    });
    safetensors::serialize_to_file(views, None, path).expect("a file");
}

#[test]
fn a_backbone_of_torchvision_gives_features_and_a_wrong_one_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let resnet = ResNet::resnet18(3, 64, 1000).into_trunk();
    let whole = resnet.layers(resnet.len());
    let (right, extra, cut) = (dir.join("r18.safetensors"), dir.join("extra.safetensors"), dir.join("cut.safetensors"));
    torchvision_file(&right, &whole, &["fc.weight", "bn1.num_batches_tracked"]);
    torchvision_file(&extra, &whole, &["layer3.7.conv1.weight"]);
    torchvision_file(&cut, &resnet.layers(3), &[]);
    let backbone = format!("backbone={}", text(&right));
    let small = ["--set", "image_size=64", "--set", "blur=1"];
    let model = train(dir, "patchcore", &[&["--set", &backbone], &small[..], &["--set", "dimensions=200"]].concat());
    let (images, _) = auroc(dir, &model);
    // Random features tell cracks as well.
    assert!(images > 0.9, "patchcore on random features: {images}");
    survives(dir, &model);
    // Layers beyond the last cut are not kept.
    let whole = std::fs::metadata(&right).expect("a file").len();
    assert!(std::fs::metadata(&model).expect("a file").len() < whole / 2);
    let head = ["--set", "hidden=32", "--epochs", "1"];
    survives(dir, &train(dir, "simplenet", &[&["--set", &backbone], &small[..], &head].concat()));
    let (data, out) = (dir.join("data"), dir.join("x.safetensors"));
    for (file, words) in
        [(&extra, ["layer3.7.conv1.weight", "extra.safetensors"]), (&cut, ["layer3", "cut.safetensors"])]
    {
        let backbone = format!("backbone={}", text(file));
        refused(&["train", "patchcore", "--data", text(&data), "--out", text(&out), "--set", &backbone], &words);
    }
    let wide = ResNet::wide_resnet50(3, 64, 1000).into_trunk();
    let path = dir.join("wide.safetensors");
    torchvision_file(&path, &wide.layers(wide.len()), &[]);
    let usual = Layers::Word("auto".into());
    let (backbone, cuts) = Backbone::open(&path, Some(64), &usual, &Device::CPU).expect("a Wide ResNet");
    let image = Tensor::new(vec![0.5; 64 * 64 * 3], &[1, 64, 64, 3]).expect("fits");
    let maps = backbone.maps(&image, &cuts).expect("maps");
    assert_eq!([maps[0].shape(), maps[1].shape()], [&[1, 8, 8, 512][..], &[1, 4, 4, 1024]]);
}

/// An embedding over a patch autoencoder with fresh weights.
fn embedding(device: &Device) -> Embedding {
    let image = ImageSpec { height: 32, width: 24, channels: 1 };
    let network = PatchAutoencoder::new(&[5, 7, 9], image);
    let params = network.init(3).to(device).expect("room");
    let source = Source::Encoder(TrainedAutoencoder::new(network, params).expect("all weights"));
    Embedding::new(vec![Part { source, cuts: vec![1, 2] }], image, 3, device).expect("shapes fit")
}

#[test]
fn a_folded_head_says_what_the_learned_one_says() {
    let dir = tempfile::tempdir().expect("a folder");
    small_data(dir.path(), 32);
    let paths: Vec<PathBuf> = (0..6).map(|i| dir.path().join(format!("train/good/{i:03}.png"))).collect();
    for device in devices::under_test() {
        for fusion in [None, Some(Fusion::Global), Some(Fusion::Individual)] {
            let mut embedding = embedding(&device);
            if let Some(fusion) = fusion {
                let whiten = fusion == Fusion::Global;
                let reduction = Reduction { fusion, keep: Keep::Count(11), standardise: true, whiten };
                embedding.fit(ImageFiles::whole(&paths), reduction).expect("enough maps");
            }
            let d = embedding.dimensions();
            let head = Head::new(d, 20, fusion != Some(Fusion::Global));
            let mut params = Params::default();
            let mut rng = random::stream(8, "head", 0);
            head.layers().for_each(|l| l.init(&mut params, "", &mut rng));
            // Biases and statistics that are not the fresh ones.
            let mut state = params.values().expect("on the host");
            for (name, t) in state.iter_mut().filter(|(n, _)| !n.ends_with("weight") || n.contains("norm")) {
                let around = if name.ends_with("var") || name.ends_with("weight") { 1.0 } else { 0.0 };
                let values = (0..t.len()).map(|_| around + 0.5 * (rng.random::<f32>() - 0.5)).collect();
                *t = Tensor::new(values, t.shape()).expect("lengths fit");
            }
            params.set_values(&state).expect("the same shapes");
            let params = params.to(&device).expect("room");
            let values = (0..2 * 32 * 24).map(|_| rng.random()).collect();
            let images = Tensor::new(values, &[2, 32, 24, 1]).expect("fits");
            let vectors = embedding.embed(&images).expect("shapes fit");
            let n = vectors.len() / d;
            let weights = Weights::Learned(&params, "", Mode::Eval);
            let rows = vectors.reshaped(&[1, 1, n, d]).expect("whole rows");
            let adapted = head.adapted(&weights, &rows).expect("shapes fit");
            let want = head.verdicts(&weights, &adapted).expect("shapes fit");
            let folded = Folded::of(&params, &head, &embedding).expect("all tensors");
            let got = folded.scores(&embedding.maps(&images).expect("maps"), &embedding).expect("shapes fit");
            for (g, w) in got.iter().zip(want.values().expect("read").iter()) {
                assert!((g + w).abs() < 2e-4, "{fusion:?} on {}: {g}, {} expected", device.name(), -w);
            }
        }
    }
}

#[test]
fn a_share_of_variance_keeps_as_few_maps_as_have_it() {
    let mut rng = random::stream(4, "pca", 0);
    let spread = [3.0f32, 0.1, 2.0, 0.2];
    let rows: Vec<f32> = (0..4000).map(|i| 5.0 + spread[i % 4] * random::normal(&mut rng)).collect();
    let mut covariance = Covariance::new(&Device::CPU);
    rows.chunks(400).for_each(|part| {
        covariance.add(&Tensor::new(part.to_vec(), &[100, 4]).expect("fits")).expect("rows of one length");
    });
    for (share, count) in [(0.6, 1), (0.95, 2), (0.998, 3), (1.0, 4)] {
        let pca = covariance.pca(Keep::Share(share)).expect("enough");
        assert_eq!(pca.variance.len(), count, "{share}");
    }
    // The axes themselves, by falling variance.
    let pca = covariance.pca(Keep::Count(2)).expect("enough");
    assert!(pca.components[0].abs() > 0.99 && pca.components[4 + 2].abs() > 0.99, "{:?}", pca.components);
    let error = covariance.pca(Keep::Count(5)).expect_err("there are four").to_string();
    assert!(error.contains('5') && error.contains('4'), "{error}");
}

#[test]
fn scores_of_normal_images_are_brought_to_one_scale() {
    let normal = (0..=1000).map(|i| 10.0 + i as f32 / 100.0).collect();
    let sample = Sample { normal, defective: (0..300).map(|i| 18.0 + i as f32 / 40.0).collect() };
    let scale = |rule| Scale::of(rule, &sample);
    for rule in [Rule::Minmax, Rule::Quantile, Rule::Logistic, Rule::Platt, Rule::Isotonic] {
        let scale = scale(rule);
        assert!(scale.is_whole());
        let values: Vec<f32> = (0..40).map(|i| scale.apply(9.0 + i as f32 / 3.0)).collect();
        assert!(values.windows(2).all(|w| w[1] >= w[0]), "{rule:?} does not rise: {values:?}");
        assert!(scale.apply(30.0) > scale.apply(21.0), "{rule:?} does not rank anomalies");
    }
    assert!((scale(Rule::Minmax).apply(15.0) - 0.5).abs() < 1e-5);
    assert!((scale(Rule::Quantile).apply(12.5) - 0.25).abs() < 1e-5);
    assert!((scale(Rule::Logistic).apply(19.9) - 0.5).abs() < 1e-5);
    assert!(scale(Rule::Minmax).votes(19.95) && !scale(Rule::Minmax).votes(19.8));
}

/// Scores of normal images and defects that overlap, with some that are equal.
fn overlapping(seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut rng = random::stream(seed, "scores", 0);
    let mut draw = |n: usize, around: f32| -> Vec<f32> {
        (0..n).map(|_| ((around + random::normal(&mut rng)) * 8.0).round() / 8.0).collect()
    };
    (draw(40, 0.0), draw(25, 1.0))
}

/// The isotonic fit at a score by the min-max formula: the largest over beginnings of the smallest over ends of the mean
/// target of a run of scores around it.
fn min_max(normal: &[f32], defective: &[f32], at: f32) -> f64 {
    let all = |s: &f32, t: f64, n: usize| (*s, t, 1.0 / n as f64);
    let mut points: Vec<(f32, f64, f64)> = normal.iter().map(|s| all(s, 0.0, normal.len())).collect();
    points.extend(defective.iter().map(|s| all(s, 1.0, defective.len())));
    let mean = |a: f32, b: f32| {
        let (sum, weight) = points
            .iter()
            .filter(|(s, ..)| *s >= a && *s <= b)
            .fold((0.0, 0.0), |(sum, weight), (_, t, w)| (sum + t * w, weight + w));
        sum / weight
    };
    let least = |a: f32| points.iter().filter(|p| p.0 >= at).map(|p| mean(a, p.0)).fold(f64::INFINITY, f64::min);
    points.iter().filter(|p| p.0 <= at).map(|p| least(p.0)).fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn isotonic_calibration_is_the_min_max_formula() {
    for seed in 0..5 {
        let (normal, defective) = overlapping(seed);
        let fit = Isotonic::fit(&normal, &defective);
        for score in normal.iter().chain(&defective) {
            let (got, want) = (f64::from(fit.apply(*score)), min_max(&normal, &defective, *score));
            assert!((got - want).abs() < 1e-6, "{score}: {got}, {want} expected");
        }
        // Between two scores, between their values.
        for pair in [-0.03f32, 0.44, 1.07] {
            assert!(fit.apply(pair - 0.01) <= fit.apply(pair) && fit.apply(pair) <= fit.apply(pair + 0.01));
        }
    }
}

/// Platt's loss at `w x + b`, each class weighing 1.
fn platt_loss(normal: &[f32], defective: &[f32], w: f64, b: f64) -> f64 {
    let side = |scores: &[f32], target: f64| {
        let each = scores.iter().map(|s| {
            let p = 1.0 / (1.0 + (-(w * f64::from(*s) + b)).exp());
            -(target * p.ln() + (1.0 - target) * (1.0 - p).ln())
        });
        each.sum::<f64>() / scores.len() as f64
    };
    let (m, n) = (normal.len() as f64, defective.len() as f64);
    side(normal, 1.0 / (m + 2.0)) + side(defective, (n + 1.0) / (n + 2.0))
}

/// Where a function with one valley is least.
fn valley(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-30.0, 30.0);
    for _ in 0..200 {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if f(a) < f(b) { high = b } else { low = a }
    }
    (low + high) / 2.0
}

#[test]
fn platt_calibration_is_where_its_loss_is_least() {
    for seed in 0..3 {
        let (normal, defective) = overlapping(seed);
        let best = |w: f64| valley(|b| platt_loss(&normal, &defective, w, b));
        let w = valley(|w| platt_loss(&normal, &defective, w, best(w)));
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let got = Logistic::fit(&wide(&normal), &wide(&defective), 1, 0.0);
        // The search is as exact as the square root of the loss's rounding.
        let close = |a: f64, b: f64| (a - b).abs() < 1e-5 * b.abs().max(1.0);
        assert!(close(got.weights[0], w) && close(got.intercept, best(w)), "{got:?}, {w} {} expected", best(w));
        // Classes that can be told apart without error have a finite slope.
        let apart = Logistic::fit(&[0.0, 1.0], &[2.0, 3.0], 1, 0.0);
        assert!(apart.weights[0] > 0.0 && apart.weights[0].is_finite());
        // A score that falls with defects has no say.
        let turned = Logistic::fit(&wide(&defective), &wide(&normal), 1, 0.0);
        assert!(turned.weights[0] == 0.0, "{turned:?}");
    }
}

#[test]
fn members_are_combined_by_what_is_known_of_them() {
    let (normal, defective) = overlapping(7);
    let good = Sample { normal, defective };
    let mut rng = random::stream(9, "guesses", 0);
    let mut guess = |n: usize| (0..n).map(|_| random::normal(&mut rng)).collect::<Vec<f32>>();
    let blind = Sample { normal: guess(40), defective: guess(25) };
    // By pairs.
    let skill = |s: &Sample| {
        let wins = |d: &f32| {
            s.normal.iter().map(|n| f64::from(u8::from(d > n)) + 0.5 * f64::from(u8::from(d == n))).sum::<f64>()
        };
        s.defective.iter().map(wins).sum::<f64>() / (s.normal.len() * s.defective.len()) as f64
    };
    let (a, b) = (skill(&good).powi(4), skill(&blind).powi(4));
    let weights = by_skill(&[&good, &blind]);
    assert!((weights[0] - a / (a + b)).abs() < 1e-9 && (weights[1] - b / (a + b)).abs() < 1e-9, "{weights:?}");
    let scales = [Scale::of(Rule::Logistic, &good), Scale::of(Rule::Logistic, &blind)];
    let stack = Combination::stacked(&[&scales[0], &scales[1]], &[&good, &blind]);
    assert!(stack.is_whole(2) && !stack.is_whole(3));
    // The member that knows moves the score, the other hardly does.
    let (low, high) = (stack.of(&[0.2, 0.5]), stack.of(&[0.8, 0.5]));
    assert!(high - low > 4.0 * (stack.of(&[0.5, 0.8]) - stack.of(&[0.5, 0.2])).abs(), "{low} {high}");
    let soft = Combination::new(Combine::Softmax, &[1.0, 1.0]).of(&[0.25, 0.75]);
    let (x, y) = (1.0f32.exp(), 3.0f32.exp());
    assert!((soft - (0.25 * x + 0.75 * y) / (x + y)).abs() < 1e-6, "{soft}");
    let mean = Combination::new(Combine::Weighted, &[3.0, 1.0]).of(&[0.25, 0.75]);
    assert!((mean - 0.375).abs() < 1e-6);
}

#[test]
fn whitened_maps_have_one_variance_and_member_maps_follow_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 32);
    let quick = ["--set", "image_size=32", "--set", "network=[8, 16]", "--set", "steps=10", "--epochs", "3"];
    let paedid = train(dir, "paedid", &quick);
    let paths: Vec<PathBuf> = (0..24).map(|i| dir.join(format!("data/train/good/{i:03}.png"))).collect();
    let usual = Layers::Word("auto".into());
    let reading = LoadContext { device: &Device::CPU, methods: METHODS };
    let (source, cuts) = Source::read(&paedid, None, &usual, &reading).expect("a member");
    let image = source.extractor().image();
    let mut embedding = Embedding::new(vec![Part { source, cuts }], image, 1, &Device::CPU).expect("fits");
    let reduction = Reduction { fusion: Fusion::Global, keep: Keep::Share(0.99), standardise: true, whiten: true };
    embedding.fit(ImageFiles::whole(&paths), reduction).expect("fitted");
    let d = embedding.dimensions();
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let each = embedding.for_each(ImageFiles::whole(&paths), |x| {
        rows.extend(x.values()?.chunks_exact(d).map(|r| r.iter().map(|v| f64::from(*v)).collect()));
        Ok(())
    });
    each.expect("read");
    let n = rows.len() as f64;
    let mean: Vec<f64> = (0..d).map(|k| rows.iter().map(|r| r[k]).sum::<f64>() / n).collect();
    for i in 0..d {
        for j in 0..=i {
            let covariance = rows.iter().map(|r| (r[i] - mean[i]) * (r[j] - mean[j])).sum::<f64>() / (n - 1.0);
            // A little less than 1: eps is added to every variance.
            let right = if i == j { (0.5..1.001).contains(&covariance) } else { covariance.abs() < 1e-2 };
            assert!(right, "{i} {j} of {d}: {covariance}");
        }
    }
    let picture = Picture::read(&paths[3]).expect("a picture").fit(image).expect("fits");
    let images = Tensor::new(picture.values, &[1, image.height, image.width, image.channels]).expect("fits");
    let before = embedding.embed(&images).expect("embedded");
    let mut raw = Vec::new();
    embedding.for_each_member_map(ImageFiles::whole(&paths[3..4]), |_, map| raw.extend_from_slice(map)).expect("a map");
    embedding.add_member_maps(vec![Some(Standard { mean: 0.25, deviation: 0.5 })]).expect("room");
    assert_eq!(embedding.dimensions(), d + 1);
    let (after, before) = (embedding.embed(&images).expect("embedded"), before.values().expect("read"));
    for (at, row) in after.values().expect("read").chunks_exact(d + 1).enumerate() {
        assert!(row[..d].iter().zip(&before[at * d..]).all(|(a, b)| (a - b).abs() < 1e-4), "{at}");
        assert!((row[d] - (raw[at] - 0.25) / 0.5).abs() < 1e-5, "{at}: {} of {}", row[d], raw[at]);
    }
}
