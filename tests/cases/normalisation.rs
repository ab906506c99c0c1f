//! Batch normalisation.

use std::sync::Mutex;

use hotad_engine::Result;
use hotad_engine::ops::{BatchNormParams, Mode, batch_norm2d};
use hotad_engine::tensor::Tensor;
use hotad_kernels::activation::Activation;

use super::{Array, Case, given, learned};

const EPS: f32 = 1e-3;

/// Running statistics: the mean and the variance of every channel.
const RUNNING: [f32; 2] = [0.3, 0.5];

const SLOPE: f32 = 0.2;

/// The inputs are a map, gain, shift and what is added.
fn run(t: &[Tensor], mode: Mode) -> Result<Tensor> {
    let channels = t[1].len();
    let [mean, variance] = RUNNING.map(|v| t[0].device().upload(vec![v; channels]).map(Mutex::new));
    let running = [&mean?, &variance?];
    let params = BatchNormParams { weight: t[1].clone(), bias: t[2].clone(), running, eps: EPS, momentum: 0.1 };
    batch_norm2d(&t[0], &params, mode, Some(&t[3]), Activation::LeakyRelu(SLOPE))
}

/// `activation(gain (x - mean) / sqrt(variance + eps) + shift + residual)`.
fn normalised(a: &[Array], statistics: impl Fn(&[f64]) -> [f64; 2]) -> Vec<f64> {
    let (x, channels) = (&a[0], a[0].columns());
    let column = |k: usize| x.values.iter().skip(k).step_by(channels).copied().collect::<Vec<f64>>();
    let statistics: Vec<[f64; 2]> = (0..channels).map(|k| statistics(&column(k))).collect();
    let value = |(at, (x, residual)): (usize, (&f64, &f64))| {
        let ([mean, variance], k) = (statistics[at % channels], at % channels);
        let y = a[1].values[k] * (x - mean) / (variance + f64::from(EPS)).sqrt() + a[2].values[k] + residual;
        if y > 0.0 { y } else { f64::from(SLOPE) * y }
    };
    x.values.iter().zip(&a[3].values).enumerate().map(value).collect()
}

/// Mean and variance of a channel.
fn moments(values: &[f64]) -> [f64; 2] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    [mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n]
}

pub const CASES: &[Case] = &[
    Case {
        name: "batch_norm2d",
        checked: &[
            &[learned(&[1, 7, 1, 1]), learned(&[1]), learned(&[1]), learned(&[1, 7, 1, 1])],
            &[learned(&[5, 20, 15, 33]), learned(&[33]), learned(&[33]), learned(&[5, 20, 15, 33])],
            &[learned(&[1, 9, 10, 300]), learned(&[300]), learned(&[300]), learned(&[1, 9, 10, 300])],
        ],
        timed: &[given(&[8, 64, 64, 64]), given(&[64]), given(&[64]), given(&[8, 64, 64, 64])],
        flops: 8.0,
        run: |t| run(t, Mode::Train),
        oracle: |a| normalised(a, moments),
        tolerance: 5e-5,
    },
    Case {
        name: "batch_norm2d_fixed",
        checked: &[&[learned(&[2, 7, 5, 33]), learned(&[33]), learned(&[33]), learned(&[2, 7, 5, 33])]],
        timed: &[given(&[8, 64, 64, 64]), given(&[64]), given(&[64]), given(&[8, 64, 64, 64])],
        flops: 4.0,
        run: |t| run(t, Mode::Fixed),
        oracle: |a| normalised(a, |_| RUNNING.map(f64::from)),
        tolerance: 2e-5,
    },
];
