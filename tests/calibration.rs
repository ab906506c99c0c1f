//! Thresholds: what they promise, what they are found on, `hotad calibrate`.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::pictures::write_bmp;
use common::{bars, hotad, ok, refused, small_data, text, train_small, trained};
use hotad_engine::calibration::{Calibration, UpperQuantile};
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::data::synth::{Kind, VISIBLE, draw, draw_faint};
use hotad_engine::random;
use hotad_models::synthetic::{Purpose, defects};
use image::{GrayImage, Luma};
use rand::Rng;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn normals(n: usize, stream: u64) -> Vec<f32> {
    let mut rng = random::stream(9, "normals", stream);
    // Skewed, as scores are: a threshold must not depend on their distribution.
    (0..n).map(|_| random::normal(&mut rng).exp()).collect()
}

#[test]
fn the_threshold_is_the_conformal_order_statistic() {
    // (n + 1)(1 - r) in whole numbers: 95 of 99, 98 of 99, 10 of 10; beyond n the largest.
    for (n, rate, rank, promised) in [
        (99, 0.05, 95, 0.05),
        (99, 0.01, 99, 0.01),
        (199, 0.01, 198, 0.01),
        (12, 0.01, 12, 1.0 / 13.0),
        (10, 0.1, 10, 0.1),
    ] {
        let c = Calibration::of_scores((1..=n).map(|i| (i as f32, i)).rev().collect(), rate);
        assert_eq!(c.image_threshold, rank as f32, "{n} scores at {rate}");
        assert!((c.promised_false_alarm_rate - promised).abs() < 1e-12, "{n} scores at {rate}");
        assert_eq!(c.warnings.is_empty(), promised <= rate, "{:?}", c.warnings);
    }
    // 99 photos of 9 parts say no more than 9 parts can.
    let c = Calibration::of_scores((0..99).map(|i| (i as f32, i % 9)).collect(), 0.01);
    assert_eq!((c.image_threshold, c.promised_false_alarm_rate, c.groups), (98.0, 0.1, 9));
}

#[test]
fn a_part_with_many_photos_weighs_no_more_than_one_with_one() {
    // A thousand photos of one part score low; one photo each of 98 others.
    let photos = (0..1001).map(|i| (i as f32 * 1e-3, 0)).chain((1..=98).map(|part| (10.0 + part as f32, part)));
    let c = Calibration::of_scores(photos.collect(), 0.05);
    // Weights of 1 / 100: the first part's add up to one of them, so that the 94th of the others makes 0.95.
    assert_eq!((c.image_threshold, c.promised_false_alarm_rate), (104.0, 0.05));
}

#[test]
fn the_rate_is_kept_for_new_parts_when_photos_of_a_part_are_alike() {
    let (parts, rate, draws) = (40, 0.1, 2000);
    let mut rng = random::stream(3, "parts", 0);
    let mut alarms = 0;
    for _ in 0..draws {
        let mut scores = Vec::new();
        for part in 0..parts {
            let own = random::normal(&mut rng);
            let photos = if rng.random::<f32>() < 0.2 { 30 } else { 1 };
            scores.extend((0..photos).map(|_| (own + 0.1 * random::normal(&mut rng), part)));
        }
        let c = Calibration::of_scores(scores, rate);
        alarms += usize::from(random::normal(&mut rng) + 0.1 * random::normal(&mut rng) > c.image_threshold);
    }
    let seen = f64::from(alarms as u32) / f64::from(draws);
    let error = 4.0 * (rate * (1.0 - rate) / f64::from(draws)).sqrt();
    assert!(seen <= rate + error && seen >= rate - 1.0 / 41.0 - error, "{seen} of {rate}");
}

#[test]
fn the_promised_rate_is_kept_on_average() {
    for (n, rate) in [(12, 0.01), (40, 0.05), (100, 0.1)] {
        let (mut alarms, mut promised) = (0, 0.0);
        let draws = 3000;
        for draw in 0..draws {
            let mut scores = normals(n + 1, (n * draws + draw) as u64);
            let new = scores.pop().expect("one more");
            let c = Calibration::of_scores(scores.into_iter().zip(0..).collect(), rate);
            alarms += usize::from(new > c.image_threshold);
            promised = c.promised_false_alarm_rate;
        }
        let seen = alarms as f64 / draws as f64;
        // Four standard errors; the interpolated quantile misses by far more at n = 12 (0.085 instead of 0.01 is its doing).
        let error = 4.0 * (promised * (1.0 - promised) / draws as f64).sqrt();
        assert!(seen <= promised + error, "{seen} of {promised} promised by {n} scores at {rate}");
        assert!(
            seen >= promised - 1.0 / (n + 1) as f64 - error,
            "{seen} of {promised}: the threshold is needlessly high"
        );
    }
}

#[test]
fn no_more_pixels_than_allowed_lie_above_the_quantile() {
    for (n, rate) in [(1000, 0.01), (1003, 0.013), (10, 0.001), (1, 0.5)] {
        let values = normals(n, 7);
        let mut quantile = UpperQuantile::new(rate, n);
        values.chunks(37).for_each(|part| quantile.extend(part));
        let value = quantile.value();
        let above = values.iter().filter(|v| **v > value).count();
        assert_eq!(above, (rate * n as f64) as usize, "{n} values at {rate}");
    }
}

#[test]
fn pictures_of_maps_begin_at_normal_pixels_also_below_zero() {
    for (normal_pixel, pixel_threshold) in [(0.0, 0.2), (-9.0, -5.0), (3.0, 4.5)] {
        let c = Calibration { normal_pixel, pixel_threshold, ..Calibration::default() };
        let spread = pixel_threshold - normal_pixel;
        let expected = [(-1.0, 0.0), (0.0, 0.0), (0.5, 0.25), (1.0, 0.5), (1.5, 0.75), (3.0, 1.0)];
        for (way, value) in expected {
            assert!(
                (c.pictured(normal_pixel + way * spread) - value).abs() < 1e-6,
                "{way} of the way from {normal_pixel}"
            );
        }
    }
}

#[test]
fn every_kind_of_defect_shows_where_its_mask_says() {
    let normal = Picture { values: bars(96, 3).values, height: 96, width: 96, channels: 1 };
    for (i, (kind, name)) in Kind::ALL.into_iter().enumerate() {
        for opacity in [1.0, 0.5] {
            let (drawn, mask) = draw_faint(kind, &normal, opacity, &mut random::stream(2, "kinds", i as u64));
            assert!(mask.defect.contains(&true), "{name}: nothing is to be seen");
            assert!(mask.defect.iter().filter(|d| **d).count() < 96 * 96 / 2, "{name} covers most of the picture");
            for ((a, b), hit) in normal.values.iter().zip(&drawn.values).zip(&mask.defect) {
                assert_eq!((a - b).abs() >= VISIBLE, *hit, "{name} at {opacity}");
                assert!((0.0..=1.0).contains(b), "{name} at {opacity}: {b}");
            }
        }
        // At full opacity both say the same.
        let again = |_| random::stream(2, "again", i as u64);
        assert_eq!(draw(kind, &normal, &mut again(0)).1.defect, draw_faint(kind, &normal, 1.0, &mut again(1)).1.defect);
    }
}

/// New normal images in a plain folder.
fn new_normals(folder: &Path, count: u64) {
    std::fs::create_dir_all(folder).expect("a folder");
    for i in 0..count {
        bars(40, 500 + i).write_png(&folder.join(format!("{i:03}.png"))).expect("a picture");
    }
}

#[test]
fn calibrate_finds_thresholds_on_images_that_were_not_learned_from() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (m, new, other) = (text(&model), dir.path().join("new"), dir.path().join("other.safetensors"));
    let before = json(&ok(&["info", m, "--json"]));
    new_normals(&new, 30);
    let args = ["calibrate", m, "--data", text(&new), "--group", "none", "--out", text(&other)];
    ok(&[&args[..], &["--false-alarm-rate", "0.1"]].concat());
    let after = json(&ok(&["info", text(&other), "--json"]))["calibration"].clone();
    assert_eq!((&after["images"], &after["groups"]), (&30.into(), &30.into()));
    assert_eq!(after["image_rule"], "conformal, number 28 of 30 held-out normal scores");
    assert!(after["pixel_rule"].to_string().contains("synthetic defects"), "{after}");
    assert_eq!(json(&ok(&["info", m, "--json"])), before, "--out leaves the model alone");
    // 19 of the 24 normal images were learned from; the five held out are left to calibrate on.
    let output = hotad(&["calibrate", m, "--data", text(&data), "--group", "none"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && stderr.contains("19 images of parts that the model has learned from are left out"),
        "{stderr}"
    );
    let learned = dir.path().join("learned");
    std::fs::create_dir(&learned).expect("a folder");
    let hashes = before["provenance"]["learned_images"].as_array().expect("hashes").clone();
    for entry in std::fs::read_dir(data.join("train/good")).expect("a folder").flatten() {
        let hash = hotad_engine::data::prepare::file_sha256(&entry.path()).expect("a hash");
        if hashes.contains(&hash.into()) {
            std::fs::copy(entry.path(), learned.join(entry.file_name())).expect("copied");
        }
    }
    refused(
        &["calibrate", m, "--data", text(&learned), "--group", "none"],
        &["learned from the parts of all", "not seen"],
    );
    refused(&["calibrate", m, "--data", text(&new), "--false-alarm-rate", "1.5"], &["--false-alarm-rate"]);
}

#[test]
fn one_model_is_evaluated_under_other_settings_of_scoring() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &["--set", "alpha=0.1"]);
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"];
    let with = |set: &[&str]| json(&ok(&[&eval[..], set].concat()));
    let own = with(&[]);
    let same = with(&["--set", "alpha=0.1"]);
    let other = with(&["--set", "alpha=0.9", "--set", "score=map"]);
    assert_eq!((&own["image_auroc"], &own["dice_max"]), (&same["image_auroc"], &same["dice_max"]));
    assert_ne!(own["dice_max"], other["dice_max"]);
    assert!(other["notes"].to_string().contains("alpha = 0.9"), "{other}");
    // As if trained so: the network does not depend on them.
    let again = dir.path().join("again.safetensors");
    train_small(&data, &again, &["--epochs", "2", "--set", "alpha=0.9", "--set", "score=map"]);
    let chosen = ["--set", "lambda=0.01", "--set", "similar=0"];
    let eval_again = ["eval", "--model", text(&again), "--data", text(&data), "--json", "-q"];
    let trained_so = json(&ok(&[&eval_again[..], &chosen].concat()));
    let set_so = with(&[&["--set", "alpha=0.9", "--set", "score=map"][..], &chosen].concat());
    assert_eq!((&trained_so["dice_max"], &trained_so["image_ap"]), (&set_so["dice_max"], &set_so["image_ap"]));
    refused(&[&eval[..], &["--set", "epochs=3"]].concat(), &["epochs", "in training", "alpha"]);
    refused(&[&eval[..], &["--set", "alpha=3"]].concat(), &["alpha", "0 to 1"]);
    refused(&[&eval[..], &["--set", "nothing=3"]].concat(), &["unknown setting", "nothing"]);
}

#[test]
fn labelled_images_that_gave_thresholds_are_not_evaluated_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = trained(dir.path(), &[]);
    let (m, d, other) = (text(&model), text(&data), dir.path().join("labelled"));
    small_data(&other, 40);
    // Other images, as content tells images apart.
    for i in 0..4 {
        bars(40, 700 + i).write_png(&other.join(format!("test/good/{:03}.png", 24 + i))).expect("a picture");
    }
    ok(&["calibrate", m, "--data", text(&other), "--f1", "--group", "none"]);
    let calibration = json(&ok(&["info", m, "--json"]))["calibration"].clone();
    assert!(calibration["image_rule"].to_string().contains("largest F1"), "{calibration}");
    assert!(calibration["pixel_rule"].to_string().contains("4 labelled images"), "{calibration}");
    let metrics = json(&ok(&["eval", "--model", m, "--data", d, "--json", "-q"]));
    // The cracked images of both are the same files.
    assert_eq!((&metrics["good"], &metrics["defective"]), (&4.into(), &0.into()), "{metrics}");
    assert!(metrics["notes"].to_string().contains("4 test images were learned from, thresholds"), "{metrics}");
    // Nor are those of the same part: here one normal image is of the part of a cracked one.
    let list = |kind: &str| -> Vec<_> {
        let entries = std::fs::read_dir(data.join("test").join(kind)).expect("a folder");
        entries.map(|e| format!("{kind}/{}", e.expect("an entry").file_name().to_string_lossy())).collect()
    };
    let (good, crack) = (list("good"), list("crack"));
    let alone = good.iter().chain(&crack).map(|file| format!("{file},{file}\n")).collect::<String>();
    let together = alone.replace(&format!("{0},{0}", good[0]), &format!("{},{}", good[0], crack[0]));
    for (table, normal) in [(alone, 4), (together, 3)] {
        let parts = dir.path().join("parts.csv");
        std::fs::write(&parts, table).expect("written");
        let eval = ["eval", "--model", m, "--data", d, "--json", "-q", "--group", text(&parts)];
        let metrics = json(&ok(&eval));
        assert_eq!((&metrics["good"], &metrics["defective"]), (&normal.into(), &0.into()), "{metrics}");
    }
    let f1 = json(&ok(&["info", m, "--json"]))["calibration"]["promised_false_alarm_rate"].clone();
    assert_eq!(f1, 0.0);
    // Thresholds from normal images depend on no labelled ones.
    let (new, again) = (dir.path().join("new"), dir.path().join("again.safetensors"));
    new_normals(&new, 12);
    ok(&["calibrate", m, "--data", text(&new), "--group", "none", "--out", text(&again)]);
    let metrics = json(&ok(&["eval", "--model", text(&again), "--data", d, "--json", "-q"]));
    assert_eq!((&metrics["good"], &metrics["defective"]), (&4.into(), &4.into()), "{metrics}");
    std::fs::remove_dir_all(other.join("test/good")).expect("removed");
    refused(&["calibrate", m, "--data", text(&other), "--f1", "--group", "none"], &["--f1", "good and defective"]);
}

#[test]
fn an_ensemble_calibrates_on_what_no_member_has_learned_from() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 40);
    let [a, b, out] = ["a", "b", "out"].map(|name| dir.path().join(format!("{name}.safetensors")));
    train_small(&data, &a, &["--epochs", "1", "--group", "none"]);
    train_small(&data, &b, &["--epochs", "1", "--group", "none", "--seed", "3"]);
    let learned = |model: &Path| -> Vec<Value> {
        json(&ok(&["info", text(model), "--json"]))["provenance"]["learned_images"].as_array().expect("hashes").clone()
    };
    let args = ["train", "score-ensemble", "--data", text(&data), "--out", text(&out), "-q", "--group", "none"];
    let members = ["--member", text(&a), "--member", text(&b)];
    let output = hotad(&[&args[..], &members].concat());
    let both: std::collections::BTreeSet<String> =
        learned(&a).iter().chain(&learned(&b)).map(Value::to_string).collect();
    if both.len() == 24 {
        // Both held-out parts together leave nothing.
        refused(&[&args[..], &members].concat(), &["learned from by an earlier model"]);
    } else {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let info = json(&ok(&["info", text(&out), "--json"]));
        assert_eq!(info["calibration"]["images"].as_u64(), Some(24 - both.len() as u64));
        let all: std::collections::BTreeSet<String> = learned(&out).iter().map(Value::to_string).collect();
        assert!(both.is_subset(&all), "the ensemble has learned from what its members have");
    }
    // Of one seed the members' held-out images are the ensemble's.
    ok(&[&args[..], &["--force", "--member", text(&a), "--member", text(&a)]].concat());
    assert_eq!(json(&ok(&["info", text(&out), "--json"]))["calibration"]["images"], 5);
}

/// Numbers of the images, each of a gray of its own, that defects were drawn on.
fn drawn_on(paths: &[PathBuf], seed: u64, purpose: Purpose) -> BTreeSet<usize> {
    let spec = ImageSpec { height: 32, width: 32, channels: 1 };
    let mut numbers = BTreeSet::new();
    for batch in defects(ImageFiles::whole(paths), spec, seed, purpose).expect("images") {
        let values = batch.images.values().expect("on the host");
        for (picture, mask) in values.chunks_exact(32 * 32).zip(&batch.masks) {
            let plain = picture.iter().zip(mask).find(|(_, defect)| !**defect).map(|(value, _)| value * 255.0);
            numbers.extend(plain.map(|gray| ((gray - 20.0) / 2.0).round() as usize));
        }
    }
    numbers
}

#[test]
fn defects_are_drawn_on_images_from_everywhere_by_seed_and_purpose() {
    let dir = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = (0..100).map(|i| dir.path().join(format!("{i:03}.bmp"))).collect();
    for (i, path) in paths.iter().enumerate() {
        write_bmp(&GrayImage::from_pixel(32, 32, Luma([20 + 2 * i as u8])), path);
    }
    let chosen = drawn_on(&paths, 1, Purpose::Thresholds);
    assert!(chosen.len() > 20 && chosen.range(..32).count() > 0 && chosen.range(32..).count() > 0, "{chosen:?}");
    assert_eq!(chosen, drawn_on(&paths, 1, Purpose::Thresholds));
    assert_ne!(chosen, drawn_on(&paths, 2, Purpose::Thresholds));
    assert_ne!(chosen, drawn_on(&paths, 1, Purpose::Settings));
}
