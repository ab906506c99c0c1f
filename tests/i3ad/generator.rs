//! The generator of I3AD: training, on every device, feature maps.

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::Batch;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::ops::Mode;
use hotad_engine::params::Params;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Learner, TrainData, TrainOptions, train as train_network};
use hotad_models::i3ad::{Config, I3ad};
use hotad_models::networks::inpainting::{Generator, Inpainting, Ready};
use rand::Rng;

use crate::common::{bars, small_data};
use crate::{devices, train};

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
        let mut params = params.to(&device).expect("memory");
        params.set_values(&state).expect("shapes fit");
        let ready = Ready::new(&generator, &state, &device).expect("shapes fit");
        let pixels = |n| (0..n).map(|_| rng.random_range(-1.0..1.0f32)).collect::<Vec<f32>>();
        let mut pixels = pixels;
        let images = Tensor::new(pixels(2 * 64 * 68 * 3), &[2, 64, 68, 3]).expect("fits").to(&device).expect("memory");
        let mask = pixels(2 * 64 * 68).into_iter().map(|v| f32::from(u8::from(v > 0.3))).collect();
        let mask = Tensor::new(mask, &[2, 64, 68, 1]).expect("fits").to(&device).expect("memory");
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
        let hidden = Tensor::new(hidden, &[2, 64, 68, 3]).expect("fits").to(&device).expect("memory");
        let again = generator.run(&Inpainting::Ready(&ready), &hidden, &mask).expect("shapes fit");
        assert_eq!(prepared.fine.values().expect("read"), again.fine.values().expect("read"));
    }
}

#[test]
fn the_generator_gives_feature_maps() {
    let config = Config { image_size: 66, width: 8, ..Config::default() };
    let images = Tensor::new(bars(66, 1).with_channels(3).values, &[1, 66, 66, 3]).expect("lengths fit");
    let on_cpu =
        I3ad::untrained(config.clone(), 0.1, 3, &Device::CPU).expect("memory").features(&images).expect("fits");
    assert_eq!(on_cpu.shape(), [1, 17, 17, 16]);
    let want = on_cpu.values().expect("read");
    assert!(want.iter().any(|v| v.abs() > 1e-3));
    for device in devices::under_test() {
        let got = I3ad::untrained(config.clone(), 0.1, 3, &device).expect("memory").features(&images).expect("fits");
        for (got, want) in got.values().expect("read").iter().zip(want.iter()) {
            assert!((got - want).abs() < 1e-4, "{got} for {want} on {}", device.name());
        }
    }
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
