//! I3AD end to end, through the command line, and its generator on every device.

mod common;
#[path = "common/devices.rs"]
mod devices;

use std::path::Path;

use common::{bars, binary, ok, refused, small_data, text};
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::Batch;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::ops::Mode;
use hotad_engine::params::Params;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Learner, TrainData, TrainOptions, train as train_network};
use hotad_models::detector::Detector;
use hotad_models::explanation::Explainable;
use hotad_models::i3ad::{Config, I3ad, free_form};
use hotad_models::model::Model;
use hotad_models::networks::inpainting::{Generator, Inpainting, Ready};
use hotad_models::residual::Residual;
use rand::Rng;

/// Settings that train in seconds; 66 is no multiple of 4, so that images are padded.
const SMALL: [&str; 16] = [
    "--set",
    "preset=small",
    "--set",
    "image_size=66",
    "--set",
    "width=8",
    "--set",
    "discriminator_width=4",
    "--set",
    "lr=4e-3",
    "--set",
    "test_iterations=6",
    "--set",
    "residual=l2",
    "--batch",
    "4",
];

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).expect("one JSON object")
}

fn train(data: &Path, model: &Path, more: &[&str]) {
    let mut args = vec!["train", "i3ad", "--data", text(data), "--out", text(model), "-q"];
    args.extend(SMALL);
    args.extend(more);
    ok(&args);
}

#[test]
fn i3ad_finds_cracks_and_shows_its_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model, out) = (dir.path().join("data"), dir.path().join("m.safetensors"), dir.path().join("out"));
    small_data(&data, 90);
    train(&data, &model, &["--set", "iterations=240", "--set", "u=0.3"]);
    let eval = ["eval", "--model", text(&model), "--data", text(&data), "--out", text(&out), "--json", "-q"];
    let metrics = json(&ok(&[&eval[..], &["--explain"]].concat()));
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.9), "{metrics}");
    assert!(metrics["pixel_auroc"].as_f64().is_some_and(|v| v > 0.7), "{metrics}");
    let html = std::fs::read_to_string(out.join("report.html")).expect("a report");
    // Three clearest defects and one good image; the reconstruction under the checkerboards is of all of them.
    for row in ["reconstruction", "difference", "1 - SSIM", "next mask"] {
        assert_eq!(html.matches(&format!("alt=\"{row}, iteration 0\"")).count(), 4, "{row}");
    }
    for chart in ["Image AUROC by iteration", "Image AUROC by threshold u"] {
        assert!(html.contains(chart), "{chart}");
    }
    refused(&[&eval[..], &["--explain", "crack/none"]].concat(), &["crack/none", "KIND/NAME"]);
    // Two images of one name are told apart by the endings of their files.
    image::open(data.join("test/good/024.png"))
        .expect("a picture")
        .save(data.join("test/good/024.bmp"))
        .expect("saved");
    refused(&[&eval[..], &["--explain", "good/024"]].concat(), &["good/024.bmp", "good/024.png"]);
    for file in ["good/024.bmp", "good/024.png"] {
        ok(&[&eval[..], &["--explain", file]].concat());
        let html = std::fs::read_to_string(out.join("report.html")).expect("a report");
        assert!(html.contains(&format!("<h3>{file}: score")), "{file}");
    }
    let map = dir.path().join("maps");
    ok(&["score", "--model", text(&model), text(&data.join("test/crack/000.png")), "--out", text(&map), "-q"]);
    let map = hotad_engine::data::picture::Picture::read(&map.join("000_map.png")).expect("a picture");
    assert_eq!((map.height, map.width), (90, 90), "maps have the size of the image");
    let log = std::fs::read_to_string(dir.path().join("m.safetensors.log.jsonl")).expect("a log");
    for loss in ["discriminator_loss", "adversarial_loss", "l1_loss"] {
        assert!(log.lines().all(|l| json(l)[loss].is_f64()), "{loss}: {log}");
    }
}

#[test]
fn what_it_paints_serves_as_the_background_of_paedid() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 66);
    let mut args = vec!["train", "paedid-i3ad", "--data", text(&data), "--out", text(&model), "-q"];
    args.extend(&SMALL[..SMALL.len() - 4]);
    args.extend(["--batch", "4", "--set", "iterations=160", "--set", "u=0.3", "--set", "steps=40"]);
    ok(&args);
    let metrics = json(&ok(&["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"]));
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.9), "{metrics}");
    assert!(metrics["pixel_auroc"].as_f64().is_some_and(|v| v > 0.7), "{metrics}");
    let again = dir.path().join("again.safetensors");
    Model::load(&model, &Device::CPU).expect("a model").save(&again).expect("saved");
    assert_eq!(std::fs::read(&model).expect("bytes"), std::fs::read(&again).expect("bytes"));
}

#[test]
fn a_saved_i3ad_scores_as_before_saving_on_every_device() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 66);
    let set = ["iterations=5", "u=0.2", "test_iterations=2", "standardise=pixel", "score=top", "shifts=2"];
    train(&data, &model, &set.map(|s| ["--set", s]).concat());
    let both: Vec<f32> = [3, 60].into_iter().flat_map(|i| bars(66, i).with_channels(3).values).collect();
    let images = Tensor::new(both, &[2, 66, 66, 3]).expect("lengths fit");
    let on_cpu = Model::load(&model, &Device::CPU).expect("a model").score(&images).expect("scored");
    for device in devices::under_test() {
        let first = Model::load(&model, &device).expect("a model");
        let again = dir.path().join("again.safetensors");
        first.save(&again).expect("saved");
        assert_eq!(std::fs::read(&model).expect("bytes"), std::fs::read(&again).expect("bytes"));
        let scores = first.score(&images).expect("scored");
        assert_eq!(scores, Model::load(&again, &device).expect("a model").score(&images).expect("scored"));
        // Images leave a batch when they are done, and that changes nothing.
        let one = Tensor::new(images.values().expect("host")[66 * 66 * 3..].to_vec(), &[1, 66, 66, 3]).expect("fits");
        assert_eq!(first.score(&one).expect("scored")[0], scores[1], "alone on {}", device.name());
        for (got, want) in scores.iter().zip(&on_cpu) {
            let close = (got.value - want.value).abs() <= 1e-2 * want.value.abs() + 1e-6;
            assert!(close, "{}: {} for {}", device.name(), got.value, want.value);
        }
    }
}

/// 1 - SSIM of images `[size, size, 3]` in 0..1, averaged over channels, from its definition in f64: Gaussian window 11 of sigma
/// 1.5, edge pixels mirrored, data range 1 (Wang et al. 2004, equation 13).
fn dissimilarity(x: &[f32], y: &[f32], size: usize) -> Vec<f64> {
    let weight = |i: i64| (-(i * i) as f64 / (2.0 * 1.5 * 1.5)).exp();
    let total: f64 = (-5..=5).flat_map(|i| (-5..=5).map(move |j| weight(i) * weight(j))).sum();
    let mirrored = |i: i64| (if i < 0 { -1 - i } else { i.min(2 * size as i64 - 1 - i) }) as usize;
    let at = |image: &[f32], row: i64, column: i64, c: usize| {
        f64::from(image[(mirrored(row) * size + mirrored(column)) * 3 + c])
    };
    let ssim = |row: i64, column: i64, c: usize| {
        let mut m = [0.0; 5];
        for (i, j) in (-5..=5).flat_map(|i| (-5..=5).map(move |j| (i, j))) {
            let (a, b) = (at(x, row + i, column + j, c), at(y, row + i, column + j, c));
            let w = weight(i) * weight(j) / total;
            m.iter_mut().zip([a, b, a * a, b * b, a * b]).for_each(|(m, v)| *m += w * v);
        }
        let [mx, my, xx, yy, xy] = m;
        let (c1, c2) = (1e-4, 9e-4);
        (2.0 * mx * my + c1) * (2.0 * (xy - mx * my) + c2)
            / ((mx * mx + my * my + c1) * (xx - mx * mx + yy - my * my + c2))
    };
    let pixels = (0..size * size).map(|p| ((p / size) as i64, (p % size) as i64));
    pixels.map(|(row, column)| 1.0 - (0..3).map(|c| ssim(row, column, c)).sum::<f64>() / 3.0).collect()
}

/// In the generator's -1..1 mid-gray is 0, where SSIM's luminance term breaks down: an offset of 0.02 would cost 0.8.
#[test]
fn dissimilarity_is_that_of_images_from_0_to_1() {
    const SIZE: usize = 64;
    let mut rng = random::stream(5, "gray", 0);
    let values: Vec<f32> = (0..SIZE * SIZE * 3).map(|_| 0.52 + rng.random_range(-0.01..0.01f32)).collect();
    let images = Tensor::new(values.clone(), &[1, SIZE, SIZE, 3]).expect("lengths fit");
    let config = Config { image_size: SIZE, width: 8, test_iterations: 0, ..Config::default() };
    for device in devices::under_test() {
        let model = I3ad::untrained(config.clone(), 0.5, 3, &device).expect("room");
        let shown = model.explain(&images).expect("explained").remove(0);
        let picture = |row: &str| {
            let found = shown.iter().find(|i| i.row == row && i.column == "iteration 0");
            found.expect("the first iteration is shown").picture.values.clone()
        };
        let want = dissimilarity(&values, &picture("reconstruction"), SIZE);
        assert!(want.iter().any(|v| *v > 1e-3), "the reconstruction differs");
        let score = model.score(&images).expect("scored").remove(0);
        for map in [picture("1 - SSIM"), score.map] {
            let worst = map.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-3, "{worst} on {}", device.name());
        }
        let l2 = I3ad::untrained(Config { residual: Residual::L2, ..config.clone() }, 0.5, 3, &device).expect("room");
        let l2 = l2.score(&images).expect("scored").remove(0).map;
        let made = picture("reconstruction");
        for (pixel, got) in l2.iter().enumerate() {
            let want = (0..3).map(|c| (values[3 * pixel + c] - made[3 * pixel + c]).powi(2)).sum::<f32>() / 3.0;
            assert!((got - want).abs() < 1e-6, "{got} for {want} on {}", device.name());
        }
    }
}

/// `test_iterations` counts what follows the reconstruction under the checkerboards (section 2.5).
#[test]
fn the_checkerboards_are_no_iteration() {
    let images = Tensor::new(bars(66, 1).with_channels(3).values, &[1, 66, 66, 3]).expect("lengths fit");
    let model = |test_iterations| {
        let config = Config { image_size: 66, width: 8, test_iterations, stop: 0.0, ..Config::default() };
        I3ad::untrained(config, 1e-4, 3, &Device::CPU).expect("room")
    };
    let sweeps = model(1).sweeps(&images).expect("scored").remove(0);
    assert_eq!(sweeps[0].x, [0.0, 1.0]);
    for (i, value) in sweeps[0].scores.iter().enumerate() {
        assert_eq!(*value, model(i).score(&images).expect("scored")[0].value, "after {i}");
    }
    assert!(sweeps[0].scores[1] != sweeps[0].scores[0]);
}

/// Interrupts training by a signal once it has begun, then resumes.
#[cfg(unix)]
#[test]
fn an_interrupted_i3ad_resumes_bit_identically_with_any_number_of_threads() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 66);
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let iterations = ["--set", "iterations=60", "--set", "u=0.4"];
    train(&data, &whole, &[&iterations[..], &["--threads", "1"]].concat());
    let mut args = vec!["train", "i3ad", "--data", text(&data), "--out", text(&parts), "-q"];
    args.extend(SMALL);
    args.extend(iterations);
    let child = binary().args(&args).stderr(std::process::Stdio::null()).spawn().expect("the binary runs");
    let log = dir.path().join("parts.log.jsonl");
    while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(kill.success());
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(130));
    args.push("--resume");
    // Phases follow from the length: a run of another length is another run.
    refused(&[&args[..], &["--set", "iterations=66"]].concat(), &["another run", "iterations was 60, is 66"]);
    ok(&args);
    assert!(std::fs::read(&whole).expect("bytes") == std::fs::read(&parts).expect("bytes"));
}

/// What an earlier version chose u for is not what a score is now.
#[test]
fn a_model_of_an_earlier_version_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 66);
    train(&data, &model, &["--set", "iterations=1", "--set", "u=0.2", "--set", "test_iterations=0"]);
    let mut file = hotad_engine::model_file::ModelFile::load(&model).expect("a model");
    let settings = file.config["settings"].as_object_mut().expect("settings");
    ["keep", "masks", "standardise"].iter().for_each(|key| drop(settings.remove(*key)));
    file.save(&model).expect("saved");
    let error = Model::load(&model, &Device::CPU).err().expect("refused").to_string();
    assert!(error.contains("m.safetensors") && error.contains("train it again") && !error.contains('\n'), "{error}");
}

#[test]
fn the_average_of_the_generator_is_kept_or_its_last_weights() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 66);
    let model = |name: &str, more: &[&str]| {
        let path = dir.path().join(name);
        train(&data, &path, &[&["--set", "iterations=5", "--set", "u=0.2"], more].concat());
        std::fs::read(&path).expect("bytes")
    };
    let (average, again) = (model("average", &[]), model("again", &["--set", "keep=average"]));
    assert!(average == again, "the average is the default");
    let (last, none) = (model("last", &["--set", "keep=last"]), model("none", &["--set", "average_decay=0"]));
    let weights = |bytes: &[u8], name: &str| {
        std::fs::write(dir.path().join(name), bytes).expect("written");
        let file = hotad_engine::model_file::ModelFile::load(&dir.path().join(name)).expect("a model");
        hotad_engine::container::restore(&file.tensors, "network.").expect("weights")["fine.out.weight"]
            .values()
            .expect("host")
            .into_owned()
    };
    let [average, last, none] = [&average, &last, &none].map(|bytes| weights(bytes, "one"));
    assert!(last == none, "without a past the average is the last");
    assert!(average != last);
}

#[test]
fn the_generator_paints_the_same_prepared_as_on_the_tape() {
    let generator = Generator::new(12);
    for device in devices::under_test() {
        let mut params = Params::default();
        generator.init(&mut params, 4);
        let mut state = params.values().expect("host");
        // Biases and the attention's weight start at zero, which would hide mistakes.
        let mut rng = random::stream(7, "generator test", 0);
        for (name, tensor) in &mut state {
            if name.ends_with("bias") || name.ends_with("gamma") {
                let values = (0..tensor.len()).map(|_| rng.random_range(-0.3..0.3)).collect();
                *tensor = Tensor::new(values, tensor.shape()).expect("lengths fit");
            }
        }
        let mut params = params.to(&device).expect("room");
        params.set_values(&state).expect("shapes fit");
        let ready = Ready::new(&generator, &state, &device).expect("shapes fit");
        let pixels = |n| (0..n).map(|_| rng.random_range(-1.0..1.0f32)).collect::<Vec<f32>>();
        let mut pixels = pixels;
        let images = Tensor::new(pixels(2 * 64 * 68 * 3), &[2, 64, 68, 3]).expect("fits").to(&device).expect("room");
        let mask = pixels(2 * 64 * 68).into_iter().map(|v| f32::from(u8::from(v > 0.3))).collect();
        let mask = Tensor::new(mask, &[2, 64, 68, 1]).expect("fits").to(&device).expect("room");
        let on_tape = generator.run(&Inpainting::Learned(&params, Mode::Train), &images, &mask).expect("shapes fit");
        let prepared = generator.run(&Inpainting::Ready(&ready), &images, &mask).expect("shapes fit");
        for (a, b) in [(&on_tape.coarse, &prepared.coarse), (&on_tape.fine, &prepared.fine)] {
            let (a, b) = (a.values().expect("read"), b.values().expect("read"));
            let worst = a.iter().zip(b.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4 && a.iter().any(|v| v.abs() > 0.05), "{worst} on {}", device.name());
        }
        // What lies under the mask is not seen.
        let hidden: Vec<f32> = {
            let (values, mask) = (images.values().expect("read"), mask.values().expect("read"));
            values.iter().enumerate().map(|(at, v)| if mask[at / 3] == 1.0 { -v } else { *v }).collect()
        };
        let hidden = Tensor::new(hidden, &[2, 64, 68, 3]).expect("fits").to(&device).expect("room");
        let again = generator.run(&Inpainting::Ready(&ready), &hidden, &mask).expect("shapes fit");
        assert_eq!(prepared.fine.values().expect("read"), again.fine.values().expect("read"));
    }
}

#[test]
fn the_generator_gives_feature_maps() {
    let config = Config { image_size: 66, width: 8, ..Config::default() };
    let images = Tensor::new(bars(66, 1).with_channels(3).values, &[1, 66, 66, 3]).expect("lengths fit");
    let on_cpu = I3ad::untrained(config.clone(), 0.1, 3, &Device::CPU).expect("room").features(&images).expect("fits");
    assert_eq!(on_cpu.shape(), [1, 17, 17, 16]);
    let want = on_cpu.values().expect("read");
    assert!(want.iter().any(|v| v.abs() > 1e-3));
    for device in devices::under_test() {
        let got = I3ad::untrained(config.clone(), 0.1, 3, &device).expect("room").features(&images).expect("fits");
        for (got, want) in got.values().expect("read").iter().zip(want.iter()) {
            assert!((got - want).abs() < 1e-4, "{got} for {want} on {}", device.name());
        }
    }
}

#[test]
fn free_form_masks_hide_a_good_part_and_never_all() {
    let mut shares = Vec::new();
    for index in 0..200 {
        let mask = free_form(128, &mut random::stream(1, "mask test", index));
        assert!(mask.iter().all(|v| *v == 0.0 || *v == 1.0));
        let share = mask.iter().sum::<f32>() / mask.len() as f32;
        // The box alone is 48 to 64 pixels a side.
        assert!((48.0 * 48.0 / 16384.0..1.0).contains(&share), "{share}");
        shares.push(share);
    }
    let mean = shares.iter().sum::<f32>() / 200.0;
    assert!((0.2..0.6).contains(&mean), "{mean}");
}

#[test]
fn what_i3ad_cannot_use_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 66);
    let out = text(&dir.path().join("m")).to_string();
    let refuse = |more: &[&str], words: &[&str]| {
        refused(&[&["train", "i3ad", "--data", text(&data), "--out", &out], more].concat(), words);
    };
    refuse(&["--set", "image_size=40"], &["image_size", "40", "reach"]);
    refuse(&["--set", "preset=tiny"], &["preset", "tiny", "small"]);
    refuse(&["--set", "width=10"], &["width", "10", "multiple of 4"]);
    refuse(&["--set", "patches=13"], &["patches", "13", "2 to 12"]);
    refuse(&["--set", "u=often"], &["u", "often", "auto"]);
    refuse(&["--set", "shifts=0"], &["shifts", "0", "1 to 8"]);
    refuse(&["--set", "top_share=0"], &["top_share", "0", "above 0"]);
    refuse(&["--set", "average_decay=1"], &["average_decay", "1", "below 1"]);
    refuse(&["--set", "keep=best"], &["keep", "average"]);
    refuse(&["--epochs", "3"], &["--epochs", "i3ad", "hotad config"]);
    assert!(!dir.path().join("m").exists());
}

/// Learns nothing; its loss is no number from some step on.
struct Diverging {
    params: Params,
    from: u64,
}

impl Learner for Diverging {
    fn step(&mut self, _: &Batch, number: u64) -> hotad_engine::Result<f32> {
        Ok(if number >= self.from { f32::NAN } else { 1.0 })
    }

    fn loss(&self, _: &Batch) -> hotad_engine::Result<f32> {
        Ok(1.0)
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }
}

#[test]
fn divergence_names_the_step_and_the_last_good_checkpoint() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    small_data(&data, 66);
    let images: Vec<_> = (0..6).map(|i| data.join(format!("train/good/{i:03}.png"))).collect();
    let spec = ImageSpec { height: 8, width: 8, channels: 1 };
    let run = |from: u64| {
        let options = TrainOptions {
            epochs: 9,
            batch: 1,
            patience: 0,
            seed: 0,
            checkpoint_every: 4,
            checkpoint: Some(dir.path().join("run.checkpoint")),
            resume: false,
            log: None,
            fingerprint: Default::default(),
            observer: &(),
        };
        let mut learner = Diverging { params: Params::default(), from };
        let data =
            TrainData { train: ImageFiles::whole(&images), validation: ImageFiles::whole(&[]), spec, crop: None };
        train_network(&mut learner, &data, &options).expect_err("it diverges").to_string()
    };
    let early = run(2);
    assert!(early.contains("step 3") && !early.contains("checkpoint"), "{early}");
    let late = run(9);
    assert!(late.contains("step 10") && late.contains("run.checkpoint"), "{late}");
}
