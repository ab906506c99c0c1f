//! Pipes and devices in the place of files: said at once, never waited on.

#![cfg(unix)]

use std::process::Command;

use crate::common::{refused, small_data, text};

#[test]
fn what_is_no_regular_file_is_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, pipe, out) = (dir.path().join("data"), dir.path().join("pipe"), dir.path().join("m"));
    small_data(&data, 32);
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let (data, out) = (text(&data), text(&out));
    for file in [text(&pipe), "/dev/zero"] {
        let words = [file, "not a regular file"];
        refused(&["score", "--model", file, data], &words);
        refused(&["info", file], &words);
        refused(&["train", "paedid", "--data", data, "--out", out, "--config", file], &words);
        let train = ["train", "patchcore", "--data", data, "--out", out, "--set"];
        refused(&[&train[..], &[&format!("backbone={file}")]].concat(), &words);
        let members = ["--member", file, "--member", file];
        refused(&[&["train", "ensemble", "--data", data, "--out", out], &members[..]].concat(), &words);
        refused(&["backbone", "import", file], &words);
        refused(&["sign", "--key", file, file], &words);
    }
}
