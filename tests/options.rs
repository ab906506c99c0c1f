//! Options act where they are taken, and are refused elsewhere; what hotad tells about itself.

mod common;

use common::{exits, hotad, ok, refused, small_data, text, trained};
use hotad_models::METHODS;

#[test]
fn shared_options_are_refused_where_they_do_nothing() {
    let ignored: [(&[&str], &[&str]); 8] = [
        (&["score", "--model", "m", "images"], &["--seed=1"]),
        (&["synth", "--from", "a", "--out", "b"], &["--batch=2", "--device=cpu", "--precision=tf32", "--verbose"]),
        (&["info", "m"], &["--seed=1", "--batch=2", "--device=cpu", "--precision=tf32", "--quiet"]),
        (&["bank", "list", "m"], &["--seed=1", "--batch=2", "--precision=tf32", "--quiet"]),
        (&["bank", "remove", "m", "x"], &["--seed=1", "--batch=2", "--precision=tf32"]),
        (&["bank", "add", "m", "x"], &["--seed=1"]),
        (&["config", "padim"], &["--seed=1", "--batch=2", "--device=cpu", "--threads=1"]),
        (&["devices"], &["--seed=1", "--batch=2", "--device=cpu", "--threads=1"]),
    ];
    for (command, options) in ignored {
        for option in options {
            let (_, stderr) = exits(2, &[command, &[*option]].concat());
            assert!(stderr.contains("unexpected argument"), "{command:?} takes {option}: {stderr}");
        }
    }
}

#[test]
fn a_batch_is_refused_by_methods_without_steps() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("m"));
    small_data(&data, 24);
    for method in ["padim", "patchcore", "rasl"] {
        let args = ["train", method, "--data", text(&data), "--out", text(&out), "--batch", "4"];
        refused(&args, &["--batch", method, "no setting batch"]);
    }
    assert!(ok(&["train", "--help"]).contains("Images of one training step"));
}

#[test]
fn methods_are_listed_and_completed() {
    let (list, json) = (ok(&["methods"]), ok(&["methods", "--json"]));
    let json: Vec<serde_json::Value> = serde_json::from_str(&json).expect("an array");
    assert!(list.lines().count() == METHODS.len() && json.len() == METHODS.len());
    let shells = ["bash", "zsh"].map(|shell| ok(&["completions", shell]));
    for method in METHODS {
        let line = list.lines().find(|l| l.split_whitespace().next() == Some(method.name));
        assert!(line.is_some_and(|l| l.ends_with(method.summary)), "{} is not listed", method.name);
        assert!(shells.iter().all(|script| script.contains(method.name)), "{} is not completed", method.name);
    }
}

#[test]
fn the_version_tells_the_features() {
    let version = ok(&["--version"]);
    assert!(version.starts_with(concat!("hotad ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    assert_eq!(version.contains("cuda"), cfg!(feature = "cuda"), "{version}");
    assert_eq!(version.contains("wgpu"), cfg!(feature = "wgpu"), "{version}");
}

#[test]
fn info_tells_what_was_chosen_and_lists_tensors_on_request() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let info = ok(&["info", text(&model)]);
    let json: serde_json::Value = serde_json::from_str(&ok(&["info", text(&model), "--json"])).expect("JSON");
    let chosen = json["chosen"].as_object().expect("an object");
    assert_eq!(chosen.keys().collect::<Vec<_>>(), ["alpha", "channels", "lambda"]);
    assert_eq!(chosen["alpha"], json["config"]["alpha"]);
    assert_eq!(chosen["channels"], 1);
    assert!(info.contains(&format!("alpha = {} (auto)", chosen["alpha"])), "{info}");
    assert!(info.contains("channels = 1 (auto)") && !info.contains("\"auto\""), "{info}");
    assert!(!info.contains("tensor bank") && info.contains("-v lists them"), "{info}");
    assert!(ok(&["info", text(&model), "-v"]).contains("tensor bank ["));
}

#[test]
fn info_names_the_backbone_and_its_layers() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m"));
    small_data(&data, 32);
    let train = ["train", "padim", "--data", text(&data), "--out", text(&model), "-q", "--set", "image_size=32"];
    assert!(hotad(&train).status.success());
    let info = ok(&["info", text(&model)]);
    for line in ["backbone = \"hotad-lite0\" (auto)", "layers = [\"block"] {
        assert!(info.contains(line), "{line} is not in {info}");
    }
}
