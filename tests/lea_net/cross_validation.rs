//! Cross-validation: the table, several seeds, interrupted and resumed.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::common::{ok, refused, text};
use crate::{SMALL, coloured_data, interrupt, json, lines};

/// Arguments of a short cross-validation.
fn args<'a>(data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args =
        vec!["train", "lea-net", "--data", text(data), "--cv", "2", "--out", text(out), "-q", "--batch", "8"];
    args.extend(SMALL);
    args.extend(more);
    args
}

#[test]
fn cross_validation_prints_the_papers_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("cv.json"));
    coloured_data(&data);
    let rows = r#"rows=["none", "rgb+map", "direct", "mobilenet"]"#;
    let mut args = vec!["train", "lea-net", "--data", text(&data), "--cv", "2", "--out", text(&out), "-q", "--force"];
    args.extend(SMALL);
    args.extend(["--batch", "8", "--epochs", "4", "--set", "color_epochs=4", "--set", "points=[1, 5]", "--set", rows]);
    let table = ok(&args);
    assert!(table.starts_with("10 positive, 30 negative, P to N ratio 0.333; 2 folds"), "{table}");
    for row in [
        "| ResNet18 |",
        "| ResNet18 (4ch input) |",
        "| ResNet18 + Direct Attention |",
        "| ResNet18 + MobileNet-small CAAN |",
    ] {
        assert_eq!(table.matches(row).count(), 1, "{row} in {table}");
    }
    let results = json(&std::fs::read_to_string(&out).expect("a file"));
    let rows = results["results"]["rows"].as_array().expect("rows").clone();
    assert_eq!(rows.len(), 4);
    for row in &rows {
        for point in row["points"].as_array().expect("points") {
            let f1: Vec<f64> =
                point["f1"]["folds"].as_array().expect("folds").iter().filter_map(|v| v.as_f64()).collect();
            let mean = (f1[0] + f1[1]) / 2.0;
            assert_eq!(f1.len(), 2);
            assert!((point["f1"]["mean"].as_f64().expect("a number") - mean).abs() < 1e-12);
            assert!((point["f1"]["deviation"].as_f64().expect("a number") - (f1[0] - f1[1]).abs() / 2.0).abs() < 1e-12);
            assert_eq!(point["f1_of_seeds"].as_array().map(Vec::len), Some(1));
            // Every image is tested once.
            let predictions = point["predictions"].as_array().expect("predictions");
            let paths: BTreeSet<String> = predictions.iter().map(|p| p["path"].to_string()).collect();
            assert_eq!((predictions.len(), paths.len()), (40, 40));
        }
        // Of two folds, each takes the point that is best on the other.
        let point = |fold: usize, of: &serde_json::Value| of["f1"]["folds"][fold].as_f64().expect("a number");
        let points = row["points"].as_array().expect("points");
        for fold in 0..2 {
            let best = points.iter().map(|p| point(1 - fold, p)).fold(0.0, f64::max);
            let chosen = points.iter().find(|p| p["point"] == row["chosen"]["points"][fold]).expect("a point");
            assert_eq!(point(1 - fold, chosen), best);
            assert_eq!(row["chosen"]["f1"]["folds"][fold].as_f64(), Some(point(fold, chosen)));
        }
    }
    assert!(rows[0]["difference"].is_null());
    for row in &rows[1..] {
        let [low, high] = [0, 1].map(|i| row["difference"]["interval"][i].as_f64().expect("a bound"));
        let value = row["difference"]["f1"].as_f64().expect("a number");
        assert!(low <= value && value <= high, "{low} {value} {high}");
    }
    assert_eq!(results["results"]["done"], 2);
    // A share of a quarter beside 30 normal images is 10; of a tenth, 3.
    let fewer = ok(&[&args[..], &["--set", "positive_share=0.1", "--set", "rows=[\"none\"]"]].concat());
    assert!(fewer.starts_with("3 positive, 30 negative"), "{fewer}");
}

#[test]
fn several_seeds_are_averaged() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("data"), dir.path().join("cv.json"));
    coloured_data(&data);
    let settings = ["--epochs", "2", "--set", "color_epochs=2", "--set", "rows=[\"rgb+map\"]", "--force"];
    let point = |more: &[&str]| -> Value {
        ok(&args(&data, &out, &[&settings[..], more].concat()));
        json(&std::fs::read_to_string(&out).expect("a file"))["results"]["rows"][0]["points"][0].clone()
    };
    let (one, two) = (point(&[]), point(&["--set", "seeds=2"]));
    let of_seed = |point: &Value, seed: u64| -> Vec<Value> {
        let all = point["predictions"].as_array().expect("predictions");
        all.iter().filter(|p| p["seed"] == seed).cloned().collect()
    };
    assert_eq!(of_seed(&one, 0), of_seed(&two, 0), "the first seed is that of the run");
    let probabilities = |all: &[Value]| all.iter().map(|p| p["probability"].to_string()).collect::<Vec<_>>();
    assert_eq!(of_seed(&two, 1).len(), 40);
    assert_ne!(probabilities(&of_seed(&two, 0)), probabilities(&of_seed(&two, 1)), "both seeds give one network");
    let f1 = |all: &[Value], fold: u64| {
        let count = |called: bool, defective: bool| {
            let fits = |p: &&Value| {
                p["fold"] == fold && p["defective"] == defective && (p["probability"].as_f64() > Some(0.5)) == called
            };
            all.iter().filter(fits).count() as f64
        };
        let (hit, wrong) = (count(true, true), count(true, false) + count(false, true));
        2.0 * hit / (2.0 * hit + wrong)
    };
    for fold in [1, 2] {
        let mean = (f1(&of_seed(&two, 0), fold) + f1(&of_seed(&two, 1), fold)) / 2.0;
        assert!((two["f1"]["folds"][fold as usize - 1].as_f64().expect("a number") - mean).abs() < 1e-12);
    }
    assert_eq!(two["f1_of_seeds"].as_array().map(Vec::len), Some(2));
}

/// Interrupted in a colour network of a part, in a network of the first fold, and when one of the second is done.
#[cfg(unix)]
#[test]
fn an_interrupted_cross_validation_goes_on_to_the_same_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, whole, out) = (dir.path().join("data"), dir.path().join("whole.json"), dir.path().join("cv.json"));
    coloured_data(&data);
    let rows = "rows=[\"none\", \"mobilenet\"]";
    let settings = ["--epochs", "12", "--set", "color_epochs=12", "--set", "points=[2]", "--set", rows];
    let table = ok(&args(&data, &whole, &settings));
    let beside = |ending: &str| dir.path().join(format!("cv.json{ending}"));
    let resumed = [&settings[..], &["--resume"]].concat();
    interrupt(&args(&data, &out, &settings), || lines(&beside(".color-2.log.jsonl")) >= 2);
    refused(&args(&data, &out, &settings), &["cv.json", "--resume"]);
    interrupt(&args(&data, &out, &resumed), || lines(&beside(".network.log.jsonl")) >= 2);
    let other = [&resumed[..], &["--set", "color_width=9"]].concat();
    refused(&args(&data, &out, &other), &["another run", "width was 8, is 9"]);
    interrupt(&args(&data, &out, &resumed), || out.exists());
    let other = [&resumed[..], &["--set", "lr=3e-3"]].concat();
    refused(&args(&data, &out, &other), &["cv.json.checkpoint", "another run", "setting lr was 0.002, is 0.003"]);
    refused(&args(&data, &out, &[&resumed[..], &["--group", r"(.)\.png"]].concat()), &["cv.json.checkpoint", "parts"]);
    // What is finished is not trained again.
    let log = std::fs::read(beside(".color.log.jsonl")).expect("a log");
    let again = ok(&args(&data, &out, &resumed));
    assert!(again == table, "{again}");
    let bytes = |path: &Path| std::fs::read(path).expect("bytes");
    assert!(bytes(&whole) == bytes(&out), "another table");
    assert!(lines(&beside(".color.log.jsonl")) <= 12 || bytes(&beside(".color.log.jsonl")) == log);
    let left: Vec<String> = std::fs::read_dir(dir.path())
        .expect("a folder")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with("checkpoint"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Figure 4 of the paper: a file for each share, and a page of all. A share that is finished is not done again.
#[test]
fn imbalance_is_studied_at_several_shares() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let (data, out) = (path("data"), path("study.json"));
    coloured_data(&data);
    let settings =
        ["--epochs", "2", "--set", "color_epochs=2", "--set", "rows=[\"none\", \"direct\"]", "--set", "points=[3]"];
    let study = |more: &[&'static str]| args(&data, &out, &[&settings[..], more].concat());
    ok(&study(&["--imbalance", "0.2,0.1"]));
    let results = |share: &str| json(&std::fs::read_to_string(path(&format!("study-{share}.json"))).expect("a file"));
    for (share, positive) in [("0.2", 8), ("0.1", 3)] {
        let one = results(share);
        assert_eq!((&one["results"]["positive"], &one["results"]["done"]), (&positive.into(), &2.into()), "{share}");
    }
    let page = std::fs::read_to_string(path("study.html")).expect("a page");
    // Of two rows: a line each, and the deviation at both shares.
    assert_eq!(page.matches("<polyline").count(), 6, "{page}");
    for words in ["ResNet18 + Direct Attention", "<th>0.091</th><th>0.211</th>", "share of defective images"] {
        assert!(page.contains(words), "{words}");
    }
    refused(&study(&["--imbalance", "0.2,0.1"]), &["study-0.2.json", "is there already", "--force"]);
    // One share more.
    let first = std::fs::metadata(path("study-0.2.json")).and_then(|m| m.modified()).expect("a time");
    ok(&study(&["--imbalance", "0.2,0.15,0.1", "--resume"]));
    assert_eq!(std::fs::metadata(path("study-0.2.json")).and_then(|m| m.modified()).expect("a time"), first);
    assert_eq!(results("0.15")["results"]["positive"], 5);
    let other = study(&["--imbalance", "0.2,0.1", "--resume", "--seed", "1"]);
    refused(&other, &["study-0.2.json", "another run", "--force"]);
    // Another image, or other labels.
    let (image, moved) = (data.join("test/stain/000.png"), data.join("test/good/900.png"));
    std::fs::rename(&image, &moved).expect("moved");
    let resumed = study(&["--imbalance", "0.2,0.1", "--resume"]);
    refused(&resumed, &["study-0.2.json: is of another run", "SHA-256 of the", "--force"]);
    std::fs::rename(&moved, &image).expect("moved back");
    let parts = study(&["--imbalance", "0.2,0.1", "--resume", "--group", r"(.)\.png"]);
    refused(&parts, &["study-0.2.json: is of another run", "parts", "--force"]);
    refused(&study(&["--imbalance", "1.5"]), &["positive_share", "1.5"]);
    refused(&study(&["--imbalance", "0.3"]), &["study.html", "is there already"]);
    refused(&study(&["--imbalance", "0.3,0.3"]), &["0.3", "twice"]);
}
