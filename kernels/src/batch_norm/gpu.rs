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
        RunningLaunch::new(momentum, unbiased, eps)
    );
    Ok(Statistics { mean: Buffer::Gpu(mean), inv_std: Buffer::Gpu(inv_std) })
}

/// How running statistics move.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Running {
    momentum: f32,
    /// n / (n - 1), which makes a variance unbiased.
    unbiased: f32,
    eps: f32,
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
    r: Running,
) {
    let k = ABSOLUTE_POS;
    if k < c {
        running_mean[k] = (1.0 - r.momentum) * running_mean[k] + r.momentum * mean[k];
        running_var[k] = (1.0 - r.momentum) * running_var[k] + r.momentum * r.unbiased * var[k];
        inv_std[k] = 1.0 / (var[k] + r.eps).sqrt();
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
        NormalLaunch::new(affine.weight.device().arg(), affine.bias.device().arg(), mean.arg(), inv_std.arg()),
        after.residual.map_or(x, View::device).arg(),
        y.arg(),
        n,
        c,
        parameter,
        NormVariant { residual: after.residual.is_some(), activation: kind }
    );
}

/// Weight, bias and statistics of each channel.
#[derive(CubeType, CubeLaunch)]
struct Normal {
    weight: Array<f32>,
    bias: Array<f32>,
    mean: Array<f32>,
    inv_std: Array<f32>,
}

/// What a normalisation is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct NormVariant {
    /// A map like the output is added before the activation.
    residual: bool,
    activation: Kind,
}

#[cube(launch_unchecked)]
fn normalise_kernel(
    x: &Array<f32>,
    channels: &Normal,
    residual: &Array<f32>,
    y: &mut Array<f32>,
    n: usize,
    c: usize,
    parameter: f32,
    #[comptime] v: NormVariant,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let k = at % c;
        let scale = channels.weight[k] * channels.inv_std[k];
        let mut value = (x[at] - channels.mean[k]) * scale + channels.bias[k];
        if comptime!(v.residual) {
            value += residual[at];
        }
        y[at] = activate(value, parameter, v.activation);
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
        ChannelsLaunch::new(weight.arg(), mean.arg(), inv_std.arg(), db.arg(), dw.arg()),
        dx.arg(),
        n,
        c,
        share
    );
    Ok(Gradients { x: Buffer::Gpu(dx), weight: Buffer::Gpu(dw), bias: Buffer::Gpu(db) })
}

/// Weight and statistics of each channel, and the gradients of bias and weight.
#[derive(CubeType, CubeLaunch)]
struct Channels {
    weight: Array<f32>,
    mean: Array<f32>,
    inv_std: Array<f32>,
    db: Array<f32>,
    dw: Array<f32>,
}

#[cube(launch_unchecked)]
fn backward_kernel(
    x: &Array<f32>,
    grad: &Array<f32>,
    channels: &Channels,
    dx: &mut Array<f32>,
    n: usize,
    c: usize,
    share: f32,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let k = at % c;
        let normal = (x[at] - channels.mean[k]) * channels.inv_std[k];
        let through_statistics = share * (channels.db[k] + normal * channels.dw[k]);
        dx[at] = channels.weight[k] * channels.inv_std[k] * (grad[at] - through_statistics);
    }
}
