//! The baselines on the terms of I3AD's paper: its settings for autoencoders, its generator, its discriminator in the score.

mod common;

use std::path::{Path, PathBuf};

use common::{bars, exits, ok, refused, small_data, text};
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_models::method;
use hotad_models::model::Model;
use serde_json::{Value, json};
use toml::Table;

/// Settings that train in seconds.
const SMALL: [&str; 8] =
    ["--set", "latent=4", "--set", "batch=4", "--set", "generator_width=8", "--set", "discriminator_width=4"];

/// A small data set and a model of a method trained on it for an epoch.
fn trained(dir: &Path, name: &str, more: &[&str]) -> PathBuf {
    let (data, model) = (dir.join("data"), dir.join(name));
    if !data.exists() {
        small_data(&data, 64);
    }
    let args = ["train", name, "--data", text(&data), "--out", text(&model), "-q", "--epochs", "1"];
    ok(&[&args[..], &SMALL, more].concat());
    model
}

/// Colour images of bars, 128 pixels a side.
fn images(n: u64) -> Tensor {
    let values = (0..n).flat_map(|i| bars(128, i).with_channels(3).values).collect();
    Tensor::new(values, &[n as usize, 128, 128, 3]).expect("lengths fit")
}

fn settings(name: &str, table: &str) -> Value {
    (method(name).expect("a method").settings)(&table.parse().expect("TOML")).expect("settings")
}

#[test]
fn autoencoders_can_be_trained_as_the_paper_of_i3ad_does() {
    for name in ["l2-ae", "ssim-ae", "iterative-projection", "ae-gan"] {
        let paper = settings(name, "preset = 'i3ad'");
        for (key, value) in [
            ("image_size", json!(256)),
            ("latent", json!(100)),
            ("iterations", json!(20000)),
            ("batch", json!(10)),
            ("lr", json!(1e-4)),
            ("patience", json!(0)),
            ("score", json!("mean")),
        ] {
            assert_eq!(paper[key], value, "{name}: {key}");
        }
        assert_eq!(settings(name, "preset = 'i3ad'\nlr = 1e-3")["lr"], json!(1e-3), "what is set goes before");
        assert_eq!(settings(name, "preset = 'i3ad'\nepochs = 3")["iterations"], json!(0));
        assert_eq!(settings(name, "preset = 'bergmann'"), settings(name, ""));
    }
    let unknown: Table = "preset = 'own'".parse().expect("TOML");
    let error = (method("l2-ae").expect("a method").settings)(&unknown).expect_err("refused").to_string();
    assert!(error.contains("preset") && error.contains("own"), "{error}");
}

#[test]
fn iterations_count_instead_of_epochs() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m"));
    small_data(&data, 40);
    // 19 images are five steps of four; 12 steps three epochs.
    let args = ["train", "l2-ae", "--data", text(&data), "--out", text(&model), "-q", "--group", "none"];
    ok(&[&args[..], &["--set", "latent=4", "--set", "batch=4", "--set", "iterations=12"]].concat());
    let log = std::fs::read_to_string(dir.path().join("m.log.jsonl")).expect("a log");
    assert_eq!(log.lines().count(), 3, "{log}");
}

/// Scores of images by a model under settings of scoring.
fn scores(model: &Path, settings: &str, images: &Tensor) -> Vec<f32> {
    let table = settings.parse().expect("TOML");
    let model = Model::load_with(model, None, &table, &Device::CPU).expect("a model");
    model.score(images).expect("scored").iter().map(|s| s.value).collect()
}

/// L2 + LD.
#[test]
fn the_discriminator_takes_part_in_the_score() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["ae-gan", "anogan", "f-anogan"] {
        let more: &[&str] = match name {
            "anogan" => &["--set", "test_steps=2", "--set", "channels=3"],
            "f-anogan" => &["--set", "encoder_epochs=1", "--set", "channels=3"],
            _ => &["--set", "channels=3"],
        };
        let model = trained(dir.path(), name, more);
        let all = images(2);
        let [none, one, two] =
            [0, 1, 2].map(|w| scores(&model, &format!("score = 'mean'\nfeature_score = {w}.0"), &all));
        for i in 0..2 {
            let (first, second) = (one[i] - none[i], two[i] - none[i]);
            assert!(first > 0.0 && (second - 2.0 * first).abs() < 1e-3 * second, "{name}: {first} {second}");
        }
    }
}

/// Files of earlier versions have no discriminator.
#[test]
fn an_ae_gan_without_its_discriminator_scores_as_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = trained(dir.path(), "ae-gan", &["--set", "channels=3"]);
    let all = images(1);
    let own = scores(&model, "", &all);
    let mut file = ModelFile::load(&model).expect("a model");
    file.tensors.retain(|name, _| !name.contains("discriminator."));
    let settings = file.config["settings"].as_object_mut().expect("settings");
    ["generator", "generator_width", "feature_score", "preset", "iterations"]
        .iter()
        .for_each(|key| drop(settings.remove(*key)));
    let earlier = dir.path().join("earlier");
    file.save(&earlier).expect("saved");
    assert_eq!(scores(&earlier, "", &all), own);
    file.config["settings"]["feature_score"] = json!(1.0);
    file.save(&earlier).expect("saved");
    let error = Model::load(&earlier, &Device::CPU).err().expect("refused").to_string();
    assert!(error.contains("feature_score") && error.contains("train it again"), "{error}");
}

#[test]
fn the_generator_of_i3ad_serves_the_baselines() {
    let dir = tempfile::tempdir().expect("a folder");
    let i3ad = ["--set", "generator=i3ad"];
    for name in ["ae-gan", "anogan", "f-anogan"] {
        let more: &[&str] = match name {
            "anogan" => &["--set", "test_steps=2"],
            "f-anogan" => &["--set", "encoder_epochs=1"],
            _ => &[],
        };
        // The images are gray; it takes them as colour images.
        let path = trained(dir.path(), name, &[&i3ad[..], more].concat());
        let model = Model::load(&path, &Device::CPU).expect("a model");
        assert_eq!(model.detector.image().channels, 3, "{name}");
        let again = dir.path().join("again");
        model.save(&again).expect("saved");
        assert!(std::fs::read(&again).expect("bytes") == std::fs::read(&path).expect("bytes"), "{name}");
        let all = images(2);
        let both = model.score(&all).expect("scored");
        let one = Tensor::new(all.values().expect("host")[128 * 128 * 3..].to_vec(), &[1, 128, 128, 3]).expect("fits");
        assert_eq!(model.score(&one).expect("scored")[0], both[1], "{name}: alone");
        let file = ModelFile::load(&path).expect("a model");
        assert!(file.tensors.contains_key("network.attention.f.weight"), "{name}: with self-attention");
        if name != "anogan" {
            let (_, error) = exits(2, &["export", "--onnx", text(&path), "--out", text(&dir.path().join("x.onnx"))]);
            assert!(error.contains("I3AD's") && error.contains("autoencoder"), "{error}");
        }
    }
    let [data, out] = ["data", "no"].map(|name| dir.path().join(name));
    let args = ["train", "ae-gan", "--data", text(&data), "--out", text(&out), "--set", "channels=1"];
    refused(&[&args[..], &i3ad].concat(), &["channels", "i3ad", "takes 3"]);
}

/// An AE-GAN on I3AD's generator learns to reconstruct: its squared error falls to that of a good likeness.
#[test]
fn the_generator_of_i3ad_learns_as_an_autoencoder() {
    let dir = tempfile::tempdir().expect("a folder");
    let more = ["--epochs", "12", "--set", "lr=2e-3", "--set", "adversarial=0"];
    let model = {
        let (data, model) = (dir.path().join("data"), dir.path().join("m"));
        small_data(&data, 64);
        let args = ["train", "ae-gan", "--data", text(&data), "--out", text(&model), "-q", "--set", "generator=i3ad"];
        ok(&[&args[..], &SMALL, &more].concat());
        model
    };
    let log = std::fs::read_to_string(format!("{}.log.jsonl", text(&model))).expect("a log");
    let losses: Vec<f64> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["validation_loss"].as_f64().expect("a loss"))
        .collect();
    let (first, least) = (losses[0], losses.iter().copied().fold(f64::INFINITY, f64::min));
    assert!(least < 0.3 * first, "{losses:?}");
}
