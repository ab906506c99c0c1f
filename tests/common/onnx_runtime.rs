//! ONNX Runtime, through the Python that `$HOTAD_PYTHON` names (default `python3`).

use std::io::Write;
use std::path::Path;
use std::process::Command;

use hotad_engine::tensor::Tensor;

const SCRIPT: &str = include_str!("run_onnx.py");

fn python() -> Command {
    Command::new(std::env::var("HOTAD_PYTHON").unwrap_or_else(|_| "python3".into()))
}

/// Whether it is there; without it a test is skipped with a line, unless `HOTAD_REQUIRE_ONNX=1`.
pub fn is_there() -> bool {
    let found = python().args(["-c", "import numpy, onnxruntime"]).output().is_ok_and(|o| o.status.success());
    if !found {
        let why = "no Python with onnxruntime; HOTAD_PYTHON names one";
        assert!(!std::env::var("HOTAD_REQUIRE_ONNX").is_ok_and(|v| v == "1"), "{why}, and HOTAD_REQUIRE_ONNX=1");
        // Past the harness, which keeps what a passing test prints.
        let _ = writeln!(std::io::stderr(), "skipped: {why}");
    }
    found
}

/// Runs a file on images `[n, h, w, c]`.
pub fn run(file: &Path, images: &Tensor, folder: &Path) {
    run_on(file, &[("image", images)], folder);
}

/// Runs a file on maps `[n, h, w, c]` by the names of its inputs.
pub fn run_on(file: &Path, inputs: &[(&str, &Tensor)], folder: &Path) {
    for (name, values) in inputs {
        let bytes = to_nchw(values);
        std::fs::write(folder.join(format!("{name}.in.f32")), bytemuck::cast_slice(&bytes)).expect("written");
    }
    let output = python().args(["-c", SCRIPT]).args([file, folder]).output().expect("Python runs");
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
}

/// An output of the last run in a folder.
pub fn output(folder: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(folder.join(format!("{name}.f32"))).expect("an output of that name");
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The values of maps with channels before pixels.
pub fn to_nchw(maps: &Tensor) -> Vec<f32> {
    let [n, h, w, c] = maps.nhwc().expect("maps");
    let values = maps.values().expect("read");
    let at = |i: usize| {
        let (image, channel, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
        values[(image * h * w + pixel) * c + channel]
    };
    (0..n * c * h * w).map(at).collect()
}

/// Fails where values lie farther apart than a share of the largest.
pub fn assert_near(got: &[f32], want: &[f32], share: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(largest > 0.0, "{what}: nothing but zeros");
    let worst = got.iter().zip(want).fold(0f32, |m, (g, w)| m.max((g - w).abs()));
    assert!(worst <= share * largest, "{what}: off by {worst}, the largest is {largest}");
}
