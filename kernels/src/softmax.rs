//! Softmax and log-sum-exp along one axis.
//!
//! `y_i = exp(x_i - m) / sum over j of exp(x_j - m)` and `m + log sum over j of exp(x_j - m)`, m the largest. The
//! tensor is `[outer][len][inner]`, the axis the middle one. Bytes: input read once from memory (rows stay
//! in the cache), output written once.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::math;
use crate::simd::{Wide, by_registers, lanes_fn};

/// A tensor seen along one axis: what is outside, the axis, what is inside.
pub type Axis = [usize; 3];

lanes_fn! {
    /// Softmax of one row, in place; returns its log-sum-exp.
    pub(crate) fn softmax_row<L>(x: &mut [f32]) -> f32 {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        let (mut best, mut sums) = (zero.same(f32::NEG_INFINITY), zero);
        let whole = x.chunks_exact(L::WIDTH);
        let rest = whole.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for part in whole {
            best = zero.read(part).max(best);
        }
        let largest = best.largest().max(rest);
        by_registers!(L, x.len(), |part| {
            let x = &mut x[part];
            let e = math::wide::exp(Wide(zero.read(x)) - largest).0;
            sums = sums.add(e.first(x.len()));
            e.write(x);
        });
        let sum = sums.sum();
        let factor = zero.same(1.0 / sum);
        by_registers!(L, x.len(), |part| {
            let x = &mut x[part];
            zero.read(x).mul(factor).write(x);
        });
        largest + math::ln(sum)
    }
}

/// Runs `work` on every line along the axis: gathered, worked on, put back.
fn for_lines(x: &[f32], [_, len, inner]: Axis, y: &mut [f32], work: impl Fn(&mut [f32]) + Sync) {
    if inner == 1 {
        y.par_chunks_mut(len.max(1)).zip(x.par_chunks(len.max(1))).with_min_len(16).for_each(|(y, x)| {
            y.copy_from_slice(x);
            work(y);
        });
        return;
    }
    let block = (len * inner).max(1);
    y.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(y, x)| {
        let mut line = vec![0.0; len];
        for i in 0..inner {
            (0..len).for_each(|k| line[k] = x[k * inner + i]);
            work(&mut line);
            (0..len).for_each(|k| y[k * inner + i] = line[k]);
        }
    });
}

/// Softmax: writes `y`, as long as `x`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn softmax<'a>(x: impl Into<View<'a>>, axis: Axis, y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "softmax";
    let [outer, len, inner] = axis;
    check_len(OP, "input", x.len(), outer * len * inner)?;
    check_len(OP, "output", y.len(), x.len())?;
    match place(OP, &[&x, &y])? {
        None => for_lines(x.host(), axis, y.host(), |line| {
            softmax_row(line);
        }),
        Some(gpu) => {
            let (lines, x, y) = (outer * inner, x.device(), y.device());
            launch!(gpu, softmax_kernel, units(lines), x.arg(), y.arg(), lines, len, inner);
        }
    }
    Ok(())
}

/// Largest of a line and the sum of exponentials below it.
#[cube]
fn line_sums(x: &Array<f32>, first: usize, len: usize, inner: usize) -> (f32, f32) {
    let mut largest = x[first];
    for k in 1..len {
        largest = f32::max(largest, x[first + k * inner]);
    }
    let mut sum = f32::new(0.0);
    for k in 0..len {
        sum += math::exp(x[first + k * inner] - largest);
    }
    (largest, sum)
}

/// One unit for each line.
#[cube(launch_unchecked)]
fn softmax_kernel(x: &Array<f32>, y: &mut Array<f32>, lines: usize, len: usize, inner: usize) {
    let line = ABSOLUTE_POS;
    if line < lines {
        let first = line / inner * len * inner + line % inner;
        let (largest, sum) = line_sums(x, first, len, inner);
        for k in 0..len {
            y[first + k * inner] = math::exp(x[first + k * inner] - largest) / sum;
        }
    }
}

/// Gradient of [`softmax`] from its output: writes `dx = y (grad - sum of grad y)`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn softmax_backward<'a>(
    y: impl Into<View<'a>>,
    axis: Axis,
    grad: impl Into<View<'a>>,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "softmax_backward";
    let [outer, len, inner] = axis;
    check_len(OP, "output", y.len(), outer * len * inner)?;
    check_len(OP, "gradient", grad.len(), y.len())?;
    check_len(OP, "input gradient", dx.len(), y.len())?;
    match place(OP, &[&y, &grad, &dx])? {
        None => {
            let (y, grad, block) = (y.host(), grad.host(), (len * inner).max(1));
            let blocks = dx.host().par_chunks_mut(block).zip(y.par_chunks(block)).zip(grad.par_chunks(block));
            blocks.with_min_len(16).for_each(|((dx, y), grad)| {
                for i in 0..inner {
                    let at = |k: usize| k * inner + i;
                    let dot: f64 = (0..len).map(|k| f64::from(y[at(k)]) * f64::from(grad[at(k)])).sum();
                    let dot = dot as f32;
                    (0..len).for_each(|k| dx[at(k)] = y[at(k)] * (grad[at(k)] - dot));
                }
            });
        }
        Some(gpu) => {
            let (lines, y, grad, dx) = (outer * inner, y.device(), grad.device(), dx.device());
            launch!(gpu, softmax_backward_kernel, units(lines), y.arg(), grad.arg(), dx.arg(), lines, len, inner);
        }
    }
    Ok(())
}

/// One unit for each line.
#[cube(launch_unchecked)]
fn softmax_backward_kernel(
    y: &Array<f32>,
    grad: &Array<f32>,
    dx: &mut Array<f32>,
    lines: usize,
    len: usize,
    inner: usize,
) {
    let line = ABSOLUTE_POS;
    if line < lines {
        let first = line / inner * len * inner + line % inner;
        let mut dot = f32::new(0.0);
        for k in 0..len {
            dot += y[first + k * inner] * grad[first + k * inner];
        }
        for k in 0..len {
            dx[first + k * inner] = y[first + k * inner] * (grad[first + k * inner] - dot);
        }
    }
}

/// Log-sum-exp: writes one value for each line.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn log_sum_exp<'a>(x: impl Into<View<'a>>, axis: Axis, y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "log_sum_exp";
    let [outer, len, inner] = axis;
    check_len(OP, "input", x.len(), outer * len * inner)?;
    check_len(OP, "output", y.len(), outer * inner)?;
    match place(OP, &[&x, &y])? {
        None => {
            let x = x.host();
            y.host().par_iter_mut().enumerate().with_min_len(64).for_each(|(line, y)| {
                let first = line / inner * len * inner + line % inner;
                let values = || x[first..].iter().step_by(inner).take(len);
                let largest = values().copied().fold(f32::NEG_INFINITY, f32::max);
                *y = largest + math::ln(values().map(|v| math::exp(v - largest)).sum());
            });
        }
        Some(gpu) => {
            let (lines, x, y) = (outer * inner, x.device(), y.device());
            launch!(gpu, log_sum_exp_kernel, units(lines), x.arg(), y.arg(), lines, len, inner);
        }
    }
    Ok(())
}

/// One unit for each line.
#[cube(launch_unchecked)]
fn log_sum_exp_kernel(x: &Array<f32>, y: &mut Array<f32>, lines: usize, len: usize, inner: usize) {
    let line = ABSOLUTE_POS;
    if line < lines {
        let (largest, sum) = line_sums(x, line / inner * len * inner + line % inner, len, inner);
        y[line] = largest + math::ln(sum);
    }
}

/// Gradient of [`log_sum_exp`]: writes `dx = grad * exp(x - y)`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn log_sum_exp_backward<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    axis: Axis,
    grad: impl Into<View<'a>>,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "log_sum_exp_backward";
    let [outer, len, inner] = axis;
    let n = outer * len * inner;
    check_len(OP, "input", x.len(), n)?;
    check_len(OP, "output", y.len(), outer * inner)?;
    check_len(OP, "gradient", grad.len(), outer * inner)?;
    check_len(OP, "input gradient", dx.len(), n)?;
    match place(OP, &[&x, &y, &grad, &dx])? {
        None => {
            let (x, y, grad) = (x.host(), y.host(), grad.host());
            dx.host().par_iter_mut().enumerate().with_min_len(1 << 12).for_each(|(at, dx)| {
                let line = at / (len * inner) * inner + at % inner;
                *dx = grad[line] * math::exp(x[at] - y[line]);
            });
        }
        Some(gpu) => {
            let (x, y, grad, dx) = (x.device(), y.device(), grad.device(), dx.device());
            launch!(gpu, lse_backward_kernel, units(n), x.arg(), y.arg(), grad.arg(), dx.arg(), n, len, inner);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn lse_backward_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    grad: &Array<f32>,
    dx: &mut Array<f32>,
    n: usize,
    len: usize,
    inner: usize,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let line = at / (len * inner) * inner + at % inner;
        dx[at] = grad[line] * math::exp(x[at] - y[line]);
    }
}
