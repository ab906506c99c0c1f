//! PatchCore's bank: its size, its file, what is added to it and removed.

use std::path::{Path, PathBuf};

use hotad_engine::data::corrupt::{Corrupt, Corruption};
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::Picture;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_models::config::BankType;
use hotad_models::detector::Detector;
use hotad_models::features::FeatureSettings;
use hotad_models::fit::FitContext;
use hotad_models::method::Method;
use hotad_models::methods;
use hotad_models::model::Model;
use hotad_models::patchcore::{self, PatchCore};

use crate::common::{ok, refused, small_data, text};
use crate::{SMALL, json, train};

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
    // 19 of the 24 images are learned from, as they are and changed, 8 x 8 patches each.
    assert_eq!(bank(&out), 2 * 19 * 64, "a minute is enough for all patches");
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
            init: None,
            device: &Device::CPU,
            methods: methods(),
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

/// Learned from noisy views too, noise is nearer to normal and a crack as far; without, banks and Gaussians are of the images alone.
#[test]
fn noise_is_nearer_where_it_was_learned_from() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let noisy = dir.join("noisy");
    std::fs::create_dir_all(&noisy).expect("a folder");
    for index in 0..4 {
        let normal = Picture::read(&dir.join(format!("data/test/good/{:03}.png", 24 + index))).expect("a picture");
        let noise = Corrupt { kind: Corruption::Noise, seed: 5 }.apply(normal, index).expect("a picture");
        noise.write_png(&noisy.join(format!("{index}.png"))).expect("a picture");
    }
    let own = ["--set", "image_size=64", "--set", "backbone=hotad-lite0"];
    for method in ["patchcore", "padim"] {
        let mean = |augment: &str, folder: &Path| {
            let model = train(dir, method, &[&own[..], &["--set", augment]].concat());
            let lines = ok(&["score", "--model", text(&model), text(folder)]);
            let scores: Vec<f64> = lines.lines().map(|l| json(l)["score"].as_f64().expect("a score")).collect();
            scores.iter().sum::<f64>() / scores.len() as f64
        };
        let (noise, crack) = (noisy.as_path(), &dir.join("data/test/crack"));
        let share = |augment: &str| mean(augment, noise) / mean(augment, crack);
        let (without, with) = (share("augment=[]"), share("augment=[\"noise\"]"));
        assert!(with < 0.8 * without, "{method}: noise has {with} of a crack's score, {without} where it was not seen");
    }
}

#[test]
fn both_views_of_an_image_are_one_entry_of_the_bank() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let all = ["--set", "image_size=64", "--set", "backbone=hotad-lite0", "--set", "coreset=100000"];
    // Noise leaves no two patches alike, of which a coreset would take one.
    let model = train(dir, "patchcore", &[&all[..], &["--set", "augment=[\"noise\"]"]].concat());
    let vectors = || ModelFile::load(&model).expect("a model").tensors["bank"].shape()[0];
    let entries = || ok(&["bank", "list", text(&model)]).lines().count();
    let before = (entries(), vectors());
    assert_eq!(before.1, 2 * 64 * before.0, "all 8 x 8 patches of both views");
    let names = ok(&["bank", "list", text(&model)]);
    ok(&["bank", "remove", text(&model), names.lines().next().expect("an entry")]);
    assert_eq!((entries(), vectors()), (before.0 - 1, before.1 - 2 * 64));
}

/// A share is of the patches of the images as they are, whether the reservoir holds all patches or not.
#[test]
fn changed_views_do_not_change_the_size_of_a_bank() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let own = ["--set", "image_size=64", "--set", "backbone=hotad-lite0", "--set", "coreset=0.25"];
    let size = |more: &[&str]| {
        let model = train(dir, "patchcore", &[&own[..], more].concat());
        ModelFile::load(&model).expect("a model").tensors["bank"].shape()[0]
    };
    // 19 images of 8 x 8 patches; a vector has 152 elements, so that 0.5 MiB hold 862, fewer than one view has.
    assert_eq!(size(&[]), 304);
    assert_eq!(size(&["--set", "augment=[]"]), 304);
    assert_eq!(size(&["--set", "reservoir=0.5"]), 216);
    assert_eq!(size(&["--set", "reservoir=0.5", "--set", "augment=[]"]), 216);
    let (data, out) = (dir.join("data"), dir.join("refused.safetensors"));
    let unknown = ["train", "patchcore", "--data", text(&data), "--out", text(&out), "--set", "augment=[\"fog\"]"];
    refused(&unknown, &["augment", "fog", "brightness"]);
}

/// A file that does not say whether images were changed is of a version that did not.
#[test]
fn an_earlier_model_was_not_augmented() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let own = ["--set", "image_size=64", "--set", "backbone=hotad-lite0"];
    for method in ["patchcore", "padim"] {
        let path = train(dir, method, &own);
        let mut file = ModelFile::load(&path).expect("a model");
        let settings = file.config["settings"].as_object_mut().expect("settings");
        assert!(settings.remove("augment").is_some());
        file.save(&path).expect("saved");
        let model = Model::load(&path, &Device::CPU).expect("a model");
        assert_eq!(model.detector.config()["settings"]["augment"], serde_json::json!([]), "{method}");
    }
}

#[test]
fn a_patchcore_bank_is_extended_and_pruned() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let model = train(
        dir,
        "patchcore",
        &[&SMALL[..], &["--set", "coreset=60", "--set", "reservoir=0.2", "--set", "augment=[]"]].concat(),
    );
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
