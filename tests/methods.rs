//! Methods end to end, through the command line: train, save, load, score, resume, banks.

mod common;
#[path = "common/devices.rs"]
mod devices;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{QUICK, hotad, ok, small_data, text, train_small};
use hotad_engine::data::picture::Picture;
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_models::model::Model;

/// One of the tests looks at the memory in use on a device, which its neighbours in this process share: those that use devices
/// take turns.
fn alone() -> MutexGuard<'static, ()> {
    static DEVICES: Mutex<()> = Mutex::new(());
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).expect("one JSON object")
}

#[test]
fn every_method_trains_saves_reloads_and_finds_cracks() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 128);
    for (method, settings) in [
        ("paedid", vec!["--set", "image_size=64", "--set", "network=[8, 16]", "--set", "steps=60"]),
        ("pae", vec!["--set", "image_size=64", "--set", "network=[8, 16]"]),
        ("ssim-ae", vec!["--set", "latent=20"]),
        ("l2-ae", vec!["--set", "latent=20", "--set", "lr=1e-3"]),
        ("iterative-projection", vec!["--set", "latent=20", "--set", "lr=1e-3", "--set", "steps=10"]),
        ("ae-gan", vec!["--set", "latent=20", "--set", "lr=1e-3", "--set", "discriminator_width=4"]),
        ("mem-ae", vec!["--set", "latent=16", "--set", "slots=50", "--set", "lr=1e-3"]),
    ] {
        let model = dir.path().join(format!("{method}.safetensors"));
        let mut args =
            vec!["train", method, "--data", text(&data), "--out", text(&model), "-q", "--epochs", "40", "--batch", "4"];
        args.extend(settings);
        ok(&args);
        let metrics = json(&ok(&["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"]));
        assert_eq!(metrics["method"], method);
        let auroc = metrics["image_auroc"].as_f64().expect("both classes are there");
        assert!(auroc > 0.9, "{method}: {metrics}");
        assert!(metrics["pixel_auroc"].as_f64().is_some_and(|v| v > 0.7), "{method}: {metrics}");
    }
}

/// Brings every picture in a folder to other sides.
fn reshape(dir: &Path, height: usize, width: usize) {
    for entry in std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            reshape(&entry, height, width);
        } else {
            let picture = Picture::read(&entry).expect("a picture").resized(height, width).expect("has pixels");
            picture.write_png(&entry).expect("written");
        }
    }
}

#[test]
fn images_of_two_different_sides_are_learned_and_scored_as_they_are() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 128);
    reshape(&data, 64, 128);
    for (method, settings) in [
        ("paedid", ["image_size=[64, 128]", "network=[8, 16]", "steps=60", "epochs=40"]),
        ("padim", ["image_size=[64, 128]", "backbone=", "backbone_epochs=2", "blur=1"]),
        ("patchcore", ["image_size=[64, 128]", "backbone=hotad-lite0", "coreset=400", "augment=[]"]),
    ] {
        let mut args = vec!["train", method, "--data", text(&data), "--out", text(&model), "-q", "--force"];
        settings.iter().for_each(|s| args.extend(["--set", s]));
        ok(&args);
        let image = Model::load(&model, &Device::CPU).expect("a model").detector.image();
        assert_eq!((image.height, image.width), (64, 128), "{method}");
        let metrics = json(&ok(&["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"]));
        // That cracks are found where they are is what would go wrong with the sides.
        assert!(metrics["pixel_auroc"].as_f64().is_some_and(|v| v > 0.7), "{method}: {metrics}");
    }
    let shown = ok(&["info", text(&model)]);
    assert!(shown.contains("64x128"), "{shown}");
    let out = text(&dir.path().join("none")).to_string();
    let refused = |method: &str, settings: &[&str], words: [&str; 2]| {
        let train = ["train", method, "--data", text(&data), "--out", &out];
        common::refused(
            &[&train[..], &settings.iter().flat_map(|s| ["--set", s]).collect::<Vec<_>>()].concat(),
            &words,
        );
    };
    refused("paedid", &["image_size=[48, 90]"], ["image_size", "[48, 90]"]);
    refused("paedid", &["image_size=[48]"], ["image_size", "[48]"]);
    refused("paedid", &["image_size=[48, 96]", "align=2"], ["align = 2", "[48, 96]"]);
    refused("patchcore", &["image_size=[16, 64]"], ["image_size", "[16, 64]"]);
    refused("padim", &["image_size=[64, 64.5]"], ["image_size", "64.5"]);
    refused("i3ad", &["image_size=[64, 96]"], ["image_size", "[64, 96]"]);
}

#[test]
fn rasl_aligns_and_finds_cracks() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 64);
    let settings = ["--set", "image_size=64", "--set", "images=16", "--set", "rounds=4"];
    ok(&[&["train", "rasl", "--data", text(&data), "--out", text(&model), "-q"], &settings[..]].concat());
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"];
    let metrics = json(&ok(&eval));
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.9), "{metrics}");
    assert!(metrics["pixel_auroc"].as_f64().is_some_and(|v| v > 0.7), "{metrics}");
    let means = json(&ok(&[&eval[..], &["--set", "score=mean"]].concat()));
    assert_eq!(means["pixel_auroc"], metrics["pixel_auroc"]);
    assert!(means["notes"].to_string().contains("score = \\\"mean\\\""), "{means}");
}

/// Every baseline with settings that train in a moment.
const MOMENT: [(&str, &[&str]); 7] = [
    ("l2-ae", &["latent=8"]),
    ("iterative-projection", &["latent=8", "steps=3"]),
    ("ae-gan", &["latent=8", "discriminator_width=4"]),
    ("anogan", &["latent=8", "discriminator_width=4", "test_steps=3"]),
    ("f-anogan", &["latent=8", "discriminator_width=4", "encoder_epochs=1"]),
    ("mem-ae", &["latent=8", "slots=30"]),
    ("rasl", &["image_size=40", "images=8", "rounds=2"]),
];

#[test]
fn every_baseline_saved_is_the_same_file_and_scores_as_the_cpu_does() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    for (method, settings) in MOMENT {
        let mut args = vec!["train", method, "--data", text(&data), "--out", text(&model), "-q", "--force"];
        settings.iter().for_each(|s| args.extend(["--set", s]));
        if method != "rasl" {
            args.extend(["--epochs", "1", "--batch", "4"]);
        }
        ok(&args);
        let spec = Model::load(&model, &Device::CPU).expect("a model").detector.image();
        let picture = Picture::read(&data.join("test/crack/000.png")).expect("a picture").fit(spec).expect("fits");
        let images = Tensor::new(picture.values, &[1, spec.height, spec.width, spec.channels]).expect("lengths fit");
        let on_cpu = Model::load(&model, &Device::CPU).expect("a model").score(&images).expect("scored");
        for device in devices::under_test() {
            let again = dir.path().join("again.safetensors");
            Model::load(&model, &device).expect("a model").save(&again).expect("saved");
            assert_eq!(std::fs::read(&model).expect("bytes"), std::fs::read(&again).expect("bytes"), "{method}");
            let scores = Model::load(&again, &device).expect("a model").score(&images).expect("scored");
            if device.gpu().is_none() {
                assert_eq!(scores, on_cpu, "{method}");
            }
            let (got, want) = (scores[0].value, on_cpu[0].value);
            assert!((got - want).abs() <= 1e-3 * want.abs() + 1e-6, "{method} on {}: {got}, {want}", device.name());
        }
    }
}

#[test]
fn settings_of_the_baselines_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 40);
    let out = text(&dir.path().join("m")).to_string();
    for (method, setting, words) in [
        ("l2-ae", "image_size=100", ["image_size", "100"]),
        ("l2-ae", "residual=l3", ["residual", "l3"]),
        ("iterative-projection", "steps=0", ["steps", "0"]),
        ("iterative-projection", "latent=0", ["latent", "0"]),
        ("iterative-projection", "loss=l3", ["loss", "l3"]),
        ("anogan", "test_lr=2", ["test_lr", "2"]),
        ("f-anogan", "discriminator_width=1", ["discriminator_width", "1"]),
        ("ae-gan", "adversarial=-1", ["adversarial", "-1"]),
        ("ae-gan", "magic=1", ["magic", "adversarial"]),
        ("mem-ae", "slots=1", ["slots", "1"]),
        ("rasl", "inset=40", ["inset", "40"]),
    ] {
        common::refused(&["train", method, "--data", text(&data), "--out", &out, "--set", setting], &words);
    }
}

/// A trained small model and a cracked image at its size.
fn model_and_image(dir: &Path) -> (PathBuf, Tensor) {
    let (data, model) = (dir.join("data"), dir.join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "2"]);
    let spec = Model::load(&model, &Device::CPU).expect("a model").detector.image();
    let picture = Picture::read(&data.join("test/crack/000.png")).expect("a picture").fit(spec).expect("fits");
    let images = Tensor::new(picture.values, &[1, spec.height, spec.width, spec.channels]).expect("lengths fit");
    (model, images)
}

#[test]
fn a_saved_model_scores_as_before_saving() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (model, images) = model_and_image(dir.path());
    for device in devices::under_test() {
        let first = Model::load(&model, &device).expect("a model");
        let again = dir.path().join("again.safetensors");
        first.save(&again).expect("saved");
        assert_eq!(std::fs::read(&model).expect("bytes"), std::fs::read(&again).expect("bytes"));
        let second = Model::load(&again, &device).expect("a model");
        let (a, b) = (first.detector.score(&images).expect("scored"), second.detector.score(&images).expect("scored"));
        assert_eq!(a, b, "on {}", device.name());
    }
}

#[test]
fn scoring_allocates_nothing_after_warm_up() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (model, images) = model_and_image(dir.path());
    for device in devices::under_test() {
        let Some(gpu) = device.gpu() else { continue };
        let model = Model::load(&model, &device).expect("a model");
        let memory = || {
            model.detector.score(&images).expect("scored");
            gpu.synchronize().expect("the device has done its work");
            gpu.memory().expect("the device tells")
        };
        for _ in 0..3 {
            memory();
        }
        let warm = memory();
        assert!(warm.0 > 0 && warm.1 >= warm.0, "{warm:?}");
        for _ in 0..10 {
            assert_eq!(memory(), warm, "bytes in use and reserved on {}", device.name());
        }
    }
}

/// Scores by path, and the lines of the training log. Scores are distances themselves: standardised, their rounding is divided by
/// a deviation, which images that are nearly alike have little of. Few steps: software Vulkan takes half a minute for thirty.
fn scores_and_losses(data: &Path, model: &Path, device: &str) -> (Vec<f64>, Vec<f64>) {
    train_small(data, model, &["--epochs", "3", "--device", device, "--set", "score=patch", "--set", "steps=4"]);
    let test = data.join("test");
    let scores = ok(&["score", "--model", text(model), text(&test), "--device", device, "-q"])
        .lines()
        .map(|l| json(l)["score"].as_f64().expect("a number"))
        .collect();
    let mut log = model.as_os_str().to_os_string();
    log.push(".log.jsonl");
    let log = std::fs::read_to_string(log).expect("a log");
    (scores, log.lines().map(|l| json(l)["loss"].as_f64().expect("a number")).collect())
}

#[test]
fn every_device_trains_and_scores_as_the_cpu_does() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 40);
    let (want, losses) = scores_and_losses(&data, &dir.path().join("cpu.safetensors"), "cpu");
    assert_eq!((want.len(), losses.len()), (8, 3));
    // The command line knows no emulator.
    for device in devices::under_test().iter().filter(|d| d.gpu().is_some() && d.name() != "emu") {
        let model = dir.path().join("gpu.safetensors");
        let (got, own) = scores_and_losses(&data, &model, device.name());
        let close = |a: &[f64], b: &[f64], tolerance: f64| {
            assert_eq!(a.len(), b.len());
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() <= tolerance * (b.abs() + 1e-3), "{}: {a}, {b} on the CPU", device.name());
            }
        };
        close(&own, &losses, 1e-3);
        close(&got, &want, 2e-2);
        // The same file on both.
        let on_cpu = ok(&["score", "--model", text(&model), text(&data.join("test")), "--device", "cpu", "-q"]);
        let on_cpu: Vec<f64> = on_cpu.lines().map(|l| json(l)["score"].as_f64().expect("a number")).collect();
        close(&got, &on_cpu, 1e-4);
    }
}

#[test]
fn one_seed_gives_one_file_with_any_number_of_threads() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 40);
    let train = |name: &str, more: &[&str]| {
        let model = dir.path().join(name);
        train_small(&data, &model, &[&["--epochs", "3"], more].concat());
        std::fs::read(model).expect("bytes")
    };
    let one = train("one", &["--threads", "1"]);
    assert!(one == train("two", &["--threads", "2"]), "2 threads give another file than 1");
    assert!(one == train("again", &["--threads", "2"]), "a second run gives another file");
    assert!(one != train("other", &["--seed", "1"]), "another seed gives the same file");
}

/// Interrupts training by a signal once it has begun, then resumes.
#[cfg(unix)]
#[test]
fn an_interrupted_run_resumes_bit_identically() {
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 40);
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let epochs = ["--epochs", "60", "--set", "patience=0"];
    train_small(&data, &whole, &epochs);
    let mut args = vec!["train", "paedid", "--data", text(&data), "--out", text(&parts), "-q"];
    args.extend(QUICK);
    args.extend(epochs);
    let child = common::binary().args(&args).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let log = dir.path().join("parts.log.jsonl");
    while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(kill.success());
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("--resume"), "{stderr}");
    assert!(!parts.exists(), "no model is left behind by an interrupted run");
    args.push("--resume");
    ok(&args);
    assert!(std::fs::read(&whole).expect("bytes") == std::fs::read(&parts).expect("bytes"));
    assert!(!dir.path().join("parts.checkpoint").exists(), "the checkpoint is removed at the end");
    let epochs: Vec<u64> = std::fs::read_to_string(&log)
        .expect("a log")
        .lines()
        .map(|l| json(l)["epoch"].as_u64().expect("an epoch"))
        .collect();
    assert_eq!(epochs, (1..=60).collect::<Vec<u64>>(), "every epoch is logged once");
}

#[test]
fn a_bank_is_extended_and_pruned() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "2"]);
    let before = std::fs::read(&model).expect("bytes");
    let listed = |model| ok(&["bank", "list", text(model)]).lines().count();
    let had = listed(&model);
    ok(&["bank", "add", text(&model), text(&data.join("test/good")), "-q"]);
    assert_eq!(listed(&model), had + 4);
    ok(&["bank", "remove", text(&model), "024.png", "025.png", "026.png", "027.png", "-q"]);
    assert_eq!(listed(&model), had);
    assert!(before == std::fs::read(&model).expect("bytes"), "adding and removing gives the file back");
    let output = hotad(&["bank", "remove", text(&model), "none.png"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_shipped_model_is_the_documented_one_and_works() {
    use sha2::{Digest, Sha256};
    let bytes = std::fs::read("weights/plate.safetensors").expect("the shipped model");
    assert!(bytes.len() < 1_000_000);
    let hash = hotad_engine::data::prepare::hex(&Sha256::digest(&bytes));
    let readme = std::fs::read_to_string("weights/README.md").expect("its provenance");
    assert!(readme.contains(&hash), "weights/README.md names another SHA-256 than {hash}");
    for line in ok(&["score", "--model", "weights/plate.safetensors", "weights/samples"]).lines() {
        let result = json(line);
        let good = result["path"].as_str().is_some_and(|p| p.contains("good_"));
        assert_eq!(result["label"], if good { "normal" } else { "anomaly" }, "{line}");
    }
}
