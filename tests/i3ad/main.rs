//! I3AD end to end, through the command line.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/devices.rs"]
mod devices;
mod generator;
mod masks;
mod tiles;

use std::path::Path;

use common::pictures::{read_png, write_bmp};
use common::{bars, binary, ok, refused, small_data, text};
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_models::model::Model;

/// Settings that train in seconds; 66 is no multiple of 4, so that images are padded.
const SMALL: [&str; 16] = [
    "--set",
    "preset=small",
    "--set",
    "image_size=66",
    "--set",
    "width=8",
    "--set",
    "discriminator_width=4",
    "--set",
    "lr=4e-3",
    "--set",
    "test_iterations=6",
    "--set",
    "residual=l2",
    "--batch",
    "4",
];

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).expect("one JSON object")
}

fn train(data: &Path, model: &Path, more: &[&str]) {
    let mut args = vec!["train", "i3ad", "--data", text(data), "--out", text(model), "-q"];
    args.extend(SMALL);
    args.extend(more);
    ok(&args);
}

#[test]
fn i3ad_finds_cracks_and_shows_its_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model, out) = (dir.path().join("data"), dir.path().join("m.safetensors"), dir.path().join("out"));
    small_data(&data, 90);
    train(&data, &model, &["--set", "iterations=240", "--set", "u=0.3"]);
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--out", text(&out), "--json", "-q"];
    let metrics = json(&ok(&[&eval[..], &["--explain"]].concat()));
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.9), "{metrics}");
    assert!(metrics["pixel_auroc"].as_f64().is_some_and(|v| v > 0.7), "{metrics}");
    let html = std::fs::read_to_string(out.join("report.html")).expect("a report");
    // Three clearest defects and one good image; the reconstruction under the checkerboards is of all of them.
    for row in ["reconstruction", "difference", "1 - SSIM", "next mask"] {
        assert_eq!(html.matches(&format!("alt=\"{row}, iteration 0\"")).count(), 4, "{row}");
    }
    for chart in ["Image AUROC by iteration", "Image AUROC by threshold u", "L2 from 2 to 12 patches"] {
        assert!(html.contains(chart), "{chart}");
    }
    refused(&[&eval[..], &["--explain", "crack/none"]].concat(), &["crack/none", "KIND/NAME"]);
    // Two images of one name are told apart by the endings of their files.
    write_bmp(&read_png(&data.join("test/good/024.png")).to_luma8(), &data.join("test/good/024.bmp"));
    refused(&[&eval[..], &["--explain", "good/024"]].concat(), &["good/024.bmp", "good/024.png"]);
    for file in ["good/024.bmp", "good/024.png"] {
        ok(&[&eval[..], &["--explain", file]].concat());
        let html = std::fs::read_to_string(out.join("report.html")).expect("a report");
        assert!(html.contains(&format!("<h3>{file}: score")), "{file}");
    }
    let map = dir.path().join("maps");
    ok(&["score", "--model", text(&model), text(&data.join("test/crack/000.png")), "--out", text(&map), "-q"]);
    let map = hotad_engine::data::picture::Picture::read(&map.join("000_map.png")).expect("a picture");
    assert_eq!((map.height, map.width), (90, 90), "maps have the size of the image");
    let log = std::fs::read_to_string(dir.path().join("m.safetensors.log.jsonl")).expect("a log");
    for loss in ["discriminator_loss", "adversarial_loss", "l1_loss"] {
        assert!(log.lines().all(|l| json(l)[loss].is_f64()), "{loss}: {log}");
    }
}

#[test]
fn what_it_paints_serves_as_the_background_of_paedid() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 66);
    let mut args = vec!["train", "paedid-i3ad", "--data", text(&data), "--out", text(&model), "-q"];
    args.extend(&SMALL[..SMALL.len() - 4]);
    args.extend(["--batch", "4", "--set", "iterations=160", "--set", "u=0.3", "--set", "steps=40"]);
    ok(&args);
    let metrics = json(&ok(&["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"]));
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.9), "{metrics}");
    assert!(metrics["pixel_auroc"].as_f64().is_some_and(|v| v > 0.7), "{metrics}");
    let again = dir.path().join("again.safetensors");
    Model::load(&model, &Device::CPU).expect("a model").save(&again).expect("saved");
    assert_eq!(std::fs::read(&model).expect("bytes"), std::fs::read(&again).expect("bytes"));
    // A file of an earlier version knows of no despeckling, and can be scored with it.
    let mut earlier = ModelFile::load(&model).expect("a model");
    earlier.config["decomposition"].as_object_mut().expect("settings").remove("despeckle").expect("a setting");
    earlier.save(&again).expect("saved");
    let map = |model: &Path, settings: &str| {
        let model = Model::load_with(model, None, &settings.parse().expect("TOML"), &Device::CPU).expect("a model");
        let values = bars(66, 3).with_channels(3).values;
        model.score(&Tensor::new(values, &[1, 66, 66, 3]).expect("fits")).expect("scored").swap_remove(0).map
    };
    assert_eq!(map(&again, ""), map(&model, "despeckle = false"));
    assert_eq!(map(&again, "despeckle = true"), map(&model, ""));
    assert!(map(&again, "") != map(&model, ""));
}

#[test]
fn a_saved_i3ad_scores_as_before_saving_on_every_device() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 66);
    let set = ["iterations=5", "u=0.2", "test_iterations=2", "standardise=pixel", "score=top", "shifts=2"];
    train(&data, &model, &set.map(|s| ["--set", s]).concat());
    let both: Vec<f32> = [3, 60].into_iter().flat_map(|i| bars(66, i).with_channels(3).values).collect();
    let images = Tensor::new(both, &[2, 66, 66, 3]).expect("lengths fit");
    let on_cpu = Model::load(&model, &Device::CPU).expect("a model").score(&images).expect("scored");
    for device in devices::under_test() {
        let first = Model::load(&model, &device).expect("a model");
        let again = dir.path().join("again.safetensors");
        first.save(&again).expect("saved");
        assert_eq!(std::fs::read(&model).expect("bytes"), std::fs::read(&again).expect("bytes"));
        let scores = first.score(&images).expect("scored");
        // Images leave a batch when they are done, and that changes nothing.
        let one = Tensor::new(images.values().expect("host")[66 * 66 * 3..].to_vec(), &[1, 66, 66, 3]).expect("fits");
        let second = Model::load(&again, &device).expect("a model");
        assert_eq!(second.score(&one).expect("scored")[0], scores[1], "alone on {}", device.name());
        for (got, want) in scores.iter().zip(&on_cpu) {
            let close = (got.value - want.value).abs() <= 1e-2 * want.value.abs() + 1e-6;
            assert!(close, "{}: {} for {}", device.name(), got.value, want.value);
        }
    }
}

/// Interrupts training by a signal once it has begun, then resumes.
#[cfg(unix)]
#[test]
fn an_interrupted_i3ad_resumes_bit_identically_with_any_number_of_threads() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 66);
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let iterations = ["--set", "iterations=60", "--set", "u=0.4"];
    train(&data, &whole, &[&iterations[..], &["--threads", "1"]].concat());
    let mut args = vec!["train", "i3ad", "--data", text(&data), "--out", text(&parts), "-q"];
    args.extend(SMALL);
    args.extend(iterations);
    let child = binary().args(&args).stderr(std::process::Stdio::null()).spawn().expect("the binary runs");
    let log = dir.path().join("parts.log.jsonl");
    while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(kill.success());
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(130));
    args.push("--resume");
    // Phases follow from the length: a run of another length is another run.
    refused(&[&args[..], &["--set", "iterations=66"]].concat(), &["another run", "iterations was 60, is 66"]);
    ok(&args);
    assert!(std::fs::read(&whole).expect("bytes") == std::fs::read(&parts).expect("bytes"));
}

/// What an earlier version chose u for is not what a score is now.
#[test]
fn a_model_of_an_earlier_version_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 66);
    train(&data, &model, &["--set", "iterations=1", "--set", "u=0.2", "--set", "test_iterations=0"]);
    let mut file = hotad_engine::model_file::ModelFile::load(&model).expect("a model");
    let settings = file.config["settings"].as_object_mut().expect("settings");
    ["keep", "masks", "standardise"].iter().for_each(|key| drop(settings.remove(*key)));
    file.save(&model).expect("saved");
    let error = Model::load(&model, &Device::CPU).err().expect("refused").to_string();
    assert!(error.contains("m.safetensors") && error.contains("train it again") && !error.contains('\n'), "{error}");
}

#[test]
fn what_i3ad_cannot_use_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 66);
    let out = text(&dir.path().join("m")).to_string();
    let refuse = |more: &[&str], words: &[&str]| {
        refused(&[&["train", "i3ad", "--data", text(&data), "--out", &out], more].concat(), words);
    };
    refuse(&["--set", "image_size=40"], &["image_size", "40", "reach"]);
    refuse(&["--set", "preset=tiny"], &["preset", "tiny", "small"]);
    refuse(&["--set", "width=10"], &["width", "10", "multiple of 4"]);
    refuse(&["--set", "patches=13"], &["patches", "13", "2 to 12"]);
    refuse(&["--set", "u=often"], &["u", "often", "auto"]);
    refuse(&["--set", "shifts=0"], &["shifts", "0", "1 to 8"]);
    refuse(&["--set", "top_share=0"], &["top_share", "0", "above 0"]);
    refuse(&["--set", "average_decay=1"], &["average_decay", "1", "below 1"]);
    refuse(&["--set", "keep=best"], &["keep", "average"]);
    refuse(&["--epochs", "3"], &["--epochs", "i3ad", "hotad config"]);
    assert!(!dir.path().join("m").exists());
}
