//! Arrays in float64, for definitions that share no code with the kernels.

use super::Input;

/// Values in row order.
#[derive(Clone)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub(super) fn new(input: &Input, values: Vec<f32>) -> Self {
        Self { shape: input.shape.to_vec(), values: values.into_iter().map(f64::from).collect() }
    }

    /// Extent of the last axis.
    pub fn columns(&self) -> usize {
        *self.shape.last().expect("an axis")
    }

    /// Vectors along the last axis.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.columns())
    }

    /// A function of every element.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        self.values.iter().map(|v| f(*v)).collect()
    }

    /// A function of the elements of two arrays.
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        self.values.iter().zip(&other.values).map(|(a, b)| f(*a, *b)).collect()
    }
}

/// 1 / (1 + exp(-v)).
pub fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

/// The sum, with what each addition loses added up beside it (Neumaier 1974): differences of two such sums are exact enough to
/// take slopes from.
pub fn total(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0);
    for v in values {
        let next = sum + v;
        lost += if sum.abs() >= v.abs() { (sum - next) + v } else { (v - next) + sum };
        sum = next;
    }
    sum + lost
}

/// The mean, times a factor, as the only value.
pub fn mean(values: &[f64], factor: f64) -> Vec<f64> {
    vec![factor * total(values.iter().copied()) / values.len() as f64]
}
