//! Steps that go on from what the step before has left, repeated by one launch.

use std::sync::atomic::{AtomicUsize, Ordering};

use hotad_engine::device::Device;
use hotad_engine::repeated::Repeated;
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::Buffer;
use hotad_kernels::device::emulator::{Fault, Settings};
use hotad_kernels::elementwise::{add, affine};
use hotad_kernels::rows::copy_range;
use hotad_models::detector::{Detector, Scores};
use hotad_models::i3ad::{Config, I3ad};

use crate::open;

/// `x <- 2 x + weights`, and how often it was asked for.
struct Doubling {
    x: Buffer,
    weights: Buffer,
    calls: AtomicUsize,
}

impl Doubling {
    fn new(device: &Device) -> Self {
        let upload = |value: f32| device.upload(vec![value; 3]).expect("memory");
        Self { x: upload(1.0), weights: upload(10.0), calls: AtomicUsize::new(0) }
    }

    fn step(&mut self, repeated: &mut Repeated, device: &Device) -> hotad_engine::Result<f32> {
        let (mut x, weights, calls) = (std::mem::take(&mut self.x), &self.weights, &self.calls);
        let done = repeated.run(device, || {
            calls.fetch_add(1, Ordering::Relaxed);
            let mut next = device.alloc(x.len())?;
            affine(&x, 2.0, 0.0, &mut next)?;
            add(&mut next, weights)?;
            Ok(copy_range(&next, 0, &mut x, 0, next.len())?)
        });
        self.x = x;
        done?;
        Ok(self.x.to_vec()?[2])
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

#[test]
fn a_step_is_repeated_from_its_third_time_on() {
    let settings = Settings { check: false, ..Settings::default() };
    let Some(gpu) = open(&settings) else { return };
    let device = Device::Gpu(gpu);
    let (mut doubling, mut repeated, mut want) = (Doubling::new(&device), Repeated::default(), 1.0);
    for _ in 0..6 {
        want = 2.0 * want + 10.0;
        assert_eq!(doubling.step(&mut repeated, &device).expect("runs"), want);
    }
    assert_eq!(doubling.calls(), 2);
    doubling.weights = device.upload(vec![5.0; 3]).expect("memory");
    for _ in 0..4 {
        want = 2.0 * want + 5.0;
        assert_eq!(doubling.step(&mut repeated, &device).expect("runs"), want, "the weights are others now");
    }
    assert_eq!(doubling.calls(), 4, "done and recorded anew");
}

#[test]
fn a_step_that_fails_while_it_is_recorded_goes_on_without() {
    let fault = Some(Fault::Launch(5));
    let Some(gpu) = open(&Settings { check: false, fault, ..Settings::default() }) else { return };
    let device = Device::Gpu(gpu);
    let (mut doubling, mut repeated) = (Doubling::new(&device), Repeated::default());
    assert_eq!(doubling.step(&mut repeated, &device).expect("runs"), 12.0);
    let refused = doubling.step(&mut repeated, &device).expect_err("refused").to_string();
    assert!(refused.contains("refused on purpose"), "{refused}");
    doubling.x = device.upload(vec![12.0; 3]).expect("memory");
    for want in [34.0, 78.0, 166.0] {
        assert_eq!(doubling.step(&mut repeated, &device).expect("runs"), want);
    }
    assert_eq!(doubling.calls(), 5, "never repeated");
}

/// Rows and columns of the images.
const SIZE: usize = 64;

fn images(seed: usize, count: usize) -> Tensor {
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 251) as f32 / 250.0;
    Tensor::new((0..count * SIZE * SIZE * 3).map(value).collect(), &[count, SIZE, SIZE, 3]).expect("lengths fit")
}

/// An image after the other by one model: an iteration is done, recorded, then repeated for all of them.
#[test]
fn iterations_of_i3ad_are_repeated_from_image_to_image() {
    let settings = Settings { check: false, ..Settings::default() };
    let Some(gpu) = open(&settings) else { return };
    let device = Device::Gpu(gpu);
    let config = Config { image_size: SIZE, width: 8, patches: 2, test_iterations: 4, stop: 0.0, ..Config::default() };
    // About half of the pixels are masked, others in each iteration.
    let u = 0.98925;
    let model = || I3ad::untrained(config.clone(), u, 3, &device).expect("memory");
    let score = |model: &I3ad, seed| -> Scores { model.score(&images(seed, 1)).expect("scored") };
    let one = model();
    let recordings = || settings.recordings.load(Ordering::Relaxed);
    let before = recordings();
    let scores: Vec<Scores> = (0..3).map(|seed| score(&one, seed)).collect();
    assert_eq!(recordings() - before, 1, "one iteration, once");
    let short = I3ad::untrained(Config { test_iterations: 1, ..config.clone() }, u, 3, &device).expect("memory");
    assert!(score(&short, 2) != scores[2], "the iterations count");
    // In a batch of another shape nothing of it is repeated.
    let other = model();
    other.score(&images(7, 2)).expect("scored");
    assert!(score(&other, 2) == scores[2], "and so it is the same");
}
