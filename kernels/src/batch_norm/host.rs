//! Batch normalisation on the CPU: sums in f64 over rows of pixels, everything else in f32.

use rayon::prelude::*;

use super::{Gradients, Statistics, inverse_deviation};
use crate::activation::Activation;
use crate::device::{Buffer, HostBuffer, Reused};
use crate::reduce::Column;
use crate::simd::{Doubles, Wide, by_registers, lanes_fn};

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
            add_terms(what, x, other, mean, inv_std, &mut sum);
            sum
        })
        .collect();
    parts.iter().fold(vec![0.0; c], |mut total, part| {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        total
    })
}

/// Rows whose terms are added while the sums are in registers.
const BLOCK: usize = 16;

lanes_fn! {
    /// Adds a term of every row to the sums of the channels, in the order of the rows.
    fn add_terms<L>(what: Column, x: &[f32], other: &[f32], mean: &[f64], inv_std: &[f64], sum: &mut [f64]) {
        let c = sum.len();
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        let any = zero.widen();
        for (x, other) in x.chunks(BLOCK * c).zip(other.chunks(BLOCK * c)) {
            by_registers!(L, c, |part| {
                let mut total = any.read(&sum[part.clone()]);
                for (x, other) in x.chunks_exact(c).zip(other.chunks_exact(c)) {
                    let x = zero.read(&x[part.clone()]).widen();
                    let deviation = x.sub(any.read(&mean[part.clone()]));
                    let term = match what {
                        Column::Value => x,
                        Column::SquareDeviation => deviation.mul(deviation),
                        Column::ProductNormal => {
                            let grad = zero.read(&other[part.clone()]).widen();
                            grad.mul(deviation).mul(any.read(&inv_std[part.clone()]))
                        }
                    };
                    total = total.add(term);
                }
                total.write(&mut sum[part]);
            });
        }
    }
}

/// Numbers as a buffer.
pub(super) fn buffer(values: impl ExactSizeIterator<Item = f32>) -> Buffer {
    Buffer::Host(HostBuffer::collect(values))
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
    let scale = Reused::collect(weight.iter().zip(inv_std).map(|(w, s)| w * s));
    y.par_chunks_mut(ROWS * c).enumerate().for_each(|(i, y)| {
        let part = i * ROWS * c..i * ROWS * c + y.len();
        let residual = residual.map_or(&[][..], |r| &r[part.clone()]);
        normalise_part(&x[part], mean, &scale, bias, residual, activation, y);
    });
}

lanes_fn! {
    /// Rows of one part; `residual` is empty where there is none.
    fn normalise_part<L>(
        x: &[f32],
        mean: &[f32],
        scale: &[f32],
        bias: &[f32],
        residual: &[f32],
        activation: Activation,
        y: &mut [f32],
    ) {
        let c = mean.len();
        let (scale, bias) = (&scale[..c], &bias[..c]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (row, (y, x)) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).enumerate() {
            by_registers!(L, c, |part| {
                let (x, mean) = (zero.read(&x[part.clone()]), zero.read(&mean[part.clone()]));
                let (scale, bias) = (zero.read(&scale[part.clone()]), zero.read(&bias[part.clone()]));
                let mut sum = x.sub(mean).mul_add(scale, bias);
                if !residual.is_empty() {
                    sum = sum.add(zero.read(&residual[row * c..][part.clone()]));
                }
                activation.wide(Wide(sum)).0.write(&mut y[part]);
            });
        }
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
    let mut dx = HostBuffer::uninit(x.len());
    dx.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c).zip(grad.par_chunks(ROWS * c))).for_each(|(d, (x, g))| {
        backward_part(x, g, mean, (&a, &p, &q), d);
    });
    let narrow = |v: Vec<f64>| buffer(v.into_iter().map(|v| v as f32));
    Gradients { x: Buffer::Host(dx), weight: narrow(dw), bias: narrow(db) }
}

lanes_fn! {
    fn backward_part<L>(x: &[f32], grad: &[f32], mean: &[f32], coefficients: (&[f32], &[f32], &[f32]), dx: &mut [f32]) {
        let (c, (a, p, q)) = (mean.len(), coefficients);
        let (a, p, q) = (&a[..c], &p[..c], &q[..c]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (d, (x, g)) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c).zip(grad.chunks_exact(c))) {
            by_registers!(L, c, |part| {
                let (x, g) = (zero.read(&x[part.clone()]), zero.read(&g[part.clone()]));
                let (mean, a) = (zero.read(&mean[part.clone()]), zero.read(&a[part.clone()]));
                let (p, q) = (zero.read(&p[part.clone()]), zero.read(&q[part.clone()]));
                a.mul(g.sub(p).sub(q.mul(x.sub(mean)))).write(&mut d[part]);
            });
        }
    }
}
