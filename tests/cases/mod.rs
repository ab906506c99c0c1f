//! Operations on elements, rows and small maps, each described once: inputs, the call, its definition in float64, tolerance and cost.
//!
//! One description serves four programs: `tests/gradients` compares values and gradients with the definition, `tests/devices`
//! every device with the CPU, `tests/ptx` compiles the kernels that are launched, and `benches/hot_paths` times the call.

#![allow(dead_code)] // no program uses all of it

mod arrays;
mod attention;
pub mod convolution;
mod elementwise;
mod fused;
mod losses;
mod maps;
mod normalisation;
mod resize;
mod rows;
mod similarity;

use hotad_engine::Result;
use hotad_engine::device::Device;
use hotad_engine::random;
use hotad_engine::tape::backward_from;
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::poison_new_buffers;
use rand::Rng;

pub use arrays::Array;

/// Values of one input.
#[derive(Clone, Copy)]
enum Values {
    /// From -1 to 1.
    Signed,
    /// From -8 to 8, beyond the bounds of all activations.
    Wide,
    /// Between 0.05 and 0.95.
    Share,
    /// 0 or 1.
    Mask,
    /// Multiples of 1/64 from -1 to 1: exact in bf16, f16 and tf32 too.
    Exact,
}

/// One input of an operation.
#[derive(Clone, Copy)]
pub struct Input {
    /// Its shape.
    pub shape: &'static [usize],
    values: Values,
    /// Whether it gets a gradient.
    pub learned: bool,
}

/// Values from -1 to 1 that get a gradient.
const fn learned(shape: &'static [usize]) -> Input {
    Input { shape, values: Values::Signed, learned: true }
}

/// Values from -1 to 1 that get none.
const fn given(shape: &'static [usize]) -> Input {
    Input { learned: false, ..learned(shape) }
}

/// Values between 0.05 and 0.95 that get a gradient.
const fn share(shape: &'static [usize]) -> Input {
    Input { values: Values::Share, ..learned(shape) }
}

/// Values that no precision rounds and that get a gradient.
const fn exact(shape: &'static [usize]) -> Input {
    Input { values: Values::Exact, ..learned(shape) }
}

/// Zeros and ones that get none.
const fn mask(shape: &'static [usize]) -> Input {
    Input { values: Values::Mask, ..given(shape) }
}

/// An operation.
pub struct Case {
    /// Its name, one word.
    pub name: &'static str,
    /// Inputs of the calls that are checked: few elements and many, odd sizes.
    pub checked: &'static [&'static [Input]],
    /// Inputs of the call that is timed; none where another case tells as much.
    pub timed: &'static [Input],
    /// Floating-point operations for each element of the first input.
    pub flops: f64,
    /// The call.
    pub run: fn(&[Tensor]) -> Result<Tensor>,
    /// What it computes, by its definition.
    pub oracle: fn(&[Array]) -> Vec<f64>,
    /// How far values and gradients may lie off, relative to the largest.
    pub tolerance: f32,
}

/// Of operations on single elements: some roundings.
const ELEMENT: f32 = 2e-6;

/// Of sums of up to some thousand elements, in any order.
const SUM: f32 = 2e-5;

/// All operations.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let files = [
        elementwise::CASES,
        losses::CASES,
        rows::CASES,
        maps::CASES,
        convolution::CASES,
        fused::PLAIN,
        fused::OTHERS,
        fused::DEPTHWISE_CASES,
        fused::LEARNED,
        normalisation::CASES,
        similarity::CASES,
        resize::CASES,
        attention::CASES,
    ];
    files.into_iter().flatten()
}

/// The operations whose products tensor cores make of rounded operands. All of theirs are exact in any precision.
pub fn rounded() -> impl Iterator<Item = &'static Case> {
    convolution::CASES.iter().chain(fused::PLAIN).chain(fused::OTHERS)
}

/// The operation with this name.
pub fn named(name: &str) -> &'static Case {
    all().find(|case| case.name == name).unwrap_or_else(|| panic!("no operation is called {name:?}"))
}

/// How far results of [`rounded`] operations lie from the CPU's in any precision, relative to the largest: sums of the same numbers
/// in another order.
pub const SAME_SUMS: f32 = 2e-6;

/// Random values of an input, the same in f32 and f64.
fn draw(input: &Input, index: usize) -> Vec<f32> {
    let mut rng = random::stream(5, "operation", index as u64);
    let mut value = || match input.values {
        Values::Signed => rng.random_range(-1.0..1.0),
        Values::Wide => rng.random_range(-8.0..8.0),
        Values::Share => rng.random_range(0.05..0.95),
        Values::Mask => f32::from(u8::from(rng.random_bool(0.4))),
        Values::Exact => multiple(&mut rng),
    };
    (0..input.shape.iter().product()).map(|_| value()).collect()
}

/// The inputs as the definition takes them.
pub fn arrays(inputs: &[Input]) -> Vec<Array> {
    let array = |(index, input)| Array::new(input, draw(input, index));
    inputs.iter().enumerate().map(array).collect()
}

/// The inputs on a device, on the tape where they are learned.
pub fn tensors(inputs: &[Input], device: &Device) -> Vec<Tensor> {
    let tensor = |(index, input): (usize, &Input)| {
        let host = Tensor::new(draw(input, index), input.shape).expect("lengths fit");
        let tensor = host.to(device).expect("memory for an input");
        if input.learned { tensor.leaf() } else { tensor }
    };
    inputs.iter().enumerate().map(tensor).collect()
}

/// A random multiple of 1/64 from -1 to 1.
fn multiple(rng: &mut impl Rng) -> f32 {
    rng.random_range(-64..=64) as f32 / 64.0
}

/// The gradient of the output that gradients of the inputs are made of.
pub fn output_gradient(len: usize) -> Vec<f32> {
    let mut rng = random::stream(5, "gradient of the output", 0);
    (0..len).map(|_| multiple(&mut rng)).collect()
}

/// The output on a device, and the gradients of the learned inputs under [`output_gradient`]. What an operation does not write
/// is not a number.
pub fn results(case: &Case, inputs: &[Input], device: &Device) -> Vec<Vec<f32>> {
    poison_new_buffers();
    let tensors = tensors(inputs, device);
    let y = (case.run)(&tensors).expect("the inputs fit");
    let mut results = vec![y.values().expect("the device has done its work").into_owned()];
    if inputs.iter().any(|input| input.learned) {
        let gradient = device.upload(output_gradient(y.len())).expect("memory for a gradient");
        let mut gradients = backward_from(&y, gradient).expect("on the tape");
        for (tensor, _) in tensors.iter().zip(inputs).filter(|(_, input)| input.learned) {
            let gradient = gradients.take(tensor).expect("a learned input has a gradient");
            results.push(gradient.into_vec().expect("the device has done its work"));
        }
    }
    results
}
