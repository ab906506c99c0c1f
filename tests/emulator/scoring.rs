//! A small PAEDID end to end: scored in every precision, without enough memory, and on devices that fail.

use std::path::{Path, PathBuf};

use hotad_engine::data::picture::Picture;
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::emulator::{Fault, Settings};
use hotad_kernels::device::{Device, Precision};
use hotad_models::detector::Score;
use hotad_models::model::Model;

use crate::common::{ok, small_data, text};
use crate::failures::is_one_line;
use crate::open;

/// A model wide enough for tensor cores, trained in a moment.
fn trained(dir: &Path) -> (PathBuf, PathBuf) {
    let (data, model) = (dir.join("data"), dir.join("m.safetensors"));
    small_data(&data, 40);
    let mut args = vec!["train", "paedid", "--data", text(&data), "--out", text(&model), "-q", "--device", "cpu"];
    args.extend(["--epochs", "2", "--batch", "4", "--set", "image_size=32"]);
    args.extend(["--set", "network=[16, 32]", "--set", "steps=5"]);
    ok(&args);
    (data, model)
}

/// The cracked image, so many times.
fn images(data: &Path, model: &Model, batch: usize) -> Tensor {
    let spec = model.detector.image();
    let picture = Picture::read(&data.join("test/crack/000.png")).expect("a picture").fit(spec).expect("fits");
    let shape = [batch, spec.height, spec.width, spec.channels];
    Tensor::new(picture.values.repeat(batch), &shape).expect("lengths fit")
}

/// Adam's first steps go by signs, so that single pixels may differ: the map is compared by its mean difference.
fn is_close(what: &str, got: &Score, want: &Score, tolerance: f32) {
    let largest = want.map.values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let sum: f32 = got.map.values.iter().zip(&want.map.values).map(|(a, b)| (a - b).abs()).sum();
    let (score, map) = ((got.value - want.value).abs() / want.value, sum / want.map.values.len() as f32 / largest);
    assert!(score <= tolerance, "{what}: score {}, {} on the CPU", got.value, want.value);
    assert!(map <= tolerance, "{what}: the map differs by {map} of its largest value");
}

#[test]
fn every_precision_scores_nearly_as_the_cpu() {
    let Some(gpu) = open(&Settings::default()) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let (data, path) = trained(dir.path());
    let on_cpu = Model::load(&path, &Device::CPU).expect("a model");
    let images = images(&data, &on_cpu, 1);
    let want = on_cpu.score(&images).expect("scored");
    // Features are rounded before every layer, to 8 bits in bf16.
    for (precision, tolerance) in
        [(Precision::F32, 1e-4), (Precision::Tf32, 5e-3), (Precision::F16, 5e-3), (Precision::Bf16, 5e-3)]
    {
        let device = Device::Gpu(gpu.with_precision(precision).expect("tensor cores"));
        let got = Model::load(&path, &device).expect("a model").score(&images).expect("scored");
        is_close(&format!("{precision:?}"), &got[0], &want[0], tolerance);
    }
}

#[test]
fn a_batch_that_has_no_room_leaves_a_model_that_scores_smaller_ones() {
    let Some(gpu) = open(&Settings::default()) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let (data, path) = trained(dir.path());
    let model = Model::load(&path, &Device::Gpu(gpu.clone())).expect("a model");
    let one = images(&data, &model, 1);
    let want = model.score(&one).expect("scored");
    let (_, reserved) = gpu.memory().expect("the device tells");

    let small = open(&Settings { memory: 2 * reserved, ..Settings::default() }).expect("as before");
    let model = Model::load(&path, &Device::Gpu(small)).expect("a model");
    let error = model.score(&images(&data, &model, 32)).expect_err("no room");
    is_one_line(&error, &["emu", "out of memory", "was asked for", "is free", "smaller batch"]);
    assert_eq!(model.score(&one).expect("memory for one"), want);
}

#[test]
fn a_failure_while_scoring_is_told_in_one_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, path) = trained(dir.path());
    let score = |fault: Option<Fault>| {
        let gpu = open(&Settings { fault, ..Settings::default() })?;
        let model = Model::load(&path, &Device::Gpu(gpu)).expect("a model");
        let images = images(&data, &model, 1);
        Some([(); 2].map(|()| model.score(&images)))
    };
    let Some([Ok(want), _]) = score(None) else { return };
    let [refused, after] = score(Some(Fault::Launch(8))).expect("as before");
    is_one_line(&refused.expect_err("refused"), &["emu", "launching", "refused on purpose"]);
    assert_eq!(after.expect("the device goes on"), want);
    for lost in score(Some(Fault::Loss(8))).expect("as before") {
        is_one_line(&lost.expect_err("lost"), &["emu", "the device was lost", "start again"]);
    }
}
