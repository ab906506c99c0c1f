//! What is copied to the device and back while a batch is scored.

use std::sync::atomic::Ordering;

use hotad_engine::tensor::Tensor;
use hotad_kernels::device::Device;
use hotad_kernels::device::emulator::Settings;
use hotad_models::detector::Detector;
use hotad_models::i3ad::{Config, I3ad};

use crate::open;

/// Rows and columns of the images.
const SIZE: usize = 64;

/// Bytes to and from the device while two images are scored with so many iterations, by a model that has scored before.
fn copied(test_iterations: usize) -> Option<[u64; 2]> {
    let settings = Settings { check: false, ..Settings::default() };
    let device = Device::Gpu(open(&settings)?);
    let config = Config { image_size: SIZE, width: 8, patches: 2, test_iterations, stop: 0.0, ..Config::default() };
    let model = I3ad::untrained(config, 1e-4, 3, &device).expect("memory");
    let values = (0..2 * SIZE * SIZE * 3).map(|i| (i * 7919 % 251) as f32 / 250.0).collect();
    let images = Tensor::new(values, &[2, SIZE, SIZE, 3]).expect("lengths fit");
    let counted = || [&settings.uploaded, &settings.downloaded].map(|bytes| bytes.load(Ordering::Relaxed));
    model.score(&images).expect("scored");
    let before = counted();
    model.score(&images).expect("scored");
    let after = counted();
    Some([after[0] - before[0], after[1] - before[1]])
}

/// Images go up once; maps and reconstructions come down once, and of each image two counts in an iteration.
#[test]
fn i3ad_copies_images_once_each_way_and_counts_alone_in_an_iteration() {
    let pixels = (2 * SIZE * SIZE * size_of::<f32>()) as u64;
    for iterations in [0, 1] {
        let Some([uploaded, downloaded]) = copied(iterations) else { return };
        assert_eq!(uploaded, 3 * pixels, "{iterations} iterations");
        assert_eq!(downloaded, (1 + 3) * pixels + (1 + iterations as u64) * 2 * 8, "{iterations} iterations");
    }
}
