//! Batch normalisation on the CPU: sums in f64 over rows of pixels, everything else in f32.

use rayon::prelude::*;

use super::{Gradients, Statistics, inverse_deviation};
use crate::activation::Activation;
use crate::device::{Buffer, HostBuffer};
use crate::reduce::Column;
use crate::simd::simd_fn;

/// Rows of `c` channels that one partial sum covers.
const ROWS: usize = 1024;

/// Sums over all rows of what [`Column`] says, one for each channel, in a fixed order.
fn channel_sums(what: Column, x: &[f32], other: &[f32], mean: &[f64], inv_std: &[f64]) -> Vec<f64> {
    let c = mean.len();
    let parts: Vec<Vec<f64>> = x
        .par_chunks(ROWS * c)
        .zip(other.par_chunks(ROWS * c))
        .map(|(x, other)| {
            let mut sum = vec![0.0; c];
            match what {
                Column::Value => add_values(x, &mut sum),
                Column::SquareDeviation => add_square_deviations(x, mean, &mut sum),
                Column::ProductNormal => add_products(x, other, mean, inv_std, &mut sum),
            }
            sum
        })
        .collect();
    parts.iter().fold(vec![0.0; c], |mut total, part| {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        total
    })
}

simd_fn! {
    fn add_values(x: &[f32], sum: &mut [f64]) {
        for row in x.chunks_exact(sum.len()) {
            for (s, v) in sum.iter_mut().zip(row) {
                *s += f64::from(*v);
            }
        }
    }
}

simd_fn! {
    fn add_square_deviations(x: &[f32], mean: &[f64], sum: &mut [f64]) {
        for row in x.chunks_exact(sum.len()) {
            for ((s, v), m) in sum.iter_mut().zip(row).zip(mean) {
                let d = f64::from(*v) - m;
                *s += d * d;
            }
        }
    }
}

simd_fn! {
    fn add_products(x: &[f32], grad: &[f32], mean: &[f64], inv_std: &[f64], sum: &mut [f64]) {
        let c = sum.len();
        for (row, grad) in x.chunks_exact(c).zip(grad.chunks_exact(c)) {
            for ((((s, v), g), m), i) in sum.iter_mut().zip(row).zip(grad).zip(mean).zip(inv_std) {
                *s += f64::from(*g) * (f64::from(*v) - m) * i;
            }
        }
    }
}

/// Numbers as a buffer.
pub(super) fn buffer(values: impl Iterator<Item = f32>) -> Buffer {
    Buffer::Host(values.collect::<Vec<f32>>().into())
}

/// Statistics of a batch; moves the running ones.
pub(super) fn train(x: &[f32], running: (&mut [f32], &mut [f32]), momentum: f32, eps: f32) -> Statistics {
    let c = running.0.len();
    let n = (x.len() / c) as f64;
    let mean = channel_sums(Column::Value, x, x, &vec![0.0; c], &[]).iter().map(|s| s / n).collect::<Vec<f64>>();
    let var = channel_sums(Column::SquareDeviation, x, x, &mean, &[]).iter().map(|s| s / n).collect::<Vec<f64>>();
    let unbiased = if n > 1.0 { n / (n - 1.0) } else { 1.0 };
    let keep = 1.0 - f64::from(momentum);
    for k in 0..c {
        running.0[k] = (keep * f64::from(running.0[k]) + f64::from(momentum) * mean[k]) as f32;
        running.1[k] = (keep * f64::from(running.1[k]) + f64::from(momentum) * var[k] * unbiased) as f32;
    }
    Statistics {
        mean: buffer(mean.iter().map(|m| *m as f32)),
        inv_std: buffer(var.iter().map(|v| inverse_deviation(*v, eps))),
    }
}

/// `activation(normalised + residual)`.
pub(super) fn normalise(
    x: &[f32],
    (weight, bias): (&[f32], &[f32]),
    (mean, inv_std): (&[f32], &[f32]),
    (residual, activation): (Option<&[f32]>, Activation),
    y: &mut [f32],
) {
    let c = mean.len();
    let scale: Vec<f32> = weight.iter().zip(inv_std).map(|(w, s)| w * s).collect();
    y.par_chunks_mut(ROWS * c).enumerate().for_each(|(i, y)| {
        let part = i * ROWS * c..i * ROWS * c + y.len();
        let residual = residual.map_or(&[][..], |r| &r[part.clone()]);
        normalise_part(&x[part], mean, &scale, bias, residual, activation, y);
    });
}

simd_fn! {
    /// Rows of one part; `residual` is empty where there is none.
    fn normalise_part(
        x: &[f32],
        mean: &[f32],
        scale: &[f32],
        bias: &[f32],
        residual: &[f32],
        activation: Activation,
        y: &mut [f32],
    ) {
        let c = mean.len();
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for k in 0..c {
                y[k] = (x[k] - mean[k]) * scale[k] + bias[k];
            }
        }
        for (y, r) in y.iter_mut().zip(residual) {
            *y += r;
        }
        activation.apply_lanes(y);
    }
}

/// All gradients.
pub(super) fn backward(
    x: &[f32],
    grad: &[f32],
    weight: &[f32],
    (mean, inv_std): (&[f32], &[f32]),
    batch: bool,
) -> Gradients {
    let c = weight.len();
    let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|v| f64::from(*v)).collect() };
    let (wide_mean, wide_inv_std) = (wide(mean), wide(inv_std));
    let db = channel_sums(Column::Value, grad, grad, &wide_mean, &[]);
    let dw = channel_sums(Column::ProductNormal, x, grad, &wide_mean, &wide_inv_std);
    let share = if batch { c as f64 / x.len() as f64 } else { 0.0 };
    // dx = a (g - p - q (x - mean)), a = weight inv_std.
    let a: Vec<f32> = weight.iter().zip(inv_std).map(|(w, i)| w * i).collect();
    let p: Vec<f32> = db.iter().map(|d| (share * d) as f32).collect();
    let q: Vec<f32> = dw.iter().zip(&wide_inv_std).map(|(d, i)| (share * d * i) as f32).collect();
    let mut dx = HostBuffer::room(x.len());
    dx.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c).zip(grad.par_chunks(ROWS * c))).for_each(|(d, (x, g))| {
        backward_part(x, g, mean, (&a, &p, &q), d);
    });
    let narrow = |v: Vec<f64>| buffer(v.into_iter().map(|v| v as f32));
    Gradients { x: Buffer::Host(dx), weight: narrow(dw), bias: narrow(db) }
}

simd_fn! {
    fn backward_part(x: &[f32], grad: &[f32], mean: &[f32], coefficients: (&[f32], &[f32], &[f32]), dx: &mut [f32]) {
        let (c, (a, p, q)) = (mean.len(), coefficients);
        for (d, (x, g)) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c).zip(grad.chunks_exact(c))) {
            for k in 0..c {
                d[k] = a[k] * (g[k] - p[k] - q[k] * (x[k] - mean[k]));
            }
        }
    }
}
