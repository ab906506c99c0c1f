//! The operations that tests/cases describes: values by their definition, gradients by its finite differences.

use crate::cases::{self, Array, Case, Input};
use crate::devices;

/// Elements of a gradient that are compared.
const COMPARED: usize = 24;

/// Half the distance of a finite difference.
const H: f64 = 1e-5;

fn assert_near(what: &str, got: &[f64], want: &[f64], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let largest = want.iter().fold(1e-12f64, |m, v| m.max(v.abs()));
    for (at, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (g - w).abs() / largest;
        assert!(error <= f64::from(tolerance), "{what}: [{at}] is {g}, {w} expected ({error:e} of the largest)");
    }
}

/// The slope of the sum of output times `gradient` in one element of an input.
fn slope(case: &Case, arrays: &[Array], gradient: &[f32], (input, at): (usize, usize)) -> f64 {
    let shifted = |d: f64| {
        let mut arrays = arrays.to_vec();
        arrays[input].values[at] += d;
        (case.oracle)(&arrays)
    };
    // Differences first, so that elements that do not change give no rounding.
    let change = |((a, b), g): ((&f64, &f64), &f32)| (a - b) * f64::from(*g);
    shifted(H).iter().zip(&shifted(-H)).zip(gradient).map(change).sum::<f64>() / (2.0 * H)
}

/// Some elements of a gradient.
struct Slopes {
    input: usize,
    at: Vec<usize>,
    want: Vec<f64>,
}

/// Slopes in every learned input.
fn slopes(case: &Case, inputs: &[Input], arrays: &[Array], outputs: usize) -> Vec<Slopes> {
    let gradient = cases::output_gradient(outputs);
    let learned = (0..inputs.len()).filter(|i| inputs[*i].learned);
    let of = |input: usize| {
        let len = arrays[input].values.len();
        let at: Vec<usize> = (0..len).step_by(len.div_ceil(COMPARED)).collect();
        let want = at.iter().map(|at| slope(case, arrays, &gradient, (input, *at))).collect();
        Slopes { input, at, want }
    };
    learned.map(of).collect()
}

fn check(case: &Case, inputs: &[Input]) {
    let arrays = cases::arrays(inputs);
    let values = (case.oracle)(&arrays);
    let slopes = slopes(case, inputs, &arrays, values.len());
    for device in devices::under_test() {
        let what = format!("{} on {}, input {:?}", case.name, device.name(), inputs[0].shape);
        let results = cases::results(case, inputs, &device);
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        assert_near(&what, &wide(&results[0]), &values, case.tolerance);
        for (gradient, slopes) in results[1..].iter().zip(&slopes) {
            let got: Vec<f64> = slopes.at.iter().map(|at| f64::from(gradient[*at])).collect();
            assert_near(&format!("{what}: gradient of input {}", slopes.input), &got, &slopes.want, case.tolerance);
        }
    }
}

#[test]
fn operations_and_their_gradients_follow_the_definitions() {
    for case in cases::all() {
        case.checked.iter().for_each(|inputs| check(case, inputs));
    }
}
