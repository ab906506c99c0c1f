//! Distillation end to end: the loss falls, an interrupted run continues bit-identically, the result is a backbone.

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{binary, hotad, ok, refused, small_data, text};
use hotad_engine::data::crop::{Crop, Pixels};
use hotad_engine::data::picture::Picture;
use hotad_engine::params::Params;
use hotad_engine::random;
use hotad_models::features::backbone::{BackboneFile, Network};
use hotad_models::networks::import;
use rand::Rng;

/// A teacher with random weights for the first blocks.
fn teacher(path: &Path, network: &str, blocks: usize) {
    let network = Network::named(network).expect("a network");
    let (trunk, mut params) = (network.trunk(), Params::default());
    let mut rng = random::stream(5, "teacher", 0);
    trunk.layers(blocks).iter().for_each(|layer| layer.init(&mut params, "", &mut rng));
    let state = params.values().expect("on the host");
    let tensors = import::to_torchvision(&state, &trunk.layers(blocks)).expect("all are there");
    let file = BackboneFile { network, blocks, tensors, origin: None };
    file.write(path, false).expect("written");
}

/// Colour pictures of random waves, some smaller than others.
fn pictures(folder: &Path, count: u64) {
    std::fs::create_dir_all(folder.join("more")).expect("a folder");
    for i in 0..count {
        let mut rng = random::stream(2, "waves", i);
        let side = if i == 0 { 24 } else { 64 };
        let waves: [(f32, f32, f32); 3] = std::array::from_fn(|_| {
            (rng.random_range(-0.8..0.8), rng.random_range(-0.8..0.8), rng.random_range(0.0..6.0))
        });
        let values = (0..side * side).flat_map(|p| {
            let (y, x) = ((p / side) as f32, (p % side) as f32);
            waves.map(|(a, b, c)| 0.5 + 0.4 * (a * x + b * y + c).sin())
        });
        let picture = Picture { height: side, width: side, channels: 3, values: values.collect() };
        let inner = if i % 2 == 0 { folder.join("more") } else { folder.into() };
        picture.write_png(&inner.join(format!("{i:03}.png"))).expect("a picture");
    }
}

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        teacher(&dir.path().join("teacher.safetensors"), "efficientnet-lite0", 4);
        pictures(&dir.path().join("images"), 12);
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command, with small views and cuts that the teacher has.
    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let (teacher, images, out) = (self.path("teacher.safetensors"), self.path("images"), self.path(out));
        let mut args = vec!["distill", "--teacher", text(&teacher), "--images", text(&images), "--out", text(&out)];
        args.extend(["--batch", "4", "--device", "cpu"]);
        let usual = [["--cuts", "block1,block2"], ["--crop", "32"]];
        args.extend(usual.iter().filter(|o| !more.contains(&o[0])).flatten());
        args.extend(more);
        args.into_iter().map(String::from).collect()
    }

    fn run(&self, out: &str, more: &[&str]) -> PathBuf {
        let args = self.args(out, more);
        ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
        self.path(out)
    }

    fn refused(&self, more: &[&str], words: &[&str]) {
        let args = self.args("never.safetensors", more);
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
        assert!(!self.path("never.safetensors").exists(), "{more:?} left a file");
    }
}

/// Losses of the passes over the images, from the log.
fn losses(out: &Path, field: &str) -> Vec<f64> {
    let log = std::fs::read_to_string(format!("{}.log.jsonl", text(out))).expect("a log");
    let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")[field].as_f64();
    log.lines().map(|line| value(line).expect("a number")).collect()
}

#[test]
fn the_student_comes_near_its_teacher_and_serves_patchcore() {
    let folder = Folder::new();
    let student = folder.run("student.safetensors", &["--steps", "600", "--lr", "0.01", "--half", "-q"]);
    let all = losses(&student, "loss");
    assert_eq!(all.len(), 200, "three steps a pass");
    let (first, last) = (all[0], all[all.len() - 1]);
    assert!(last < 0.5 * first && last < 0.5, "loss {first} to {last}");
    let hint = losses(&student, "last_hint_loss");
    assert!(hint[hint.len() - 1] < 0.7 * hint[0], "last hint {} to {}", hint[0], hint[hint.len() - 1]);
    let file = BackboneFile::open(&student).expect("a backbone");
    assert_eq!((file.network.facts().name, file.blocks), ("hotad-lite0", 4));
    let distilled = file.origin.expect("an origin").distilled.expect("a distillation");
    assert_eq!((distilled.steps, distilled.batch, distilled.crop, distilled.images), (600, 4, 32, 12));
    small_data(&folder.path("data"), 64);
    let (data, model) = (folder.path("data"), folder.path("model.safetensors"));
    let backbone = format!("backbone={}", text(&student));
    let settings = ["--set", &backbone, "--set", "layers=[\"block1\", \"block2\"]", "--set", "image_size=64"];
    let data = ["train", "patchcore", "--data", text(&data), "--out", text(&model), "-q"];
    ok(&[&data[..], &settings[..]].concat());
    assert!(model.is_file());
}

#[test]
fn a_student_that_starts_from_its_teacher_is_near_at_once() {
    let folder = Folder::new();
    let start = folder.path("teacher.safetensors");
    for hints in ["layers", "blocks", "cuts"] {
        let few = ["--steps", "3", "--lr", "0.000001", "--hints", hints, "-q", "--force", "--apart"];
        let near = folder.run("near.safetensors", &[&few[..], &["0", "--start", text(&start)]].concat());
        let far = folder.run("far.safetensors", &[&few[..], &["1"]].concat());
        let (near, far) = (losses(&near, "loss")[0], losses(&far, "loss")[0]);
        // Under running statistics the same network gives the same maps; a random one errs by about their deviation.
        assert!(near < 1e-6 && (0.5..2.0).contains(&far), "{hints}: {near} against {far}");
    }
}

#[test]
fn a_narrow_student_has_the_maps_of_its_teacher_and_half_the_channels_within() {
    let folder = Folder::new();
    let student = folder.run("narrow.safetensors", &["--steps", "300", "--lr", "0.01", "--expansion", "3", "-q"]);
    let all = losses(&student, "loss");
    assert!(all[all.len() - 1] < 0.8 * all[0], "loss {} to {}", all[0], all[all.len() - 1]);
    let file = BackboneFile::open(&student).expect("a backbone");
    assert_eq!((file.network.facts().name, file.blocks), ("hotad-lite0-x3", 4));
    assert_eq!(file.tensors["_blocks.1._expand_conv.weight"].shape(), [48, 16, 1, 1]);
    assert_eq!(file.tensors["_blocks.1._project_conv.weight"].shape(), [24, 48, 1, 1]);
    // What it has learned is something to start from, for a student of its shape alone.
    let from = ["--steps", "3", "--apart", "0", "--start", text(&student), "-q"];
    folder.run("further.safetensors", &[&from[..], &["--expansion", "3"]].concat());
    folder.refused(&from, &["narrow.safetensors", "blocks of hotad-lite0"]);
    folder.refused(&[&from[..], &["--expansion", "2"]].concat(), &["narrow.safetensors", "blocks of hotad-lite0-x2"]);
    // One that expands nothing, and none smaller than a smaller one.
    let plain = folder.run("plain.safetensors", &["--steps", "3", "--expansion", "1", "-q"]);
    let plain = BackboneFile::open(&plain).expect("a backbone");
    assert_eq!(plain.tensors["_blocks.1._project_conv.weight"].shape(), [24, 16, 1, 1]);
    assert!(!plain.tensors.contains_key("_blocks.1._expand_conv.weight"));
    let (images, out) = (folder.path("images"), folder.path("never"));
    let args = ["distill", "--teacher", text(&student), "--images", text(&images), "--out", text(&out), "-q"];
    refused(&[&args[..], &["--cuts", "block1", "--expansion", "2"]].concat(), &["hotad-lite0-x3", "expansion 2"]);
    let other = folder.path("mobilenet.safetensors");
    teacher(&other, "mobilenet_v2", 3);
    let args = ["distill", "--teacher", text(&other), "--images", text(&images), "--out", text(&out), "-q"];
    refused(&[&args[..], &["--cuts", "features.1", "--expansion", "5"]].concat(), &["mobilenet_v2", "expansion 5"]);
}

#[test]
fn an_interrupted_distillation_resumes_bit_identically() {
    let folder = Folder::new();
    let whole = folder.run("whole.safetensors", &["--steps", "240", "-q"]);
    let args = folder.args("parts.safetensors", &["--steps", "240", "-q", "--threads", "1"]);
    let mut child = binary().args(&args).stderr(Stdio::null()).spawn().expect("the binary runs");
    let (log, started) = (folder.path("parts.safetensors.log.jsonl"), Instant::now());
    let lines = || std::fs::read_to_string(&log).map_or(0, |t| t.lines().count());
    while lines() < 5 {
        assert!(started.elapsed() < Duration::from_secs(300), "no progress");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "it was still running");
    assert!(!folder.path("parts.safetensors").exists(), "nothing is written before the end");
    let other = folder.args("parts.safetensors", &["--steps", "240", "-q", "--resume", "--lr", "0.02"]);
    refused(&other.iter().map(String::as_str).collect::<Vec<_>>(), &["another run", "--lr", "0.02"]);
    let parts = folder.run("parts.safetensors", &["--steps", "240", "-q", "--resume"]);
    assert!(std::fs::read(whole).expect("bytes") == std::fs::read(parts).expect("bytes"), "the results differ");
    assert!(!folder.path("parts.safetensors.checkpoint").exists(), "the checkpoint is removed");
}

#[test]
fn what_cannot_be_distilled_is_named() {
    let folder = Folder::new();
    folder.refused(&["--cuts", "block7"], &["block7", "teacher.safetensors"]);
    folder.refused(&["--cuts", "layer9"], &["layer9"]);
    folder.refused(&["--crop", "8"], &["crop", "32 to 512"]);
    folder.refused(&["--steps", "0"], &["steps"]);
    folder.refused(&["--expansion", "7"], &["expansion", "1 to 6"]);
    folder.refused(&["--lr", "2"], &["lr"]);
    folder.refused(&["--resume"], &["no checkpoint"]);
    let empty = folder.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let (teacher, images, out) = (folder.path("teacher.safetensors"), folder.path("images"), folder.path("never"));
    let args = |teacher, images| ["distill", "--teacher", teacher, "--images", images, "--out", text(&out), "-q"];
    refused(&args(text(&teacher), text(&empty)), &["empty", "no images"]);
    refused(&args(text(&teacher), "nowhere"), &["nowhere"]);
    refused(&args("nothing", text(&images)), &["nothing", "efficientnet-lite0"]);
    std::fs::write(folder.path("images/broken.png"), b"not a picture").expect("written");
    folder.refused(&[], &["broken.png"]);
    let args = folder.args("skipped.safetensors", &["--steps", "1", "--on-broken", "skip"]);
    let output = hotad(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("broken.png"), "{said}");
    assert!(said.contains("on 12 images, 1 of them smaller than a view"), "{said}");
}

#[test]
fn views_are_parts_of_the_image_that_depend_on_their_number_alone() {
    // A ramp from left to right: any view of it is a linear function of its columns, rising or falling.
    let (height, width) = (60, 90);
    let values = (0..height * width).flat_map(|p| [(2 * (p % width)) as u8; 3]).collect();
    let image = Pixels { height, width, values };
    let crop = Crop { size: 32, seed: 3 };
    let (mut rising, mut steepest, mut flattest) = (0, 0.0f32, 1.0f32);
    for number in 0..100 {
        let view = crop.view(&image, number).expect("a view");
        assert_eq!(view, crop.view(&image, number).expect("a view"), "drawn by its number");
        assert!(view.len() == 32 * 32 * 3 && view.iter().all(|v| (0.0..=1.0).contains(v)));
        let row = &view[..32 * 3];
        assert!(view.chunks_exact(32 * 3).all(|r| r.iter().zip(row).all(|(a, b)| (a - b).abs() < 1e-5)));
        let slope = (row[20 * 3] - row[12 * 3]) / 8.0;
        rising += usize::from(slope > 0.0);
        (steepest, flattest) = (steepest.max(slope.abs()), flattest.min(slope.abs()));
    }
    assert!((30..=70).contains(&rising), "{rising} of 100 are not mirrored");
    // A column differs by 2/255 in the image; scale (1 to 60/32) and contrast (1/1.3 to 1.3) change that.
    assert!(steepest > 1.5 * flattest && steepest < 2.0 / 255.0 * 1.9 * 1.31, "{flattest} to {steepest}");
    assert_ne!(crop.view(&image, 0).expect("a view"), crop.view(&image, 1).expect("a view"));
}
