//! Every method: the inspector's verdicts beside what the command line says of the same pixels in a file.

use std::path::Path;
use std::time::{Duration, Instant};

use hotad::{Format, Frame, Inspector, Label, MapSize, Options, Verdict};
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_kernels::device::poison_new_buffers;
use hotad_models::detector::Score;
use hotad_models::method;
use hotad_models::model::Model;
use serde_json::Value;

use crate::common::pictures::read_png;
use crate::common::{ok, text};
use crate::small_models::train_all;

/// What `hotad score` says of an image, and the map it writes, to the bit.
fn by_command_line(model: &Path, image: &Path, out: &Path) -> (Value, Vec<f32>) {
    let args = ["score", "--model", text(model), text(image), "--out", text(out), "--maps", "npy", "--force"];
    let line = ok(&[&args[..], &["--device", "cpu", "-q"]].concat());
    let line: Value = serde_json::from_str(line.trim()).expect("one line");
    let file = std::fs::read(line["map"].as_str().expect("a map")).expect("the map");
    let header = usize::from(u16::from_le_bytes([file[8], file[9]])) + 10;
    let map = file[header..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (line, map)
}

/// Pixels of a PNG, as RGB.
fn pixels(path: &Path) -> (usize, usize, Vec<u8>) {
    let image = read_png(path).to_rgb8();
    (image.height() as usize, image.width() as usize, image.into_raw())
}

/// Models of methods that go on in steps; the others take no notice of a deadline.
const IN_STEPS: [&str; 6] = ["paedid", "projection", "anogan", "i3ad", "i3ad-tiles", "paedid-i3ad"];

/// A deadline that has passed stops methods that go on in steps before the first one, and they still have a score.
fn stops_at_once(name: &str, path: &Path) {
    let model = Model::load(path, &Device::CPU).expect("the model opens");
    let spec = model.detector.image();
    let shape = [2, spec.height, spec.width, spec.channels];
    let values = (0..2 * spec.len()).map(|i| (i % 7) as f32 / 7.0).collect();
    let images = Tensor::new(values, &shape).expect("a batch");
    let until = Until::moment(Instant::now());
    let scores = model.score_until(&images, &until).expect("scores");
    assert!(scores.len() == 2 && scores.iter().all(Score::is_finite), "{name}");
    assert_eq!(until.stopped_after(), IN_STEPS.contains(&name).then_some(0), "{name}");
    let whole = Until::moment(Instant::now() + Duration::from_secs(3600));
    let scores = model.score_until(&images, &whole).expect("scores");
    assert_eq!(whole.stopped_after(), None, "{name}");
    assert!(scores == model.score(&images).expect("scores"), "{name}: a deadline that is kept changes nothing");
}

/// What the registry says that a method can do is what its models can.
fn can_what_is_listed(name: &str, path: &Path) {
    let mut model = Model::load(path, &Device::CPU).expect("the model opens");
    let listed = method(model.method).expect("the method is there");
    assert_eq!(model.detector.as_explainable().is_some(), listed.explainable, "{name}");
    assert_eq!(model.detector.as_bank().is_some(), listed.bank, "{name}");
    // Another model as the guide is no plain network.
    assert_eq!(model.export().is_ok(), listed.exportable && name != "guided", "{name}");
}

#[test]
fn every_method_says_what_the_command_line_says() {
    // What an inspection reads before it is written, the command line, whose buffers are of zeros at first, does not say.
    poison_new_buffers();
    let dir = tempfile::tempdir().expect("a folder");
    let models = train_all(dir.path());
    let data = dir.path().join("data");
    let images = ["test/good/000.png", "test/dark/001.png"].map(|name| data.join(name));
    for (name, model) in &models {
        stops_at_once(name, model);
        can_what_is_listed(name, model);
        let options = Options { device: "cpu".into(), map: MapSize::Frame, ..Options::default() };
        let mut inspector = Inspector::open(model, options).expect("the model opens");
        let frames = images.each_ref().map(|image| pixels(image));
        let frames = frames.each_ref().map(|(h, w, p)| Frame::new(p, *h, *w, 3 * w, Format::Rgb8).expect("a frame"));
        let mut batch = vec![Verdict::default(); 2];
        inspector.inspect_batch(&frames, &mut batch).expect("a verdict");
        for ((image, frame), of_batch) in images.iter().zip(&frames).zip(&batch) {
            let mut verdict = Verdict::default();
            inspector.inspect(frame, &mut verdict).expect("a verdict");
            let (line, map) = by_command_line(model, image, &dir.path().join("out"));
            // Printed in as many digits as tell one f32 from the next.
            let printed = |key: &str| line[key].as_f64().map(|v| v as f32);
            assert_eq!(Some(verdict.score), printed("score"), "{name}: score");
            assert_eq!(Some(verdict.calibrated), printed("calibrated"), "{name}: calibrated");
            assert_eq!(verdict.label.to_string(), line["label"], "{name}");
            assert_ne!(verdict.label, Label::Undecided);
            assert_eq!(verdict.map_size, (frame.height(), frame.width()));
            assert!(verdict.map == map, "{name}: maps differ");
            assert_eq!(of_batch.score, verdict.score, "{name}: score in a batch");
            let differs = of_batch.map.iter().zip(&verdict.map).filter(|(a, b)| a != b).count();
            assert_eq!(differs, 0, "{name}: map in a batch");
            assert_eq!(of_batch.regions, verdict.regions, "{name}");
        }
    }
}
