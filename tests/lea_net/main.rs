//! Colour U-Net and LEA-Net end to end, through the command line.

mod batches;
#[path = "../common/mod.rs"]
mod common;
mod cross_validation;
#[path = "../common/devices.rs"]
mod devices;
mod guide;
mod maps;
mod weights;

use std::path::{Path, PathBuf};

use common::{binary, hotad, ok, real_data, refused, small_data, text};
use hotad_engine::data::picture::Picture;
use hotad_engine::device::Device;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_models::model::Model;
use rand::Rng;

const SIZE: usize = 64;

/// A picture of soft bands, each lightness with its own colour; a stained one has a spot whose red and
/// green are exchanged.
fn bands(index: u64, stained: bool) -> Picture {
    let mut rng = random::stream(2, "bands", index);
    let shift = rng.random_range(0.0..6.0f32);
    let centre: [f32; 2] = [rng.random_range(16.0..48.0), rng.random_range(16.0..48.0)];
    let mut values = Vec::with_capacity(3 * SIZE * SIZE);
    for i in 0..SIZE * SIZE {
        let (y, x) = ((i / SIZE) as f32, (i % SIZE) as f32);
        let light = 0.5 + 0.25 * (0.25 * x + shift).sin() + rng.random_range(-0.01..0.01);
        let (red, green) = (0.2 + 0.9 * light, 0.1 + 0.5 * light);
        let spot = stained && (y - centre[0]).hypot(x - centre[1]) < 9.0;
        values.extend(if spot { [green, red, 0.3] } else { [red, green, 0.3] }.map(|v: f32| v.clamp(0.0, 1.0)));
    }
    Picture { height: SIZE, width: SIZE, channels: 3, values }
}

/// 24 normal, 6 good and 10 stained test images.
fn coloured_data(root: &Path) {
    for (folder, from, n, stained) in
        [("train/good", 0, 24, false), ("test/good", 100, 6, false), ("test/stain", 200, 10, true)]
    {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
        for i in 0..n {
            bands(from + i, stained).write_png(&root.join(folder).join(format!("{i:03}.png"))).expect("a picture");
        }
    }
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).expect("one JSON object")
}

/// Settings that train in seconds.
const SMALL: [&str; 12] = [
    "--set",
    "image_size=32",
    "--set",
    "width=8",
    "--set",
    "color_width=8",
    "--set",
    "color_epochs=20",
    "--set",
    "color_lr=4e-3",
    "--set",
    "lr=2e-3",
];

fn train(data: &Path, model: &Path, more: &[&str]) {
    let mut args =
        vec!["train", "lea-net", "--data", text(data), "--out", text(model), "-q", "--force", "--batch", "8"];
    args.extend(SMALL);
    args.extend(more);
    ok(&args);
}

#[test]
fn recolouring_finds_stains_and_shows_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model, out) = (dir.path().join("data"), dir.path().join("m.safetensors"), dir.path().join("out"));
    coloured_data(&data);
    let small = ["--set", "image_size=32", "--set", "width=8", "--set", "lr=4e-3", "--epochs", "30", "--batch", "8"];
    ok(&[&["train", "color-unet", "--data", text(&data), "--out", text(&model), "-q"], &small[..]].concat());
    let metrics = json(&ok(&["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"]));
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.95), "{metrics}");
    ok(&["score", "--model", text(&model), text(&data.join("test/stain/000.png")), "--out", text(&out)]);
    let recoloured = Picture::read(&out.join("000_recoloured.png")).expect("a picture");
    assert_eq!((recoloured.height, recoloured.width, recoloured.channels), (SIZE, SIZE, 3));
    assert!(out.join("000_map.png").is_file() && out.join("000_overlay.png").is_file());
}

#[test]
fn lea_net_trains_scores_what_it_has_not_seen_and_explains() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model, out) = (dir.path().join("data"), dir.path().join("m.safetensors"), dir.path().join("out"));
    coloured_data(&data);
    train(&data, &model, &["--epochs", "12", "--set", "class_aware=true"]);
    // All of these images look alike.
    let eval = [
        "eval",
        "--model",
        text(&model),
        "--data",
        text(&data),
        "--out",
        text(&out),
        "--json",
        "-q",
        "--group",
        "none",
    ];
    let metrics = json(&ok(&[&eval[..], &["--explain"]].concat()));
    assert_eq!((&metrics["good"], &metrics["defective"]), (&6.into(), &5.into()), "{metrics}");
    assert!(metrics["notes"].to_string().contains("5 test images were learned from"), "{metrics}");
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.9), "{metrics}");
    let html = std::fs::read_to_string(out.join("report.html")).expect("a report");
    // Three clearest defects and one good image, five points each.
    for row in ["features before attention", "attention map", "features after attention"] {
        assert_eq!(html.matches(&format!("alt=\"{row}, point")).count(), 20, "{row}");
    }
    assert!(html.contains("point 3 (used)"));
    refused(&[&eval[..], &["--explain", "stain/none"]].concat(), &["stain/none", "KIND/NAME"]);
    let info = json(&ok(&["info", text(&model), "--json"]));
    assert_eq!(info["provenance"]["learned_images"].as_array().map(Vec::len), Some(24));
    assert_eq!(info["provenance"]["training_images"], 24);
}

#[test]
fn a_saved_lea_net_scores_as_before_saving_on_every_device() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    coloured_data(&data);
    let spec = (32, 3);
    let values = bands(300, true).resized(spec.0, spec.0).expect("a size").values;
    let images = Tensor::new(values, &[1, 32, 32, 3]).expect("lengths fit");
    for attention in ["mobilenet", "resnet", "direct"] {
        train(&data, &model, &["--epochs", "1", "--set", &format!("attention={attention}")]);
        let on_cpu = Model::load(&model, &Device::CPU).expect("a model").score(&images).expect("scored");
        for device in devices::under_test() {
            let first = Model::load(&model, &device).expect("a model");
            let again = dir.path().join("again.safetensors");
            first.save(&again).expect("saved");
            assert_eq!(std::fs::read(&model).expect("bytes"), std::fs::read(&again).expect("bytes"));
            let scores = first.score(&images).expect("scored");
            let second = Model::load(&again, &device).expect("a model").score(&images).expect("scored");
            assert_eq!(scores, second, "{attention} on {}", device.name());
            assert!((scores[0].value - on_cpu[0].value).abs() < 1e-4, "{attention} on {}", device.name());
        }
    }
}

#[test]
fn one_seed_gives_one_lea_net_with_any_number_of_threads() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    coloured_data(&data);
    let file = |name: &str, more: &[&str]| {
        let model = dir.path().join(name);
        train(&data, &model, &[&["--epochs", "2", "--set", "color_dropout=0.3"], more].concat());
        std::fs::read(model).expect("bytes")
    };
    let one = file("one", &["--threads", "1"]);
    assert!(one == file("two", &["--threads", "2"]), "2 threads give another file than 1");
    assert!(one != file("other", &["--seed", "1"]), "another seed gives the same file");
}

/// Interrupts a run by a signal as soon as something has happened.
#[cfg(unix)]
fn interrupt(args: &[&str], happened: impl Fn() -> bool) {
    let child = binary().args(args).stderr(std::process::Stdio::null()).spawn().expect("the binary runs");
    let started = std::time::Instant::now();
    while !happened() {
        assert!(started.elapsed() < std::time::Duration::from_secs(120), "no progress of {args:?}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(kill.success());
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(130));
}

/// Lines of a log, 0 where there is none yet.
fn lines(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap_or_default().lines().count()
}

#[cfg(unix)]
#[test]
fn all_stages_resume_bit_identically() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    coloured_data(&data);
    let epochs = ["--epochs", "40", "--set", "color_epochs=40", "--set", "color_patience=0"];
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    train(&data, &path("whole"), &epochs);
    let whole = std::fs::read(path("whole")).expect("bytes");
    for (name, log) in
        [("color", "color.color.log.jsonl"), ("part", "part.color-2.log.jsonl"), ("both", "both.log.jsonl")]
    {
        let (model, log) = (path(name), path(log));
        let mut args = vec!["train", "lea-net", "--data", text(&data), "--out", text(&model), "-q", "--batch", "8"];
        args.extend(SMALL);
        args.extend(epochs);
        interrupt(&args, || lines(&log) >= 2);
        args.push("--resume");
        ok(&args);
        assert!(whole == std::fs::read(&model).expect("bytes"), "interrupted in {}", log.display());
        for ending in ["checkpoint", "color.checkpoint", "color-1.checkpoint", "color-2.checkpoint"] {
            assert!(!path(&format!("{name}.{ending}")).exists(), "{ending} is removed at the end");
        }
    }
}

#[test]
fn what_lea_net_cannot_use_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, gray, plain) = (dir.path().join("data"), dir.path().join("gray"), dir.path().join("plain"));
    coloured_data(&data);
    small_data(&gray, 40);
    std::fs::create_dir(&plain).expect("a folder");
    for i in 0..4 {
        bands(i, false).write_png(&plain.join(format!("{i}.png"))).expect("a picture");
    }
    let out = text(&dir.path().join("m")).to_string();
    let refuse = |method: &str, data: &Path, more: &[&str], words: &[&str]| {
        refused(&[&["train", method, "--data", text(data), "--out", &out], more].concat(), words);
    };
    refuse("color-unet", &gray, &[], &["gray", "no colour", "paedid"]);
    refuse("lea-net", &gray, &[], &["gray", "no colour", "guide"]);
    refuse("lea-net", &plain, &[], &["defective images", "test/DEFECT"]);
    refuse("lea-net", &data, &["--cv", "11"], &["--cv", "10 defective", "11 folds"]);
    refuse("paedid", &data, &["--cv", "3"], &["--cv", "paedid", "lea-net"]);
    refuse("lea-net", &data, &["--set", "point=6"], &["point", "6", "1 to 5"]);
    refuse("lea-net", &data, &["--set", "image_size=100"], &["image_size", "100"]);
    refuse("lea-net", &data, &["--set", "input=map"], &["input", "rgb"]);
    refuse("lea-net", &data, &["--set", "detector=alexnet"], &["detector", "alexnet"]);
    refuse("lea-net", &data, &["--set", "rows=[\"magic\"]"], &["rows", "magic", "mobilenet"]);
    refuse("lea-net", &data, &["--defective-share", "1.5"], &["--defective-share", "1.5"]);
    refuse("lea-net", &data, &["--resume"], &["no checkpoint"]);
    refuse("lea-net", &data, &["--set", "map_parts=6"], &["map_parts", "1 to 5"]);
    // Weights that are no safetensors file, and those of another network.
    let weights = |path: &Path, words: &[&str]| {
        let setting = format!("weights={}", text(path));
        let quick = ["--set", "image_size=32", "--set", "color_epochs=1", "--set", "color_width=4", "--set", &setting];
        refuse("lea-net", &data, &quick, words);
    };
    weights(&data.join("train/good/000.png"), &["000.png", "safetensors"]);
    weights(
        Path::new("tests/vectors/resnet18.safetensors"),
        &["resnet18.safetensors", "conv1.weight", "another network"],
    );
    assert!(!dir.path().join("m.color.log.jsonl").exists(), "colours are learned before the weights are looked at");
    assert!(!dir.path().join("m").exists());
    // A model without attention has nothing to explain.
    let model = dir.path().join("alone.safetensors");
    train(&data, &model, &["--epochs", "1", "--set", "attention=none", "--set", "color_epochs=1"]);
    let report = dir.path().join("report");
    let explain = ["eval", "--model", text(&model), "--data", text(&data), "--out", text(&report), "--explain"];
    refused(&explain, &["--explain", "attention"]);
    assert_eq!(hotad(&["train", "lea-net", "--data", text(&data)]).status.code(), Some(2), "--out or --cv is needed");
}

#[test]
fn leather() {
    let Some(data) = real_data("mvtec_leather_crops") else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let model = dir.path().join("m.safetensors");
    let mut args = vec!["train", "lea-net", "--data", text(&data), "--out", text(&model), "-q", "--epochs", "15"];
    args.extend(["--set", "image_size=64", "--set", "width=16", "--set", "color_width=16", "--set", "color_epochs=15"]);
    args.extend(["--set", "lr=5e-4"]);
    ok(&args);
    let metrics = json(&ok(&["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"]));
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.75), "{metrics}");
    assert!(metrics["pixel_auroc"].is_f64(), "{metrics}");
}
