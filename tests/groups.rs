//! Photos of one part stay on one side of every split.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use common::{bars, ok, real_data, refused, small_data, text, train_small};
use hotad_engine::data::groups::{Grouping, Thumbnail, alike, defective_to_learn, folds, set_aside};
use hotad_engine::data::picture::Picture;
use hotad_engine::data::{Item, images_in};
use hotad_engine::random;
use rand::Rng;

fn thumbnails(paths: &[PathBuf]) -> Vec<Thumbnail> {
    let of = |path: &PathBuf| Picture::read(path).and_then(|p| p.fit(Thumbnail::SPEC)).expect("a picture");
    paths.iter().map(|path| Thumbnail::new(&of(path))).collect()
}

/// Pairs of images, of those whose parts are known, that are in one group; of how many.
fn found(groups: &[usize], parts: &[usize], same: bool) -> (usize, usize) {
    let pairs =
        (0..parts.len()).flat_map(|i| (0..i).map(move |j| (i, j))).filter(|(i, j)| (parts[*i] == parts[*j]) == same);
    pairs.fold((0, 0), |(hit, all), (i, j)| (hit + usize::from(groups[i] == groups[j]), all + 1))
}

#[test]
fn exposures_of_one_tile_are_found() {
    let Some(data) = real_data("magnetic_tile") else { return };
    let paths = images_in(&data.join("train/good")).expect("images");
    let number = |path: &PathBuf| -> usize {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        name.rsplit('_').next().and_then(|n| n.parse().ok()).expect("a running number")
    };
    // Photos whose running numbers are at most 300 apart are of one tile (README of the data).
    let mut order: Vec<usize> = (0..paths.len()).collect();
    order.sort_by_key(|i| number(&paths[*i]));
    let mut parts = vec![0; paths.len()];
    for pair in order.windows(2) {
        parts[pair[1]] = parts[pair[0]] + usize::from(number(&paths[pair[1]]) - number(&paths[pair[0]]) > 300);
    }
    let groups = alike(&thumbnails(&paths));
    let (hit, all) = found(&groups, &parts, true);
    let (wrong, others) = found(&groups, &parts, false);
    assert!(hit as f64 > 0.6 * all as f64, "{hit} of {all} pairs of one tile are in one group");
    // A chain of likenesses joins a few tiles.
    assert!((wrong as f64) < 0.02 * others as f64, "{wrong} of {others} pairs of two tiles are in one group");
}

#[test]
fn images_of_parts_that_are_alike_by_degrees_are_no_group() {
    // Transistors on one board, and pieces of leather: each image is a part.
    for (category, most) in [("mvtec_transistor", 8), ("mvtec_leather_crops", 1)] {
        let Some(data) = real_data(category) else { return };
        let paths = images_in(&data.join("train/good")).expect("images");
        let groups = alike(&thumbnails(&paths));
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        groups.iter().for_each(|g| *sizes.entry(*g).or_default() += 1);
        assert!(sizes.values().all(|n| *n <= most), "{category}: {sizes:?}");
        assert!(sizes.len() * 10 >= paths.len() * 9, "{category}: {} groups of {} images", sizes.len(), paths.len());
    }
}

#[test]
fn no_group_is_divided() {
    let mut rng = random::stream(4, "groups", 0);
    for case in 0..50 {
        let n = rng.random_range(12..80);
        let groups: Vec<usize> = (0..n).map(|_| rng.random_range(0..n / 3)).collect();
        let count = rng.random_range(1..n);
        let (kept, apart) = set_aside(&groups, count, &random::shuffled(n, 1, "order", case));
        assert_eq!(kept.len() + apart.len(), n);
        assert!(!kept.is_empty() && !apart.is_empty());
        let of = |some: &[usize]| some.iter().map(|i| groups[*i]).collect::<BTreeSet<_>>();
        assert!(of(&kept).is_disjoint(&of(&apart)));
        let class: Vec<bool> = (0..n).map(|_| rng.random()).collect();
        let dealt = folds(&groups, &class, 3, case);
        for (i, j) in (0..n).flat_map(|i| (0..i).map(move |j| (i, j))) {
            assert!(groups[i] != groups[j] || dealt[i] == dealt[j]);
        }
    }
}

#[test]
fn a_large_group_is_set_aside_last() {
    // Of 40 images 20 are of one group; 8 are wanted.
    let groups: Vec<usize> = (0..40).map(|i| if i < 20 { 0 } else { i }).collect();
    for case in 0..20 {
        let order = random::shuffled(40, 2, "order", case);
        let (kept, apart) = set_aside(&groups, 8, &order);
        assert_eq!((kept.len(), apart.len()), (32, 8));
        assert!(apart.iter().all(|i| groups[*i] != 0));
        // Where there is nothing else, it is taken.
        let (kept, apart) = set_aside(&groups[..21], 8, &random::shuffled(21, 2, "order", case));
        assert_eq!(kept.len() + apart.len(), 21);
        assert_eq!((kept.len(), apart.len()), (20, 1), "the small one first");
    }
}

#[test]
fn single_images_are_dealt_out_evenly() {
    let groups: Vec<usize> = (0..23).collect();
    let class: Vec<bool> = (0..23).map(|i| i >= 14).collect();
    let dealt = folds(&groups, &class, 5, 8);
    for of_class in [false, true] {
        let mut counts = [0; 5];
        dealt.iter().zip(&class).filter(|(_, c)| **c == of_class).for_each(|(f, _)| counts[*f] += 1);
        assert!(counts.iter().max().expect("five") - counts.iter().min().expect("five") <= 1, "{counts:?}");
    }
}

/// Three photos of each of eight parts.
fn bursts(data: &Path) {
    small_data(data, 40);
    for i in 0..24 {
        let path = data.join(format!("train/good/{i:03}.png"));
        std::fs::remove_file(&path).expect("removed");
        let (mut picture, exposure) = (bars(40, i / 3 + 900), 1.0 - 0.1 * (i % 3) as f32);
        // A mark of its own, so that parts differ by more than degrees.
        let (row, col) = (5 * (i as usize / 3) % 40, 15 * (i as usize / 3) % 40);
        let marked = |at: usize| (row..row + 10).contains(&(at / 40)) && (col..col + 10).contains(&(at % 40));
        for (at, v) in picture.values.iter_mut().enumerate() {
            *v = exposure * if marked(at) { 0.9 } else { *v };
        }
        picture.write_png(&data.join(format!("train/good/part{}-{}.png", i / 3, i % 3))).expect("a picture");
    }
}

/// The parts that a model's log says were held out, and its number of held-out images and groups.
fn held_out(data: &Path, model: &Path, group: &str) -> (BTreeMap<String, usize>, serde_json::Value) {
    let args = ["train", "paedid", "--data", text(data), "--out", text(model), "--force", "--verbose", "--epochs", "1"];
    let output = common::hotad(&[&args[..], &common::QUICK, &["--group", group]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "--group {group}: {stderr}");
    let mut parts = BTreeMap::new();
    for line in stderr.lines().filter(|l| l.starts_with("held out: ")) {
        let name = line.rsplit('/').next().expect("a name").split('-').next().expect("a part");
        *parts.entry(name.to_string()).or_default() += 1;
    }
    let info = ok(&["info", text(model), "--json"]);
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    (parts, info["calibration"].clone())
}

#[test]
fn training_holds_out_whole_parts() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model, table) =
        (dir.path().join("data"), dir.path().join("m.safetensors"), dir.path().join("groups.csv"));
    bursts(&data);
    let lines: Vec<String> = (0..24).map(|i| format!("good/part{0}-{1}.png,{0}", i / 3, i % 3)).collect();
    std::fs::write(&table, lines.join("\n")).expect("a table");
    // Photos of a part differ in their exposure here, and are found by their likeness too.
    for group in ["auto", "^(part[0-9]+)-", text(&table)] {
        let (parts, calibration) = held_out(&data, &model, group);
        assert!(!parts.is_empty() && parts.values().all(|n| *n == 3), "--group {group}: {parts:?}");
        assert_eq!(calibration["groups"].as_u64(), Some(parts.len() as u64));
        assert_eq!(calibration["images"].as_u64(), Some(3 * parts.len() as u64));
        let promised = calibration["promised_false_alarm_rate"].as_f64().expect("a rate");
        assert!((promised - 1.0 / (parts.len() + 1) as f64).abs() < 1e-9, "{calibration}");
    }
    let (parts, _) = held_out(&data, &model, "none");
    assert!(parts.values().any(|n| *n < 3), "by chance some part is divided: {parts:?}");
    let train = ["train", "paedid", "--data", text(&data), "--out", text(&model), "--force"];
    refused(&[&train[..], &["--group", "(unclosed"]].concat(), &["--group", "(unclosed", "regular expression"]);
    refused(&[&train[..], &["--group", "^nothing"]].concat(), &["--group", "says nothing about", "part"]);
    std::fs::write(&table, "no comma").expect("a table");
    refused(&[&train[..], &["--group", text(&table)]].concat(), &["line 1", "FILE,PART"]);
}

#[test]
fn intervals_draw_parts() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "1"]);
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--json", "-q", "--group"];
    let metrics = |group: &str| -> serde_json::Value {
        serde_json::from_str(&ok(&[&eval[..], &[group]].concat())).expect("JSON")
    };
    let single = metrics("none");
    assert_eq!(single["parts"], 8);
    for (name, interval) in single["intervals"].as_object().expect("intervals") {
        let value = single[name].as_f64().expect("a metric with an interval has a value");
        let [low, high] = [0, 1].map(|i| interval[i].as_f64().unwrap_or_else(|| panic!("{name}: {interval}")));
        // Sketches tell pixels apart to 16 bits, so that a bound of a metric over pixels is that coarse.
        assert!(low <= value + 5e-3 && value <= high + 5e-3, "{name}: {value} in {low} to {high}");
    }
    for name in ["dice_best_threshold", "dice_at_threshold", "image_ap"] {
        assert!(single["intervals"][name].is_array(), "{name} has no interval");
    }
    let crack = &single["kinds"]["crack"];
    for name in ["image_auroc", "recall", "dice_at_threshold"] {
        let bounds = &crack["intervals"][name];
        let [low, value, high] = [&bounds[0], &crack[name], &bounds[1]].map(|v| v.as_f64().expect("a number"));
        assert!(low <= value + 1e-9 && value <= high + 1e-9, "{name}: {value} in {bounds}");
    }
    // One part has no spread: pictures 024 to 027 are good, 000 to 003 cracked.
    let one = metrics("^0");
    assert_eq!(one["parts"], 1);
    assert_eq!(one["intervals"], serde_json::json!({}));
    assert_eq!(single["kinds"]["crack"]["images"], 4);
    assert_eq!(single["kinds"]["crack"]["image_auroc"], single["image_auroc"]);
    assert!(matches!(Grouping::of("none"), Ok(Grouping::None)));
}

/// Twelve photos of six parts, of two kinds of defects; one part has both.
#[test]
fn defective_images_are_learned_from_by_whole_parts() {
    let item = |i: usize| Item {
        path: format!("{i}.png").into(),
        kind: if i < 6 { "dent" } else { "hole" }.into(),
        defective: i < 12,
        masks: Vec::new(),
    };
    let items: Vec<Item> = (0..14).map(item).collect();
    let groups = [0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 6, 5];
    for seed in 0..40 {
        let learned = defective_to_learn(&items, &groups, 0.5, seed);
        let parts: HashSet<usize> = learned.iter().map(|i| groups[*i]).collect();
        let left: Vec<usize> = (0..12).filter(|i| !learned.contains(i)).collect();
        assert!(left.iter().all(|i| !parts.contains(&groups[*i])), "{seed}: {learned:?}");
        let of = |images: &[usize], first: bool| images.iter().filter(|i| (**i < 6) == first).count();
        // Three of six of each kind, which are two parts of two; the part with both kinds goes where its dents go.
        assert_eq!((of(&learned, true), of(&left, true)), (4, 2), "{seed}: {learned:?}");
        // Without that one the parts of two and of three holes are left: both, where the first drawn is that of two.
        assert!((3..=5).contains(&of(&learned, false)) && learned.iter().all(|i| *i < 12), "{seed}: {learned:?}");
    }
    // Photos of one part each: the share of each kind, as always.
    let alone: Vec<usize> = (0..14).collect();
    assert_eq!(defective_to_learn(&items, &alone, 0.5, 7).len(), 6);
    assert_eq!(defective_to_learn(&items[..1], &alone[..1], 0.5, 7), [0]);
    assert!(defective_to_learn(&items[..6], &[3; 6], 0.5, 7).is_empty(), "one part cannot be divided");
    // Of either kind two parts, one of them with both: where that is left for the test, the other holes can be learned from.
    for seed in 0..20 {
        let learned = defective_to_learn(&items[4..8], &[0, 1, 1, 2], 0.5, seed);
        assert!(matches!(learned[..], [0, 3] | [1, 2]), "{seed}: {learned:?}");
    }
}
