//! What the end-to-end tests share: the binary, small data sets, real data.

#![allow(dead_code)] // every test binary uses a part

pub mod neighbours;
pub mod pictures;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hotad_engine::data::picture::Picture;
use hotad_engine::data::synth::{Kind, draw};
use hotad_engine::random;
use rand::Rng;

/// The binary under test: `$HOTAD_BIN` where the tests have been carried to another machine. No backbone is installed.
pub fn binary() -> Command {
    let mut command = Command::new(std::env::var("HOTAD_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hotad").into()));
    command.env("HOTAD_HOME", std::env::temp_dir().join("hotad-tests-no-backbones"));
    command
}

/// Runs `hotad` with arguments.
pub fn hotad(args: &[&str]) -> Output {
    binary().args(args).output().expect("the binary runs")
}

/// Runs `hotad` and expects success; returns stdout.
pub fn ok(args: &[&str]) -> String {
    let output = hotad(args);
    assert!(output.status.success(), "hotad {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("stdout is text")
}

/// Runs `hotad` and expects exit code 2 and one line on stderr that contains every word.
pub fn refused(args: &[&str], words: &[&str]) {
    let output = hotad(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "hotad {args:?}: {stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|l| l.starts_with("hotad: error: ")).collect();
    assert_eq!(errors.len(), 1, "one error line expected: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for word in words {
        assert!(errors[0].contains(word), "{word:?} is not in: {}", errors[0]);
    }
}

/// Text of a path.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// A gray picture of bars, a little different each time.
pub fn bars(size: usize, index: u64) -> Picture {
    let mut rng = random::stream(1, "bars", index);
    let shift = rng.random_range(0.0..1.0f32);
    let values = (0..size * size)
        .map(|i| 0.55 + 0.2 * ((i % size) as f32 * 0.6 + shift).sin() + rng.random_range(-0.02..0.02))
        .collect();
    Picture { height: size, width: size, channels: 1, values }
}

/// A data set in MVTec AD's layout: 24 normal, 4 good and 4 cracked test images with masks.
pub fn small_data(root: &Path, size: usize) {
    for (folder, from, to) in [("train/good", 0, 24), ("test/good", 24, 28)] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
        for i in from..to {
            bars(size, i).write_png(&root.join(folder).join(format!("{i:03}.png"))).expect("a picture");
        }
    }
    let (test, truth) = (root.join("test/crack"), root.join("ground_truth/crack"));
    std::fs::create_dir_all(&test).expect("a folder");
    std::fs::create_dir_all(&truth).expect("a folder");
    for i in 0..4 {
        let (cracked, mask) = draw(Kind::Crack, &bars(size, 40 + i), &mut random::stream(1, "crack", i));
        cracked.write_png(&test.join(format!("{i:03}.png"))).expect("a picture");
        let values = mask.defect.iter().map(|d| f32::from(u8::from(*d))).collect();
        let mask = Picture { height: size, width: size, channels: 1, values };
        mask.write_png(&truth.join(format!("{i:03}_mask.png"))).expect("a picture");
    }
}

/// Settings that train in a second.
pub const QUICK: [&str; 8] =
    ["--set", "image_size=32", "--set", "network=[8, 16]", "--set", "steps=30", "--set", "batch=4"];

/// Trains a small PAEDID.
pub fn train_small(data: &Path, model: &Path, more: &[&str]) {
    let mut args = vec!["train", "paedid", "--data", text(data), "--out", text(model), "-q"];
    args.extend(QUICK);
    args.extend(more);
    ok(&args);
}

/// A small data set and a small PAEDID trained on it, in a folder.
pub fn trained(dir: &Path, more: &[&str]) -> (PathBuf, PathBuf) {
    let (data, model) = (dir.join("data"), dir.join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &[&["--epochs", "2"], more].concat());
    (data, model)
}

/// Runs `hotad` and expects an exit code; returns stdout and stderr.
pub fn exits(code: i32, args: &[&str]) -> (String, String) {
    let output = hotad(args);
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned());
    assert_eq!(output.status.code(), Some(code), "hotad {args:?}: {stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}

/// Says why a test is skipped, past the harness, which keeps what a passing test prints.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}"); // nowhere left to say it
}

/// The folder of real images: `$HOTAD_DATA`, `../shared/data` by default. Without it a test is
/// skipped with a line, unless `HOTAD_REQUIRE_DATA=1`.
pub fn real_data(category: &str) -> Option<PathBuf> {
    let root = std::env::var("HOTAD_DATA").unwrap_or_else(|_| "../shared/data".into());
    let path = PathBuf::from(root).join(category);
    if path.is_dir() {
        return Some(path);
    }
    let demanded = std::env::var("HOTAD_REQUIRE_DATA").is_ok_and(|v| v == "1");
    assert!(!demanded, "{} is missing and HOTAD_REQUIRE_DATA=1", path.display());
    skipped(&format!("no real images at {}; HOTAD_DATA names their folder", path.display()));
    None
}
