//! Mahalanobis distances to one Gaussian per location (PaDiM, Defard et al. 2021, section III-C).
//!
//! `y[n, p] = sqrt((x - mu_p)^T Sigma_p^-1 (x - mu_p)) = |W_p (x[n, p] - mu_p)|`, `W_p = L_p^-1` with
//! `Sigma_p = L_p L_p^T` (Cholesky). `W_p` is lower triangular and packed by blocks of eight rows: block b holds
//! columns 0 to 8 b + 7, column after column, so that eight rows are one load and half of the products of a full
//! matrix are never made. Operations: about `d^2` per vector, d its elements; bytes: `2 d^2` (f32) or `d^2` (f16) per
//! location, read once for up to four images of a batch. With one image this is bound by memory: hence f16.

mod gpu;
mod host;

use std::sync::OnceLock;

use half::f16;
use rayon::prelude::*;

use crate::device::{View, ViewMut, place};
use crate::error::{Result, check_len, shape_error};
use gpu::GpuGaussians;

const OP: &str = "Mahalanobis distance";

/// Rows of a block.
const ROWS: usize = 8;

/// Exponent that the largest element of a factor is brought to before it is rounded to f16, whose own is 15.
const HALF_EXPONENT: i32 = 14;

/// Packed factors `W_p`, `[location][packed_len(dim)]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Factors {
    /// Half precision, accumulated in f32.
    F16(Vec<f16>),
    /// Single precision.
    F32(Vec<f32>),
}

/// Elements of a packed factor of `dim` rows, those that pad its last block and its diagonal included.
pub fn packed_len(dim: usize) -> usize {
    let blocks = dim.div_ceil(ROWS);
    ROWS * ROWS * blocks * (blocks + 1) / 2
}

/// Packs a lower triangular matrix, given by row and column.
pub fn pack(dim: usize, entry: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut packed = Vec::with_capacity(packed_len(dim));
    for first in (0..dim).step_by(ROWS) {
        for column in 0..first + ROWS {
            packed.extend((first..first + ROWS).map(|row| {
                let inside = row < dim && column <= row;
                if inside { entry(row, column) } else { 0.0 }
            }));
        }
    }
    packed
}

/// Rounds packed factors to f16, each multiplied by a power of two before so that it neither overflows nor
/// vanishes; returns them with the powers that distances are multiplied by, `[location]`.
pub fn halved(packed: &[f32], dim: usize) -> (Factors, Vec<f32>) {
    let each = packed_len(dim).max(1);
    let scales: Vec<f32> = packed
        .par_chunks(each)
        .map(|factor| {
            let largest = factor.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let exponent = if largest > 0.0 { largest.log2().floor() as i32 } else { 0 };
            2.0f32.powi((exponent - HALF_EXPONENT).clamp(-100, 100))
        })
        .collect();
    let rounded = packed.par_chunks(each).zip(&scales).flat_map_iter(|(factor, scale)| {
        let inverse = scale.recip();
        factor.iter().map(move |v| f16::from_f32(v * inverse))
    });
    (Factors::F16(rounded.collect()), scales)
}

/// A Gaussian at each location.
#[derive(Clone, Debug)]
pub struct LocationGaussians {
    locations: usize,
    dim: usize,
    mean: Vec<f32>,
    factors: Factors,
    scales: Vec<f32>,
    /// The copy on the GPU that has asked for it first.
    resident: OnceLock<GpuGaussians>,
}

impl LocationGaussians {
    /// Takes means `[location][dim]`, packed factors, and what distances are multiplied by, `[location]` (see
    /// [`halved`]; 1 for factors as they are).
    ///
    /// # Errors
    /// When there are none, or lengths do not fit.
    pub fn new(dim: usize, mean: Vec<f32>, factors: Factors, scales: Vec<f32>) -> Result<Self> {
        if dim == 0 || mean.is_empty() || !mean.len().is_multiple_of(dim) {
            return shape_error(OP, format!("{} values are no means of {dim} elements", mean.len()));
        }
        let locations = mean.len() / dim;
        let held = match &factors {
            Factors::F16(v) => v.len(),
            Factors::F32(v) => v.len(),
        };
        check_len(OP, "factors", held, locations * packed_len(dim))?;
        check_len(OP, "scales", scales.len(), locations)?;
        Ok(Self { locations, dim, mean, factors, scales, resident: OnceLock::new() })
    }

    /// Locations and elements of a vector.
    pub fn shape(&self) -> (usize, usize) {
        (self.locations, self.dim)
    }

    /// Means, `[location][dim]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Packed factors.
    pub fn factors(&self) -> &Factors {
        &self.factors
    }

    /// What distances are multiplied by, `[location]`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Writes the distance of each vector of `x` `[image][location][dim]` to `y` `[image][location]`. A vector's distance
    /// does not depend on the others.
    ///
    /// # Errors
    /// When `x` is not a whole number of images, or lengths or devices do not fit.
    pub fn distances<'a>(&self, x: impl Into<View<'a>>, y: impl Into<ViewMut<'a>>) -> Result<()> {
        let (x, y) = (x.into(), y.into());
        let image = self.locations * self.dim;
        if !x.len().is_multiple_of(image) {
            return shape_error(
                OP,
                format!("{} elements are no multiple of {} locations x {}", x.len(), self.locations, self.dim),
            );
        }
        let images = x.len() / image;
        check_len(OP, "distances", y.len(), images * self.locations)?;
        match place(OP, &[&x, &y])? {
            None => self.on_host(x.host(), images, y.host()),
            Some(gpu) => self.on_gpu(&gpu, x.device(), images, y.device())?,
        }
        Ok(())
    }
}
