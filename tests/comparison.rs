//! `hotad eval` of several models, data sets and changes of the images.

mod common;

use std::path::Path;

use common::{bars, hotad, ok, refused, small_data, text, train_small};
use hotad_engine::data::corrupt::{Corrupt, Corruption, RandomChange};
use hotad_engine::data::picture::{Mask, Picture};

/// Two data sets with two models each, as DIR/SET/NAME.safetensors.
fn set_up(dir: &Path) {
    for (set, steps) in [("bolts", "steps=10"), ("nuts", "steps=20")] {
        small_data(&dir.join(set), 40);
        std::fs::create_dir_all(dir.join("models").join(set)).expect("a folder");
        for (name, epochs) in [("first", "1"), ("second", "3")] {
            let model = dir.join("models").join(set).join(format!("{name}.safetensors"));
            train_small(&dir.join(set), &model, &["--epochs", epochs, "--set", steps]);
        }
    }
}

#[test]
fn models_data_sets_and_changes_are_compared() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    set_up(dir);
    let (first, second) = (dir.join("models/{}/first.safetensors"), dir.join("models/{}/second.safetensors"));
    let (bolts, nuts, out) = (dir.join("bolts"), dir.join("nuts"), dir.join("out"));
    let args =
        ["eval", "--model", text(&first), "--model", text(&second), "--data", text(&bolts), "--data", text(&nuts)];
    let table = ok(&[&args[..], &["--out", text(&out), "-q"]].concat());
    let head = table.lines().next().expect("a line");
    for word in ["image AUROC", "bolts", "nuts", "mean", "worst"] {
        assert!(head.contains(word), "{word} is not in {head:?}");
    }
    let csv = std::fs::read_to_string(out.join("comparison.csv")).expect("a file");
    assert_eq!(csv.lines().next(), Some("model,method,data,change,metric,value,low,high"));
    assert_eq!(csv.lines().filter(|l| l.contains(",none,image AUROC,")).count(), 4);
    // The worst false-alarm rate is the largest.
    let alarms: Vec<&str> = table.lines().skip_while(|l| !l.contains("false-alarm rate")).take(3).collect();
    let row: Vec<f64> = alarms[1].split_whitespace().filter_map(|v| v.parse().ok()).collect();
    assert!(alarms[0].trim_end().ends_with("worst") && row[3] == row[0].max(row[1]), "{alarms:?}");
    let report = std::fs::read_to_string(out.join("report.html")).expect("a file");
    assert!(report.contains("nuts/second/report.html") && out.join("nuts/second/report.html").is_file());
    // One value, three ways: alone, in the table's JSON, in the CSV file.
    let alone =
        ok(&["eval", "--model", text(&dir.join("models/nuts/second.safetensors")), "--data", text(&nuts), "--json"]);
    let alone: serde_json::Value = serde_json::from_str(&alone).expect("an object");
    let changed = ok(&[&args[..], &["--json", "-q", "--corrupt", "noise", "rotation"]].concat());
    let changed: serde_json::Value = serde_json::from_str(&changed).expect("an object");
    let runs = changed["runs"].as_array().expect("an array");
    assert_eq!(runs.len(), 12);
    let of = |model: &str, set: &str, change: &str| {
        let same = |r: &&serde_json::Value| r["model"] == model && r["category"] == set && r["change"] == change;
        runs.iter().find(same).expect("a run of that name").clone()
    };
    let plain = of("second", "nuts", "none");
    assert_eq!(plain["pixel_auroc"], alone["pixel_auroc"]);
    let [low, high] = [0, 1].map(|i| &alone["intervals"]["pixel_auroc"][i]);
    let row = format!("second,paedid,nuts,none,pixel AUROC,{},{low},{high}", alone["pixel_auroc"]);
    assert!(csv.lines().any(|l| l == row), "{row} is not in {csv}");
    assert_ne!(of("second", "nuts", "noise")["pixel_auroc"], plain["pixel_auroc"]);
    refused(&[&args[..], &["--explain", "--out", text(&out)]].concat(), &["--explain"]);
    let unknown = hotad(&[&args[..], &["--corrupt", "earthquake"]].concat());
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() == Some(2) && said.contains("earthquake") && said.contains("rotation"), "{said}");
    refused(
        &["eval", "--model", text(&dir.join("models/{}/third")), "--data", text(&bolts), "--data", text(&nuts)],
        &["third"],
    );
    refused(&[&args[..], &["--data", text(&nuts)]].concat(), &["nuts", "one name"]);
    refused(&["eval", "--model", text(&first), "--model", text(&first), "--data", text(&bolts)], &["twice"]);
}

#[test]
fn models_of_several_seeds_have_a_mean_and_a_deviation() {
    let dir = tempfile::tempdir().expect("a folder");
    let (dir, data) = (dir.path(), dir.path().join("bolts"));
    small_data(&data, 40);
    let mut models = Vec::new();
    for (name, more) in [
        ("one", &["--seed", "1"][..]),
        ("other", &["--seed", "1", "--set", "steps=11"]),
        ("two", &["--seed", "2"]),
        ("three", &["--seed", "3"]),
    ] {
        let model = dir.join(format!("{name}.safetensors"));
        train_small(&data, &model, &[&["--epochs", "1"], more].concat());
        models.push(model);
    }
    let named = models.iter().flat_map(|model| ["--model", text(model)]);
    let eval: Vec<&str> = ["eval", "--data", text(&data), "-q"].into_iter().chain(named).collect();
    let table = ok(&eval);
    let block: Vec<&str> = table.lines().skip_while(|l| !l.starts_with("pixel AUROC")).take(7).collect();
    let names: Vec<&str> = block.iter().map(|l| l.split("  ").next().expect("a name").trim()).collect();
    let want = [
        "pixel AUROC",
        "one",
        "other",
        "two",
        "three",
        "one and 2 other seeds: mean",
        "one and 2 other seeds: deviation",
    ];
    assert_eq!(names, want, "{table}");
    let value = |line: &str| line.split_whitespace().last().and_then(|v| v.parse::<f64>().ok()).expect("a number");
    let seeds = [1, 3, 4].map(|i| value(block[i]));
    let mean = seeds.iter().sum::<f64>() / 3.0;
    let deviation = (seeds.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    let (got, of) = (value(block[5]), value(block[6]));
    assert!((got - mean).abs() < 2e-3 && (of - deviation).abs() < 2e-3, "{got} and {of} for {mean} and {deviation}");
    // A report has them too, without a link; one seed alone has no such row.
    let out = dir.join("out");
    ok(&[&eval[..], &["--out", text(&out)]].concat());
    let report = std::fs::read_to_string(out.join("report.html")).expect("a file");
    assert!(report.contains("<td>one and 2 other seeds: mean</td>"), "{report}");
    assert!(
        !ok(&["eval", "-q", "--data", text(&data), "--model", text(&models[0]), "--model", text(&models[1])])
            .contains("seeds")
    );
    let json: serde_json::Value = serde_json::from_str(&ok(&[&eval[..], &["--json"]].concat())).expect("an object");
    assert_eq!(
        json["runs"].as_array().expect("runs").iter().map(|r| r["seed"].clone()).collect::<Vec<_>>(),
        [1, 1, 2, 3]
    );
}

#[test]
fn loco_is_evaluated_by_kind_and_wants_its_configuration() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "2"]);
    for part in ["test", "ground_truth"] {
        std::fs::rename(data.join(part).join("crack"), data.join(part).join("logical_anomalies")).expect("renamed");
    }
    let args = ["eval", "--model", text(&model), "--data", text(&data), "--json"];
    refused(&args, &["defects_config.json", "missing"]);
    let config = r#"[{"defect_name":"crack","pixel_value":255,"saturation_threshold":0.5,"relative_saturation":true}]"#;
    std::fs::write(data.join("defects_config.json"), config).expect("a file");
    let metrics: serde_json::Value = serde_json::from_str(&ok(&args)).expect("an object");
    let by_kind = &metrics["auspro_05"];
    assert!(by_kind["logical"].as_f64().is_some_and(|v| v > 0.0) && by_kind["mean"].is_null(), "{metrics}");
    assert!(metrics["notes"].to_string().contains("structural defects are null"), "{metrics}");
    assert_eq!(metrics["image_auroc_by_kind"]["logical"], metrics["image_auroc"]);
    let [all, logical] = [&metrics["intervals"], &metrics["kinds"]["logical_anomalies"]["intervals"]];
    assert!(all["image_auroc"].is_array() && logical["image_auroc"] == all["image_auroc"], "{metrics}");
    for (metric, value) in [("image_auroc", &metrics["image_auroc"]), ("auspro_05", &by_kind["logical"])] {
        let interval = &all[format!("{metric}_logical")];
        let [low, high] = [0, 1].map(|at| interval[at].as_f64().expect("a bound"));
        assert!(low <= high && value.as_f64().is_some_and(|v| low - 0.01 <= v && v <= high + 0.01), "{metrics}");
        assert!(all[format!("{metric}_structural")].is_null() && all[format!("{metric}_mean")].is_null(), "{metrics}");
    }
    assert_eq!(all["image_auroc_logical"], all["image_auroc"]);
    // What is found up to half of its area counts as whole.
    assert!(metrics["auspro_100"]["logical"].as_f64() >= metrics["auspro_30"]["logical"].as_f64());
    let other = config.replace("255", "17");
    std::fs::write(data.join("defects_config.json"), other).expect("a file");
    refused(&args, &["pixel value 255", "defects_config.json"]);
}

#[test]
fn training_images_are_changed_by_one_of_the_kinds_up_to_its_strength() {
    let of = |kinds: &[Corruption], index| {
        let change = RandomChange::new(kinds, 2).expect("kinds");
        change.apply(bars(40, 1), index).expect("a picture").values
    };
    let sharp = bars(40, 1).values;
    let deviation = |values: &[f32]| {
        let square: f32 = values.iter().zip(&sharp).map(|(a, b)| (a - b) * (a - b)).sum();
        (square / sharp.len() as f32).sqrt()
    };
    // Values that are limited to 0..1 differ less.
    let noise: Vec<f32> = (0..40).map(|index| deviation(&of(&[Corruption::Noise], index))).collect();
    assert!(noise.iter().all(|d| *d < 0.052), "noise is at most that of test images: {noise:?}");
    let (weak, strong) = (noise.iter().filter(|d| **d < 0.02).count(), noise.iter().filter(|d| **d > 0.03).count());
    assert!(weak > 4 && strong > 4, "of all strengths: {noise:?}");
    let full = Corrupt { kind: Corruption::Blur, seed: 2 }.apply(bars(40, 1), 0).expect("a picture").values;
    let blur: Vec<f32> = (0..40).map(|index| deviation(&of(&[Corruption::Blur], index))).collect();
    assert!(blur.iter().all(|d| *d < deviation(&full)), "blur is weaker than that of test images: {blur:?}");
    assert!(blur.contains(&0.0), "a blur too small for a pixel changes nothing: {blur:?}");
    let kinds = [Corruption::Brightness, Corruption::Noise];
    let is_scaled = |index| {
        let values = of(&kinds, index);
        let factor = values[0] / sharp[0];
        values.iter().zip(&sharp).all(|(a, b)| (a - factor * b).abs() < 1e-5)
    };
    let scaled = (0..40).filter(|index| is_scaled(*index)).count();
    assert!((8..32).contains(&scaled), "{scaled} of 40 are of the first of two kinds");
    assert!(RandomChange::new(&[], 2).is_none());
    assert_eq!(of(&kinds, 3), of(&kinds, 3));
}

#[test]
fn changes_are_drawn_by_seed_and_masks_turn_with_their_images() {
    let (size, at) = (64, |y: usize, x: usize| (20..30).contains(&y) && (40..58).contains(&x));
    let defect: Vec<bool> = (0..size * size).map(|i| at(i / size, i % size)).collect();
    let values: Vec<f32> = defect.iter().map(|d| f32::from(u8::from(*d))).collect();
    let picture = Picture { height: size, width: size, channels: 1, values };
    let mask = Mask { height: size, width: size, defect };
    let mut turned = 0;
    for index in 0..8 {
        let rotation = Corrupt { kind: Corruption::Rotation, seed: 3 };
        let image = rotation.apply(picture.clone(), index).expect("a picture");
        let moved = rotation.mask(mask.clone(), index);
        let off = image.values.iter().zip(&moved.defect).filter(|(v, d)| (**v > 0.5) != **d).count();
        assert!(off <= 4, "{off} pixels of image {index} are not where its mask is");
        turned += usize::from(moved.defect != mask.defect);
    }
    assert!(turned >= 6, "only {turned} of 8 masks were turned");
    for kind in Corruption::ALL {
        let change = |seed, index| Corrupt { kind, seed }.apply(bars(40, 1), index).expect("a picture").values;
        assert_eq!(change(1, 5), change(1, 5), "{}", kind.name());
        assert_ne!(change(1, 5), bars(40, 1).values, "{}", kind.name());
        if kind != Corruption::Blur {
            assert_ne!(change(1, 5), change(1, 6), "{}", kind.name());
            assert_ne!(change(1, 5), change(2, 5), "{}", kind.name());
        }
        assert!(change(1, 5).iter().all(|v| (0.0..=1.0).contains(v)), "{}", kind.name());
    }
}
