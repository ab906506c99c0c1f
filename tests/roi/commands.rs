//! `hotad roi`, `train --roi` and what other commands make of a model's region.

use std::path::Path;

use hotad::Roi;
use hotad_engine::model_file::ModelFile;
use hotad_models::jobs::TrainJob;
use serde_json::Value;

use crate::common::pictures::read_png;
use crate::common::{hotad, ok, refused, text, train_small};
use crate::{BOX, POLYGON, data_in_frames, trained_within};

fn roi_of(model: &Path) -> Option<Roi> {
    ModelFile::load(model).expect("a model").roi
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(args)).expect("JSON")
}

#[test]
fn a_region_is_printed_changed_and_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    data_in_frames(dir);
    let model = trained_within(dir, BOX);
    assert_eq!(ok(&["roi", text(&model)]).trim(), BOX);
    assert_eq!(json(&["roi", text(&model), "--json"])["roi"]["shapes"][0]["box"]["left"], 9);
    assert_eq!(json(&["info", text(&model), "--json"])["roi"], json(&["roi", text(&model), "--json"])["roi"]);
    assert!(ok(&["info", text(&model)]).contains(BOX));
    let before = std::fs::read(&model).expect("bytes");
    ok(&["roi", text(&model), "--set", BOX]);
    assert!(std::fs::read(&model).expect("bytes") == before, "nothing is changed");
    // Another one, of two shapes.
    let changed = hotad(&["roi", text(&model), "--set", "box:0,0,4,4", "--set", POLYGON]);
    let said = String::from_utf8_lossy(&changed.stderr).into_owned();
    assert!(changed.status.success() && said.contains("hotad calibrate"), "{said}");
    assert_eq!(roi_of(&model), Some(format!("box:0,0,4,4;{POLYGON}").parse().expect("a region")));
    assert_eq!(ok(&["roi", text(&model)]).trim(), format!("box:0,0,4,4;{POLYGON}"));
    // Calibration and the bank keep it.
    let frames = dir.join("frames");
    ok(&["calibrate", text(&model), "--data", text(&frames), "--f1", "-q"]);
    ok(&["bank", "add", text(&model), text(&frames.join("test/good/024.png")), "-q"]);
    assert_eq!(ok(&["roi", text(&model)]).trim(), format!("box:0,0,4,4;{POLYGON}"));
    // And back: the file as it was, but for what has been added.
    let other = dir.join("other.safetensors");
    std::fs::write(&other, &before).expect("written");
    ok(&["roi", text(&other), "--clear", "-q"]);
    assert_eq!(roi_of(&other), None);
    assert_eq!(json(&["roi", text(&other), "--json"])["roi"], Value::Null);
    ok(&["roi", text(&other), "--set", BOX, "-q"]);
    assert!(std::fs::read(&other).expect("bytes") == before, "the file as it was");
    refused(&["roi", text(&other), "--out", text(&model)], &["--out", "--set"]);
}

#[test]
fn a_report_shows_whole_images() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    data_in_frames(dir);
    let (model, report) = (trained_within(dir, POLYGON), dir.join("report"));
    let frames = dir.join("frames");
    ok(&["eval", "--model", text(&model), "--data", text(&frames), "--out", text(&report), "--explain", "-q"]);
    let overlay = read_png(&report.join("overlays/crack_000.png"));
    assert_eq!((overlay.width(), overlay.height()), (60, 52));
}

#[test]
fn a_checkpoint_is_of_its_region() {
    let dir = tempfile::tempdir().expect("a folder");
    data_in_frames(dir.path());
    let chosen = |roi: Option<&str>| {
        let roi = roi.map(|roi| roi.parse().expect("a region"));
        let job = TrainJob { roi, ..TrainJob::new("paedid", dir.path().join("frames")) };
        job.select(&()).expect("images").chosen
    };
    let name = "region of interest";
    assert!(chosen(None).get(name).is_none());
    let (a, b) = (chosen(Some(BOX)), chosen(Some(POLYGON)));
    assert!(a.get(name).is_some() && a.get(name) != b.get(name));
}

#[test]
fn an_ensemble_looks_at_the_region_of_its_members() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    data_in_frames(dir);
    let (frames, one) = (dir.join("frames"), trained_within(dir, BOX));
    let (two, out) = (dir.join("two.safetensors"), dir.join("whole.safetensors"));
    train_small(&frames, &two, &["--epochs", "1", "--roi", BOX, "--seed", "0", "--set", "lambda=1"]);
    let train = |members: [&Path; 2], more: &[&str]| {
        let [a, b] = members.map(text);
        let args = ["train", "score-ensemble", "--data", text(&frames), "--out", text(&out), "-q", "--force"];
        [&args[..], &["--member", a, "--member", b], more].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let run = |args: Vec<String>| ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    run(train([&one, &two], &[]));
    assert_eq!(roi_of(&out), Some(BOX.parse().expect("a region")));
    ok(&["eval", "--model", text(&out), "--data", text(&frames), "-q"]);
    run(train([&one, &two], &["--roi", BOX]));
    let refused = |args: Vec<String>| {
        refused(
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
            &["safetensors: this member looks at another region of interest"],
        );
    };
    refused(train([&one, &two], &["--roi", POLYGON]));
    ok(&["roi", text(&two), "--clear", "-q"]);
    refused(train([&one, &two], &[]));
}
