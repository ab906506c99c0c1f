//! Options act where they are taken, and are refused elsewhere; what hotad tells about itself.

mod common;

use std::path::Path;

use common::{QUICK, bars, exits, hotad, ok, refused, small_data, text, trained};
use hotad_models::methods;

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
fn negative_numbers_are_numbers() {
    let cases: [(&[&str], &[&str], &str); 9] = [
        (&["score", "--model", "m", "x"], &["--threshold", "-5"], "m: "),
        (&["score", "--model", "m", "x", "--out", "y"], &["--pixel-threshold", "-0.5"], "m: "),
        (&["bench", "m"], &["--rate", "-1"], "expected a number from 0.01"),
        (&["bench", "m"], &["--deadline", "-1"], "expected a number from 0.001"),
        (&["train", "paedid", "--data", "d", "--out", "m"], &["--holdout", "-0.5"], "--holdout: -0.5 is out of range"),
        (&["train", "lea-net", "--data", "d", "--out", "m"], &["--defective-share", "-1"], "--defective-share: -1 is"),
        (&["train", "paedid", "--data", "d", "--out", "m"], &["--batch", "-4"], "-4 is not in 1..=1024"),
        (&["calibrate", "m", "--data", "d"], &["--false-alarm-rate", "-1"], "--false-alarm-rate: -1 is out of range"),
        (&["eval", "--model", "m", "--data", "d"], &["--seed", "-1"], "invalid value '-1' for '--seed"),
    ];
    for (command, option, words) in cases {
        let (_, stderr) = exits(2, &[command, option].concat());
        assert!(stderr.contains(words) && !stderr.contains("unexpected argument"), "{command:?} {option:?}: {stderr}");
    }
}

#[test]
fn help_says_what_options_do() {
    let score = ok(&["score", "--help"]);
    assert!(score.contains("128 at the pixel threshold") && !score.contains("twice"), "{score}");
    assert!(score.contains("Say nothing but results, warnings and errors"), "{score}");
    assert!(ok(&["eval", "--help"]).contains("brightness (times 0.8 to 1.2)"));
    let distill = ok(&["distill", "--help"]);
    assert!(distill.contains("Images of one training step") && !distill.contains("methods that have no steps"));
}

#[test]
fn options_without_effect_are_refused() {
    let (_, stderr) = exits(2, &["score", "--model", "m", "images", "--pixel-threshold", "0.5"]);
    assert!(stderr.contains("--out"), "{stderr}");
    let share = ["--data", "d", "--out", "m", "--defective-share", "0.3"];
    refused(&[&["train", "patchcore"], &share[..]].concat(), &["--defective-share", "patchcore", "lea-net"]);
    let (_, stderr) = exits(2, &[&["train", "lea-net", "--cv", "3"], &share[..]].concat());
    assert!(stderr.contains("cannot be used with"), "{stderr}");
}

/// What a library says of an argument is said of an option on the command line.
#[test]
fn notes_name_the_options_that_help() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("m"));
    small_data(&data, 40);
    let good = data.join("train/good");
    std::fs::copy(good.join("000.png"), good.join("100.png")).expect("another photo of a part");
    bars(1100, 7).write_png(&good.join("101.png")).expect("a picture");
    let train = ["train", "paedid", "--data", text(&data), "--out", text(&out), "--epochs", "1"];
    let skip = ["--on-broken", "skip", "--max-megapixels", "1"];
    let (_, stderr) = exits(0, &[&train[..], &QUICK, &skip].concat());
    assert!(stderr.contains(", by their likeness; ") && stderr.contains("(--group says otherwise)"), "{stderr}");
    let skipped = stderr.lines().find(|l| l.contains("skipped") && l.contains("101.png"));
    assert!(skipped.is_some_and(|l| l.ends_with("(--max-megapixels 2)")), "{stderr}");
}

#[test]
fn methods_are_listed_and_completed() {
    let (list, json) = (ok(&["methods"]), ok(&["methods", "--json"]));
    let json: Vec<serde_json::Value> = serde_json::from_str(&json).expect("an array");
    assert!(list.lines().count() == methods().len() && json.len() == methods().len());
    let shells = ["bash", "zsh"].map(|shell| ok(&["completions", shell]));
    for method in methods() {
        let line = list.lines().find(|l| l.split_whitespace().next() == Some(method.name));
        assert!(line.is_some_and(|l| l.ends_with(method.summary)), "{} is not listed", method.name);
        assert!(shells.iter().all(|script| script.contains(method.name)), "{} is not completed", method.name);
    }
}

#[test]
fn the_defaults_that_are_printed_are_those_of_training() {
    for method in methods() {
        let printed: toml::Table = (method.documented)().parse().expect("TOML");
        let settings = (method.settings)(&toml::Table::new()).expect("defaults in range");
        assert_eq!(settings, serde_json::json!(printed), "{}", method.name);
    }
}

/// Text of the libraries that names an option of the command line, but for programs that they start or tell to start.
fn options_in(folder: &Path, found: &mut Vec<String>) {
    let foreign = ["pip download --no-deps", "hotad distill --expansion", "--array=0-N"];
    for entry in std::fs::read_dir(folder).expect("sources").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            options_in(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            let source = std::fs::read_to_string(&entry).expect("a source");
            // Comments on settings are their help; tests may name what they like.
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            let settings = code.contains("settings! {");
            let told = |line: &&str| settings || !line.trim_start().starts_with("//");
            let names = |line: &&str| {
                let mut after = line.split("--").skip(1);
                after.any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            };
            let lines = code.lines().filter(told).filter(names);
            let own = lines.filter(|line| !foreign.iter().any(|words| line.contains(words)));
            found.extend(own.map(|line| format!("{}: {}", entry.display(), line.trim())));
        }
    }
}

/// Libraries are called from C, Python and Rust too; what of their words are options is the command line's to say.
#[test]
fn libraries_name_no_options() {
    let mut found = Vec::new();
    ["engine/src", "models/src", "src"].iter().for_each(|folder| options_in(Path::new(folder), &mut found));
    assert!(found.is_empty(), "{}", found.join("\n"));
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
    assert_eq!(chosen.keys().collect::<Vec<_>>(), ["alpha", "channels", "lambda", "similar"]);
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
