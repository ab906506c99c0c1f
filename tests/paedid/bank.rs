//! What is in the bank beside the images that are learned from, and images that are aligned to it.

use std::path::Path;

use hotad_engine::data::picture::Picture;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_models::model::Model;

use crate::common::{bars, ok, refused, text, train_small, trained};
use crate::{SIZE, means, score, value};

/// A picture seen in a mirror.
fn mirrored(picture: &Picture) -> Picture {
    let mut mirrored = picture.clone();
    mirrored.values.chunks_exact_mut(picture.width).for_each(|row| row.reverse());
    mirrored
}

/// Images of the bank of a model, by name.
fn entries(model: &Path) -> Vec<String> {
    ok(&["bank", "list", text(model)]).lines().map(String::from).collect()
}

/// The mean of s over all patches of a picture.
fn distance(model: &Path, picture: &Picture) -> f32 {
    value(model, "alpha = 1.0\nscore = 'patch'\nsimilar = 0", picture)
}

#[test]
fn views_of_images_are_in_the_bank() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, plain) = trained(dir.path(), &["--set", "bank_views=[]"]);
    let model = dir.path().join("views.safetensors");
    train_small(&data, &model, &["--epochs", "2", "--set", "bank_views=['gain', 'flip-horizontal']"]);
    let (m, names) = (text(&model), entries(&model));
    assert_eq!(names, entries(&plain), "images, not views");
    let first = Picture::read(&data.join("train/good").join(&names[0])).expect("a picture");
    let of_first = distance(&model, &mirrored(&first));
    assert!(of_first < 0.1 * distance(&plain, &mirrored(&first)), "{of_first}");
    // Views of an image that is added come and go with it.
    let (new, path) = (bars(40, 400), dir.path().join("new.png"));
    new.write_png(&path).expect("a picture");
    let before = distance(&model, &mirrored(&new));
    ok(&["bank", "add", m, text(&path)]);
    let added = distance(&model, &mirrored(&new));
    assert!(added < 0.1 * before, "{added} for {before}");
    assert_eq!(distance(&model, &mirrored(&first)), of_first);
    ok(&["bank", "remove", m, &names[0]]);
    assert!(distance(&model, &mirrored(&first)) > 10.0 * of_first);
    assert_eq!(distance(&model, &mirrored(&new)), added);
    ok(&["bank", "remove", m, "new.png"]);
    assert_eq!(entries(&model), names[1..]);
    // A file whose bank has fewer views than its settings say is damaged.
    let mut file = ModelFile::load(&plain).expect("a model");
    file.config["settings"]["bank_views"] = serde_json::json!(["shift"]);
    let damaged = dir.path().join("damaged.safetensors");
    file.save(&damaged).expect("saved");
    refused(&["bank", "list", text(&damaged)], &["damaged.safetensors", "memory bank"]);
    let train = ["train", "pae", "--data", text(&data), "--out", text(&damaged), "--force", "--set"];
    for (views, words) in [("['turn']", "turn"), ("['gain', 'gain']", "[\"gain\",\"gain\"]"), ("'gain'", "a list")] {
        refused(&[&train[..], &[&format!("bank_views={views}")]].concat(), &["setting bank_views = ", words]);
    }
    let eval = ["eval", "--model", m, "--data", text(&data), "--set", "bank_views=[]"];
    refused(&eval, &["setting bank_views", "in training"]);
}

/// Nothing but the bank changes, and what is in it is not calibrated with again.
#[test]
fn held_out_images_enter_the_bank_after_thresholds_are_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, plain) = trained(dir.path(), &["--group", "none"]);
    let model = dir.path().join("all.safetensors");
    train_small(&data, &model, &["--epochs", "2", "--group", "none", "--set", "bank_holdout=true"]);
    let [before, after] = [&plain, &model].map(|path| ModelFile::load(path).expect("a model"));
    assert_eq!(after.calibration, before.calibration);
    for (name, tensor) in before.tensors.iter().filter(|(name, _)| *name != "bank") {
        assert!(after.tensors[name] == *tensor, "{name}");
    }
    for key in ["alpha", "lambda", "similar", "score"] {
        assert_eq!(after.config[key], before.config[key], "{key}");
    }
    let (names, all) = (entries(&plain), entries(&model));
    assert_eq!((names.len(), all.len()), (19, 24));
    assert_eq!(all[..19], names);
    assert_eq!([&before, &after].map(|file| file.provenance.training_images), [19, 24]);
    let held = data.join("train/good").join(&all[19]);
    let picture = Picture::read(&held).expect("a picture");
    let [without, with] = [&plain, &model].map(|model| distance(model, &picture));
    assert!(with < 0.1 * without, "{with} for {without}");
    let m = text(&model);
    refused(&["bank", "add", m, text(&held)], &["is in the bank", &all[19]]);
    let again = ["calibrate", m, "--data", text(&data), "--group", "none"];
    refused(&again, &["has learned from the parts of all 24 normal images"]);
    // Taken out of the bank, it still is an image that thresholds and weights were chosen by.
    ok(&["bank", "remove", m, &all[19]]);
    refused(&again, &["has learned from the parts of all 24 normal images"]);
    assert!(distance(&model, &picture) > 0.5 * without);
    let eval = ["eval", "--model", m, "--data", text(&data), "--set", "bank_holdout=false"];
    refused(&eval, &["setting bank_holdout", "in training"]);
}

/// Bars and rows of waves, a little different each time.
fn waves(index: u64) -> Picture {
    let mut picture = bars(SIZE, index);
    let wave = |y: usize| 0.15 * (0.5 * y as f32).sin();
    picture.values.iter_mut().enumerate().for_each(|(i, v)| *v += wave(i / SIZE));
    picture
}

#[test]
fn an_image_is_aligned_to_the_bank() {
    let dir = tempfile::tempdir().expect("a folder");
    let [data, plain, model] = ["data", "plain.safetensors", "aligned.safetensors"].map(|name| dir.path().join(name));
    std::fs::create_dir(&data).expect("a folder");
    (0..24).for_each(|i| waves(i).write_png(&data.join(format!("{i:03}.png"))).expect("a picture"));
    let fixed = ["--epochs", "60", "--set", "patience=0", "--set", "similar=1"];
    train_small(&data, &plain, &fixed);
    train_small(&data, &model, &[&fixed[..], &["--set", "align=1"]].concat());
    let moved = |index| {
        let mut picture = waves(index);
        picture.values.chunks_exact_mut(SIZE).for_each(|row| row.copy_within(2.., 0));
        picture
    };
    let mean = |model: &Path| (70..78).map(|i| distance(model, &moved(i))).sum::<f32>();
    assert!(mean(&model) < 0.3 * mean(&plain), "{} and {}", mean(&model), mean(&plain));
    let spread = |path: &Path| means(path).iter().sum::<f32>();
    assert!(spread(&model) < spread(&plain), "{} and {}", spread(&model), spread(&plain));
    let mut picture = moved(70);
    let block = (0..9).map(|i| (20 + i / 3) * SIZE + 9 + i % 3);
    block.clone().for_each(|at| picture.values[at] = 1.0 - picture.values[at].round());
    let map = score(&model, "", &picture).map.values;
    let largest = (0..map.len()).max_by(|a, b| map[*a].total_cmp(&map[*b])).expect("pixels");
    assert!(block.clone().any(|at| at == largest), "{largest} is not where the defect is in the image");
    let unaligned = Model::load_with(&model, None, &"align = 0".parse().expect("TOML"), &Device::CPU);
    assert!(unaligned.err().expect("refused").to_string().contains("setting align: paedid depends on it in training"));
    let train = ["train", "pae", "--data", text(&data), "--out", text(&plain), "--force", "--set", "align=101"];
    refused(&train, &["setting align = 101", "0 to 100"]);
}
