//! Operations on maps at random shapes, on every device under test, against their definitions in float64. A shape that fails is
//! shrunk to the smallest that does. Backward is compared with forward, of which it is the adjoint.

mod convolution;
#[path = "../common/devices.rs"]
mod devices;
#[path = "../common/instruction_sets.rs"]
mod instruction_sets;
mod pooling;
mod resize;
mod window;

use hotad_engine::random;
use hotad_kernels::device::{Buffer, Device};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestCaseResult, TestRng, TestRunner};
use rand::Rng;

/// Shapes that are tried on the CPU, and on any other device, where a new shape may take a compiler.
const SHAPES: (u32, u32) = (200, 10);

/// The same shapes every time.
const SEED: [u8; 32] = *b"shapes of maps for the kernels!!";

/// Runs a test at random shapes on every device.
fn at_all<S: Strategy>(shapes: S, test: impl Fn(&Device, S::Value) -> TestCaseResult) {
    for device in devices::under_test() {
        let cases = if device.gpu().is_none() { SHAPES.0 } else { SHAPES.1 };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
        let mut runner = TestRunner::new_with_rng(Config { cases, ..Config::default() }, rng);
        if let Err(error) = runner.run(&shapes, |shape| test(&device, shape)) {
            panic!("on {}: {error}", device.name());
        }
    }
}

/// Random values in -1..1.
fn noise(len: usize, index: u64) -> Vec<f32> {
    let mut rng = random::stream(9, "property test", index);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn put(device: &Device, values: &[f32]) -> Buffer {
    device.upload(values.to_vec()).expect("memory for a small map")
}

/// A buffer that an operation must write all of.
fn uninit(device: &Device, len: usize) -> Buffer {
    put(device, &vec![f32::NAN; len])
}

fn host(buffer: &Buffer) -> Vec<f32> {
    buffer.to_vec().expect("the device has done its work")
}

/// Fails unless all values are near, relative to the largest.
fn near(got: &Buffer, want: &[f64], tolerance: f64) -> TestCaseResult {
    let got = host(got);
    let largest = want.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
    for (at, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - w).abs() / largest;
        if error.is_nan() || error > tolerance {
            return Err(TestCaseError::fail(format!("[{at}] is {g}, {w} expected ({error:e} of the largest)")));
        }
    }
    if got.len() == want.len() { Ok(()) } else { Err(TestCaseError::fail(format!("{} values", got.len()))) }
}

/// Fails unless `backward` is the adjoint of `forward`: `forward(x) . g = x . backward(g)`.
fn adjoint(forward: &Buffer, g: &[f32], x: &[f32], backward: &Buffer) -> TestCaseResult {
    let dot = |a: &[f32], b: &[f32]| -> (f64, f64) {
        let products = || a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        (products().sum(), products().map(f64::abs).sum())
    };
    let ((left, a), (right, b)) = (dot(&host(forward), g), dot(x, &host(backward)));
    let error = (left - right).abs() / (a + b).max(1e-6);
    if error <= 2e-6 { Ok(()) } else { Err(TestCaseError::fail(format!("{left} and {right}: no adjoint"))) }
}

#[test]
fn every_instruction_set() {
    instruction_sets::run_again();
}
