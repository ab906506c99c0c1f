//! One model of every method, trained in a moment on a few coloured pictures.

#![allow(dead_code)] // every test binary uses a part

use std::path::{Path, PathBuf};

use hotad_engine::data::picture::Picture;
use hotad_engine::random;
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::common::{ok, text};

/// Rows and columns of the pictures.
const SIZE: usize = 48;

/// Method, name of the model, settings, in which {folder} is that of the models; members are models before it.
type Recipe = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// What is trained; every method is in it.
const RECIPES: [Recipe; 25] = [
    ("paedid", "paedid", &["image_size=32", "network=[8, 16]", "steps=5", "epochs=1", "batch=4"], &[]),
    ("pae", "pae", &["image_size=32", "network=[8, 16]", "epochs=1", "batch=4", "bank=f32", "similar=2"], &[]),
    ("l2-ae", "l2-ae", &["latent=4", "epochs=1", "batch=4"], &[]),
    ("ssim-ae", "ssim-ae", &["latent=4", "epochs=1", "batch=4"], &[]),
    ("iterative-projection", "projection", &["loss=ssim", "latent=4", "epochs=1", "batch=4", "steps=2"], &[]),
    (
        "anogan",
        "anogan",
        &["latent=4", "epochs=1", "batch=4", "discriminator_width=4", "test_steps=2", "feature_score=1"],
        &[],
    ),
    ("f-anogan", "f-anogan", &["latent=4", "epochs=1", "batch=4", "discriminator_width=4", "encoder_epochs=1"], &[]),
    ("ae-gan", "ae-gan", &["latent=4", "epochs=1", "batch=4", "discriminator_width=4"], &[]),
    ("mem-ae", "mem-ae", &["latent=4", "epochs=1", "batch=4", "slots=10"], &[]),
    ("rasl", "rasl", &["image_size=40", "images=5", "rounds=3"], &[]),
    ("i3ad", "i3ad", I3AD, &[]),
    ("i3ad", "i3ad-tiles", I3AD_TILES, &[]),
    ("paedid-i3ad", "paedid-i3ad", PAEDID_I3AD, &[]),
    ("color-unet", "color-unet", &["image_size=32", "width=4", "epochs=1", "batch=4"], &[]),
    (
        "lea-net",
        "lea-net",
        &["image_size=32", "width=4", "color_width=4", "epochs=1", "color_epochs=1", "batch=4"],
        &[],
    ),
    (
        "lea-net",
        "guided",
        &["guide={folder}/paedid.safetensors", "image_size=32", "width=4", "epochs=1", "batch=4"],
        &[],
    ),
    ("patchcore", "patchcore", &["image_size=64"], &[]),
    ("patchcore", "reweighted", &["image_size=64", "neighbours=3"], &[]),
    ("patchcore", "encoder", &["backbone=''", "image_size=32", "backbone_epochs=1"], &[]),
    ("padim", "padim", &["image_size=64", "dimensions=8"], &[]),
    ("simplenet", "simplenet", SIMPLENET, &[]),
    ("ensemble", "discriminator", DISCRIMINATOR, &["paedid", "encoder"]),
    ("ensemble", "nearest", &["head=nearest"], &["paedid", "encoder"]),
    ("ensemble", "gaussians", &["whiten=true"], &["paedid", "encoder"]),
    ("score-ensemble", "scores", &["combine=stacking", "calibration=isotonic"], &["pae", "encoder"]),
];

const SIMPLENET: &[&str] =
    &["backbone=''", "image_size=32", "backbone_epochs=1", "epochs=1", "hidden=8", "adapter_lr=1e-4", "patches=8"];

const DISCRIMINATOR: &[&str] = &["head=discriminator", "epochs=1", "hidden=8", "member_maps=true"];

const I3AD: &[&str] = &[
    "image_size=64",
    "width=8",
    "discriminator_width=4",
    "iterations=2",
    "batch=4",
    "test_iterations=2",
    "patches=2",
    "u=0.3",
    "standardise=pixel",
];

const I3AD_TILES: &[&str] = &[
    "image_size=80",
    "tile=64",
    "width=8",
    "discriminator_width=4",
    "iterations=2",
    "batch=4",
    "test_iterations=2",
    "patches=2",
    "u=0.3",
    "standardise=all",
];

const PAEDID_I3AD: &[&str] = &[
    "image_size=64",
    "width=8",
    "discriminator_width=4",
    "iterations=2",
    "batch=4",
    "test_iterations=2",
    "patches=2",
    "u=0.3",
    "standardise=all",
    "lambda=1e-3",
    "steps=2",
];

/// Soft bands of colour; a defective one has a dark square.
fn bands(index: u64, defective: bool) -> Picture {
    let mut rng = random::stream(3, "bands", index);
    let shift = rng.random_range(0.0..6.0f32);
    let mut values = Vec::with_capacity(3 * SIZE * SIZE);
    for i in 0..SIZE * SIZE {
        let light = 0.5 + 0.25 * (0.3 * (i % SIZE) as f32 + shift).sin() + rng.random_range(-0.02..0.02);
        let inside = |v: usize| (20..30).contains(&v);
        let dark = if defective && inside(i % SIZE) && inside(i / SIZE) { 0.2 } else { 1.0 };
        values.extend([0.9 * light, 0.6 * light, 0.3].map(|v| v * dark));
    }
    Picture { height: SIZE, width: SIZE, channels: 3, values }
}

/// The folder where the models are kept for the next test binary: of this program and these recipes.
fn kept() -> PathBuf {
    let program = std::fs::read(env!("CARGO_BIN_EXE_hotad")).expect("the program");
    let hash = Sha256::new().chain_update(program).chain_update(include_str!("small_models.rs")).finalize();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{KEPT}{hash:x}"))
}

/// What the names of such folders begin with.
const KEPT: &str = "small-models-";

/// Keeps models in the place of those of an earlier program. Another process may do the same meanwhile.
fn keep(models: &[(&'static str, PathBuf)], kept: &Path) {
    let parent = kept.parent().expect("a folder");
    let entries = std::fs::read_dir(parent).expect("a folder").map(|e| e.expect("an entry"));
    let old = entries.filter(|e| e.path() != kept && e.file_name().to_string_lossy().starts_with(KEPT));
    old.for_each(|e| drop(std::fs::remove_dir_all(e.path())));
    let new = tempfile::tempdir_in(parent).expect("a folder");
    for (_, model) in models {
        std::fs::copy(model, new.path().join(model.file_name().expect("a name"))).expect("copied");
    }
    // Where the other process was first, its models stay, and these go.
    let _ = std::fs::rename(new.path(), kept);
}

/// Trains them all, or takes what this program has trained in another test binary; returns their names and files.
pub fn train_all(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let data = folder.join("data");
    for (kind, from, count) in [("train/good", 0, 8), ("test/good", 10, 2), ("test/dark", 20, 4)] {
        std::fs::create_dir_all(data.join(kind)).expect("a folder");
        for i in 0..count {
            let picture = bands(from + i, kind == "test/dark");
            picture.write_png(&data.join(kind).join(format!("{i:03}.png"))).expect("a picture");
        }
    }
    for method in hotad_models::methods() {
        assert!(RECIPES.iter().any(|(name, ..)| *name == method.name), "{} has no recipe here", method.name);
    }
    let kept = kept();
    let copied = |(_, name, ..): &Recipe| {
        let file = format!("{name}.safetensors");
        std::fs::copy(kept.join(&file), folder.join(&file)).ok().map(|_| (*name, folder.join(file)))
    };
    if let Some(models) = RECIPES.iter().map(copied).collect() {
        return models;
    }
    let models = RECIPES.iter().map(|recipe| (recipe.1, train(folder, recipe, recipe.1, &[]))).collect::<Vec<_>>();
    keep(&models, &kept);
    models
}

/// Trains the model of a name once more, on the data of [`train_all`] and with more arguments; returns its file.
pub fn train_again(folder: &Path, name: &str, more: &[&str]) -> PathBuf {
    let recipe = RECIPES.iter().find(|recipe| recipe.1 == name).expect("a recipe");
    train(folder, recipe, &format!("{name}-again"), more)
}

fn train(folder: &Path, (method, _, settings, members): &Recipe, name: &str, more: &[&str]) -> PathBuf {
    let file = |name: &str| folder.join(format!("{name}.safetensors"));
    let (data, out) = (folder.join("data"), file(name));
    let mut args = vec!["train", method, "--data", text(&data), "--out", text(&out), "-q", "--holdout", "0.4"];
    let settings: Vec<String> = settings.iter().map(|s| s.replace("{folder}", text(folder))).collect();
    settings.iter().for_each(|s| args.extend(["--set", s]));
    let members: Vec<PathBuf> = members.iter().map(|m| file(m)).collect();
    members.iter().for_each(|m| args.extend(["--member", text(m)]));
    args.extend(more);
    ok(&args);
    out
}
