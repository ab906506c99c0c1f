//! What is run on every device: each body gives named results with the tolerance they are compared with. Operations that
//! tests/cases describes have none here.

mod convolution;
mod features;
mod images;
mod memory;
mod network;
mod painting;

use hotad_engine::random;
use hotad_kernels::device::{Buffer, Device, Element};
use rand::Rng;

use crate::cases::{self, Case};

/// Numbers of one result, and how far they may lie from the CPU's, relative to its largest.
pub type Results = Vec<(Vec<f32>, f32)>;

/// A test body.
pub type Body = fn(&Device) -> Results;

/// All bodies, by name.
pub const ALL: &[(&str, Body)] = &[
    ("every activation in the epilogue", convolution::activations),
    ("gated convolutions", convolution::gated),
    ("prepared convolutions", network::prepared),
    ("inverted residuals", network::inverted_residuals),
    ("prepared gated convolutions", painting::gated),
    ("masks of inpainting", painting::masks),
    ("spectral normalisation", painting::spectral),
    ("gradient of softmax", painting::softmax),
    ("average pooling", network::pooling),
    ("similarity, decomposition and residual", images::similarity),
    ("similarity in a large window", images::large_window),
    ("colour differences", images::colour),
    ("blur", images::blur),
    ("location-wise neighbours", memory::locations),
    ("neighbours near a location", memory::neighbourhoods),
    ("flat neighbours", memory::flat),
    ("Mahalanobis distances", memory::gaussians),
    ("background prior", memory::prior),
    ("coreset", memory::coreset),
    ("fusion of feature maps", features::fusion),
    ("covariance", features::covariance),
    ("noise, dropout and copies", features::noisy),
];

/// Those whose operands, which are [`exact`], are rounded, beside those of [`cases::rounded`].
#[allow(dead_code)] // the PTX test runs all bodies in every precision
pub const ROUNDED: &[(&str, Body)] = &[
    ("prepared convolutions", network::prepared),
    ("gated convolutions", convolution::gated),
    ("location-wise neighbours", memory::locations),
    ("flat neighbours", memory::flat),
];

/// The results of an operation that tests/cases describes.
#[allow(dead_code)] // the PTX test compares nothing
pub fn of_case(case: &Case, device: &Device) -> Results {
    let results = case.checked.iter().flat_map(|inputs| cases::results(case, inputs, device));
    results.map(|values| (values, case.tolerance)).collect()
}

/// Compares what is made of rounded operands with the CPU, on a device of any precision.
#[allow(dead_code)] // as above
pub fn agree_when_rounded(device: &Device, name: &str) {
    for (body_name, body) in ROUNDED {
        compare_within(&format!("{body_name} on {name}"), &body(device), &body(&Device::CPU), cases::SAME_SUMS);
    }
    for case in cases::rounded() {
        let on = |device: &Device| of_case(case, device);
        compare_within(&format!("{} on {name}", case.name), &on(device), &on(&Device::CPU), cases::SAME_SUMS);
    }
}

/// Compares results with those of the CPU.
#[allow(dead_code)] // the PTX test compares nothing
pub fn compare(name: &str, got: &Results, want: &Results) {
    assert_eq!(got.len(), want.len(), "{name}: number of results");
    for (i, ((got, _), (want, tolerance))) in got.iter().zip(want).enumerate() {
        compare_result(&format!("{name}: result {i}"), got, want, *tolerance);
    }
}

/// Compares results that must lie within one tolerance.
#[allow(dead_code)] // as above
pub fn compare_within(name: &str, got: &Results, want: &Results, tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{name}: number of results");
    for (i, ((got, _), (want, _))) in got.iter().zip(want).enumerate() {
        compare_result(&format!("{name}: result {i}"), got, want, tolerance);
    }
}

fn compare_result(name: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{name}: length");
    let largest = want.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (at, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (g - w).abs() / largest;
        assert!(error <= tolerance, "{name}: [{at}] is {g}, {w} expected ({error:e} of the largest)");
    }
}

/// Random numbers in -1..1.
fn noise(n: usize, index: u64) -> Vec<f32> {
    let mut rng = random::stream(3, "device test", index);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Random multiples of 1/64 in -1..=1. They, and sums of four of them, are exact in bf16, f16 and tf32 too.
fn exact(n: usize, index: u64) -> Vec<f32> {
    noise(n, index).into_iter().map(|v| (v * 64.0).round() / 64.0).collect()
}

/// Numbers on the device.
fn put<T: Element>(device: &Device, values: Vec<T>) -> Buffer<T> {
    device.upload(values).expect("memory for a small test")
}

/// An uninitialised buffer, poisoned.
fn uninit(device: &Device, len: usize) -> Buffer {
    put(device, vec![f32::NAN; len])
}

/// Numbers back on the host.
fn host<T: Element>(buffer: &Buffer<T>) -> Vec<T> {
    buffer.to_vec().expect("the device has done its work")
}

/// Integers as floats.
fn integers(buffer: &Buffer<u32>) -> Vec<f32> {
    host(buffer).into_iter().map(|v| v as f32).collect()
}
