//! Training that starts from the weights of a trained model.

mod common;
#[path = "common/small_models.rs"]
mod small_models;

use std::collections::BTreeSet;
use std::path::Path;

use common::{QUICK, bars, ok, refused, small_data, text, train_small};
use hotad_engine::container::Stored;
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::model_file::ModelFile;
use hotad_models::methods;

/// Prefixes of the weights that are learned at the rates that settings name.
const NETWORKS: [&str; 2] = ["network.", "color."];

/// Weights that a learning rate of nothing leaves as they are: not those of a discriminator, which some files do not keep, nor
/// running statistics.
fn weights<'a>(file: &'a ModelFile, prefixes: &[&str]) -> Vec<(&'a String, &'a Vec<f32>)> {
    let network = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let moves = |name: &str| name.contains("running_") || name.contains("discriminator.");
    let values = file.tensors.iter().filter(|(name, _)| network(name) && !moves(name));
    values.filter_map(|(name, t)| if let Stored::F32(_, v) = t { Some((name, v)) } else { None }).collect()
}

fn largest_difference(a: &ModelFile, b: &ModelFile, prefixes: &[&str]) -> f32 {
    let (a, b) = (weights(a, prefixes), weights(b, prefixes));
    assert!(!a.is_empty() && a.len() == b.len());
    let values = a.iter().zip(&b).flat_map(|((_, a), (_, b))| a.iter().zip(*b));
    values.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Learned at a rate of nothing from another seed, the weights are those of the first model; without it they are not.
#[test]
fn every_method_that_trains_a_network_starts_from_its_model() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, model) in small_models::train_all(dir.path()) {
        let first = ModelFile::load(&model).expect("a model");
        if !methods().iter().any(|m| m.name == first.method && m.warm_start) {
            continue;
        }
        let mut more = vec!["--seed", "7", "--set", "lr=1e-12"];
        match first.method.as_str() {
            "lea-net" => more.extend(["--set", "color_lr=1e-12"]),
            "simplenet" => more.extend(["--set", "adapter_lr=1e-12"]),
            _ => {}
        }
        if first.config["settings"]["head"].as_str().is_some_and(|head| head != "discriminator") {
            continue;
        }
        let started = small_models::train_again(dir.path(), name, &[&more[..], &["--init", text(&model)]].concat());
        let started = ModelFile::load(&started).expect("a model");
        let difference = largest_difference(&first, &started, &NETWORKS);
        assert!(difference < 1e-6, "{name}: {difference}");
        let origin = started.provenance.init.as_ref().expect("it is told");
        assert_eq!(origin.file, format!("{name}.safetensors"));
        assert_eq!(origin.sha256, file_sha256(&model).expect("a hash"), "{name}");
        if ["pae", "simplenet", "discriminator"].contains(&name) {
            let fresh = small_models::train_again(dir.path(), name, &[&more[..], &["--force"]].concat());
            let fresh = ModelFile::load(&fresh).expect("a model");
            assert!(largest_difference(&first, &fresh, &NETWORKS) > 0.01 && fresh.provenance.init.is_none());
            if name == "simplenet" {
                // Its features are learned in one step, at a rate of 1e-3.
                let features = |other| largest_difference(&first, other, &["extractor."]);
                assert!(features(&started) < 0.01 && features(&fresh) > 0.05);
                let (data, out) = (dir.path().join("data"), dir.path().join("out"));
                let args = ["train", name, "--data", text(&data), "--out", text(&out), "--init", text(&model)];
                let set = ["backbone=''", "image_size=32", "backbone_epochs=1", "hidden=8"].map(|v| ["--set", v]);
                refused(&[&args[..], set.as_flattened()].concat(), &["simplenet.safetensors", "it has an adapter"]);
            }
        }
    }
}

/// The head of an ensemble has learned to see the components of these members, SimpleNet's that of these features.
#[test]
fn a_head_starts_from_the_same_features_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let (data, out) = (path("data"), path("out"));
    small_data(&data, 40);
    let [a, b, c] = ["a", "b", "c"].map(path);
    train_small(&data, &a, &["--epochs", "1"]);
    train_small(&data, &b, &["--epochs", "1", "--set", "network=[8, 8]"]);
    train_small(&data, &c, &["--epochs", "1", "--set", "lr=0.01"]);
    let ensemble = |members: [&Path; 2], more: &[&str], run: &dyn Fn(&[&str])| {
        let args = ["train", "ensemble", "--data", text(&data), "--member", text(members[0]), "--member"];
        run(&[&args[..], &[text(members[1]), "--set", "epochs=1", "--set", "hidden=8"], more].concat());
    };
    let (first, gaussians) = (path("first.safetensors"), path("gaussians.safetensors"));
    let discriminator = ["--set", "head=discriminator", "--set", "maps=8"];
    ensemble([&a, &b], &[&discriminator[..], &["--out", text(&first), "-q"]].concat(), &|args| drop(ok(args)));
    ensemble([&a, &b], &["--out", text(&gaussians), "-q"], &|args| drop(ok(args)));
    let refuse = |members, init: &Path, more: &[&str], words: &[&str]| {
        let more = [&["--out", text(&out), "--init", text(init)], more].concat();
        ensemble(members, &more, &|args| refused(args, words));
    };
    refuse([&c, &b], &first, &discriminator, &["first.safetensors: its features are of other networks"]);
    refuse([&a, &b], &first, &discriminator[..2], &["first.safetensors", "setting maps was 8.0, is 0.999"]);
    refuse(
        [&a, &b],
        &first,
        &discriminator[2..],
        &["first.safetensors", "setting head was \"discriminator\", is \"mahalanobis\""],
    );
    refuse([&a, &b], &gaussians, &[], &["--init", "head = \"discriminator\""]);
    // What a file of an earlier version lacks is named.
    let mut old = ModelFile::load(&first).expect("a model");
    old.tensors.retain(|name, _| !name.starts_with("network."));
    old.save(&first).expect("saved");
    refuse([&a, &b], &first, &discriminator, &["first.safetensors: tensor \"network.head."]);
    let image = data.join("test/crack/000.png");
    assert!(ok(&["score", "--model", text(&first), text(&image)]).contains("score"), "it scores as ever");
}

fn learned(model: &Path) -> BTreeSet<String> {
    ModelFile::load(model).expect("a model").provenance.learned_images.into_iter().collect()
}

#[test]
fn images_of_the_first_model_are_learned_from() {
    let dir = tempfile::tempdir().expect("a folder");
    let [data, more, first, second] = ["data", "more", "a.safetensors", "b.safetensors"].map(|n| dir.path().join(n));
    small_data(&data, 40);
    train_small(&data, &first, &["--epochs", "1", "--group", "none"]);
    // Ten images that the first model may know, and ten that it does not.
    std::fs::create_dir_all(&more).expect("a folder");
    for i in 0..10 {
        bars(40, i).write_png(&more.join(format!("{i:03}.png"))).expect("a picture");
        bars(40, 900 + i).write_png(&more.join(format!("{:03}.png", 100 + i))).expect("a picture");
    }
    train_small(&more, &second, &["--epochs", "1", "--group", "none", "--holdout", "0.4", "--init", text(&first)]);
    let (before, after) = (learned(&first), learned(&second));
    assert!(before.is_subset(&after), "they are listed");
    let held: Vec<String> = std::fs::read_dir(&more)
        .expect("a folder")
        .flatten()
        .map(|entry| file_sha256(&entry.path()).expect("a hash"))
        .filter(|hash| !after.contains(hash))
        .collect();
    let count = ModelFile::load(&second).expect("a model").calibration.images;
    assert_eq!(held.len(), count, "what is not learned from is held out");
    let info = ok(&["info", text(&second)]);
    let line = info.lines().find(|line| line.starts_with("started from")).expect("a line");
    assert!(line.contains("a.safetensors") && line.contains(&file_sha256(&first).expect("a hash")), "{line}");
    // Nothing is left to calibrate with where it knows all images.
    let known = dir.path().join("known");
    std::fs::create_dir_all(&known).expect("a folder");
    for entry in std::fs::read_dir(data.join("train/good")).expect("a folder").flatten() {
        if before.contains(&file_sha256(&entry.path()).expect("a hash")) {
            std::fs::copy(entry.path(), known.join(entry.file_name())).expect("copied");
        }
    }
    let out = dir.path().join("c");
    let args = ["train", "paedid", "--data", text(&known), "--out", text(&out), "--group", "none"];
    refused(&[&args[..], &QUICK, &["--init", text(&first)]].concat(), &["learned from by an earlier model"]);
}

#[test]
fn a_model_that_does_not_fit_is_named_with_the_setting() {
    let dir = tempfile::tempdir().expect("a folder");
    let [data, first, out] = ["data", "a.safetensors", "b"].map(|n| dir.path().join(n));
    small_data(&data, 40);
    train_small(&data, &first, &["--epochs", "1"]);
    let refuse = |method: &str, more: &[&str], words: &[&str]| {
        let args = ["train", method, "--data", text(&data), "--out", text(&out), "--init", text(&first)];
        refused(&[&args[..], more].concat(), words);
    };
    let small = |network| ["--set", "image_size=32", "--set", network];
    refuse(
        "paedid",
        &small("network=[8, 8]"),
        &["a.safetensors", "other shapes", "setting network was [8,16], is [8,8]"],
    );
    refuse(
        "paedid",
        &[&QUICK[..], &["--set", "channels=3"]].concat(),
        &["a.safetensors", "setting channels was 1, is 3"],
    );
    refuse("pae", &QUICK[..4], &["a.safetensors", "is of paedid; pae starts from a model of pae"]);
    refuse("patchcore", &[], &["--init", "patchcore", "cannot start", "paedid", "lea-net"]);
    let lea = ["train", "lea-net", "--data", text(&data), "--cv", "2", "--init", text(&first)];
    refused(&lea, &["--init", "folds", "afresh"]);
    assert!(!out.exists());
}
