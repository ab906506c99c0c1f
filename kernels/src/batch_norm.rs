//! Batch normalisation over images and pixels of an NHWC map.
//!
//! Training normalises with the batch mean and biased variance and moves the running statistics;
//! evaluation uses the running ones. Means and variances take two passes, so that a large mean costs
//! no accuracy; the CPU sums in f64. A residual and an activation may follow in the pass that writes.
//! Bytes: input read three times, output written once. For inference a normalisation is folded into the
//! convolution before it ([`fold`]).

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::activation::{Activation, Kind, activate};
use crate::device::{Buffer, Gpu, GpuBuffer, HostBuffer, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::reduce::{Column, column_sums};
use crate::simd::simd_fn;

/// Scale and shift of a layer, one value for each channel.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// Multiplies the normalised value.
    pub weight: View<'a>,
    /// Is added after that.
    pub bias: View<'a>,
}

/// What follows in the pass that writes: `y = activation(normalised + residual)`.
#[derive(Clone, Copy, Default)]
pub struct After<'a> {
    /// A map of the same shape.
    pub residual: Option<View<'a>>,
    /// Last.
    pub activation: Activation,
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
                let inv_std = var.host().iter().map(|v| inverse_deviation(f64::from(*v), eps));
                Ok(Self { mean: host(mean.host().iter().copied()), inv_std: host(inv_std) })
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
    after: After<'a>,
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
    batch_norm2d_eval(x, affine, &statistics, after, y)?;
    Ok(statistics)
}

fn host(values: impl Iterator<Item = f32>) -> Buffer {
    Buffer::Host(values.collect::<Vec<f32>>().into())
}

fn train_on_host(x: &[f32], running: (&mut [f32], &mut [f32]), momentum: f32, eps: f32) -> Statistics {
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
        mean: host(mean.iter().map(|m| *m as f32)),
        inv_std: host(var.iter().map(|v| inverse_deviation(*v, eps))),
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
    after: After,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    let (x, y) = (x.into(), y.into());
    let c = check(x, affine)?;
    check_len(OP, "output", y.len(), x.len())?;
    let residual = after.residual.unwrap_or(x);
    check_len(OP, "residual", residual.len(), x.len())?;
    let (mean, inv_std) = (statistics.mean.view(), statistics.inv_std.view());
    match place(OP, &[&x, &affine.weight, &affine.bias, &mean, &inv_std, &residual, &y])? {
        None => {
            let scale: Vec<f32> = affine.weight.host().iter().zip(inv_std.host()).map(|(w, s)| w * s).collect();
            let (x, mean, bias) = (x.host(), mean.host(), affine.bias.host());
            let residual = after.residual.map(View::host);
            y.host().par_chunks_mut(ROWS * c).enumerate().for_each(|(i, y)| {
                let part = i * ROWS * c..i * ROWS * c + y.len();
                let residual = residual.map_or(&[][..], |r| &r[part.clone()]);
                normalise_part(&x[part], mean, &scale, bias, residual, after.activation, y);
            });
        }
        Some(gpu) => {
            let n = x.len();
            let (kind, parameter) = after.activation.kind();
            launch!(
                gpu,
                normalise_kernel,
                units(n),
                x.device().arg(),
                affine.weight.device().arg(),
                affine.bias.device().arg(),
                mean.device().arg(),
                inv_std.device().arg(),
                residual.device().arg(),
                y.device().arg(),
                n,
                c,
                parameter,
                after.residual.is_some(),
                kind
            );
        }
    }
    Ok(())
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

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // a normalisation has this many operands
fn normalise_kernel(
    x: &Array<f32>,
    weight: &Array<f32>,
    bias: &Array<f32>,
    mean: &Array<f32>,
    inv_std: &Array<f32>,
    residual: &Array<f32>,
    y: &mut Array<f32>,
    n: usize,
    c: usize,
    parameter: f32,
    #[comptime] with_residual: bool,
    #[comptime] kind: Kind,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let k = at % c;
        let mut value = (x[at] - mean[k]) * (weight[k] * inv_std[k]) + bias[k];
        if comptime!(with_residual) {
            value += residual[at];
        }
        y[at] = activate(value, parameter, kind);
    }
}

/// Weights and bias of a convolution that does what convolution `w` (output channels outermost),
/// then `affine` with running statistics does: `w' = w a`, `b' = bias - mean a`,
/// `a = weight / sqrt(var + eps)`. On the host.
///
/// # Errors
/// When lengths do not fit.
pub fn fold(
    w: &[f32],
    (weight, bias): (&[f32], &[f32]),
    (mean, var): (&[f32], &[f32]),
    eps: f32,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let c = weight.len();
    for (what, len) in [("bias", bias.len()), ("running mean", mean.len()), ("running variance", var.len())] {
        check_len("fold", what, len, c)?;
    }
    if c == 0 || !w.len().is_multiple_of(c) {
        return shape_error("fold", format!("{} weights are not those of {c} channels", w.len()));
    }
    let factors: Vec<f32> = weight.iter().zip(var).map(|(w, v)| w * inverse_deviation(f64::from(*v), eps)).collect();
    let rows = w.chunks_exact(w.len() / c).zip(&factors);
    let folded = rows.flat_map(|(row, a)| row.iter().map(move |v| v * a)).collect();
    let shift = bias.iter().zip(mean).zip(&factors).map(|((b, m), a)| b - m * a).collect();
    Ok((folded, shift))
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
    let narrow = |v: Vec<f64>| host(v.into_iter().map(|v| v as f32));
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
