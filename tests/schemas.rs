//! What `--json` and `score` print, against the published schemas.

mod common;
#[path = "common/schema.rs"]
mod schema;

use common::{hotad, ok, text, trained};
use schema::Schema;
use serde_json::{Value, json};

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

fn assert_fits(schema: &Schema, value: &Value) {
    assert_eq!(schema.faults(value), Vec::<String>::new(), "{value}");
}

#[test]
fn outputs_fit_their_schemas() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (m, d, out) = (text(&model), text(&data), dir.path().join("out"));
    std::fs::write(data.join("test/good/broken.png"), "no image").expect("written");
    let lines = hotad(&["score", "--model", m, text(&data.join("test")), "--out", text(&out)]).stdout;
    let lines: Vec<Value> = String::from_utf8(lines).expect("text").lines().map(parsed).collect();
    assert_eq!(lines.iter().filter(|l| l.get("error").is_some()).count(), 1);
    assert_eq!(lines.iter().filter(|l| l["map"].is_string()).count(), 8);
    lines.iter().for_each(|line| assert_fits(&Schema::read("score.schema.json"), line));
    let eval = ["eval", "--model", m, "--data", d, "--on-broken", "skip", "--json"];
    assert_fits(&Schema::read("eval.schema.json"), &parsed(&ok(&eval)));
    let changed = parsed(&ok(&[&eval[..], &["--corrupt", "blur", "-q"]].concat()));
    assert_eq!(changed["runs"].as_array().map(Vec::len), Some(2));
    assert_fits(&Schema::read("compare.schema.json"), &changed);
}

#[test]
fn loco_fits_the_schema() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    for part in ["test", "ground_truth"] {
        std::fs::rename(data.join(part).join("crack"), data.join(part).join("logical_anomalies")).expect("renamed");
    }
    let config = r#"[{"defect_name":"crack","pixel_value":255,"saturation_threshold":0.5,"relative_saturation":true}]"#;
    std::fs::write(data.join("defects_config.json"), config).expect("a file");
    let metrics = parsed(&ok(&["eval", "--model", text(&model), "--data", text(&data), "--json"]));
    assert!(metrics["auspro_05"].is_object(), "{metrics}");
    assert_fits(&Schema::read("eval.schema.json"), &metrics);
}

#[test]
fn the_check_finds_what_does_not_fit() {
    let schema = Schema::read("score.schema.json");
    let good = json!({"path": "a", "error": "b"});
    assert_fits(&schema, &good);
    for bad in [
        json!([]),
        json!({"path": "a"}),
        json!({"path": 1, "error": "b"}),
        json!({"path": "a", "error": "b", "more": 1}),
        json!({"path": "a", "error": "b", "path_bytes": "xy"}),
    ] {
        assert!(!schema.faults(&bad).is_empty(), "{bad}");
    }
}
