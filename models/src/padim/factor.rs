//! From a covariance to the factor that distances are measured with.
//!
//! `Sigma = (1 - rho) S + rho (tr S / d) I + eps I` (Defard et al. 2021, equation 1, with `rho` = 0), `Sigma = L L^T`
//! (Cholesky), and the factor is `L^-1`: `(x - mu)^T Sigma^-1 (x - mu) = |L^-1 (x - mu)|^2`.

use faer::{Mat, Side};

/// How a covariance is made regular.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regular {
    /// rho, or oracle approximating shrinkage.
    pub shrinkage: Option<f64>,
    /// eps.
    pub eps: f64,
}

/// Oracle approximating shrinkage (Chen et al. 2010, "Shrinkage algorithms for MMSE covariance estimation", equation 23):
/// `rho = min(1, ((1 - 2/d) tr S^2 + (tr S)^2) / ((n + 1 - 2/d) (tr S^2 - (tr S)^2 / d)))` for n Gaussian vectors of d
/// elements; 1 where S is a multiple of the identity. `covariance` is a lower triangle, row after row.
pub fn oracle_shrinkage(covariance: &[f64], d: usize, n: usize) -> f64 {
    let (mut trace, mut square, mut at) = (0.0, 0.0, 0);
    for i in 0..d {
        let row = &covariance[at..=at + i];
        trace += row[i];
        square += 2.0 * row[..i].iter().map(|v| v * v).sum::<f64>() + row[i] * row[i];
        at += i + 1;
    }
    let (d, n) = (d as f64, n as f64);
    let above = (1.0 - 2.0 / d) * square + trace * trace;
    let below = (n + 1.0 - 2.0 / d) * (square - trace * trace / d);
    if below > 0.0 { (above / below).clamp(0.0, 1.0) } else { 1.0 }
}

/// `L^-1` of the regular covariance of `n` vectors, lower triangular `[d][d]`; none when there is no Cholesky
/// decomposition, that is for values that are not finite.
pub fn factor(covariance: &[f64], d: usize, n: usize, regular: Regular) -> Option<Mat<f64>> {
    let rho = regular.shrinkage.unwrap_or_else(|| oracle_shrinkage(covariance, d, n));
    let row = |i: usize| i * (i + 1) / 2;
    let trace: f64 = (0..d).map(|i| covariance[row(i) + i]).sum();
    let diagonal = rho * trace / d as f64 + regular.eps;
    let sigma = Mat::from_fn(d, d, |i, j| {
        let entry = (1.0 - rho) * covariance[row(i.max(j)) + i.min(j)];
        if i == j { entry + diagonal } else { entry }
    });
    let cholesky = sigma.llt(Side::Lower).ok()?;
    let mut inverse = Mat::identity(d, d);
    cholesky.L().solve_lower_triangular_in_place(&mut inverse);
    Some(inverse)
}
