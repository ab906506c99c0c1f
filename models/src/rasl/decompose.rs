//! Low-rank plus sparse, with motions: the inner problem of RASL.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use hotad_engine::interrupt;
use hotad_engine::{Error, Result};

/// Residual, relative to the images, at which a problem is solved.
pub const TOLERANCE: f64 = 1e-5;
pub const ITERATIONS: usize = 100;
/// Growth of the penalty.
pub const GROWTH: f64 = 1.5;

/// What images are made of.
pub struct Parts {
    /// Low rank.
    pub low: Mat<f64>,
    /// Changes of the motions, a column for each image.
    pub motions: Mat<f64>,
    /// `|A|_* + lambda |E|_1`.
    pub objective: f64,
}

/// Singular vectors V and values of a tall matrix, rising, by the eigenvectors of its Gram matrix.
///
/// # Errors
/// When they are not found.
fn right_singular(m: &Mat<f64>) -> Result<(Mat<f64>, Vec<f64>)> {
    let eigen = (m.transpose() * m).self_adjoint_eigen(Side::Lower);
    let eigen = eigen.map_err(|_| Error::Config("rasl: the singular values of the images did not converge".into()))?;
    let values = eigen.S().column_vector().iter().map(|v| v.max(0.0).sqrt()).collect();
    Ok((eigen.U().to_owned(), values))
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

pub fn shrink(v: f64, by: f64) -> f64 {
    v.signum() * (v.abs() - by).max(0.0)
}

/// Adds a little to the diagonal of a Gram matrix, which keeps flat images, which no motion changes, solvable.
pub fn ridge(gram: &mut Mat<f64>) {
    let small = gram.diagonal().column_vector().sum() * 1e-9 + 1e-12;
    (0..gram.ncols()).for_each(|i| gram[(i, i)] += small);
}

/// Least squares by the normal equations.
///
/// # Errors
/// When the columns of `a` are not independent.
fn pseudo_inverse(a: &Mat<f64>) -> Result<Mat<f64>> {
    let mut gram = a.transpose() * a;
    ridge(&mut gram);
    let cholesky = gram.llt(Side::Lower);
    let cholesky = cholesky.map_err(|_| Error::Config("rasl: the images do not change with motions".into()))?;
    Ok(cholesky.solve(a.transpose()))
}

/// Minimises `|A|_* + lambda |E|_1` under `D + J dtau = A + E` by the augmented Lagrange multiplier method (Peng et al. 2012,
/// algorithm 2): columns of `d` are images, `jacobians` theirs.
///
/// # Errors
/// When all images are black or one is not finite; when interrupted.
pub fn low_rank(d: &Mat<f64>, jacobians: &[Mat<f64>], lambda: f64) -> Result<Parts> {
    let inverses = jacobians.iter().map(pseudo_inverse).collect::<Result<Vec<_>>>()?;
    if !d.is_all_finite() || d.norm_max() == 0.0 {
        return Err(Error::Config("rasl: the images are black; use others".into()));
    }
    let spectral = largest(&right_singular(d)?.1);
    let mut y: Mat<f64> = d / spectral.max(d.norm_max() / lambda);
    let (mut e, mut low) = (Mat::zeros(d.nrows(), d.ncols()), d.clone());
    let mut motions = Mat::zeros(6, d.ncols());
    let mut moved = Mat::zeros(d.nrows(), d.ncols());
    let (mut mu, norm, mut nuclear) = (1.25 / spectral, d.norm_l2(), 0.0);
    for _ in 0..ITERATIONS {
        interrupt::check()?;
        let target: Mat<f64> = d + &moved - &e + &y / mu;
        let (v, values) = right_singular(&target)?;
        let kept: Vec<f64> = values.iter().map(|s| (s - 1.0 / mu).max(0.0)).collect();
        nuclear = kept.iter().sum();
        let scaled = Mat::from_fn(v.nrows(), v.ncols(), |i, j| v[(i, j)] * kept[j] / values[j].max(1e-300));
        low = target * (scaled * v.transpose());
        e = (d + &moved - &low + &y / mu).map(|v| shrink(*v, lambda / mu));
        let rest: Mat<f64> = &low + &e - d - &y / mu;
        for (i, (inverse, jacobian)) in inverses.iter().zip(jacobians).enumerate() {
            let step = inverse * rest.col(i);
            moved.col_mut(i).copy_from(jacobian * &step);
            motions.col_mut(i).copy_from(step);
        }
        let error: Mat<f64> = d + &moved - &low - &e;
        y += &error * mu;
        mu *= GROWTH;
        if error.norm_l2() < TOLERANCE * norm {
            break;
        }
    }
    let objective = nuclear + lambda * e.norm_l1();
    Ok(Parts { low, motions, objective })
}

/// Orthonormal columns that span a low-rank matrix.
///
/// # Errors
/// When they are not found.
pub fn basis(low: &Mat<f64>) -> Result<Mat<f64>> {
    let (v, values) = right_singular(low)?;
    let first = values.partition_point(|s| *s <= 1e-3 * largest(&values));
    let rank = values.len() - first;
    let scaled = Mat::from_fn(v.nrows(), rank, |i, j| v[(i, first + j)] / values[first + j]);
    Ok(low * scaled)
}
