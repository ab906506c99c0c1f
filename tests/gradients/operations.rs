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

/// The slope of the mean squared error to `target` in one element of an input.
fn slope(case: &Case, arrays: &[Array], target: &[f32], (input, at): (usize, usize)) -> f64 {
    let shifted = |d: f64| {
        let mut arrays = arrays.to_vec();
        arrays[input].values[at] += d;
        (case.oracle)(&arrays)
    };
    // (a - t)^2 - (b - t)^2, so that elements that do not change give no rounding.
    let change = |((a, b), t): ((&f64, &f64), &f32)| (a - b) * (a + b - 2.0 * f64::from(*t));
    let sum: f64 = shifted(H).iter().zip(&shifted(-H)).zip(target).map(change).sum();
    sum / (2.0 * H * target.len() as f64)
}

fn check(case: &Case, inputs: &[Input], results: &[Vec<f32>], device: &str) {
    let arrays = cases::arrays(inputs);
    let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let what = format!("{} on {device}, input {:?}", case.name, inputs[0].shape);
    assert_near(&what, &wide(&results[0]), &(case.oracle)(&arrays), case.tolerance);
    let target = cases::target(results[0].len());
    let learned = (0..inputs.len()).filter(|i| inputs[*i].learned);
    for (gradient, input) in results[1..].iter().zip(learned) {
        let at: Vec<usize> = (0..gradient.len()).step_by(gradient.len().div_ceil(COMPARED)).collect();
        let want: Vec<f64> = at.iter().map(|at| slope(case, &arrays, &target, (input, *at))).collect();
        let got: Vec<f64> = at.iter().map(|at| f64::from(gradient[*at])).collect();
        assert_near(&format!("{what}: gradient of input {input}"), &got, &want, case.tolerance);
    }
}

#[test]
fn operations_and_their_gradients_follow_the_definitions() {
    for device in devices::under_test() {
        for case in cases::all() {
            for inputs in case.checked {
                check(case, inputs, &cases::results(case, inputs, &device), device.name());
            }
        }
    }
}
