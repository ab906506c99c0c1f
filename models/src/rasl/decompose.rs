//! Low-rank plus sparse, with motions: the inner problem of RASL, and of a new image against a known basis.

use hotad_engine::interrupt;
use hotad_engine::{Error, Result};
use nalgebra::{DMatrix, DVector};

/// Residual, relative to the images, at which a problem is solved.
const TOLERANCE: f64 = 1e-5;
const ITERATIONS: usize = 100;
/// Growth of the penalty.
const GROWTH: f64 = 1.5;

/// What images are made of.
pub struct Parts {
    /// Low rank.
    pub low: DMatrix<f64>,
    /// Changes of the motions, a column for each image.
    pub motions: DMatrix<f64>,
    /// `|A|_* + lambda |E|_1`.
    pub objective: f64,
}

/// Singular vectors V and values of a tall matrix, by the eigenvectors of its Gram matrix.
fn right_singular(m: &DMatrix<f64>) -> (DMatrix<f64>, DVector<f64>) {
    let eigen = m.tr_mul(m).symmetric_eigen();
    (eigen.eigenvectors, eigen.eigenvalues.map(|v| v.max(0.0).sqrt()))
}

fn shrink(v: f64, by: f64) -> f64 {
    v.signum() * (v.abs() - by).max(0.0)
}

/// Least squares by the normal equations.
///
/// # Errors
/// When the columns of `a` are not independent.
fn pseudo_inverse(a: &DMatrix<f64>) -> Result<DMatrix<f64>> {
    let gram = a.tr_mul(a);
    // A little of the diagonal keeps flat images, which no motion changes, solvable.
    let small = gram.trace() * 1e-9 + 1e-12;
    let inverse = (gram + DMatrix::identity(a.ncols(), a.ncols()) * small).try_inverse();
    Ok(inverse.ok_or_else(|| Error::Config("rasl: the images do not change with motions".into()))? * a.transpose())
}

/// Minimises `|A|_* + lambda |E|_1` under `D + J dtau = A + E` by the augmented Lagrange multiplier method (Peng et al. 2012,
/// algorithm 2): columns of `d` are images, `jacobians` theirs.
///
/// # Errors
/// When interrupted.
pub fn low_rank(d: &DMatrix<f64>, jacobians: &[DMatrix<f64>], lambda: f64) -> Result<Parts> {
    let inverses = jacobians.iter().map(pseudo_inverse).collect::<Result<Vec<_>>>()?;
    let spectral = right_singular(d).1.max();
    let mut y = d / spectral.max(d.amax() / lambda);
    let (mut e, mut low) = (DMatrix::zeros(d.nrows(), d.ncols()), d.clone());
    let mut motions = DMatrix::zeros(6, d.ncols());
    let mut moved = DMatrix::zeros(d.nrows(), d.ncols());
    let (mut mu, norm, mut nuclear) = (1.25 / spectral, d.norm(), 0.0);
    for _ in 0..ITERATIONS {
        interrupt::check()?;
        let target = d + &moved - &e + &y / mu;
        let (v, values) = right_singular(&target);
        let kept = values.map(|s| (s - 1.0 / mu).max(0.0));
        nuclear = kept.sum();
        let factors = DVector::from_iterator(kept.len(), kept.iter().zip(&values).map(|(k, s)| k / s.max(1e-300)));
        low = target * (&v * DMatrix::from_diagonal(&factors) * v.transpose());
        e = (d + &moved - &low + &y / mu).map(|v| shrink(v, lambda / mu));
        let rest = &low + &e - d - &y / mu;
        for (i, (inverse, jacobian)) in inverses.iter().zip(jacobians).enumerate() {
            let step = inverse * rest.column(i);
            moved.set_column(i, &(jacobian * &step));
            motions.set_column(i, &step);
        }
        let error = d + &moved - &low - &e;
        y += &error * mu;
        mu *= GROWTH;
        if error.norm() < TOLERANCE * norm {
            break;
        }
    }
    let objective = nuclear + lambda * e.abs().sum();
    Ok(Parts { low, motions, objective })
}

/// Orthonormal columns that span a low-rank matrix.
pub fn basis(low: &DMatrix<f64>) -> DMatrix<f64> {
    let (v, values) = right_singular(low);
    let largest = values.max();
    let kept: Vec<usize> = (0..values.len()).filter(|i| values[*i] > 1e-3 * largest).collect();
    let columns: Vec<DVector<f64>> = kept.iter().map(|i| low * v.column(*i) / values[*i]).collect();
    DMatrix::from_columns(&columns)
}

/// Minimises `|e|_1` under `y + J dtau = U c + e`: a new image against a basis. Returns e and dtau.
///
/// # Errors
/// When the columns of basis and Jacobian are not independent.
pub fn against(
    basis: &DMatrix<f64>,
    jacobian: &DMatrix<f64>,
    image: &DVector<f64>,
) -> Result<(DVector<f64>, DVector<f64>)> {
    let rank = basis.ncols();
    let mut all = basis.clone().resize_horizontally(rank + 6, 0.0);
    (0..6).for_each(|i| all.set_column(rank + i, &(-jacobian.column(i))));
    let inverse = pseudo_inverse(&all)?;
    let mut e = DVector::zeros(image.len());
    let mut y = DVector::zeros(image.len());
    let mut weights = DVector::zeros(rank + 6);
    let mut mu = 1.25 / image.amax().max(1e-12);
    for _ in 0..ITERATIONS {
        weights = &inverse * (image - &e + &y / mu);
        let rest = image - &all * &weights;
        e = (&rest + &y / mu).map(|v| shrink(v, 1.0 / mu));
        let error = rest - &e;
        y += &error * mu;
        mu *= GROWTH;
        if error.norm() < TOLERANCE * image.norm() {
            break;
        }
    }
    Ok((e, weights.rows(rank, 6).into_owned()))
}
