//! A new image against a known basis. Memory is taken once: aligning an image takes rounds of many steps each.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltRegularization, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::cholesky::llt::solve::solve_in_place;
use faer::linalg::matmul::matmul;
use faer::{Accum, ColMut, ColRef, Mat, MatRef, Par, Spec};
use hotad_engine::{Error, Result};

use super::align::{Frame, MOTION, Motion};
use super::decompose::{GROWTH, ITERATIONS, TOLERANCE, ridge, shrink};

/// `minimise |e|_1 under y + J dtau = U c + e`: y an image that a motion has moved, J its Jacobian, U the basis.
pub struct Against {
    /// -J, column by column.
    slopes: Vec<f64>,
    /// y.
    image: Vec<f64>,
    /// e.
    rest: Vec<f64>,
    /// Lagrange multipliers.
    multipliers: Vec<f64>,
    /// What is fitted, then the fit.
    fitted: Vec<f64>,
    /// c, then dtau.
    weights: Vec<f64>,
    /// The Gram matrix of the columns of `[U, -J]`, of which the lower half counts, then its Cholesky factor.
    gram: Mat<f64>,
    stack: MemBuffer,
}

impl Against {
    pub fn new(basis: &Mat<f64>) -> Self {
        let (pixels, count) = (basis.nrows(), basis.ncols() + MOTION);
        let slopes = vec![0.0; MOTION * pixels];
        let [image, rest, multipliers, fitted] = std::array::from_fn(|_| vec![0.0; pixels]);
        let stack = MemBuffer::new(cholesky_in_place_scratch::<f64>(count, Par::Seq, Spec::default()));
        let (weights, gram) = (vec![0.0; count], Mat::zeros(count, count));
        Self { slopes, image, rest, multipliers, fitted, weights, gram, stack }
    }

    /// Solves it for an image under a motion; `basis` is that of [`Against::new`]. Returns the image's norm after it was moved, by which it and e are divided.
    ///
    /// # Errors
    /// When the columns of basis and Jacobian are not independent.
    pub fn solve(&mut self, basis: &Mat<f64>, frame: &Frame, image: &[f64], motion: &Motion) -> Result<f64> {
        let norm = frame.normalised(image, motion, &mut self.image, &mut self.slopes);
        self.slopes.iter_mut().for_each(|v| *v = -*v);
        self.factorise(basis)?;
        self.rest.fill(0.0);
        self.multipliers.fill(0.0);
        let (largest, length) = largest_and_norm(&self.image);
        let mut mu = 1.25 / largest.max(1e-12);
        for _ in 0..ITERATIONS {
            let left = self.step(basis, mu);
            mu *= GROWTH;
            if left < TOLERANCE * length {
                break;
            }
        }
        Ok(norm)
    }

    /// e of the last solution.
    pub fn rest(&self) -> &[f64] {
        &self.rest
    }

    /// Change of the motion of the last solution.
    pub fn change(&self) -> &[f64] {
        &self.weights[self.weights.len() - MOTION..]
    }

    /// The Cholesky factor of the normal equations.
    fn factorise(&mut self, basis: &Mat<f64>) -> Result<()> {
        let rank = basis.ncols();
        let slopes = MatRef::from_column_major_slice(&self.slopes, basis.nrows(), MOTION);
        self.gram.fill(0.0);
        let (above, _, beside, below) = self.gram.as_mut().split_at_mut(rank, rank);
        matmul(above, Accum::Replace, basis.transpose(), basis, 1.0, Par::Seq);
        matmul(beside, Accum::Replace, slopes.transpose(), basis, 1.0, Par::Seq);
        matmul(below, Accum::Replace, slopes.transpose(), slopes, 1.0, Par::Seq);
        ridge(&mut self.gram);
        let stack = MemStack::new(&mut self.stack);
        cholesky_in_place(self.gram.as_mut(), LltRegularization::default(), Par::Seq, stack, Spec::default())
            .map(drop)
            .map_err(|_| Error::Config("rasl: the images do not change with motions".into()))
    }

    /// One step of the augmented Lagrange multiplier method; returns the norm of what is left of the constraint.
    fn step(&mut self, basis: &Mat<f64>, mu: f64) -> f64 {
        let Self { slopes, image, rest, multipliers, fitted, weights, gram, stack } = self;
        for (((to, image), e), y) in fitted.iter_mut().zip(&*image).zip(&*rest).zip(&*multipliers) {
            *to = image - e + y / mu;
        }
        let slopes = MatRef::from_column_major_slice(slopes, fitted.len(), MOTION);
        let target = ColRef::from_slice(fitted).as_mat();
        let (known, moved) = ColMut::from_slice_mut(weights).split_at_row_mut(basis.ncols());
        matmul(known.as_mat_mut(), Accum::Replace, basis.transpose(), target, 1.0, Par::Seq);
        matmul(moved.as_mat_mut(), Accum::Replace, slopes.transpose(), target, 1.0, Par::Seq);
        let unknown = ColMut::from_slice_mut(weights).as_mat_mut();
        solve_in_place(gram.as_ref(), unknown, Par::Seq, MemStack::new(stack));
        let (known, moved) = ColRef::from_slice(weights).split_at_row(basis.ncols());
        let mut fit = ColMut::from_slice_mut(fitted).as_mat_mut();
        matmul(fit.as_mut(), Accum::Replace, basis, known.as_mat(), 1.0, Par::Seq);
        matmul(fit, Accum::Add, slopes, moved.as_mat(), 1.0, Par::Seq);
        let mut squares = 0.0;
        for (((fit, image), e), y) in fitted.iter().zip(&*image).zip(rest).zip(multipliers) {
            let left = image - fit;
            *e = shrink(left + *y / mu, 1.0 / mu);
            let error = left - *e;
            *y += error * mu;
            squares += error * error;
        }
        squares.sqrt()
    }
}

/// Largest absolute value and Euclidean norm.
fn largest_and_norm(values: &[f64]) -> (f64, f64) {
    let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    (largest, values.iter().map(|v| v * v).sum::<f64>().sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth image that lies a little off, and a defect of one pixel.
    #[test]
    fn a_motion_and_a_defect_are_separated() {
        let frame = Frame { size: 40, inset: 6 };
        let wave = |x: f64, y: f64| 2.0 + (x / 5.0).sin() + (y / 7.0).cos();
        let at = |dx: f64, i: usize| wave((i % 40) as f64 + dx, (i / 40) as f64);
        let normal: Vec<f64> = (0..1600).map(|i| at(0.0, i)).collect();
        let pixels = frame.pixels();
        let (mut unit, mut jacobian) = (vec![0.0; pixels], vec![0.0; MOTION * pixels]);
        frame.normalised(&normal, &Motion::default(), &mut unit, &mut jacobian);
        let basis = Mat::from_fn(pixels, 1, |i, _| unit[i]);
        let mut image: Vec<f64> = (0..1600).map(|i| at(0.1, i)).collect();
        image[20 * 40 + 21] += 1.5;
        let mut against = Against::new(&basis);
        for _ in 0..2 {
            let norm = against.solve(&basis, &frame, &image, &Motion::default()).expect("independent columns");
            assert!((against.change()[0] + 0.1).abs() < 0.01, "moved back by a tenth: {:?}", against.change());
            let defect = (20 - 6) * 28 + 21 - 6;
            for (i, e) in against.rest().iter().enumerate() {
                let want = if i == defect { 1.5 } else { 0.0 };
                // The slopes of its neighbours are the defect's, of which the motion leaves a tenth there.
                let near = [defect - 28, defect - 1, defect, defect + 1, defect + 28].contains(&i);
                assert!((e * norm - want).abs() < if near { 0.1 } else { 0.02 }, "pixel {i}: {}", e * norm);
            }
        }
    }
}
