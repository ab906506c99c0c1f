//! Batch normalisation on a GPU.

use cubecl::prelude::*;

use super::{Affine, After, Gradients, Statistics};
use crate::activation::{Kind, activate};
use crate::device::{Buffer, Gpu, GpuBuffer, View, launch, units};
use crate::error::Result;
use crate::reduce::{Column, column_sums};

/// 1 / sqrt(variance + eps).
pub(super) fn inverse_deviation(gpu: &Gpu, var: &GpuBuffer, inv_std: &GpuBuffer, eps: f32) {
    let c = var.len();
    launch!(gpu, inverse_deviation_kernel, units(c), var.arg(), inv_std.arg(), c, eps);
}

#[cube(launch_unchecked)]
fn inverse_deviation_kernel(var: &Array<f32>, inv_std: &mut Array<f32>, c: usize, eps: f32) {
    if ABSOLUTE_POS < c {
        inv_std[ABSOLUTE_POS] = 1.0 / (var[ABSOLUTE_POS] + eps).sqrt();
    }
}

/// Statistics of a batch; moves the running ones.
pub(super) fn train(
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

/// `activation(normalised + residual)`.
pub(super) fn normalise(
    gpu: &Gpu,
    x: &GpuBuffer,
    affine: Affine,
    (mean, inv_std): (&GpuBuffer, &GpuBuffer),
    after: After,
    y: &GpuBuffer,
) {
    let (n, c) = (x.len(), mean.len());
    let (kind, parameter) = after.activation.kind();
    launch!(
        gpu,
        normalise_kernel,
        units(n),
        x.arg(),
        affine.weight.device().arg(),
        affine.bias.device().arg(),
        mean.arg(),
        inv_std.arg(),
        after.residual.map_or(x, View::device).arg(),
        y.arg(),
        n,
        c,
        parameter,
        after.residual.is_some(),
        kind
    );
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

/// All gradients.
pub(super) fn backward(
    gpu: &Gpu,
    x: &GpuBuffer,
    grad: &GpuBuffer,
    weight: &GpuBuffer,
    (mean, inv_std): (&GpuBuffer, &GpuBuffer),
    batch: bool,
) -> Result<Gradients> {
    let (n, c) = (x.len(), mean.len());
    let (mut db, mut dw, dx) = (gpu.alloc(c)?, gpu.alloc(c)?, gpu.alloc(n)?);
    column_sums(gpu, Column::Value, (grad, grad), (grad, grad), 1.0, &mut db, false)?;
    column_sums(gpu, Column::ProductNormal, (x, grad), (mean, inv_std), 1.0, &mut dw, false)?;
    let share = if batch { c as f32 / n as f32 } else { 0.0 };
    launch!(
        gpu,
        backward_kernel,
        units(n),
        x.arg(),
        grad.arg(),
        weight.arg(),
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
