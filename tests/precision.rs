//! Scoring on the CPU in bf16 and int8, by the command line.

mod common;

use std::path::{Path, PathBuf};

use common::{exits, ok, refused, small_data, text};
use hotad_engine::model_file::ModelFile;
use serde_json::Value;

/// A small data set and a PatchCore on the shipped backbone.
fn trained(dir: &Path) -> (PathBuf, PathBuf) {
    let (data, model) = (dir.join("data"), dir.join("m.safetensors"));
    small_data(&data, 64);
    let args = ["train", "patchcore", "--data", text(&data), "--out", text(&model), "-q", "--set", "image_size=64"];
    ok(&args);
    (data, model)
}

fn evaluated(model: &Path, data: &Path, more: &[&str]) -> Value {
    let args = ["eval", "--model", text(model), "--data", text(data), "--device", "cpu", "--json", "-q"];
    serde_json::from_str(&ok(&[&args[..], more].concat())).expect("JSON")
}

#[test]
fn rounded_products_cost_little_and_eval_says_how_much() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path());
    let in_f32 = evaluated(&model, &data, &[]);
    assert!(in_f32.get("against_f32").is_none(), "{in_f32}");
    for precision in ["bf16", "int8"] {
        let metrics = evaluated(&model, &data, &["--precision", precision]);
        let against = &metrics["against_f32"];
        assert_eq!(against["precision"], precision);
        assert_eq!(against["image_auroc"], in_f32["image_auroc"]);
        assert_eq!(against["pixel_auroc"], in_f32["pixel_auroc"]);
        let difference = against["largest_score_difference"].as_f64().expect("a number");
        let threshold = in_f32["image_threshold"].as_f64().expect("a number");
        // What the few held-out images do not show of a defect is clamped in int8.
        let most = if precision == "bf16" { 0.05 } else { 0.25 };
        assert!(difference > 0.0 && difference < most * threshold, "{precision}: {difference} of {threshold}");
        let auroc = |m: &Value| m["image_auroc"].as_f64().expect("two classes");
        assert!((auroc(&metrics) - auroc(&in_f32)).abs() <= 0.07, "{precision}: {metrics}");
    }
    let (lines, _) = exits(0, &["eval", "--model", text(&model), "--data", text(&data), "--precision", "int8", "-q"]);
    assert!(lines.contains("image AUROC in f32") && lines.contains("largest score difference"), "{lines}");
}

#[test]
fn ranges_are_measured_in_training_and_by_calibrate() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path());
    let file = ModelFile::load(&model).expect("a model");
    assert!(file.input_ranges.len() > 20, "{} layers", file.input_ranges.len());
    for (layer, range) in &file.input_ranges {
        let (least, most) = range.ends();
        assert!(least <= 0.0 && most > 0.0, "{layer}: {least} to {most}");
    }
    let (bare, image) = (dir.path().join("bare.safetensors"), data.join("test/good"));
    ModelFile { input_ranges: Default::default(), ..file.clone() }.save(&bare).expect("saved");
    let score = ["score", "--model", text(&bare), text(&image), "--device", "cpu", "--precision", "int8"];
    refused(&score, &["int8", "hotad calibrate MODEL --data DIR --device cpu"]);
    ok(&["calibrate", text(&bare), "--data", text(&data), "--device", "cpu", "-q"]);
    ok(&score);
    // Training measured them on some of these images, calibration on others: the same layers.
    let measured = ModelFile::load(&bare).expect("a model").input_ranges;
    assert!(measured.keys().eq(file.input_ranges.keys()), "layers");
}

#[test]
fn precisions_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    let train = |precision| {
        let args = ["train", "pae", "--data", text(&data), "--out", text(&model), "--device", "cpu", "--precision"];
        refused(&[&args[..], &[precision]].concat(), &["--precision", precision]);
    };
    train("int8");
    train("bf16");
    train("f16");
    for precision in ["tf32", "f16"] {
        let args = ["score", "--model", "weights/plate.safetensors", text(&data), "--device", "cpu", "--precision"];
        refused(&[&args[..], &[precision]].concat(), &["cpu", precision, "bf16 or int8"]);
    }
    let args = ["score", "--model", "weights/plate.safetensors", text(&data), "--precision", "int4"];
    refused(&args, &["int4", "int8"]);
}
