//! The shipped model gives the same scores with every instruction set, within the tolerance of the golden vectors.
//!
//! Alone in its binary: the instruction set is chosen for the whole process.

use hotad_engine::device::Device;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_kernels::simd::{self, Isa};
use hotad_models::model::Model;
use rand::Rng;

/// What the golden vectors of the decomposition at this size allow, which scoring is made of: this share of the values
/// within `USUAL`, all within `MOST`.
const SHARE: f64 = 0.97;
const USUAL: f32 = 5e-4;
const MOST: f32 = 0.05;

#[test]
fn scores_are_those_of_every_instruction_set() {
    let detector = Model::load("weights/plate.safetensors".as_ref(), &Device::CPU).expect("the shipped model").detector;
    let spec = detector.image();
    let mut rng = random::stream(9, "instruction sets", 0);
    let values = (0..spec.len()).map(|_| rng.random()).collect();
    let image = Tensor::new(values, &[1, spec.height, spec.width, spec.channels]).expect("lengths fit");
    let mut widest = None;
    for isa in Isa::available().into_iter().rev() {
        simd::select(isa).expect("the CPU has it");
        let score = detector.score(&image).expect("shapes fit").remove(0);
        assert!(score.is_finite());
        let (value, map) = widest.get_or_insert_with(|| (score.value, score.map.clone()));
        let error = (score.value - *value).abs();
        assert!(error <= USUAL, "{}: {}, the widest set gives {value}", isa.name(), score.value);
        let errors: Vec<f32> = score.map.values.iter().zip(&map.values).map(|(got, want)| (got - want).abs()).collect();
        assert!(errors.iter().all(|e| *e <= MOST), "{}: an error of more than {MOST}", isa.name());
        let usual = errors.iter().filter(|e| **e <= USUAL).count();
        assert!(usual as f64 >= SHARE * errors.len() as f64, "{}: {usual} of {} values", isa.name(), errors.len());
    }
}
