//! PAEDID beyond the paper: image scores, neighbourhoods of the bank, a defect that is sparse.

mod bank;
#[path = "../common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};

use common::{QUICK, bars, hotad, ok, refused, small_data, text, train_small, trained};
use hotad_engine::container::Stored;
use hotad_engine::data::picture::Picture;
use hotad_engine::data::synth::{Kind, draw};
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_models::detector::Score;
use hotad_models::model::Model;

/// Rows and columns of what the small model takes.
const SIZE: usize = 32;

/// The score of a picture under other settings of scoring.
fn score(model: &Path, settings: &str, picture: &Picture) -> Score {
    let settings = settings.parse().expect("TOML");
    let model = Model::load_with(model, None, &settings, &Device::CPU).expect("a model");
    let values = picture.clone().resized(SIZE, SIZE).expect("sides").values;
    model.score(&Tensor::new(values, &[1, SIZE, SIZE, 1]).expect("fits")).expect("scored").swap_remove(0)
}

fn value(model: &Path, settings: &str, picture: &Picture) -> f32 {
    score(model, settings, picture).value
}

#[test]
fn the_standardised_score_does_not_depend_on_alpha() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let picture = bars(40, 70);
    let at = |alpha: f32, kind: &str| value(&model, &format!("alpha = {alpha:.1}\nscore = '{kind}'"), &picture);
    assert_eq!(at(0.1, "standardised"), at(1.0, "standardised"));
    assert!(at(0.1, "patch") != at(1.0, "patch"));
    let share = |share: &str| value(&model, &format!("score = 'standardised'\ntop_share = {share}"), &picture);
    assert!(share("0.01") > share("0.2") && share("0.2") > share("1.0"), "fewer are larger");
    // A normal image lies at 0 on average, a defect far above.
    assert!(share("1.0").abs() < 2.0, "{}", share("1.0"));
    let (cracked, _) = draw(Kind::Crack, &picture, &mut random::stream(1, "crack", 0));
    assert!(value(&model, "score = 'standardised'", &cracked) > 2.0 * share("0.05"));
}

#[test]
fn a_model_that_does_not_know_the_spread_says_so() {
    let eval = ["eval", "--model", "weights/plate.safetensors", "--data", "weights/samples", "--set"];
    refused(&[&eval[..], &["score=standardised"]].concat(), &["score = \"standardised\"", "train it again"]);
}

/// A model file without the settings and tensors that files of earlier versions do not have, and without what was chosen for them.
fn as_of_earlier(model: &Path, keys: &[&str], spread: bool) -> PathBuf {
    let mut file = ModelFile::load(model).expect("a model");
    let chosen = file.config.as_object_mut().expect("an object");
    ["score", "similar"].iter().for_each(|key| drop(chosen.remove(*key).expect("chosen")));
    let settings = file.config["settings"].as_object_mut().expect("settings");
    keys.iter().for_each(|key| drop(settings.remove(*key).expect("a setting")));
    file.tensors.retain(|name, _| spread || !name.starts_with("spread."));
    let path = model.with_extension("earlier");
    file.save(&path).expect("saved");
    path
}

#[test]
fn a_file_without_a_score_is_of_the_patches() {
    let dir = tempfile::tempdir().expect("a folder");
    let earlier = ["--set", "similar=0", "--set", "despeckle=false"];
    let (data, model) = trained(dir.path(), &earlier);
    let pae = dir.path().join("pae.safetensors");
    let train = ["train", "pae", "--data", text(&data), "--out", text(&pae), "-q", "--epochs", "2"];
    ok(&[&train, &QUICK[..], &earlier].concat());
    let picture = bars(40, 70);
    for model in [&model, &pae] {
        let [standardised, patch, map] =
            ["standardised", "patch", "map"].map(|kind| value(model, &format!("score = '{kind}'"), &picture));
        assert_eq!(value(model, "", &picture), standardised, "the default");
        assert!(standardised != patch && patch != map);
        let added = ["score", "reach", "similar", "despeckle", "shrink", "top_share", "augment"];
        for (keys, spread) in [(&added[..], false), (&added[..], true), (&added[..1], false), (&added[..1], true)] {
            let earlier = as_of_earlier(model, keys, spread);
            assert_eq!(value(&earlier, "", &picture), patch, "without {keys:?}, spread: {spread}");
            assert_eq!(value(&earlier, "score = 'map'", &picture), map, "a setting that the file lacks");
            let standardise = ["eval", "--model", text(&earlier), "--data", text(&data), "--set", "score=standardised"];
            match spread {
                true => assert_eq!(value(&earlier, "score = 'standardised'", &picture), standardised),
                false => refused(&standardise, &["score = \"standardised\"", "train it again"]),
            }
        }
    }
    // The decomposition has no part in it.
    assert_eq!(value(&model, "", &picture), value(&pae, "", &picture));
}

#[test]
fn a_file_that_says_standardised_without_a_spread_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let mut file = ModelFile::load(&model).expect("a model");
    file.tensors.retain(|name, _| !name.starts_with("spread."));
    file.save(&model).expect("saved");
    let test = data.join("test");
    let score = ["score", "--model", text(&model), text(&test)];
    refused(&score, &[text(&model), "score = \"standardised\"", "does not know the spread", "train it again"]);
}

#[test]
fn auto_is_a_choice_of_training_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &["--set", "alpha=0.1"]);
    let shipped = Path::new("weights/plate.safetensors");
    let earlier = as_of_earlier(&model, &["score"], true);
    for model in [&model, &earlier, shipped] {
        let eval = ["eval", "--model", text(model), "--data", text(&data), "--set", "score=auto"];
        refused(&eval, &["score = \"auto\"", "training", "use \"patch\" or \"standardised\" or \"map\""]);
    }
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--set"];
    refused(&[&eval[..], &["alpha=auto"]].concat(), &["alpha = \"auto\"", "training", "use a number"]);
    // What training has chosen is what auto means.
    let picture = bars(40, 70);
    assert_eq!(value(&model, "lambda = 'auto'", &picture), value(&model, "", &picture));
}

/// The mean of s that a model remembers of each location.
fn means(model: &Path) -> Vec<f32> {
    match &ModelFile::load(model).expect("a model").tensors["spread.mean"] {
        Stored::F32(_, means) => means.clone(),
        Stored::F16(..) => panic!("in single precision"),
    }
}

/// Each training image has a copy but for a pixel. One that is not known as such is found for the other.
#[test]
fn the_spread_is_measured_without_the_images_of_a_part() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    for i in 0..24 {
        let mut copy = bars(40, i);
        copy.values[i as usize] = 0.5;
        copy.write_png(&data.join(format!("train/good/{i:03}-copy.png"))).expect("a picture");
    }
    let measured = |more: &[&str]| {
        let plain = ["--epochs", "2", "--force", "--holdout", "0.1", "--set", "augment=[]"];
        train_small(&data, &model, &[&plain, more].concat());
        means(&model)
    };
    let apart = measured(&["--group", "^([0-9]+)"]);
    assert_eq!(apart.len(), 64);
    let smallest = apart.iter().copied().fold(f32::INFINITY, f32::min);
    assert!(smallest > 1e-5, "{smallest}: no image is like itself");
    let few = measured(&["--group", "^([0-9]+)", "--set", "similar=4"]);
    assert!(few.iter().zip(&apart).all(|(few, all)| few >= all), "fewer images are less like one");
    assert!(few != apart);
    let together = measured(&["--group", "none"]);
    let [found, not] = [&together, &apart].map(|means| means.iter().sum::<f32>());
    assert!(found < 0.4 * not, "most copies are found: {found} for {not}");
}

/// Under noise of a camera normal images stay what they are.
#[test]
fn the_spread_knows_changed_views() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut rng = random::stream(3, "noise", 0);
    let mut noisy = bars(40, 70);
    noisy.values.iter_mut().for_each(|v| *v = (*v + 0.05 * random::normal(&mut rng)).clamp(0.0, 1.0));
    let [(as_they_are, plain), (changed, augmented)] = ["augment=[]", "augment=['noise']"].map(|setting| {
        let folder = dir.path().join(setting);
        std::fs::create_dir(&folder).expect("a folder");
        let (_, model) = trained(&folder, &["--set", setting]);
        (value(&model, "", &noisy), means(&model))
    });
    assert!(changed < 0.7 * as_they_are, "{changed} and {as_they_are}");
    assert!(augmented.iter().zip(&plain).all(|(changed, plain)| changed >= plain), "changed views are farther");
}

#[test]
fn the_image_score_is_chosen_on_synthetic_defects() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    let train =
        ["train", "paedid", "--data", text(&data), "--out", text(&model), "--epochs", "2", "--set", "score=auto"];
    let output = hotad(&[&train[..], &QUICK].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let line = stderr.lines().find(|line| line.contains("chose score ")).expect("a line");
    assert!(line.contains("mean image AUROC over 6 kinds of synthetic defects: patch 0."), "{line}");
    let name = line.split("chose score ").nth(1).and_then(|rest| rest.split(':').next()).expect("a name");
    let info: serde_json::Value = serde_json::from_str(&ok(&["info", text(&model), "--json"])).expect("JSON");
    assert_eq!(info["config"]["score"], name, "{info}");
    assert_eq!(info["config"]["settings"]["score"], "auto");
    let picture = bars(40, 70);
    assert_eq!(value(&model, "", &picture), value(&model, &format!("score = '{name}'"), &picture));
    let mean = |name: &str| -> f64 {
        let rest = line.rsplit_once(&format!("{name} ")).expect("its figure").1;
        rest.split(',').next().and_then(|figure| figure.parse().ok()).expect("a number")
    };
    let figures = ["patch", "standardised", "map"].map(mean);
    assert_eq!(mean(name), figures.into_iter().fold(0.0, f64::max), "{line}");
}

#[test]
fn more_of_the_bank_is_nearer() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &["--set", "similar=0"]);
    let picture = bars(40, 70);
    // At alpha = 1 the score is the mean of s over all patches.
    let s = |setting: &str| value(&model, &format!("alpha = 1.0\nscore = 'patch'\n{setting}"), &picture);
    let scores = ["similar = 1", "similar = 5", "", "reach = 1", "reach = 2", "reach = 1024"].map(s);
    assert!(scores.windows(2).all(|pair| pair[0] > pair[1]), "{scores:?}");
    assert_eq!(s("similar = 1000"), s(""), "as many as there are");
}

#[test]
fn most_of_a_normal_image_is_no_defect_at_all() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "60", "--set", "patience=0"]);
    let picture = bars(40, 70);
    let (cracked, _) = draw(Kind::Crack, &picture, &mut random::stream(1, "crack", 0));
    const SHRINK: f32 = 0.05;
    let maps = |picture| {
        let settings = "steps = 100\nlambda = 1e-3\ndespeckle = false";
        let whole = score(&model, settings, picture).map.values;
        (whole, score(&model, &format!("{settings}\nshrink = {SHRINK}"), picture).map.values)
    };
    let zeros = |map: &[f32]| map.iter().filter(|v| **v == 0.0).count() as f64 / map.len() as f64;
    let (whole, sparse) = maps(&picture);
    assert!(zeros(&whole) < 0.05, "{}", zeros(&whole));
    assert!(zeros(&sparse) > 0.9, "{}", zeros(&sparse));
    let (whole, sparse) = maps(&cracked);
    for (whole, sparse) in whole.iter().zip(&sparse) {
        assert!((sparse - (whole - SHRINK).max(0.0)).abs() < 1e-6, "{sparse} for {whole}");
    }
    assert!(sparse.iter().any(|v| *v > SHRINK), "the crack is left");
}

#[test]
fn few_images_are_searched_where_cracks_are_found_better_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    let train = ["train", "paedid", "--data", text(&data), "--out", text(&model), "--epochs", "2"];
    let output = hotad(&[&train[..], &QUICK].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let chosen = ["similar 0: ", "similar 10: "].map(|choice| stderr.contains(choice));
    assert!(chosen[0] != chosen[1], "{stderr}");
    let info: serde_json::Value = serde_json::from_str(&ok(&["info", text(&model), "--json"])).expect("JSON");
    assert_eq!(info["config"]["settings"]["similar"], "auto");
    assert_eq!(info["config"]["similar"], if chosen[1] { 10.0 } else { 0.0 });
    let picture = bars(40, 70);
    let values =
        ["", "similar = 'auto'", "similar = 0", "similar = 10", "similar = 1"].map(|s| value(&model, s, &picture));
    assert_eq!(values[0], values[1]);
    assert_eq!(values[0], values[if chosen[1] { 3 } else { 2 }]);
    assert!(values[2] != values[4]);
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--set", "similar=2.5"];
    refused(&eval, &["similar = 2.5", "a whole number from 0 to 1000000, or \"auto\""]);
}

#[test]
fn a_single_pixel_is_no_defect() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "60", "--set", "patience=0"]);
    let mut picture = bars(32, 70);
    let (single, block) = (9 * 32 + 20, [21 * 32 + 10, 21 * 32 + 11, 22 * 32 + 10, 22 * 32 + 11]);
    block.into_iter().chain([single]).for_each(|at| picture.values[at] = 1.0 - picture.values[at].round());
    let maps = [false, true].map(|on| score(&model, &format!("lambda = 1e-3\ndespeckle = {on}"), &picture).map.values);
    let [whole, despeckled] = &maps;
    assert!(whole.iter().zip(despeckled).all(|(whole, left)| left <= whole));
    assert!(whole[single] > 0.5 && despeckled[single] < 0.25, "{} and {}", whole[single], despeckled[single]);
    let least = block.map(|at| whole[at]).into_iter().fold(1.0, f32::min);
    assert!(least > 0.3 && block.iter().all(|at| despeckled[*at] >= least), "{:?}", block.map(|at| despeckled[at]));
}
