//! The operations that tests/cases describes, on their own.

use std::hint::black_box;

use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;

use crate::cases::{self, Case};
use crate::work::Work;

fn work(case: &'static Case, device: &Device) -> Work {
    let inputs: Vec<Tensor> = cases::tensors(case.timed, device).iter().map(Tensor::detached).collect();
    let output = (case.run)(&inputs).expect("the inputs fit").len();
    Work {
        title: case.name,
        name: case.name,
        flops: case.flops * inputs[0].len() as f64,
        bytes: 4.0 * (inputs.iter().map(Tensor::len).sum::<usize>() + output) as f64,
        units: 1.0,
        goal: (0.0, 0.0),
        latency: false,
        run: Box::new(move || drop(black_box((case.run)(&inputs).expect("the inputs fit")))),
    }
}

/// A call of every operation.
pub fn all(device: &Device) -> impl Iterator<Item = Work> {
    cases::all().filter(|case| !case.timed.is_empty()).map(|case| work(case, device))
}
