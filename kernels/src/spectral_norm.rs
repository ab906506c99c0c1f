//! Spectral normalisation (Miyato et al. 2018, algorithm 1): a weight matrix divided by an estimate of its
//! largest singular value.
//!
//! One power iteration: `v = W^T u / |W^T u|`, `u = W v / |W v|`; then `sigma = u^T W v` and `W_sn = W / sigma`.
//! `u` is kept from step to step, so that the estimate follows the weights. u and v are constants for the gradient:
//! `dW = (G - (sum of G W_sn) u v^T) / sigma`. Rows are output channels. Bytes: the weights are read twice for
//! each iteration.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{Buffer, Reused, UNITS, View, ViewMut, grid, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::reduce::cube_sum;

/// What a norm is at least.
const EPS: f32 = 1e-12;

/// `out[column] = sum over rows of w[row][column] * u[row]`.
fn columns_times(w: &[f32], u: &[f32], out: &mut [f32]) {
    let columns = out.len();
    out.par_chunks_mut(512).enumerate().for_each(|(part, out)| {
        out.fill(0.0);
        for (row, u) in w.chunks_exact(columns).zip(u) {
            out.iter_mut().zip(&row[part * 512..]).for_each(|(o, w)| *o += w * u);
        }
    });
}

/// Dot product, in f64.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `out[row] = sum over columns of w[row][column] * v[column]`.
fn rows_times(w: &[f32], v: &[f32], out: &mut [f32]) {
    out.par_iter_mut().zip(w.par_chunks(v.len().max(1))).for_each(|(o, row)| *o = dot(row, v) as f32);
}

/// Brings `x` to norm 1.
fn normalise(x: &mut [f32]) {
    let norm = (dot(x, x).sqrt() as f32).max(EPS);
    x.iter_mut().for_each(|v| *v /= norm);
}

/// Iterates `u` (`[rows]`, in place) and writes `v` (`[columns]`), the estimate `sigma` (one element) and
/// the normalised weights `normal` for weights `w` (`[rows][columns]`). Without iterations, `v` is read.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn spectral_norm<'a>(
    w: impl Into<View<'a>>,
    iterations: usize,
    u: &mut Buffer,
    v: &mut Buffer,
    sigma: &mut Buffer,
    normal: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "spectral_norm";
    let (rows, columns) = (u.len(), v.len());
    if rows * columns == 0 {
        return shape_error(OP, "weights without rows or columns have no norm");
    }
    check_len(OP, "weights", w.len(), rows * columns)?;
    check_len(OP, "sigma", sigma.len(), 1)?;
    check_len(OP, "normalised weights", normal.len(), w.len())?;
    match place(OP, &[&w, &u.view(), &v.view(), &sigma.view(), &normal])? {
        None => {
            let (w, u, v) = (w.host(), u.view_mut().host(), v.view_mut().host());
            for _ in 0..iterations {
                columns_times(w, u, v);
                normalise(v);
                rows_times(w, v, u);
                normalise(u);
            }
            let mut wv = Reused::filled(rows, 0.0);
            rows_times(w, v, &mut wv);
            let value = dot(u, &wv) as f32;
            sigma.view_mut().host()[0] = value;
            let rows = normal.host().par_chunks_mut(columns).zip(w.par_chunks(columns));
            rows.for_each(|(n, w)| n.iter_mut().zip(w).for_each(|(n, w)| *n = w / value));
        }
        Some(gpu) => {
            let (w, normal) = (w.device(), normal.device());
            let (u, v, sigma) = (u.view_mut().device(), v.view_mut().device(), sigma.view_mut().device());
            let one = || (grid(1), CubeDim::new_1d(UNITS));
            let per_row = || (grid(rows), CubeDim::new_1d(UNITS));
            for _ in 0..iterations {
                launch!(gpu, columns_times_kernel, units(columns), w.arg(), u.arg(), v.arg(), rows, columns);
                launch!(gpu, normalise_kernel, one(), v.arg(), columns);
                launch!(gpu, rows_times_kernel, per_row(), w.arg(), v.arg(), u.arg(), rows, columns);
                launch!(gpu, normalise_kernel, one(), u.arg(), rows);
            }
            let wv = gpu.alloc::<f32>(rows)?;
            launch!(gpu, rows_times_kernel, per_row(), w.arg(), v.arg(), wv.arg(), rows, columns);
            launch!(gpu, dot_kernel, one(), u.arg(), wv.arg(), sigma.arg(), rows);
            let n = w.len();
            launch!(gpu, divide_kernel, units(n), w.arg(), sigma.arg(), normal.arg(), n);
        }
    }
    Ok(())
}

/// Gradient of the weights: writes `dw` from the gradient of the normalised ones.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn spectral_norm_backward<'a>(
    normal: impl Into<View<'a>>,
    u: impl Into<View<'a>>,
    v: impl Into<View<'a>>,
    sigma: impl Into<View<'a>>,
    grad: impl Into<View<'a>>,
    dw: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "spectral_norm_backward";
    let columns = v.len();
    check_len(OP, "normalised weights", normal.len(), u.len() * columns)?;
    check_len(OP, "sigma", sigma.len(), 1)?;
    check_len(OP, "gradient", grad.len(), normal.len())?;
    check_len(OP, "weight gradient", dw.len(), normal.len())?;
    match place(OP, &[&normal, &u, &v, &sigma, &grad, &dw])? {
        None => {
            let (u, v, grad, sigma) = (u.host(), v.host(), grad.host(), sigma.host()[0]);
            let along = dot(grad, normal.host()) as f32;
            let rows = dw.host().par_chunks_mut(columns.max(1)).zip(grad.par_chunks(columns.max(1)));
            rows.zip(u).for_each(|((dw, grad), u)| {
                dw.iter_mut().zip(grad).zip(v).for_each(|((d, g), v)| *d = (g - along * u * v) / sigma);
            });
        }
        Some(gpu) => {
            let (normal, grad, n) = (normal.device(), grad.device(), dw.len());
            let (u, v, sigma, dw) = (u.device(), v.device(), sigma.device(), dw.device());
            let along = gpu.alloc::<f32>(1)?;
            let one = (grid(1), CubeDim::new_1d(UNITS));
            launch!(gpu, dot_kernel, one, grad.arg(), normal.arg(), along.arg(), n);
            let shape = units(n);
            launch!(
                gpu,
                backward_kernel,
                shape,
                grad.arg(),
                along.arg(),
                u.arg(),
                v.arg(),
                sigma.arg(),
                dw.arg(),
                n,
                columns
            );
        }
    }
    Ok(())
}

/// One unit for each column.
#[cube(launch_unchecked)]
fn columns_times_kernel(w: &Array<f32>, u: &Array<f32>, v: &mut Array<f32>, rows: usize, columns: usize) {
    let column = ABSOLUTE_POS;
    if column < columns {
        let mut sum = f32::new(0.0);
        for row in 0..rows {
            sum += w[row * columns + column] * u[row];
        }
        v[column] = sum;
    }
}

/// One cube for each row.
#[cube(launch_unchecked)]
fn rows_times_kernel(w: &Array<f32>, v: &Array<f32>, out: &mut Array<f32>, rows: usize, columns: usize) {
    let row = CUBE_POS;
    if row < rows {
        let mut sum = f32::new(0.0);
        let mut column = UNIT_POS as usize;
        while column < columns {
            sum += w[row * columns + column] * v[column];
            column += comptime!(UNITS as usize);
        }
        let total = cube_sum(sum);
        if UNIT_POS == 0 {
            out[row] = total;
        }
    }
}

/// One cube.
#[cube(launch_unchecked)]
fn normalise_kernel(x: &mut Array<f32>, n: usize) {
    let mut sum = f32::new(0.0);
    let mut at = UNIT_POS as usize;
    while at < n {
        sum += x[at] * x[at];
        at += comptime!(UNITS as usize);
    }
    let norm = f32::max(cube_sum(sum).sqrt(), f32::new(1e-12));
    at = UNIT_POS as usize;
    while at < n {
        x[at] = x[at] / norm;
        at += comptime!(UNITS as usize);
    }
}

/// One cube.
#[cube(launch_unchecked)]
fn dot_kernel(a: &Array<f32>, b: &Array<f32>, out: &mut Array<f32>, n: usize) {
    let mut sum = f32::new(0.0);
    let mut at = UNIT_POS as usize;
    while at < n {
        sum += a[at] * b[at];
        at += comptime!(UNITS as usize);
    }
    let total = cube_sum(sum);
    if UNIT_POS == 0 {
        out[0] = total;
    }
}

#[cube(launch_unchecked)]
fn divide_kernel(w: &Array<f32>, sigma: &Array<f32>, normal: &mut Array<f32>, n: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        normal[at] = w[at] / sigma[0];
    }
}

#[cube(launch_unchecked)]
fn backward_kernel(
    grad: &Array<f32>,
    along: &Array<f32>,
    u: &Array<f32>,
    v: &Array<f32>,
    sigma: &Array<f32>,
    dw: &mut Array<f32>,
    n: usize,
    columns: usize,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        dw[at] = (grad[at] - along[0] * u[at / columns] * v[at % columns]) / sigma[0];
    }
}
