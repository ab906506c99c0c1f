//! What was learned is never lost: checkpoints stay until the result is in place, and are continued by the same run alone.

#![cfg(unix)]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{QUICK, binary, hotad, ok, refused, small_data, text, train_small};

/// Epochs of a run that is interrupted.
const LONG: [&str; 4] = ["--epochs", "100000", "--set", "patience=0"];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        small_data(&dir.path().join("data"), 40);
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Arguments of a training of `m`.
    fn args<'a>(&'a self, data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["train", "paedid", "--data", text(data), "--out", text(out)];
        args.extend(QUICK);
        args.extend(more);
        args
    }
}

/// Waits until a file has some lines.
fn wait_for_lines(log: &Path, lines: usize) {
    let started = Instant::now();
    while std::fs::read_to_string(log).unwrap_or_default().lines().count() < lines {
        assert!(started.elapsed() < Duration::from_secs(120), "no progress in {}", log.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn interrupt(child: Child) -> String {
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    stderr
}

/// Leaves a checkpoint of an interrupted run of `out`.
fn interrupted(folder: &Folder, data: &Path, out: &Path) {
    let child = binary().args(folder.args(data, out, &LONG)).stderr(Stdio::piped()).spawn().expect("the binary runs");
    wait_for_lines(&PathBuf::from(format!("{}.log.jsonl", out.display())), 2);
    let stderr = interrupt(child);
    assert_eq!(stderr.matches("--resume").count(), 1, "said once: {stderr}");
}

/// Epochs of a log, in its order.
fn epochs(log: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(log).expect("a log");
    let epoch = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["epoch"].as_u64();
    text.lines().map(|line| epoch(line).expect("a number")).collect()
}

/// A process that is killed has logged epochs after its last checkpoint, which are trained again.
#[test]
fn a_log_has_each_epoch_once() {
    let folder = Folder::new();
    let (data, out, log) = (folder.path("data"), folder.path("m"), folder.path("m.log.jsonl"));
    let mut child =
        binary().args(folder.args(&data, &out, &LONG)).stderr(Stdio::null()).spawn().expect("the binary runs");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    let started = Instant::now();
    while !folder.path("m.checkpoint").exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_for_lines(&log, lines() + 3);
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let most = lines() as u64 + 5;
    ok(&folder.args(&data, &out, &["--resume", "-q", "--epochs", &most.to_string(), "--set", "patience=0"]));
    assert_eq!(epochs(&log), (1..=most).collect::<Vec<u64>>());
}

#[test]
fn two_trainings_do_not_write_one_file() {
    let folder = Folder::new();
    let (data, out, log) = (folder.path("data"), folder.path("m"), folder.path("m.log.jsonl"));
    let child = binary().args(folder.args(&data, &out, &LONG)).stderr(Stdio::piped()).spawn().expect("the binary runs");
    wait_for_lines(&log, 2);
    for more in [&[][..], &["--force"], &["--resume"]] {
        refused(&folder.args(&data, &out, more), &["m: another hotad", "wait for its end"]);
    }
    refused(&["train", "padim", "--data", text(&data), "--out", text(&out), "--force"], &["m: another hotad"]);
    interrupt(child);
    let written = epochs(&log);
    assert_eq!(written, (1..=written.len() as u64).collect::<Vec<u64>>());
    ok(&folder.args(&data, &out, &["--resume", "-q", "--epochs", "1"]));
}

#[test]
fn a_checkpoint_is_continued_by_the_same_run_alone() {
    let folder = Folder::new();
    let (data, out) = (folder.path("data"), folder.path("m"));
    interrupted(&folder, &data, &out);
    let again = |more: &[&str], words: &[&str]| refused(&folder.args(&data, &out, more), words);
    again(&["--resume", "--holdout", "0.4"], &["another run", "--holdout was 0.2, is 0.4"]);
    again(&["--resume", "--seed", "9"], &["another run", "--seed was 0, is 9"]);
    again(&["--resume", "--set", "lr=0.01"], &["another run", "setting lr was 0.001, is 0.01"]);
    again(&[], &["m.checkpoint", "--resume", "--force"]);
    std::fs::copy(data.join("test/good/024.png"), data.join("train/good/999.png")).expect("one image more");
    again(&["--resume"], &["another run", "SHA-256 of the images"]);
    std::fs::remove_file(data.join("train/good/999.png")).expect("removed");
    // What only scoring depends on may differ, and so may the number of epochs.
    ok(&folder.args(&data, &out, &["--resume", "-q", "--epochs", "3", "--set", "alpha=0.1", "--set", "lambda=1e-3"]));
    assert!(out.exists() && !folder.path("m.checkpoint").exists());
}

#[test]
fn a_model_is_not_written_over_unasked() {
    let folder = Folder::new();
    let (data, out) = (folder.path("data"), folder.path("m"));
    train_small(&data, &out, &["--epochs", "1"]);
    let first = std::fs::read(&out).expect("a model");
    refused(&folder.args(&data, &out, &["--epochs", "1", "--seed", "5"]), &["m: is there already", "--force"]);
    assert!(first == std::fs::read(&out).expect("a model"));
    ok(&folder.args(&data, &out, &["--epochs", "1", "--seed", "5", "--force", "-q"]));
    assert!(first != std::fs::read(&out).expect("a model"));
}

/// The whole training is done, but the model cannot be written: its folder allows no new names any more.
#[test]
fn what_was_learned_survives_a_failure_after_training() {
    let folder = Folder::new();
    let (data, out) = (folder.path("data"), folder.path("m"));
    let epochs = ["--epochs", "30", "--set", "patience=0"];
    let whole = folder.path("whole");
    ok(&folder.args(&data, &whole, &[&epochs[..], &["-q"]].concat()));
    // A held-out image that breaks after the images were looked at stops the calibration.
    let args = folder.args(&data, &out, &epochs);
    let mut child = binary().args(&args).stderr(Stdio::piped()).spawn().expect("the binary runs");
    wait_for_lines(&folder.path("m.log.jsonl"), 1);
    let saved: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(data.join("train/good"))
        .expect("a folder")
        .flatten()
        .map(|e| (e.path(), std::fs::read(e.path()).expect("bytes")))
        .collect();
    saved.iter().for_each(|(path, _)| std::fs::write(path, b"broken").expect("written"));
    let status = child.wait().expect("it ends");
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut stderr).expect("text");
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("continue with --resume") && !out.exists(), "{stderr}");
    saved.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("written"));
    let lines = || std::fs::read_to_string(folder.path("m.log.jsonl")).expect("a log").lines().count();
    let before = lines();
    ok(&[&args[..], &["--resume"]].concat());
    assert_eq!((before, lines()), (30, 30), "nothing is learned twice");
    assert!(std::fs::read(&whole).expect("bytes") == std::fs::read(&out).expect("bytes"), "another model");
    assert!(!folder.path("m.checkpoint").exists());
}

#[test]
fn a_closed_or_full_stderr_costs_no_training() {
    let folder = Folder::new();
    let (data, whole) = (folder.path("data"), folder.path("whole"));
    let epochs = ["--epochs", "3"];
    ok(&folder.args(&data, &whole, &[&epochs[..], &["-q"]].concat()));
    let expected = std::fs::read(&whole).expect("a model");
    let train = |name: &str, stderr: Stdio| {
        let out = folder.path(name);
        let status = binary().args(folder.args(&data, &out, &epochs)).stderr(stderr).status().expect("it runs");
        assert!(status.success(), "{name}");
        assert!(expected == std::fs::read(&out).expect("a model"), "{name}");
    };
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        train("full", full.into());
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    train("closed", writer.into());
}

#[test]
fn a_log_without_room_costs_no_training() {
    if !Path::new("/dev/full").exists() {
        common::skipped("no /dev/full here");
        return;
    }
    let folder = Folder::new();
    let (data, out) = (folder.path("data"), folder.path("m"));
    std::os::unix::fs::symlink("/dev/full", folder.path("m.log.jsonl")).expect("a link");
    let output = hotad(&folder.args(&data, &out, &["--epochs", "2"]));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && out.exists(), "{stderr}");
    let warnings =
        stderr.lines().filter(|l| l.starts_with("hotad: warning: ") && l.ends_with("goes on without its log"));
    assert_eq!(warnings.count(), 1, "{stderr}");
}

#[test]
fn ctrl_c_ends_the_choice_of_a_coreset() {
    let folder = Folder::new();
    let (data, out) = (folder.path("data"), folder.path("m"));
    let settings = ["--set", "image_size=512", "--set", "coreset=1.0", "--set", "backbone=hotad-lite0"];
    let args = [&["train", "patchcore", "--data", text(&data), "--out", text(&out)], &settings[..]].concat();
    let mut child = binary().args(&args).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("choosing a coreset") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).expect("a line") > 0, "it ended early");
    }
    // At once: on a fast machine the choice takes less than half a second.
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    let started = Instant::now();
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    assert!(!out.exists());
}

#[test]
fn runs_without_end_are_refused() {
    let folder = Folder::new();
    let (data, out) = (folder.path("data"), folder.path("m"));
    let most = "epochs=9223372036854775807";
    refused(&folder.args(&data, &out, &["--set", most]), &["epochs", "1 to 1000000"]);
    let args = ["train", "i3ad", "--data", text(&data), "--out", text(&out), "--set", "iterations=9223372036854775807"];
    refused(&args, &["iterations", "1 to 1000000000"]);
}

#[test]
fn what_is_there_is_neither_resumed_nor_forgotten_unasked() {
    let folder = Folder::new();
    let (data, out) = (folder.path("data"), folder.path("m"));
    std::fs::write(&out, "of somebody").expect("written");
    let patchcore = ["train", "patchcore", "--data", text(&data), "--out", text(&out), "--set", "image_size=64", "-q"];
    refused(&[&patchcore[..], &["--resume"]].concat(), &["no checkpoint to resume from"]);
    assert_eq!(std::fs::read(&out).expect("bytes"), b"of somebody");
    // A checkpoint of a stage of another method goes when it is written over; one of a neighbour stays and does not count.
    std::fs::write(folder.path("m.color.checkpoint"), "old").expect("written");
    std::fs::write(folder.path("m.safetensors.checkpoint"), "of a neighbour").expect("written");
    std::fs::remove_file(&out).expect("removed");
    refused(&patchcore, &["m.color.checkpoint", "--force"]);
    ok(&[&patchcore[..], &["--force"]].concat());
    assert!(!folder.path("m.color.checkpoint").exists() && folder.path("m.safetensors.checkpoint").exists());
    let import = ["backbone", "import", "weights/hotad-lite0.safetensors", "--out", text(&out), "-q"];
    refused(&import, &["m: is there already"]);
    ok(&[&import[..], &["--force"]].concat());
}

/// Notices and errors go to stderr, but the verdict does not hang on whether somebody reads them.
#[test]
fn a_full_stderr_changes_no_exit_code() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        common::skipped("no /dev/full here");
        return;
    };
    let full = || Stdio::from(full.try_clone().expect("a handle"));
    let code = |args: &[&str]| {
        let status = binary().args(args).stdout(Stdio::null()).stderr(full()).status().expect("it runs");
        status.code()
    };
    assert_eq!(code(&["info", "/nonexistent"]), Some(2));
    let folder = Folder::new();
    let (data, out) = (folder.path("data"), folder.path("m"));
    train_small(&data, &out, &["--epochs", "1"]);
    std::fs::write(folder.path("data/test/crack/x.webp"), "an image of another type").expect("written");
    let cracks = folder.path("data/test/crack/000.png");
    let score = ["score", "--model", text(&out), text(&cracks), "--threshold=-1e9", "--fail-on-anomaly"];
    assert_eq!(code(&score), Some(1));
    let test = folder.path("data/test");
    let _ = code(&["score", "--model", text(&out), text(&test)]);
    assert_ne!(code(&["score", "--model", text(&out), text(&test), "--threshold=-1e9"]), Some(101));
}
