//! Location-wise cosine nearest neighbour over the patch memory bank (PAEDID, section 2.1.3).
//!
//! At every location, the bank vector of the same location with the largest cosine to the query; a
//! vector of norm zero has cosine 0 with everything, the lowest index wins among equals. The bank
//! is laid out location by location, so that a search reads memory from front to back once; no
//! similarity is stored. Bytes: 2 (f16) or 4 per bank element, read once for all queries of a
//! batch; operations: 2 per element and query.

use half::f16;
use rayon::prelude::*;

use crate::error::{Result, check_len, shape_error};
use crate::simd::{madd, simd_fn};

/// Bank vectors, `[location][entry][dim]`.
#[derive(Clone, Debug, PartialEq)]
pub enum BankData {
    /// Half precision, accumulated in f32.
    F16(Vec<f16>),
    /// Single precision.
    F32(Vec<f32>),
}

/// A patch memory bank: `entries` vectors of `dim` elements at each of `locations`.
#[derive(Clone, Debug, PartialEq)]
pub struct LocationBank {
    locations: usize,
    entries: usize,
    dim: usize,
    data: BankData,
    /// 1 / norm of each vector, 0 for a zero vector; `[location][entry]`.
    inverse_norms: Vec<f32>,
}

/// The best entry at one location.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearest {
    /// Entry of the bank.
    pub index: u32,
    /// Cosine to the query.
    pub cosine: f32,
}

/// A vector element that widens to f32.
trait Element: Copy + Send + Sync {
    fn widen_into(from: &[Self], to: &mut [f32]);
}

impl Element for f32 {
    fn widen_into(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Element for f16 {
    fn widen_into(from: &[f16], to: &mut [f32]) {
        widen_halves(bytemuck::cast_slice(from), to);
    }
}

simd_fn! {
    /// Finite halves to f32: the exponent is moved into place and rebiased by a product with 2^112,
    /// which is exact for subnormals too.
    fn widen_halves(from: &[u16], to: &mut [f32]) {
        for (t, h) in to.iter_mut().zip(from) {
            let h = u32::from(*h);
            let magnitude = f32::from_bits((h & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
            *t = f32::from_bits(magnitude.to_bits() | (h & 0x8000) << 16);
        }
    }
}

simd_fn! {
    /// Dot product with 32 running sums.
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        let mut sums = [0.0f32; 32];
        let whole = a.len() / 32 * 32;
        for (a, b) in a.chunks_exact(32).zip(b.chunks_exact(32)) {
            for k in 0..32 {
                sums[k] = madd::<FMA>(a[k], b[k], sums[k]);
            }
        }
        for width in [16, 8, 4, 2, 1] {
            for k in 0..width {
                sums[k] += sums[k + width];
            }
        }
        let tail: f32 = a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum();
        sums[0] + tail
    }
}

/// 1 / norm, 0 for a zero vector.
fn inverse_norm(v: &[f32]) -> f32 {
    let square: f64 = v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    if square > 0.0 { square.sqrt().recip() as f32 } else { 0.0 }
}

fn inverse_norms<T: Element>(data: &[T], dim: usize) -> Vec<f32> {
    data.par_chunks(dim)
        .map_init(
            || vec![0.0; dim],
            |wide, v| {
                T::widen_into(v, wide);
                inverse_norm(wide)
            },
        )
        .collect()
}

impl LocationBank {
    /// Takes vectors laid out `[location][entry][dim]`.
    ///
    /// # Errors
    /// When the data is empty or not of that length.
    pub fn new(locations: usize, entries: usize, dim: usize, data: BankData) -> Result<Self> {
        if locations * entries * dim == 0 {
            return shape_error("memory bank", format!("{locations} locations x {entries} entries x {dim}: empty"));
        }
        let want = locations * entries * dim;
        let inverse_norms = match &data {
            BankData::F16(v) => check_len("memory bank", "data", v.len(), want).map(|()| inverse_norms(v, dim))?,
            BankData::F32(v) => check_len("memory bank", "data", v.len(), want).map(|()| inverse_norms(v, dim))?,
        };
        Ok(Self { locations, entries, dim, data, inverse_norms })
    }

    /// Locations, entries at each, elements of a vector.
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.locations, self.entries, self.dim)
    }

    /// The vectors, `[location][entry][dim]`.
    pub fn data(&self) -> &BankData {
        &self.data
    }

    /// Copies one vector, widened.
    ///
    /// # Panics
    /// When `location` or `entry` is outside the bank or `to` is not `dim` long.
    pub fn vector(&self, location: usize, entry: usize, to: &mut [f32]) {
        let at = (location * self.entries + entry) * self.dim;
        match &self.data {
            BankData::F16(v) => f16::widen_into(&v[at..at + self.dim], to),
            BankData::F32(v) => f32::widen_into(&v[at..at + self.dim], to),
        }
    }

    /// Best entry for each query vector; `queries` is `[image][location][dim]`, the result
    /// `[image][location]`.
    ///
    /// # Errors
    /// When `queries` is not a whole number of images.
    pub fn nearest(&self, queries: &[f32]) -> Result<Vec<Nearest>> {
        let image = self.locations * self.dim;
        if !queries.len().is_multiple_of(image) {
            return shape_error(
                "cosine_nn",
                format!("{} query elements are no multiple of {} locations x {}", queries.len(), self.locations, self.dim),
            );
        }
        let images = queries.len() / image;
        let by_location: Vec<Vec<Nearest>> = (0..self.locations)
            .into_par_iter()
            .map(|location| {
                let queries: Vec<&[f32]> =
                    (0..images).map(|n| &queries[n * image + location * self.dim..][..self.dim]).collect();
                match &self.data {
                    BankData::F16(v) => self.search(v, location, &queries),
                    BankData::F32(v) => self.search(v, location, &queries),
                }
            })
            .collect();
        Ok((0..images).flat_map(|n| by_location.iter().map(move |l| l[n])).collect())
    }

    fn search<T: Element>(&self, data: &[T], location: usize, queries: &[&[f32]]) -> Vec<Nearest> {
        let scales: Vec<f32> = queries.iter().map(|q| inverse_norm(q)).collect();
        let mut best = vec![Nearest { index: 0, cosine: f32::NEG_INFINITY }; queries.len()];
        let mut wide = vec![0.0; self.dim];
        let from = location * self.entries;
        let vectors = data[from * self.dim..(from + self.entries) * self.dim].chunks_exact(self.dim);
        for (entry, vector) in vectors.enumerate() {
            T::widen_into(vector, &mut wide);
            let scale = self.inverse_norms[from + entry];
            for ((query, best), own) in queries.iter().zip(&mut best).zip(&scales) {
                let cosine = dot(query, &wide) * scale * own;
                if cosine > best.cosine {
                    *best = Nearest { index: entry as u32, cosine };
                }
            }
        }
        best
    }
}
