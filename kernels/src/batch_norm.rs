//! Batch normalisation over images and pixels of an NHWC map.
//!
//! Training normalises with the batch mean and biased variance and moves the running statistics;
//! evaluation uses the running ones. Means and variances take two passes, so that a large mean costs
//! no accuracy; the CPU sums in f64. Bytes: input read three times, output written once.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::device::{Buffer, Gpu, GpuBuffer, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::reduce::{Column, column_sums};

/// Scale and shift of a layer, one value for each channel.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// Multiplies the normalised value.
    pub weight: View<'a>,
    /// Is added after that.
    pub bias: View<'a>,
}

/// Mean and reciprocal standard deviation that a forward pass normalised with.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// One mean for each channel.
    pub mean: Buffer,
    /// 1 / sqrt(variance + eps).
    pub inv_std: Buffer,
}

impl Statistics {
    /// From running statistics, for evaluation.
    ///
    /// # Errors
    /// When they differ in length or device.
    pub fn running<'a>(mean: impl Into<View<'a>>, var: impl Into<View<'a>>, eps: f32) -> Result<Self> {
        let (mean, var) = (mean.into(), var.into());
        check_len(OP, "running variance", var.len(), mean.len())?;
        match place(OP, &[&mean, &var])? {
            None => {
                let inv_std = var.host().iter().map(|v| inverse_deviation(f64::from(*v), eps)).collect();
                Ok(Self { mean: Buffer::Host(mean.host().to_vec()), inv_std: Buffer::Host(inv_std) })
            }
            Some(gpu) => {
                let c = mean.len();
                let mut kept = gpu.alloc(c)?;
                crate::elementwise::copy(mean.device(), &mut kept);
                let inv_std = gpu.alloc(c)?;
                launch!(gpu, inverse_deviation_kernel, units(c), var.device().arg(), inv_std.arg(), c, eps);
                Ok(Self { mean: Buffer::Gpu(kept), inv_std: Buffer::Gpu(inv_std) })
            }
        }
    }
}

const OP: &str = "batch_norm2d";

fn inverse_deviation(var: f64, eps: f32) -> f32 {
    (var + f64::from(eps)).sqrt().recip() as f32
}

#[cube(launch_unchecked)]
fn inverse_deviation_kernel(var: &Array<f32>, inv_std: &mut Array<f32>, c: usize, eps: f32) {
    if ABSOLUTE_POS < c {
        inv_std[ABSOLUTE_POS] = 1.0 / (var[ABSOLUTE_POS] + eps).sqrt();
    }
}

/// Gradients of a batch normalisation.
pub struct Gradients {
    /// With respect to the input.
    pub x: Buffer,
    /// With respect to the scale.
    pub weight: Buffer,
    /// With respect to the shift.
    pub bias: Buffer,
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

fn check(x: View, affine: Affine) -> Result<usize> {
    let c = affine.weight.len();
    check_len(OP, "bias", affine.bias.len(), c)?;
    if c == 0 || x.is_empty() || !x.len().is_multiple_of(c) {
        return shape_error(OP, format!("{} elements do not make rows of {c} channels", x.len()));
    }
    Ok(c)
}

/// Forward in training; moves the running statistics by `momentum` (variance with n/(n-1)).
///
/// # Errors
/// When lengths or devices do not fit.
pub fn batch_norm2d_train<'a>(
    x: impl Into<View<'a>>,
    affine: Affine,
    (running_mean, running_var): (ViewMut<'a>, ViewMut<'a>),
    momentum: f32,
    eps: f32,
    y: impl Into<ViewMut<'a>>,
) -> Result<Statistics> {
    let x = x.into();
    let c = check(x, affine)?;
    check_len(OP, "running mean", running_mean.len(), c)?;
    check_len(OP, "running variance", running_var.len(), c)?;
    let statistics = match place(OP, &[&x, &running_mean, &running_var])? {
        None => train_on_host(x.host(), (running_mean.host(), running_var.host()), momentum, eps),
        Some(gpu) => train_on_gpu(&gpu, x.device(), (running_mean.device(), running_var.device()), momentum, eps)?,
    };
    batch_norm2d_eval(x, affine, &statistics, y)?;
    Ok(statistics)
}

fn train_on_host(x: &[f32], running: (&mut [f32], &mut [f32]), momentum: f32, eps: f32) -> Statistics {
    let c = running.0.len();
    let n = (x.len() / c) as f64;
    let mean: Vec<f64> = channel_sums(x, x, c, |_, x, _| x).iter().map(|s| s / n).collect();
    let var: Vec<f64> = channel_sums(x, x, c, |k, x, _| (x - mean[k]) * (x - mean[k])).iter().map(|s| s / n).collect();
    let unbiased = if n > 1.0 { n / (n - 1.0) } else { 1.0 };
    let keep = 1.0 - f64::from(momentum);
    for k in 0..c {
        running.0[k] = (keep * f64::from(running.0[k]) + f64::from(momentum) * mean[k]) as f32;
        running.1[k] = (keep * f64::from(running.1[k]) + f64::from(momentum) * var[k] * unbiased) as f32;
    }
    Statistics {
        mean: Buffer::Host(mean.iter().map(|m| *m as f32).collect()),
        inv_std: Buffer::Host(var.iter().map(|v| inverse_deviation(*v, eps)).collect()),
    }
}

fn train_on_gpu(
    gpu: &Gpu,
    x: &GpuBuffer,
    running: (&mut GpuBuffer, &mut GpuBuffer),
    momentum: f32,
    eps: f32,
) -> Result<Statistics> {
    let c = running.0.len();
    let n = (x.len() / c) as f32;
    let (mut mean, mut var, inv_std) = (gpu.alloc(c)?, gpu.alloc(c)?, gpu.alloc(c)?);
    column_sums(gpu, Column::Value, (x, x), (x, x), 1.0 / n, &mut mean, false)?;
    column_sums(gpu, Column::SquareDeviation, (x, x), (&mean, x), 1.0 / n, &mut var, false)?;
    let unbiased = if n > 1.0 { n / (n - 1.0) } else { 1.0 };
    launch!(
        gpu,
        statistics_kernel,
        units(c),
        mean.arg(),
        var.arg(),
        running.0.arg(),
        running.1.arg(),
        inv_std.arg(),
        c,
        momentum,
        unbiased,
        eps
    );
    Ok(Statistics { mean: Buffer::Gpu(mean), inv_std: Buffer::Gpu(inv_std) })
}

/// Moves the running statistics and takes the reciprocal deviation, channel by channel.
#[cube(launch_unchecked)]
fn statistics_kernel(
    mean: &Array<f32>,
    var: &Array<f32>,
    running_mean: &mut Array<f32>,
    running_var: &mut Array<f32>,
    inv_std: &mut Array<f32>,
    c: usize,
    momentum: f32,
    unbiased: f32,
    eps: f32,
) {
    let k = ABSOLUTE_POS;
    if k < c {
        running_mean[k] = (1.0 - momentum) * running_mean[k] + momentum * mean[k];
        running_var[k] = (1.0 - momentum) * running_var[k] + momentum * unbiased * var[k];
        inv_std[k] = 1.0 / (var[k] + eps).sqrt();
    }
}

/// Forward with given statistics.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn batch_norm2d_eval<'a>(
    x: impl Into<View<'a>>,
    affine: Affine,
    statistics: &Statistics,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    let (x, y) = (x.into(), y.into());
    let c = check(x, affine)?;
    check_len(OP, "output", y.len(), x.len())?;
    let (mean, inv_std) = (statistics.mean.view(), statistics.inv_std.view());
    match place(OP, &[&x, &affine.weight, &affine.bias, &mean, &inv_std, &y])? {
        None => {
            let (mean, inv_std, bias) = (mean.host(), inv_std.host(), affine.bias.host());
            let scale: Vec<f32> = affine.weight.host().iter().zip(inv_std).map(|(w, s)| w * s).collect();
            y.host().par_chunks_mut(ROWS * c).zip(x.host().par_chunks(ROWS * c)).for_each(|(y, x)| {
                for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                    for k in 0..c {
                        y[k] = (x[k] - mean[k]) * scale[k] + bias[k];
                    }
                }
            });
        }
        Some(gpu) => {
            let n = x.len();
            launch!(
                gpu,
                normalise_kernel,
                units(n),
                x.device().arg(),
                affine.weight.device().arg(),
                affine.bias.device().arg(),
                mean.device().arg(),
                inv_std.device().arg(),
                y.device().arg(),
                n,
                c
            );
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn normalise_kernel(
    x: &Array<f32>,
    weight: &Array<f32>,
    bias: &Array<f32>,
    mean: &Array<f32>,
    inv_std: &Array<f32>,
    y: &mut Array<f32>,
    n: usize,
    c: usize,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let k = at % c;
        y[at] = (x[at] - mean[k]) * (weight[k] * inv_std[k]) + bias[k];
    }
}

/// Backward. With `batch` the statistics came from this batch and depend on `x`; without, they
/// are constants.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn batch_norm2d_backward<'a>(
    x: impl Into<View<'a>>,
    grad: impl Into<View<'a>>,
    affine: Affine,
    statistics: &Statistics,
    batch: bool,
) -> Result<Gradients> {
    let (x, grad) = (x.into(), grad.into());
    let c = check(x, affine)?;
    check_len(OP, "gradient", grad.len(), x.len())?;
    let (mean, inv_std) = (statistics.mean.view(), statistics.inv_std.view());
    match place(OP, &[&x, &grad, &affine.weight, &mean, &inv_std])? {
        None => {
            let pair = (mean.host(), inv_std.host());
            Ok(backward_on_host(x.host(), grad.host(), affine.weight.host(), pair, batch))
        }
        Some(gpu) => {
            let (x, grad) = (x.device(), grad.device());
            let (mean, inv_std) = (mean.device(), inv_std.device());
            let (mut db, mut dw, dx) = (gpu.alloc(c)?, gpu.alloc(c)?, gpu.alloc(x.len())?);
            column_sums(&gpu, Column::Value, (grad, grad), (grad, grad), 1.0, &mut db, false)?;
            column_sums(&gpu, Column::ProductNormal, (x, grad), (mean, inv_std), 1.0, &mut dw, false)?;
            let n = x.len();
            let share = if batch { c as f32 / n as f32 } else { 0.0 };
            launch!(
                gpu,
                backward_kernel,
                units(n),
                x.arg(),
                grad.arg(),
                affine.weight.device().arg(),
                mean.arg(),
                inv_std.arg(),
                db.arg(),
                dw.arg(),
                dx.arg(),
                n,
                c,
                share
            );
            Ok(Gradients { x: Buffer::Gpu(dx), weight: Buffer::Gpu(dw), bias: Buffer::Gpu(db) })
        }
    }
}

fn backward_on_host(
    x: &[f32],
    grad: &[f32],
    weight: &[f32],
    (mean, inv_std): (&[f32], &[f32]),
    batch: bool,
) -> Gradients {
    let c = weight.len();
    let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|v| f64::from(*v)).collect() };
    let (mean, inv_std) = (wide(mean), wide(inv_std));
    let db = channel_sums(grad, grad, c, |_, g, _| g);
    let dw = channel_sums(x, grad, c, |k, x, g| g * (x - mean[k]) * inv_std[k]);
    let share = if batch { c as f64 / x.len() as f64 } else { 0.0 };
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c).zip(grad.par_chunks(ROWS * c))).for_each(|(d, (x, g))| {
        for (d, (x, g)) in d.chunks_exact_mut(c).zip(x.chunks_exact(c).zip(g.chunks_exact(c))) {
            for k in 0..c {
                let normal = (f64::from(x[k]) - mean[k]) * inv_std[k];
                let inner = f64::from(g[k]) - share * (db[k] + normal * dw[k]);
                d[k] = (f64::from(weight[k]) * inv_std[k] * inner) as f32;
            }
        }
    });
    let narrow = |v: Vec<f64>| Buffer::Host(v.into_iter().map(|v| v as f32).collect());
    Gradients { x: Buffer::Host(dx), weight: narrow(dw), bias: narrow(db) }
}

#[cube(launch_unchecked)]
fn backward_kernel(
    x: &Array<f32>,
    grad: &Array<f32>,
    weight: &Array<f32>,
    mean: &Array<f32>,
    inv_std: &Array<f32>,
    db: &Array<f32>,
    dw: &Array<f32>,
    dx: &mut Array<f32>,
    n: usize,
    c: usize,
    share: f32,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let k = at % c;
        let normal = (x[at] - mean[k]) * inv_std[k];
        dx[at] = weight[k] * inv_std[k] * (grad[at] - share * (db[k] + normal * dw[k]));
    }
}
