//! A process that may have only so much memory: it works, or ends with one line and exit code 2 and leaves nothing behind.

#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{binary, small_data, text, trained};

/// Runs `hotad` with so much address space.
fn limited(mebibytes: usize, args: &[&str]) -> Output {
    let hotad = binary();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -v {} && exec \"$0\" \"$@\"", mebibytes << 10)).arg(hotad.get_program());
    shell.envs(hotad.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell.args(args).output().expect("a shell")
}

/// Whether a run had enough memory; fails for any other end than success or one line.
fn is_enough(mebibytes: usize, args: &[&str]) -> bool {
    let output = limited(mebibytes, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return true;
    }
    assert_eq!(output.status.code(), Some(2), "{mebibytes} MiB: {:?}: {stderr}", output.status);
    let errors: Vec<&str> = stderr.lines().filter(|l| l.starts_with("hotad: error: ")).collect();
    let reasons = ["out of memory", "Cannot allocate memory", "temporarily unavailable"];
    assert!(errors.len() == 1 && reasons.iter().any(|r| errors[0].contains(r)), "{mebibytes} MiB: {stderr}");
    assert!(!stderr.contains("panicked"), "{mebibytes} MiB: {stderr}");
    false
}

/// Whether a file is there that was not written to its end.
fn is_temporary_left(folder: &Path) -> bool {
    let names = std::fs::read_dir(folder).expect("a folder").flatten();
    names.map(|f| f.file_name()).any(|name| name.to_string_lossy().ends_with(".tmp"))
}

#[test]
fn training_at_a_limit_ends_in_one_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    small_data(&data, 40);
    std::fs::create_dir(&out).expect("a folder");
    let model = out.join("m.safetensors");
    let args = [
        ["train", "paedid", "--data", text(&data), "--out", text(&model)],
        ["--device", "cpu", "--threads", "2", "-q", "--force"],
        ["--epochs", "1", "--set", "image_size=256", "--set", "steps=10"],
    ]
    .concat();
    for mebibytes in [48, 64, 80, 96, 112, 128] {
        assert!(!is_enough(mebibytes, &args), "{mebibytes} MiB are below what training takes");
        assert!(!model.exists() && !is_temporary_left(&out), "{mebibytes} MiB");
    }
    assert!(is_enough(8_000, &args) && model.exists());
}

#[test]
fn scoring_at_a_limit_ends_in_one_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &["--set", "image_size=128"]);
    let (images, maps) = (data.join("test"), dir.path().join("maps"));
    let args = ["score", "--device", "cpu", "--model", text(&model), "--out", text(&maps), "--force", text(&images)];
    let enough: Vec<bool> = [48, 64, 80, 96, 128, 192, 4_000].map(|mebibytes| is_enough(mebibytes, &args)).to_vec();
    assert!(!enough[0] && enough[6], "enough memory: {enough:?}");
}
