//! Another model's anomaly map in the place of the colour network's.

use std::path::Path;

use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_models::model::Model;

use crate::common::{bars, hotad, ok, refused, small_data, text};
use crate::json;

/// A small model of gray images.
fn guide(data: &Path, model: &Path) {
    let settings = ["--set", "image_size=64", "--set", "network=[8, 16]", "--set", "epochs=2", "--set", "batch=4"];
    ok(&[&["train", "pae", "--data", text(data), "--out", text(model), "-q"], &settings[..]].concat());
}

#[test]
fn any_model_guides_attention_also_on_gray_images() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let (data, pae, model) = (path("data"), path("pae.safetensors"), path("m.safetensors"));
    small_data(&data, 40);
    guide(&data, &pae);
    let setting = format!("guide={}", text(&pae));
    let common = ["train", "lea-net", "--data", text(&data), "--group", "none", "--batch", "8", "--set", &setting];
    let small = ["--set", "image_size=32", "--set", "width=8", "--set", "lr=2e-3"];
    let args = [&common[..], &small, &["--epochs", "8", "--out", text(&model), "-q"]].concat();
    ok(&args);
    let held = |model: &Path| ModelFile::load(model).expect("a model").calibration.images;
    assert_eq!(held(&model), held(&pae), "held out is what the guide has not learned from");
    // The file is whole without that of its guide.
    std::fs::rename(&pae, path("elsewhere")).expect("renamed");
    let first = Model::load(&model, &Device::CPU).expect("a model");
    let again = path("again.safetensors");
    first.save(&again).expect("saved");
    assert_eq!(std::fs::read(&model).expect("bytes"), std::fs::read(&again).expect("bytes"));
    let map = |i| {
        let gray = bars(40, i).resized(32, 32).expect("a size").values;
        let values = gray.into_iter().flat_map(|v| [v; 3]).collect();
        first
            .score(&Tensor::new(values, &[1, 32, 32, 3]).expect("lengths fit"))
            .expect("scored")
            .remove(0)
            .map
            .values
            .into_vec()
    };
    let normal: Vec<f32> = (100..120).flat_map(map).collect();
    let above = |limit: f32| normal.iter().filter(|v| **v > limit).count() as f64 / normal.len() as f64;
    assert!(above(0.0) > 0.2 && above(0.0) < 0.8, "{} of new normal pixels are above the median", above(0.0));
    assert!(above(1.0) < 0.05, "{} of new normal pixels are above 1", above(1.0));
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"];
    let metrics = json(&ok(&eval));
    assert_eq!((&metrics["good"], &metrics["defective"]), (&4.into(), &2.into()), "{metrics}");
    let report = path("report");
    ok(&[&eval[..], &["--explain", "--out", text(&report)]].concat());
    refused(&["export", "--onnx", text(&model), "--out", text(&path("m.onnx"))], &["guide", "pae.safetensors"]);
    // Without its guide it cannot be trained.
    refused(&[&args[..], &["--force"]].concat(), &["pae.safetensors"]);
}

/// Images that the guide knows are left out of a cross-validation, which tests on all that it has.
#[test]
fn what_a_guide_has_learned_from_is_not_tested_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, pae) = (dir.path().join("data"), dir.path().join("pae.safetensors"));
    small_data(&data, 40);
    guide(&data, &pae);
    let learned = ModelFile::load(&pae).expect("a model").provenance.learned_images.len();
    let setting = format!("guide={}", text(&pae));
    let args = ["train", "lea-net", "--data", text(&data), "--group", "none", "--batch", "4", "--set", &setting];
    let small =
        ["--set", "image_size=32", "--set", "width=4", "--epochs", "1", "--cv", "2", "--set", "rows=[\"direct\"]"];
    let output = hotad(&[&args[..], &small, &["--set", "points=[3]"]].concat());
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned());
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains(&format!("{learned} images are left out")), "{stderr}");
    assert!(stdout.starts_with(&format!("4 positive, {} negative", 28 - learned)), "{stdout}");
}

#[test]
fn what_is_no_guide_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("m"));
    small_data(&data, 40);
    let refuse = |guide: &Path, words: &[&str]| {
        let setting = format!("guide={}", text(guide));
        refused(&["train", "lea-net", "--data", text(&data), "--out", text(&out), "--set", &setting], words);
    };
    refuse(&dir.path().join("none"), &["none"]);
    refuse(&data.join("train/good/000.png"), &["000.png"]);
    refuse(Path::new("weights/hotad-lite0.safetensors"), &["hotad-lite0.safetensors"]);
    let pae = dir.path().join("pae.safetensors");
    guide(&data, &pae);
    let setting = format!("guide={}", text(&pae));
    let elsewhere = ["--set", &setting, "--roi", "box:0,0,20,20"];
    let args = [&["train", "lea-net", "--data", text(&data), "--out", text(&out)], &elsewhere[..]].concat();
    refused(&args, &["pae.safetensors: this guide looks at another region of interest than this training"]);
}
