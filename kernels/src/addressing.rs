//! Addressing of a memory (Gong et al. 2019, MemAE, equations 3 to 9): unit vectors, shrunk softmax weights, and their
//! entropy.
//!
//! `x / |x|` row by row; `p = softmax(s)`, `r_i = p_i` where `p_i > threshold`, 0 elsewhere, `w = r / sum of r` (the paper's
//! smooth form of the cut, max(p - t, 0) p / (|p - t| + eps), is the same up to eps); the mean over rows of `-sum of w log w`. Bytes: 4 read and
//! 4 written per element, 8 written by addressing, which keeps p for its gradient.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{Buffer, View, ViewMut, launch, place, units};
use crate::elementwise::weighted_sum;
use crate::error::{Result, check_len, shape_error};
use crate::math;
use crate::softmax::{softmax, softmax_backward};

/// What a norm and a sum are at least.
const EPS: f32 = 1e-12;

fn rows(op: &'static str, len: usize, columns: usize) -> Result<usize> {
    match len.checked_div(columns) {
        Some(rows) if rows * columns == len => Ok(rows),
        _ => shape_error(op, format!("{len} values are no rows of {columns}")),
    }
}

/// Writes every row of `columns` values over its Euclidean norm, and the norms.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn normalise_rows<'a>(
    x: impl Into<View<'a>>,
    columns: usize,
    y: impl Into<ViewMut<'a>>,
    norms: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "normalise_rows";
    let n = rows(OP, x.len(), columns)?;
    check_len(OP, "output", y.len(), x.len())?;
    check_len(OP, "norms", norms.len(), n)?;
    match place(OP, &[&x, &y, &norms])? {
        None => {
            let pairs = y.host().par_chunks_mut(columns).zip(x.host().par_chunks(columns));
            pairs.zip(norms.host()).with_min_len(64).for_each(|((y, x), norm)| {
                *norm = x.iter().map(|v| v * v).sum::<f32>().sqrt().max(EPS);
                y.iter_mut().zip(x).for_each(|(y, x)| *y = x / *norm);
            });
        }
        Some(gpu) => {
            let (x, y, norms) = (x.device(), y.device(), norms.device());
            launch!(gpu, normalise_kernel, units(n), x.arg(), y.arg(), norms.arg(), n, columns);
        }
    }
    Ok(())
}

/// One unit for each row.
#[cube(launch_unchecked)]
fn normalise_kernel(x: &Array<f32>, y: &mut Array<f32>, norms: &mut Array<f32>, n: usize, columns: usize) {
    let row = ABSOLUTE_POS;
    if row < n {
        let mut sum = f32::new(0.0);
        for k in 0..columns {
            sum += x[row * columns + k] * x[row * columns + k];
        }
        let norm = f32::max(sum.sqrt(), f32::new(1e-12));
        for k in 0..columns {
            y[row * columns + k] = x[row * columns + k] / norm;
        }
        norms[row] = norm;
    }
}

/// Gradient of [`normalise_rows`] from its outputs: writes `dx = (grad - y (y . grad)) / norm`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn normalise_rows_backward<'a>(
    y: impl Into<View<'a>>,
    norms: impl Into<View<'a>>,
    grad: impl Into<View<'a>>,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "normalise_rows_backward";
    let n = norms.len();
    let columns = y.len() / n.max(1);
    check_len(OP, "output", y.len(), n * columns)?;
    check_len(OP, "gradient", grad.len(), y.len())?;
    check_len(OP, "input gradient", dx.len(), y.len())?;
    match place(OP, &[&y, &norms, &grad, &dx])? {
        None => {
            let known = y.host().par_chunks(columns).zip(grad.host().par_chunks(columns)).zip(norms.host());
            dx.host().par_chunks_mut(columns).zip(known).with_min_len(64).for_each(|(dx, ((y, g), norm))| {
                let along: f32 = y.iter().zip(g).map(|(y, g)| y * g).sum();
                dx.iter_mut().zip(y).zip(g).for_each(|((d, y), g)| *d = (g - y * along) / norm);
            });
        }
        Some(gpu) => {
            let (y, norms, grad, dx) = (y.device(), norms.device(), grad.device(), dx.device());
            launch!(gpu, normalise_backward_kernel, units(n), y.arg(), norms.arg(), grad.arg(), dx.arg(), n, columns);
        }
    }
    Ok(())
}

/// One unit for each row.
#[cube(launch_unchecked)]
fn normalise_backward_kernel(
    y: &Array<f32>,
    norms: &Array<f32>,
    grad: &Array<f32>,
    dx: &mut Array<f32>,
    n: usize,
    columns: usize,
) {
    let row = ABSOLUTE_POS;
    if row < n {
        let mut along = f32::new(0.0);
        for k in 0..columns {
            along += y[row * columns + k] * grad[row * columns + k];
        }
        for k in 0..columns {
            let at = row * columns + k;
            dx[at] = (grad[at] - y[at] * along) / norms[row];
        }
    }
}

/// Writes the probabilities of similarities `[rows][slots]` and the shrunk weights.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn address<'a>(
    similarities: impl Into<View<'a>>,
    slots: usize,
    threshold: f32,
    probabilities: &'a mut Buffer,
    weights: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "address";
    let n = rows(OP, similarities.len(), slots)?;
    check_len(OP, "probabilities", probabilities.len(), n * slots)?;
    check_len(OP, "weights", weights.len(), n * slots)?;
    softmax(similarities, [n, slots, 1], &mut *probabilities)?;
    let probabilities = probabilities.view();
    match place(OP, &[&similarities, &probabilities, &weights])? {
        None => {
            let pairs = weights.host().par_chunks_mut(slots).zip(probabilities.host().par_chunks(slots));
            pairs.for_each(|(w, p)| {
                let kept: f32 = p.iter().filter(|p| **p > threshold).sum();
                let cut = |p: f32| if p > threshold { p / kept.max(EPS) } else { 0.0 };
                w.iter_mut().zip(p).for_each(|(w, p)| *w = cut(*p));
            });
        }
        Some(gpu) => {
            let (p, w) = (probabilities.device(), weights.device());
            launch!(gpu, shrink_kernel, units(n), p.arg(), w.arg(), n, slots, threshold);
        }
    }
    Ok(())
}

/// One unit for each row.
#[cube(launch_unchecked)]
fn shrink_kernel(p: &Array<f32>, w: &mut Array<f32>, n: usize, slots: usize, threshold: f32) {
    let row = ABSOLUTE_POS;
    if row < n {
        let mut kept = f32::new(0.0);
        for k in 0..slots {
            let value = p[row * slots + k];
            kept += select(value > threshold, value, f32::new(0.0));
        }
        let kept = f32::max(kept, f32::new(1e-12));
        for k in 0..slots {
            let value = p[row * slots + k];
            w[row * slots + k] = select(value > threshold, value / kept, f32::new(0.0));
        }
    }
}

/// Gradient of [`address`] from its outputs: writes that of the similarities.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn address_backward<'a>(
    probabilities: &'a Buffer,
    weights: impl Into<View<'a>>,
    slots: usize,
    grad: impl Into<View<'a>>,
    d_similarities: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "address_backward";
    let (w, d) = (weights, d_similarities);
    let mut dp = probabilities.device().alloc(probabilities.len())?;
    let p = probabilities.view();
    let n = rows(OP, p.len(), slots)?;
    check_len(OP, "weights", w.len(), p.len())?;
    check_len(OP, "gradient", grad.len(), p.len())?;
    check_len(OP, "similarity gradient", d.len(), p.len())?;
    match place(OP, &[&p, &w, &grad, &d])? {
        None => {
            let known = p.host().par_chunks(slots).zip(w.host().par_chunks(slots)).zip(grad.host().par_chunks(slots));
            dp.view_mut().host().par_chunks_mut(slots).zip(known).for_each(|(dp, ((p, w), g))| {
                let kept: f32 = p.iter().zip(w).filter(|(_, w)| **w > 0.0).map(|(p, _)| p).sum();
                let along: f32 = w.iter().zip(g).map(|(w, g)| w * g).sum();
                for ((dp, w), g) in dp.iter_mut().zip(w).zip(g) {
                    *dp = if *w > 0.0 { (g - along) / kept.max(EPS) } else { 0.0 };
                }
            });
        }
        Some(gpu) => {
            let (p, w, grad) = (p.device(), w.device(), grad.device());
            let dp = dp.view_mut().device();
            launch!(gpu, shrink_backward_kernel, units(n), p.arg(), w.arg(), grad.arg(), dp.arg(), n, slots);
        }
    }
    softmax_backward(p, [n, slots, 1], &dp, d)
}

/// One unit for each row.
#[cube(launch_unchecked)]
fn shrink_backward_kernel(
    p: &Array<f32>,
    w: &Array<f32>,
    grad: &Array<f32>,
    dp: &mut Array<f32>,
    n: usize,
    slots: usize,
) {
    let row = ABSOLUTE_POS;
    if row < n {
        let mut kept = f32::new(0.0);
        let mut along = f32::new(0.0);
        for k in 0..slots {
            let at = row * slots + k;
            kept += select(w[at] > 0.0, p[at], f32::new(0.0));
            along += w[at] * grad[at];
        }
        let kept = f32::max(kept, f32::new(1e-12));
        for k in 0..slots {
            let at = row * slots + k;
            dp[at] = select(w[at] > 0.0, (grad[at] - along) / kept, f32::new(0.0));
        }
    }
}

/// -w log w; 0 at 0.
#[cube]
#[inline(always)]
pub fn surprise(w: f32) -> f32 {
    -w * math::ln(f32::max(w, f32::new(1e-12)))
}

/// Writes the mean entropy of weights `[rows][slots]` to `value` (one element), and its gradient to `dw`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn entropy<'a>(
    weights: &'a Buffer,
    slots: usize,
    value: impl Into<ViewMut<'a>>,
    dw: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "entropy";
    let w = weights.view();
    let share = 1.0 / rows(OP, w.len(), slots)?.max(1) as f32;
    check_len(OP, "gradient", dw.len(), w.len())?;
    let n = w.len();
    let mut each = weights.device().alloc(n)?;
    match place(OP, &[&w, &value, &dw])? {
        None => {
            let triples = each.view_mut().host().par_iter_mut().zip(dw.host()).zip(w.host());
            triples.with_min_len(1 << 12).for_each(|((e, d), w)| {
                *e = surprise(*w);
                *d = share * (-math::ln(w.max(1e-12)) - 1.0);
            });
        }
        Some(gpu) => {
            let (w, dw, each) = (w.device(), dw.device(), each.view_mut().device());
            launch!(gpu, entropy_kernel, units(n), w.arg(), each.arg(), dw.arg(), n, share);
        }
    }
    weighted_sum(&each, share, 0.0, value)
}

#[cube(launch_unchecked)]
fn entropy_kernel(w: &Array<f32>, each: &mut Array<f32>, dw: &mut Array<f32>, n: usize, share: f32) {
    let at = ABSOLUTE_POS;
    if at < n {
        each[at] = surprise(w[at]);
        dw[at] = share * (-math::ln(f32::max(w[at], f32::new(1e-12))) - 1.0);
    }
}
