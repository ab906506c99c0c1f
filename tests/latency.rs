//! `hotad bench`: what it prints and writes, and what it refuses. How long anything takes is no matter of a test.

mod common;

use common::{ok, refused, text};
use serde_json::Value;

const MODEL: &str = "weights/plate.safetensors";

fn bench(more: &[&str]) -> Value {
    let args = [&["bench", MODEL, "--device", "cpu", "-q", "--json", "--seconds", "0.5"], more].concat();
    serde_json::from_str(ok(&args).trim()).expect("one JSON object")
}

fn stage<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let stages = summary["latency_ms"].as_array().expect("stages");
    stages.iter().find(|stage| stage["stage"] == name).expect("the stage")
}

#[test]
fn percentiles_of_every_stage_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let summary = bench(&["--rate", "20", "--size", "200x100", "--out", text(&out)]);
    assert_eq!(summary["frames"], 10);
    assert_eq!(summary["frame"]["width"], 200);
    assert_eq!(summary["frame"]["height"], 100);
    assert_eq!(summary["missed"], 0);
    assert!(summary["deadline_ms"].is_null());
    for name in ["total", "wait", "preprocess", "score", "verdict"] {
        let at = |key: &str| stage(&summary, name)[key].as_f64().expect("a number");
        let all = ["p50", "p90", "p99", "p99_9", "max"].map(at);
        assert!(all.is_sorted() && all[0] > 0.0, "{name}: {all:?}");
    }
    assert_eq!(stage(&summary, "decode")["max"], 0.0);
    assert!(summary["process"]["allocations"].as_u64().is_some());
    let written = std::fs::read_to_string(out.join("bench.json")).expect("bench.json");
    assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), summary);
    let page = std::fs::read_to_string(out.join("bench.html")).expect("bench.html");
    assert!(page.contains("Latency over time") && page.matches("<svg").count() == 2);
}

#[test]
fn files_are_decoded_for_every_frame() {
    let image = std::fs::read_dir("weights/samples").expect("samples").map(|e| e.expect("a file").path());
    let image = image.into_iter().find(|p| p.extension().is_some_and(|e| e == "png")).expect("a PNG");
    let summary = bench(&["--image", text(&image), "--from", "file", "--rate", "10"]);
    assert!(stage(&summary, "decode")["p50"].as_f64().expect("a number") > 0.0);
}

#[test]
fn frames_beyond_their_deadline_are_counted() {
    let summary = bench(&["--rate", "200", "--deadline", "0.001"]);
    assert_eq!(summary["missed"], summary["frames"]);
}

#[test]
fn the_table_names_what_was_measured() {
    let table =
        ok(&["bench", MODEL, "--device", "cpu", "-q", "--seconds", "0.1", "--threads", "1", "--pin", "--awake"]);
    for word in ["plate.safetensors (paedid) on cpu", "p99.9", "missed deadlines", "allocations a frame", "page faults"]
    {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    refused(&["bench", MODEL, "--from", "file"], &["--image"]);
    refused(&["bench", "nowhere"], &["nowhere"]);
    refused(&["bench", MODEL, "--image", "Cargo.toml"], &["Cargo.toml"]);
    for (option, value) in
        [("--rate", "0"), ("--rate", "nan"), ("--seconds", "-1"), ("--size", "0x4"), ("--deadline", "0")]
    {
        let (_, stderr) = common::exits(2, &["bench", MODEL, &format!("{option}={value}")]);
        assert!(stderr.contains(option) && stderr.contains("expected"), "{stderr}");
    }
}
