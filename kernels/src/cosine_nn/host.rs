//! The search on the CPU: every location is a task, every bank vector is read once for all queries.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::{BankData, LocationBank};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Isa, isa};
use crate::simd::{madd, simd_fn};

/// The best entry at one location.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Nearest {
    index: u32,
    cosine: f32,
}

/// An element of a bank vector.
pub(super) trait Element: Copy + Send + Sync {
    fn widen_into(from: &[Self], to: &mut [f32]);
    /// Dot product with an f32 vector of the same length.
    fn dot(query: &[f32], vector: &[Self]) -> f32;
}

impl Element for f32 {
    fn widen_into(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn dot(query: &[f32], vector: &[f32]) -> f32 {
        dot_floats(query, vector)
    }
}

impl Element for f16 {
    fn widen_into(from: &[f16], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    fn dot(query: &[f32], vector: &[f16]) -> f32 {
        #[cfg(target_arch = "x86_64")]
        if isa() != Isa::Portable {
            // SAFETY: every set but Portable has AVX2, FMA and F16C.
            return unsafe { dot_halves_f16c(query, vector) };
        }
        query.iter().zip(vector).map(|(q, v)| q * v.to_f32()).sum()
    }
}

simd_fn! {
    /// Dot product with 32 running sums.
    fn dot_floats(a: &[f32], b: &[f32]) -> f32 {
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

/// Dot product that widens eight halves with one instruction, four running sums of eight.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_halves_f16c(query: &[f32], vector: &[f16]) -> f32 {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm256_add_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
        _mm256_storeu_ps,
    };
    assert_eq!(query.len(), vector.len(), "query and bank vectors have one length");
    let whole = query.len() / 32 * 32;
    let mut sums = [_mm256_setzero_ps(); 4];
    for at in (0..whole).step_by(32) {
        for (k, sum) in sums.iter_mut().enumerate() {
            // SAFETY: at + 32 <= whole, which neither slice is shorter than; loads are unaligned ones.
            let (q, v) = unsafe {
                let halves = _mm_loadu_si128(vector.as_ptr().add(at + 8 * k).cast());
                (_mm256_loadu_ps(query.as_ptr().add(at + 8 * k)), _mm256_cvtph_ps(halves))
            };
            *sum = _mm256_fmadd_ps(q, v, *sum);
        }
    }
    let mut lanes = [0.0f32; 8];
    let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    // SAFETY: `lanes` holds the eight floats that are stored.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
    let tail: f32 = query[whole..].iter().zip(&vector[whole..]).map(|(q, v)| q * v.to_f32()).sum();
    (lanes[0] + lanes[4]) + (lanes[1] + lanes[5]) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7])) + tail
}

/// 1 / norm, 0 for a zero vector.
fn inverse_norm(v: &[f32]) -> f32 {
    let square: f64 = v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    if square > 0.0 { square.sqrt().recip() as f32 } else { 0.0 }
}

pub(super) fn inverse_norms<T: Element>(data: &[T], dim: usize) -> Vec<f32> {
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
    /// Best entry of every location for every query.
    pub(super) fn on_host(&self, queries: &[f32], images: usize, index: &mut [u32], cosine: &mut [f32]) {
        let image = self.locations * self.dim;
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
        for (at, (index, cosine)) in index.iter_mut().zip(cosine).enumerate() {
            let found = by_location[at % self.locations][at / self.locations];
            (*index, *cosine) = (found.index, found.cosine);
        }
    }

    fn search<T: Element>(&self, data: &[T], location: usize, queries: &[&[f32]]) -> Vec<Nearest> {
        let scales: Vec<f32> = queries.iter().map(|q| inverse_norm(q)).collect();
        let mut best = vec![Nearest { index: 0, cosine: f32::NEG_INFINITY }; queries.len()];
        let from = location * self.entries;
        let vectors = data[from * self.dim..(from + self.entries) * self.dim].chunks_exact(self.dim);
        for (entry, vector) in vectors.enumerate() {
            let scale = self.inverse_norms[from + entry];
            for ((query, best), own) in queries.iter().zip(&mut best).zip(&scales) {
                let cosine = T::dot(query, vector) * scale * own;
                if cosine > best.cosine {
                    *best = Nearest { index: entry as u32, cosine };
                }
            }
        }
        best
    }
}
