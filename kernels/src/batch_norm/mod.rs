//! Batch normalisation over images and pixels of an NHWC map.
//!
//! Training normalises with the batch mean and biased variance and moves the running statistics;
//! evaluation uses the running ones. Means and variances take two passes, so that a large mean costs
//! no accuracy; the CPU sums in f64. A residual and an activation may follow in the pass that writes.
//! Bytes: input read three times, output written once. For inference a normalisation is folded into the
//! convolution before it ([`fold`]).

mod gpu;
mod host;

use crate::activation::Activation;
use crate::device::{Buffer, View, ViewMut, place};
use crate::error::{Result, check_len, shape_error};

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
                Ok(Self { mean: host::buffer(mean.host().iter().copied()), inv_std: host::buffer(inv_std) })
            }
            Some(gpu) => {
                let c = mean.len();
                let mut kept = gpu.alloc(c)?;
                crate::device::copy(mean.device(), &mut kept);
                let inv_std = gpu.alloc(c)?;
                gpu::inverse_deviation(&gpu, var.device(), &inv_std, eps);
                Ok(Self { mean: Buffer::Gpu(kept), inv_std: Buffer::Gpu(inv_std) })
            }
        }
    }
}

const OP: &str = "batch_norm2d";

fn inverse_deviation(var: f64, eps: f32) -> f32 {
    (var + f64::from(eps)).sqrt().recip() as f32
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
        None => host::train(x.host(), (running_mean.host(), running_var.host()), momentum, eps),
        Some(gpu) => gpu::train(&gpu, x.device(), (running_mean.device(), running_var.device()), momentum, eps)?,
    };
    batch_norm2d_eval(x, affine, &statistics, after, y)?;
    Ok(statistics)
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
    check(x, affine)?;
    check_len(OP, "output", y.len(), x.len())?;
    let residual = after.residual.unwrap_or(x);
    check_len(OP, "residual", residual.len(), x.len())?;
    let (mean, inv_std) = (statistics.mean.view(), statistics.inv_std.view());
    match place(OP, &[&x, &affine.weight, &affine.bias, &mean, &inv_std, &residual, &y])? {
        None => {
            let pair = (mean.host(), inv_std.host());
            let affine = (affine.weight.host(), affine.bias.host());
            host::normalise(x.host(), affine, pair, (after.residual.map(View::host), after.activation), y.host());
        }
        Some(gpu) => {
            let pair = (mean.device(), inv_std.device());
            gpu::normalise(&gpu, x.device(), affine, pair, after, y.device());
        }
    }
    Ok(())
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
    check(x, affine)?;
    check_len(OP, "gradient", grad.len(), x.len())?;
    let (mean, inv_std) = (statistics.mean.view(), statistics.inv_std.view());
    match place(OP, &[&x, &grad, &affine.weight, &mean, &inv_std])? {
        None => {
            let pair = (mean.host(), inv_std.host());
            Ok(host::backward(x.host(), grad.host(), affine.weight.host(), pair, batch))
        }
        Some(gpu) => {
            let pair = (mean.device(), inv_std.device());
            gpu::backward(&gpu, x.device(), grad.device(), affine.weight.device(), pair, batch)
        }
    }
}
