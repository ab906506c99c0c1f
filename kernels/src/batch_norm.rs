//! Batch normalisation over images and pixels of an NHWC map.
//!
//! Training normalises with the batch mean and biased variance and moves the running statistics;
//! evaluation uses the running ones. Means and variances are summed in f64, in two passes, so that
//! a large mean costs no accuracy. Bytes: input read three times, output written once.

use rayon::prelude::*;

use crate::error::{Result, check_len, shape_error};

/// Scale and shift of a layer, one value for each channel.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// Multiplies the normalised value.
    pub weight: &'a [f32],
    /// Is added after that.
    pub bias: &'a [f32],
}

/// Mean and reciprocal standard deviation that a forward pass normalised with.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// One mean for each channel.
    pub mean: Vec<f64>,
    /// 1 / sqrt(variance + eps).
    pub inv_std: Vec<f64>,
}

impl Statistics {
    /// From running statistics, for evaluation.
    pub fn running(mean: &[f32], var: &[f32], eps: f32) -> Self {
        Self {
            mean: mean.iter().map(|m| f64::from(*m)).collect(),
            inv_std: var.iter().map(|v| (f64::from(*v) + f64::from(eps)).sqrt().recip()).collect(),
        }
    }
}

/// Gradients of a batch normalisation.
pub struct Gradients {
    /// With respect to the input.
    pub x: Vec<f32>,
    /// With respect to the scale.
    pub weight: Vec<f32>,
    /// With respect to the shift.
    pub bias: Vec<f32>,
}

/// Rows of `c` channels that one partial sum covers.
const ROWS: usize = 1024;

/// Sums `f(channel, row, other row)` over all rows, in a fixed order.
fn channel_sums(x: &[f32], other: &[f32], c: usize, f: impl Fn(usize, f64, f64) -> f64 + Sync) -> Vec<f64> {
    let parts: Vec<Vec<f64>> = x
        .par_chunks(ROWS * c)
        .zip(other.par_chunks(ROWS * c))
        .map(|(x, o)| {
            let mut sum = vec![0.0; c];
            for (x, o) in x.chunks_exact(c).zip(o.chunks_exact(c)) {
                for (k, s) in sum.iter_mut().enumerate() {
                    *s += f(k, f64::from(x[k]), f64::from(o[k]));
                }
            }
            sum
        })
        .collect();
    parts.iter().fold(vec![0.0; c], |mut total, part| {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        total
    })
}

fn check(x: &[f32], affine: Affine) -> Result<usize> {
    let c = affine.weight.len();
    check_len("batch_norm2d", "bias", affine.bias.len(), c)?;
    if c == 0 || x.is_empty() || !x.len().is_multiple_of(c) {
        return shape_error("batch_norm2d", format!("{} elements do not make rows of {c} channels", x.len()));
    }
    Ok(c)
}

/// Forward in training; moves the running statistics by `momentum` (variance with n/(n-1)).
///
/// # Errors
/// When lengths do not fit.
pub fn batch_norm2d_train(
    x: &[f32],
    affine: Affine,
    (running_mean, running_var): (&mut [f32], &mut [f32]),
    momentum: f32,
    eps: f32,
    y: &mut [f32],
) -> Result<Statistics> {
    let c = check(x, affine)?;
    check_len("batch_norm2d", "running mean", running_mean.len(), c)?;
    check_len("batch_norm2d", "running variance", running_var.len(), c)?;
    let n = (x.len() / c) as f64;
    let mean: Vec<f64> = channel_sums(x, x, c, |_, x, _| x).iter().map(|s| s / n).collect();
    let var: Vec<f64> = channel_sums(x, x, c, |k, x, _| (x - mean[k]) * (x - mean[k])).iter().map(|s| s / n).collect();
    let unbiased = if n > 1.0 { n / (n - 1.0) } else { 1.0 };
    let keep = 1.0 - f64::from(momentum);
    for k in 0..c {
        running_mean[k] = (keep * f64::from(running_mean[k]) + f64::from(momentum) * mean[k]) as f32;
        running_var[k] = (keep * f64::from(running_var[k]) + f64::from(momentum) * var[k] * unbiased) as f32;
    }
    let inv_std = var.iter().map(|v| (v + f64::from(eps)).sqrt().recip()).collect();
    let statistics = Statistics { mean, inv_std };
    batch_norm2d_eval(x, affine, &statistics, y)?;
    Ok(statistics)
}

/// Forward with given statistics.
///
/// # Errors
/// When lengths do not fit.
pub fn batch_norm2d_eval(x: &[f32], affine: Affine, statistics: &Statistics, y: &mut [f32]) -> Result<()> {
    let c = check(x, affine)?;
    check_len("batch_norm2d", "output", y.len(), x.len())?;
    let scale: Vec<f32> = (0..c).map(|k| (f64::from(affine.weight[k]) * statistics.inv_std[k]) as f32).collect();
    let mean: Vec<f32> = statistics.mean.iter().map(|m| *m as f32).collect();
    y.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for k in 0..c {
                y[k] = (x[k] - mean[k]) * scale[k] + affine.bias[k];
            }
        }
    });
    Ok(())
}

/// Backward. With `batch` the statistics came from this batch and depend on `x`; without, they
/// are constants.
///
/// # Errors
/// When lengths do not fit.
pub fn batch_norm2d_backward(
    x: &[f32],
    grad: &[f32],
    affine: Affine,
    statistics: &Statistics,
    batch: bool,
) -> Result<Gradients> {
    let c = check(x, affine)?;
    check_len("batch_norm2d_backward", "gradient", grad.len(), x.len())?;
    let n = (x.len() / c) as f64;
    let (mean, inv_std) = (&statistics.mean, &statistics.inv_std);
    let db = channel_sums(grad, grad, c, |_, g, _| g);
    let dw = channel_sums(x, grad, c, |k, x, g| g * (x - mean[k]) * inv_std[k]);
    let share = if batch { 1.0 / n } else { 0.0 };
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c).zip(grad.par_chunks(ROWS * c))).for_each(|(d, (x, g))| {
        for (d, (x, g)) in d.chunks_exact_mut(c).zip(x.chunks_exact(c).zip(g.chunks_exact(c))) {
            for k in 0..c {
                let normal = (f64::from(x[k]) - mean[k]) * inv_std[k];
                let inner = f64::from(g[k]) - share * (db[k] + normal * dw[k]);
                d[k] = (f64::from(affine.weight[k]) * inv_std[k] * inner) as f32;
            }
        }
    });
    let narrow = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect();
    Ok(Gradients { x: dx, weight: narrow(dw), bias: narrow(db) })
}
