//! The real binary: every verb, and every documented error.

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{bars, binary, exits, hotad, ok, refused, small_data, text, train_small};
use hotad_engine::container::Stored;
use hotad_engine::model_file::ModelFile;

fn set_up(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (data, model) = (dir.join("data"), dir.join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "2"]);
    (data, model)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

#[test]
fn help_and_settings_are_printed() {
    for verb in [
        "demo",
        "train",
        "score",
        "eval",
        "synth",
        "backbone",
        "distill",
        "bank",
        "info",
        "devices",
        "methods",
        "config",
        "completions",
    ] {
        assert!(ok(&[verb, "--help"]).contains("Example: hotad"), "{verb} has no example");
    }
    let help = ok(&["train", "--help"]);
    for method in hotad_models::methods().iter().map(|m| m.name) {
        assert!(help.contains(method), "{method} is not in the help of train");
        let text = ok(&["config", method]);
        let table: toml::Table = text.parse().expect("settings are TOML");
        // An ensemble takes the size of its members.
        assert!(table.contains_key("image_size") || method.contains("ensemble"), "{method}");
        let comments = text.lines().filter(|l| l.starts_with("# ") && !l.starts_with("# allowed: "));
        assert_eq!(comments.count(), table.len() + 1, "every key has a comment");
    }
    assert!(ok(&["completions", "bash"]).contains("_hotad"));
}

#[test]
fn score_prints_lines_and_writes_maps() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = set_up(dir.path());
    let out = dir.path().join("out");
    let test = data.join("test");
    let lines = ok(&["score", "--model", text(&model), text(&test), "--out", text(&out), "--maps", "npy"]);
    let results: Vec<serde_json::Value> =
        lines.lines().map(|l| serde_json::from_str(l).expect("one object a line")).collect();
    assert_eq!(results.len(), 8);
    for r in &results {
        for key in ["path", "score", "threshold", "label", "map", "ms"] {
            assert!(!r[key].is_null(), "{key} is missing in {r}");
        }
        let anomaly = r["score"].as_f64() > r["threshold"].as_f64();
        assert_eq!(r["label"], if anomaly { "anomaly" } else { "normal" });
        assert_eq!(anomaly, r["calibrated"].as_f64().expect("a number") > 0.5);
    }
    let npy = std::fs::read(results[0]["map"].as_str().expect("a path")).expect("bytes");
    assert_eq!(&npy[..6], b"\x93NUMPY");
    assert_eq!(npy.len() % 64, (40 * 40 * 4) % 64);
    assert_eq!(files(&out).len(), 16);
}

#[test]
fn an_anomaly_fails_the_run_when_asked_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    // The threshold is the median of held-out normal scores, so some image exceeds it.
    train_small(&data, &model, &["--epochs", "2", "--false-alarm-rate", "0.5"]);
    let images = data.join("train/good");
    let args = ["score", "--model", text(&model), text(&images)];
    assert!(ok(&args).contains(r#""label":"anomaly""#));
    assert_eq!(hotad(&[&args[..], &["--fail-on-anomaly"]].concat()).status.code(), Some(1));
}

#[test]
fn eval_writes_a_self_contained_report() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = set_up(dir.path());
    let out = dir.path().join("report");
    let table = ok(&["eval", "--model", text(&model), "--data", text(&data), "--out", text(&out)]);
    assert!(table.contains("image AUROC"));
    let html = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(html.matches("<svg").count() >= 5 && html.contains("data:image/jpeg;base64,"));
    assert!(!html.contains("http://") && !html.contains("https://"), "the report loads nothing");
    let json = ok(&["info", text(&model), "--json"]);
    let info: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(info["method"], "paedid");
    assert_eq!(info["provenance"]["training_images"], 19);
}

#[test]
fn synth_draws_defects_with_masks_that_match() {
    let dir = tempfile::tempdir().expect("a folder");
    let from = dir.path().join("plain");
    std::fs::create_dir(&from).expect("a folder");
    for i in 0..3 {
        bars(48, i).write_png(&from.join(format!("{i}.png"))).expect("a picture");
    }
    for kind in ["crack", "scratch", "spot"] {
        let out = dir.path().join(kind);
        ok(&["synth", "--from", text(&from), "--out", text(&out), "--kind", kind, "--count", "5", "-q"]);
        for i in 0..5 {
            let open = |p: String| hotad_engine::data::picture::Picture::read(&out.join(p)).expect("a picture");
            let (good, bad) = (open(format!("test/good/{:04}.png", i % 3)), open(format!("test/{kind}/{i:04}.png")));
            let mask = open(format!("ground_truth/{kind}/{i:04}_mask.png"));
            let mut drawn = 0;
            for ((g, b), m) in good.values.iter().zip(&bad.values).zip(&mask.values) {
                if *m > 0.0 {
                    drawn += 1;
                    assert!((g - b).abs() >= 4.0 / 255.0, "a mask pixel that did not change visibly");
                } else {
                    assert!((g - b).abs() <= 6.0 / 255.0, "a changed pixel outside the mask");
                }
            }
            assert!(drawn > 0, "{kind} {i} has an empty mask");
        }
    }
}

#[test]
fn bad_images_and_folders_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = set_up(dir.path());
    let (m, d) = (text(&model), text(&data));
    let path = |name: &str| dir.path().join(name);
    let whole = std::fs::read(data.join("train/good/000.png")).expect("bytes");
    std::fs::write(path("cut.png"), &whole[..whole.len() / 2]).expect("written");
    std::fs::write(path("words.jpg"), "no image").expect("written");
    std::fs::create_dir(path("empty")).expect("a folder");
    refused(&["score", "--model", m, text(&path("cut.png"))], &["cut.png", "not a readable image"]);
    refused(&["score", "--model", m, text(&path("words.jpg"))], &["words.jpg"]);
    refused(&["score", "--model", m, text(&path("none.png"))], &["none.png"]);
    refused(&["eval", "--model", m, "--data", text(&path("empty"))], &["empty", "no images"]);
    refused(&["eval", "--model", m, "--data", text(&path("nowhere"))], &["nowhere", "not a folder"]);
    let out = text(&path("x")).to_string();
    refused(&["train", "paedid", "--data", text(&path("empty")), "--out", &out], &["empty"]);
    // A PNG by the name of a JPEG is read by its content.
    std::fs::write(path("really.jpg"), &whole).expect("written");
    ok(&["score", "--model", m, text(&path("really.jpg"))]);
    std::fs::write(data.join("train/good/zzz.png"), &whole[..40]).expect("written");
    refused(&["train", "paedid", "--data", d, "--out", &out], &["zzz.png"]);
    let skip = hotad(&[
        "train",
        "paedid",
        "--data",
        d,
        "--out",
        &out,
        "--on-broken",
        "skip",
        "--epochs",
        "1",
        "--set",
        "image_size=16",
        "--set",
        "network=[4]",
        "--set",
        "steps=2",
    ]);
    assert!(skip.status.success() && String::from_utf8_lossy(&skip.stderr).contains("skipped"));
    bars(17, 0).write_png(&data.join("ground_truth/crack/000_mask.png")).expect("a picture");
    refused(&["eval", "--model", m, "--data", d], &["000_mask.png", "17x17", "40x40"]);
    std::fs::rename(data.join("ground_truth/crack/000_mask.png"), data.join("ground_truth/crack/lost_mask.png"))
        .expect("renamed");
    refused(&["eval", "--model", m, "--data", d], &["lost_mask.png", "without an image"]);
}

#[test]
fn bad_model_files_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = set_up(dir.path());
    let bytes = std::fs::read(&model).expect("bytes");
    let image = data.join("test/good/024.png");
    let check = |name: &str, content: &[u8], words: &[&str]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        let mut all = vec![name];
        all.extend(words);
        refused(&["score", "--model", text(&path), text(&image)], &all);
    };
    check("cut.safetensors", &bytes[..bytes.len() - 100], &["cut"]);
    check("stub.safetensors", &bytes[..5], &["not a hotad file"]);
    check("words.safetensors", b"these are just some words, not tensors", &["not a hotad file"]);
    let mut altered = bytes.clone();
    let last = altered.len() - 3;
    altered[last] ^= 1;
    check("altered.safetensors", &altered, &["altered"]);
    let container = br#"\"container\":2"#;
    let at = bytes.windows(container.len()).position(|w| w == container).expect("it is in the header");
    let mut newer = bytes.clone();
    newer[at + container.len() - 1] = b'7';
    check("newer.safetensors", &newer, &["newer", "update hotad"]);
    let other = dir.path().join("method.safetensors");
    ModelFile { method: "piedad".into(), ..ModelFile::load(&model).expect("a model") }.save(&other).expect("saved");
    check("other.safetensors", &std::fs::read(&other).expect("bytes"), &["unknown method"]);
}

#[test]
fn bad_settings_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 24);
    let out = text(&dir.path().join("m")).to_string();
    let train = |more: &[&str], words: &[&str]| {
        let mut args = vec!["train", "paedid", "--data", text(&data), "--out", &out];
        args.extend(more);
        refused(&args, words);
    };
    train(&["--set", "alhpa=0.1"], &["alhpa", "alpha"]);
    train(&["--set", "alpha=1.5"], &["alpha", "1.5", "0 to 1"]);
    train(&["--set", "alpha"], &["key=value"]);
    train(&["--set", "network=resnet"], &["network", "resnet"]);
    train(&["--set", "image_size=100", "--set", "network=elpv"], &["image_size", "multiple of 16"]);
    train(&["--set", "epochs=many"], &["epochs", "expected a whole number"]);
    train(&["--set", "lr=fast"], &["lr = \"fast\"", "expected a number"]);
    train(&["--set", "network=3"], &["network = 3", "no value of this type is allowed"]);
    train(&["--holdout", "1.5"], &["--holdout", "1.5"]);
    train(&["--resume"], &["no checkpoint"]);
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "alpha = = 3").expect("written");
    train(&["--config", text(&config)], &["c.toml, line 1", "TOML"]);
    std::fs::write(&config, "alpha = 0.1\n\nnetwork = [8,\n 16\nsteps = 3\n").expect("written");
    train(&["--config", text(&config)], &["c.toml, line 5", "TOML"]);
    refused(&["train", "psychic", "--data", text(&data), "--out", &out], &["psychic", "paedid"]);
    assert!(!dir.path().join("m").exists());
}

#[test]
fn a_diverging_training_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 24);
    let out = dir.path().join("m");
    let args = [
        "train",
        "paedid",
        "--data",
        text(&data),
        "--out",
        text(&out),
        "--set",
        "image_size=64",
        "--set",
        "lr=0.99",
        "--set",
        "network=[32, 32, 32, 32, 32, 32]",
        "--epochs",
        "9",
    ];
    refused(&args, &["not finite", "learning rate"]);
    assert!(!out.exists());
}

#[test]
fn scores_that_are_no_numbers_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = set_up(dir.path());
    let mut file = ModelFile::load(&model).expect("a model");
    for tensor in file.tensors.values_mut() {
        if let Stored::F32(_, values) = tensor {
            values.fill(1e30);
        }
    }
    file.save(&model).expect("a model");
    let (stdout, stderr) = exits(2, &["score", "--model", text(&model), text(&data.join("test"))]);
    let errors = |text: &str| text.lines().filter(|l| l.contains("not finite") && l.contains(".png")).count();
    assert_eq!((errors(&stdout), errors(&stderr), stdout.lines().count()), (8, 8, 8), "{stdout}{stderr}");
    refused(&["eval", "--model", text(&model), "--data", text(&data)], &["not finite", ".png"]);
}

#[test]
fn a_read_only_folder_is_refused_before_training() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 24);
    // /proc cannot be written to, not even by root.
    refused(&["train", "paedid", "--data", text(&data), "--out", "/proc/m.safetensors"], &["/proc"]);
    refused(&["synth", "--from", text(&data), "--out", "/proc/x"], &["/proc"]);
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        common::skipped("no /dev/full on this system");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let result = hotad_engine::atomic_file::write(&dir.path().join("x"), |_| {
        std::fs::write(full, "data")?;
        Ok(())
    });
    let error = result.expect_err("the disk is full").to_string();
    assert!(error.contains("No space"), "{error}");
    assert!(files(dir.path()).is_empty(), "nothing half-written is left");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = set_up(dir.path());
    let mut child = common::binary()
        .args(["score", "--model", text(&model), text(&data.join("train")), "--batch", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn devices_are_listed_with_what_is_wrong_with_them() {
    let devices: Vec<serde_json::Value> = serde_json::from_str(&ok(&["devices", "--json"])).expect("JSON");
    assert_eq!(devices[0]["device"], "cpu");
    assert_eq!(devices.iter().filter(|d| d["auto"] == true).count(), 1, "auto takes one");
    for kind in ["cuda", "wgpu"] {
        let found = devices.iter().find(|d| d["device"].as_str().is_some_and(|n| n.starts_with(kind)));
        let found = found.expect("every kind is told of");
        assert!(found["name"].is_string() != found["problem"].is_string(), "usable, or a reason: {found}");
    }
    let lines = ok(&["devices"]);
    assert_eq!(lines.lines().count(), devices.len());
    assert!(lines.contains("(auto)"));
}

#[test]
fn instruction_sets_are_chosen_or_refused() {
    let run = |isa: &str| {
        let output = binary().arg("devices").env("HOTAD_ISA", isa).output().expect("the binary runs");
        let told = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), told(output.stdout), told(output.stderr))
    };
    let (code, out, _) = run("portable");
    assert!(code == Some(0) && out.lines().next().is_some_and(|cpu| cpu.contains("; portable;")), "{out}");
    let (code, _, error) = run("avx9");
    assert_eq!(code, Some(2));
    assert!(error.lines().count() == 1 && error.contains("avx9") && error.contains("portable"), "{error}");
}

#[test]
fn devices_that_cannot_be_used_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 24);
    let out = text(&dir.path().join("m")).to_string();
    let train = |more: &[&str], words: &[&str]| {
        let mut args = vec!["train", "paedid", "--data", text(&data), "--out", &out];
        args.extend(more);
        refused(&args, words);
    };
    train(&["--device", "tpu"], &["tpu", "auto, cpu, cuda"]);
    train(&["--device", "wgpu:x"], &["wgpu:x"]);
    train(&["--device", "wgpu:93"], &["wgpu:93"]);
    train(&["--device", "cuda:93"], &["cuda:93"]);
    train(&["--device", "cpu", "--precision", "tf32"], &["cpu", "GPUs"]);
    train(&["--precision", "f8"], &["f8", "bf16"]);
    train(&["--precision", "f16"], &["f16", "bf16"]);
    assert!(!dir.path().join("m").exists());
}
