//! `hotad score` as a gate: nothing passes that was not looked at.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{bars, binary, exits, ok, refused, text, trained};
use hotad_engine::Result;
use hotad_engine::calibration::Calibration;
use hotad_engine::container::Stored;
use hotad_engine::data::loader::{Batch, BatchFile};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::Provenance;
use hotad_engine::tensor::Tensor;
use hotad_models::AnomalyMap;
use hotad_models::detector::{Detector, Score, Scores};
use hotad_models::model::Model;
use serde_json::Value;

/// A threshold that every image exceeds, and one that none does.
const LOW: &str = "--threshold=-1";
const HIGH: &str = "--threshold=1e30";

fn score<'a>(model: &'a Path, images: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["score", "--model", text(model), text(images)], more].concat()
}

fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|l| serde_json::from_str(l).expect("one object a line")).collect()
}

#[test]
fn a_gate_refuses_a_path_without_images() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (empty, other) = (dir.path().join("empty"), dir.path().join("other"));
    std::fs::create_dir(&empty).expect("a folder");
    std::fs::create_dir(&other).expect("a folder");
    std::fs::write(other.join("notes.txt"), "no image").expect("written");
    let good = data.join("test/good");
    for folder in [&empty, &other] {
        let score = ["score", "--model", text(&model), text(folder), "-q"];
        assert_eq!(ok(&score), "");
        refused(&[&score[..], &["--fail-on-anomaly"]].concat(), &[text(folder), "no images", "--allow-empty"]);
        assert_eq!(ok(&[&score[..], &["--fail-on-anomaly", "--allow-empty"]].concat()), "");
        // One path of several is looked at as closely.
        refused(&[&score[..], &[text(&good), "--fail-on-anomaly", HIGH]].concat(), &[text(folder), "no images"]);
    }
    ok(&["score", "--model", text(&model), text(&good), "--fail-on-anomaly", HIGH]);
}

#[test]
fn a_broken_image_is_named_and_the_others_are_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let good = data.join("test/good");
    std::fs::write(good.join("025b.png"), "no image").expect("written");
    let (stdout, stderr) = exits(2, &score(&model, &good, &[HIGH, "--batch", "8"]));
    let found = lines(&stdout);
    assert_eq!(found.len(), 5);
    assert_eq!(found.iter().filter(|l| l["score"].is_number()).count(), 4);
    let broken = &found[2];
    assert!(broken["path"].as_str().is_some_and(|p| p.ends_with("025b.png")), "in its place: {stdout}");
    assert!(broken["error"].as_str().is_some_and(|e| e.contains("not a readable image")), "{broken}");
    let errors: Vec<&str> = stderr.lines().filter(|l| l.starts_with("hotad: error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains("025b.png"), "{stderr}");
    // An anomaly in the others does not make the run complete.
    exits(2, &score(&model, &good, &[LOW, "--fail-on-anomaly"]));
    let skip = ["--on-broken", "skip"];
    let (stdout, stderr) = exits(0, &score(&model, &good, &[&skip[..], &[HIGH]].concat()));
    assert_eq!(lines(&stdout).len(), 5);
    assert!(stderr.contains("skipped") && stderr.contains("025b.png"), "{stderr}");
    let gate = |threshold| [&skip[..], &[threshold, "--fail-on-anomaly"]].concat();
    refused(&score(&model, &good, &gate(HIGH)), &["1 images were skipped"]);
    exits(1, &score(&model, &good, &gate(LOW)));
}

#[cfg(unix)]
#[test]
fn a_gate_does_not_pass_what_only_looks_like_an_image() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let good = data.join("test/good");
    let run = |code, more: &[&str]| exits(code, &score(&model, &good, more));
    let gate = |threshold| ["--fail-on-anomaly", "--on-broken", "skip", threshold];
    // Types that are not read are listed; the gate does not pass them.
    let other = good.join("other.webp");
    std::fs::write(&other, "RIFF").expect("written");
    let (stdout, stderr) = run(0, &[HIGH]);
    let last = lines(&stdout).pop().expect("lines");
    assert!(last["path"] == text(&other) && last["error"].as_str().is_some_and(|e| e.contains("PNG, JPEG")), "{last}");
    assert_eq!(stderr.lines().filter(|l| l.contains("warning: skipped") && l.contains("other.webp")).count(), 1);
    let (_, stderr) = run(2, &[HIGH, "--fail-on-anomaly"]);
    assert!(stderr.contains("hotad: error: ") && stderr.contains("other.webp"), "{stderr}");
    refused(&score(&model, &good, &gate(HIGH)), &["1 images were skipped"]);
    run(1, &gate(LOW));
    std::fs::remove_file(&other).expect("removed");
    // What cannot be read at all is broken, gate or not.
    let (broken, pipe) = (good.join("broken.png"), good.join("pipe.tif"));
    std::os::unix::fs::symlink("/nowhere.png", &broken).expect("a link");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let (stdout, _) = run(2, &[HIGH]);
    let errors: Vec<Value> = lines(&stdout).into_iter().filter(|l| l["error"].is_string()).collect();
    assert!(errors.len() == 2 && errors[0]["path"] == text(&broken) && errors[1]["path"] == text(&pipe), "{stdout}");
    run(2, &[LOW, "--fail-on-anomaly"]);
    run(0, &[HIGH, "--on-broken", "skip"]);
    refused(&score(&model, &good, &gate(HIGH)), &["2 images were skipped"]);
    run(1, &gate(LOW));
}

#[test]
fn a_folder_within_another_is_not_empty() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (all, good, none) = (data.join("test"), data.join("test/good"), data.join("test/none"));
    std::fs::create_dir(&none).expect("a folder");
    for within in [&good, &all] {
        let (stdout, _) = exits(0, &score(&model, &all, &[text(within), "--fail-on-anomaly", HIGH]));
        assert_eq!(lines(&stdout).len(), 8);
    }
    refused(&score(&model, &all, &[text(&none), "--fail-on-anomaly", HIGH]), &[text(&none), "no images"]);
}

/// A detector whose scores are larger for darker images, and infinite for black ones.
struct Darkness;

impl Detector for Darkness {
    fn image(&self) -> ImageSpec {
        ImageSpec { height: 16, width: 16, channels: 1 }
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let score = |image: &[f32]| Score {
            value: 1.0 / image[0],
            map: AnomalyMap { height: 16, width: 16, values: image.to_vec().into() },
        };
        Ok(images.values()?.chunks_exact(self.image().len()).map(score).collect())
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        Ok(BTreeMap::new())
    }
}

#[test]
fn a_score_that_is_no_number_is_an_error_of_its_image_alone() {
    let (calibration, provenance) = (Calibration::default(), Provenance::default());
    let (input_ranges, device) = (BTreeMap::new(), Device::CPU);
    let model = Model {
        method: "darkness",
        detector: Box::new(Darkness),
        roi: None,
        calibration,
        provenance,
        input_ranges,
        device,
    };
    let paths = ["a.png", "black.png", "c.png"].map(PathBuf::from);
    let values = [0.25, 0.0, 0.5].iter().flat_map(|v| [*v; 256]).collect();
    let images = Tensor::new(values, &[3, 16, 16, 1]).expect("three images");
    let file = |(index, path)| BatchFile { index, path, size: (16, 16), original: None };
    let batch = Batch { images, files: paths.into_iter().enumerate().map(file).collect() };
    let scores = model.score_files(&batch).expect("scores");
    let values: Vec<Option<f32>> = scores.iter().map(|s| s.as_ref().ok().map(|s| s.value)).collect();
    assert_eq!(values, [Some(4.0), None, Some(2.0)]);
    let error = scores[1].as_ref().expect_err("no number").to_string();
    assert!(error.contains("black.png") && error.contains("not finite"), "{error}");
}

/// Exit code and stderr of a run whose stdout nobody reads.
fn unread(args: &[&str]) -> (Option<i32>, String) {
    let piped = || Stdio::piped();
    let mut child = binary().args(args).stdout(piped()).stderr(piped()).spawn().expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_closed_stdout_does_not_open_the_gate() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let images = data.join("test");
    let run = |more| unread(&score(&model, &images, more));
    assert_eq!(run(&[LOW]), (Some(0), String::new()));
    assert_eq!(run(&[LOW, "--fail-on-anomaly"]), (Some(1), String::new()));
    let (code, stderr) = run(&[HIGH, "--fail-on-anomaly"]);
    assert!(code == Some(2) && stderr.contains("stdout was closed"), "{code:?} {stderr}");
}

#[test]
fn thresholds_are_given_on_the_command_line_or_in_a_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let image = data.join("test/good/024.png");
    let one = |more: &[&str]| lines(&ok(&score(&model, &image, more))).swap_remove(0);
    let own = one(&[]);
    let value = own["score"].as_f64().expect("a number");
    let at = one(&["--threshold", &value.to_string()]);
    assert!(at["threshold"] == own["score"] && at["label"] == "normal" && at["calibrated"] == 0.5, "{at}");
    assert_eq!(one(&[LOW])["label"], "anomaly");
    let file = dir.path().join("thresholds.json");
    let named = ["--threshold-file", text(&file)];
    std::fs::write(&file, r#"{"image_threshold": 0.25, "note": "of March"}"#).expect("written");
    assert_eq!(one(&named)["threshold"], 0.25);
    assert_eq!(one(&[&named[..], &["--threshold", "0.5"]].concat())["threshold"], 0.5);
    // What eval prints is a threshold file.
    std::fs::write(&file, ok(&["eval", "--model", text(&model), "--data", text(&data), "--json"])).expect("written");
    assert_eq!(one(&named)["threshold"], own["threshold"]);
    for wrong in ["{}", "[1]", "no JSON", r#"{"image_threshold": "high"}"#, r#"{"pixel_threshold": 1e999}"#] {
        std::fs::write(&file, wrong).expect("written");
        refused(&score(&model, &image, &named), &["thresholds.json", "image_threshold"]);
    }
    for wrong in ["--threshold=NaN", "--threshold=inf", "--pixel-threshold=x"] {
        let (_, stderr) = exits(2, &score(&model, &image, &[wrong]));
        assert!(stderr.contains("expected a number"), "{stderr}");
    }
}

#[test]
fn a_pixel_threshold_scales_the_maps() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let image = data.join("test/crack/000.png");
    let brightness = |threshold: &str| {
        let out = dir.path().join(threshold);
        let more = ["--out", text(&out), "--pixel-threshold", threshold];
        ok(&score(&model, &image, &more));
        let map = hotad_engine::data::picture::Picture::read(&out.join("000_map.png")).expect("a map");
        map.values.iter().sum::<f32>()
    };
    assert!(brightness("0.05") > 2.0 * brightness("0.5"));
}

#[cfg(unix)]
#[test]
fn names_that_are_not_text_are_scored() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let odd = dir.path().join("odd");
    std::fs::create_dir(&odd).expect("a folder");
    let file = odd.join(Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9.png")));
    let plain = dir.path().join("plain.png");
    bars(40, 3).write_png(&plain).expect("a picture");
    if std::fs::copy(&plain, &file).is_err() {
        common::skipped("this file system takes UTF-8 names alone");
        return;
    }
    let out = dir.path().join("out");
    let line = lines(&ok(&["score", "--model", text(&model), text(&odd), "--out", text(&out)])).swap_remove(0);
    assert!(line["path"].as_str().is_some_and(|p| p.ends_with("caf\u{fffd}.png")), "{line}");
    assert!(line["path_bytes"].as_str().is_some_and(|b| b.ends_with("636166e92e706e67")), "{line}");
    let other = lines(&ok(&["score", "--model", text(&model), text(&plain)])).swap_remove(0);
    assert!(other.get("path_bytes").is_none() && other["score"] == line["score"], "{other}");
}
