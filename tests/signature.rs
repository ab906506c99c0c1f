//! Signed models, with hotad's own keys and OpenSSL's.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{ok, refused, small_data, text, train_small};

fn paths(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let data = folder.join("data");
    small_data(&data, 32);
    let model = folder.join("m.safetensors");
    train_small(&data, &model, &["--epochs", "1"]);
    (data.join("test/good/024.png"), model, folder.join("plant"))
}

fn score<'a>(model: &'a Path, key: &'a Path, image: &'a Path) -> [&'a str; 6] {
    ["score", "--model", text(model), "--verify-key", text(key), text(image)]
}

#[test]
fn a_model_is_signed_and_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let (image, model, key) = paths(dir.path());
    ok(&["sign", "--new-key", text(&key)]);
    let public = dir.path().join("plant.pub");
    refused(&["sign", "--new-key", text(&key)], &["plant", "never written over"]);
    refused(&score(&model, &public, &image), &["not signed", "m.safetensors.sig"]);
    ok(&["sign", "--key", text(&key), text(&model)]);
    ok(&score(&model, &public, &image));
    ok(&["info", "--verify-key", text(&public), text(&model)]);
    let other = dir.path().join("other");
    ok(&["sign", "--new-key", text(&other)]);
    refused(&score(&model, &dir.path().join("other.pub"), &image), &["another file or by another key"]);
    refused(&score(&model, &key, &image), &["plant", "no public Ed25519 key"]);
    refused(&["sign", "--key", text(&public), text(&model)], &["plant.pub", "no secret Ed25519 key"]);
    refused(&["sign", "--key", text(&key), text(&image)], &["024.png", "not a hotad file"]);
    // A changed bank is another file, which is said.
    let add = common::hotad(&["bank", "add", text(&model), text(&image), "--verify-key", text(&public), "-q"]);
    assert!(add.status.success());
    assert!(String::from_utf8_lossy(&add.stderr).contains("sign it again"), "{add:?}");
    refused(&score(&model, &public, &image), &["another file or by another key"]);
    // A model trained anew is another file.
    train_small(&dir.path().join("data"), &model, &["--epochs", "2", "--force"]);
    refused(&score(&model, &public, &image), &["another file or by another key"]);
}

#[cfg(unix)]
#[test]
fn a_secret_key_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let key = dir.path().join("plant");
    ok(&["sign", "--new-key", text(&key)]);
    assert_eq!(std::fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
}

#[test]
fn openssl_makes_keys_and_checks_signatures() {
    let openssl = |args: &[&str]| Command::new("openssl").args(args).output();
    if openssl(&["version"]).is_err() {
        common::skipped("no openssl here");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (image, model, key) = paths(dir.path());
    let public = dir.path().join("plant.pub");
    let run = |args: &[&str]| {
        let output = openssl(args).expect("it runs");
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["genpkey", "-algorithm", "ed25519", "-out", text(&key)]);
    run(&["pkey", "-in", text(&key), "-pubout", "-out", text(&public)]);
    ok(&["sign", "--key", text(&key), text(&model)]);
    ok(&score(&model, &public, &image));
    let signature = dir.path().join("m.safetensors.sig");
    let (public, model, signature) = (text(&public), text(&model), text(&signature));
    run(&["pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", model, "-sigfile", signature]);
}
