//! `hotad reproduce`: a table over a small data set, with quick settings.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::{binary, ok, refused, small_data, text};
use hotad_engine::data::picture::Picture;
use hotad_engine::random;
use rand::Rng;

/// Settings with which every row of the table trains in a moment.
const QUICK: [&str; 17] = [
    "ssim-ae.latent=4",
    "ssim-ae.epochs=1",
    "ssim-ae.batch=4",
    "mem-ae.latent=4",
    "mem-ae.epochs=1",
    "mem-ae.batch=4",
    "mem-ae.slots=10",
    "patchcore.image_size=64",
    "rasl.image_size=40",
    "rasl.images=5",
    "rasl.rounds=1",
    "paedid.image_size=32",
    "paedid.network=[8, 16]",
    "paedid.steps=5",
    "paedid.epochs=1",
    "paedid.batch=4",
    "paedid.bank=f32",
];

fn command<'a>(table: &'a str, data: &'a Path, out: &'a Path) -> Vec<&'a str> {
    let mut args = vec!["reproduce", table, "--data", text(data), "--out", text(out), "-q"];
    QUICK.iter().for_each(|setting| args.extend(["--set", setting]));
    args
}

fn written(file: &Path) -> SystemTime {
    file.metadata().and_then(|m| m.modified()).expect("a file")
}

#[test]
fn a_table_is_filled_cell_by_cell_beside_what_was_published() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("bars"), dir.path().join("out"));
    small_data(&data, 64);
    let args = command("paedid-1", &data, &out);
    let table = ok(&args);
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows[0], "| row | bars | mean | published mean |");
    for (row, published) in rows[2..].iter().zip(["0.829", "0.700", "0.218", "0.642", "0.954"]) {
        assert!(row.contains(" [") && row.ends_with(&format!("| {published} |")), "{row} ends with {published}");
    }
    assert_eq!(rows.len(), 7);
    assert!(out.join("cracks/bars/ground_truth/crack/0099_mask.png").is_file());
    assert_eq!(std::fs::read_to_string(out.join("table.md")).expect("a file").trim(), table.trim());

    // What is there is not done again: not a model, and of the cells the one alone that is gone.
    let (model, file) = (out.join("models/bars/rasl.safetensors"), out.join("table.json"));
    let (before, cells) = (written(&model), std::fs::read_to_string(&file).expect("a file"));
    let mut json: serde_json::Value = serde_json::from_str(&cells).expect("an object");
    json["cells"].as_object_mut().expect("rows").remove("RASL");
    std::fs::write(&file, json.to_string()).expect("written");
    assert_eq!(ok(&args), table);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), cells);
    assert!(written(&model) == before, "the model was trained again");

    refused(&[&args[..], &["--seed", "8"]].concat(), &["another table, --seed or --set", text(&out)]);
    // A data set is known by its files, wherever they lie.
    let elsewhere = dir.path().join("elsewhere/bars");
    small_data(&elsewhere, 64);
    let moved = command("paedid-1", &elsewhere, &out);
    assert_eq!(ok(&moved), table);
    assert!(written(&model) == before, "the model was trained again");
    let [image, mask] = ["train/good/003.png", "ground_truth/crack/002_mask.png"].map(|file| elsewhere.join(file));
    let changed = ["elsewhere/bars", "the files of bars differ", "name a new folder"];
    for file in [&image, &mask] {
        let bytes = std::fs::read(file).expect("a file");
        std::fs::copy(file.with_file_name(if file == &mask { "001_mask.png" } else { "004.png" }), file)
            .expect("copied");
        refused(&moved, &changed);
        std::fs::write(file, bytes).expect("written");
        assert_eq!(ok(&moved), table);
    }
    std::fs::rename(&image, image.with_file_name("099.png")).expect("renamed");
    refused(&moved, &changed);
    let plain = data.join("train/good");
    refused(&command("paedid-1", &plain, &dir.path().join("plain")), &["no normal test images"]);
}

/// Interrupted while a model trains, which the same command then goes on with.
#[cfg(unix)]
#[test]
fn an_interrupted_table_says_how_it_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let log = out.join("models/bars/ssim-ae.safetensors.log.jsonl");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    // The same files in another place go on too.
    for place in ["here", "there"] {
        let data = dir.path().join(place).join("bars");
        small_data(&data, 64);
        let mut args = command("paedid-1", &data, &out);
        args.extend(["--set", "ssim-ae.epochs=100000", "--set", "ssim-ae.patience=0"]);
        let before = lines();
        let mut child = binary().args(&args).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let started = Instant::now();
        while lines() < before + 2 && child.try_wait().expect("its state").is_none() {
            assert!(started.elapsed() < Duration::from_secs(120), "no progress");
            std::thread::sleep(Duration::from_millis(5));
        }
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
        let output = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.ends_with(".checkpoint; the same command continues\n"), "{stderr}");
        assert!(lines() > before, "it begins anew");
    }
}

/// Small coloured pictures, a share of them with a dark square, in the folders of a labelled data set.
fn coloured(root: &Path) {
    for (folder, count) in [("negative", 10), ("positive", 6)] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
        for i in 0..count {
            let mut rng = random::stream(1, folder, i);
            let value = |at: usize| match (at / 3 % 32, at / 96) {
                (8..16, 8..16) if folder == "positive" => 0.1,
                _ => rng.random_range(0.2..0.9),
            };
            let picture = Picture { height: 32, width: 32, channels: 3, values: (0..32 * 32 * 3).map(value).collect() };
            picture.write_png(&root.join(folder).join(format!("{i}.png"))).expect("a picture");
        }
    }
}

#[test]
fn cross_validated_tables_take_the_rows_of_one_cross_validation() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("leather"), dir.path().join("out"));
    coloured(&data);
    let mut args = vec!["reproduce", "lea-net-7", "--data", text(&data), "--out", text(&out), "-q"];
    let quick = ["image_size=32", "width=4", "color_width=4", "epochs=1", "color_epochs=1", "batch=4", "points=[3]"];
    let quick = quick.map(|setting| format!("lea-net.{setting}"));
    quick.iter().for_each(|setting| args.extend(["--set", setting]));
    let table = ok(&args);
    let row = table.lines().find(|line| line.starts_with("| basic CNN + Direct Attention |")).expect("a row");
    assert!(row.contains("(0.625)") && row.ends_with("| 0.623 |"), "{row}");
    assert!(out.join("models/leather/lea-net-cnn.json").is_file());
    assert_eq!(ok(&args), table, "nothing is done again");
}

#[test]
fn tables_data_and_settings_that_do_not_exist_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, out) = (dir.path().join("bars"), dir.path().join("out"));
    refused(&command("paedid-9", &data, &out), &["paedid-9", "i3ad-1"]);
    refused(&["reproduce", "i3ad-1", "--data", text(&data), "--out", text(&out)], &[text(&data)]);
    std::fs::create_dir_all(&data).expect("a folder");
    let set = |setting| ["reproduce", "i3ad-1", "--data", text(&data), "--out", text(&out), "--set", setting];
    refused(&set("iterations=3"), &["METHOD.KEY=VALUE"]);
    refused(&set("rasl.rounds=1"), &["no row of the table", "rasl"]);
    refused(&set("i3ad.foo=1"), &["foo"]);
    refused(&set("i3ad.preset=tiny"), &["preset", "tiny"]);
    assert!(!out.exists(), "nothing is begun");
    let rows = ["reproduce", "lea-net-7", "--data", text(&data), "--out", text(&out), "--set", "lea-net.rows=['none']"];
    refused(&rows, &["rows", "the table"]);
    let listed = ok(&["reproduce", "--list"]);
    assert!(listed.lines().any(|line| line.starts_with("i3ad-1 ") && line.contains("table 1")), "{listed}");
}
