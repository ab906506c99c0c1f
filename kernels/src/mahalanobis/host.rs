//! The distances on the CPU: eight rows of a factor at a time, four images share what is read of it.

use half::f16;
use rayon::prelude::*;

use super::{Factors, LocationGaussians, ROWS, packed_len};
use crate::device::Reused;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Isa, isa};

/// Images that one pass over a factor serves.
const IMAGES: usize = 4;

/// Columns with sums of their own, so that no product waits for the one before.
const CHAINS: usize = 2;

/// Locations that one task takes.
const LOCATIONS: usize = 16;

/// An element of a factor.
pub(super) trait Element: Copy + Send + Sync {
    fn wide(self) -> f32;

    /// Eight elements, widened.
    ///
    /// # Safety
    /// There are eight from `from`, and the CPU has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(from: *const Self) -> std::arch::x86_64::__m256;
}

impl Element for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(from: *const f32) -> std::arch::x86_64::__m256 {
        // SAFETY: the caller's.
        unsafe { std::arch::x86_64::_mm256_loadu_ps(from) }
    }
}

impl Element for f16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(from: *const f16) -> std::arch::x86_64::__m256 {
        // SAFETY: the caller's.
        unsafe { std::arch::x86_64::_mm256_cvtph_ps(std::arch::x86_64::_mm_loadu_si128(from.cast())) }
    }
}

/// `|W c|^2` for N vectors `c`, rows of `width` elements (a multiple of eight, zeros beyond the last).
fn squares<T: Element, const N: usize>(factor: &[T], centred: &[f32], width: usize) -> [f32; N] {
    assert!(width.is_multiple_of(ROWS) && factor.len() == packed_len(width) && centred.len() >= N * width);
    #[cfg(target_arch = "x86_64")]
    if isa() != Isa::Portable {
        // SAFETY: every set but Portable has AVX2, FMA and F16C; lengths are as asserted.
        return unsafe { squares_avx2(factor, centred, width) };
    }
    squares_portable(factor, centred, width)
}

fn squares_portable<T: Element, const N: usize>(factor: &[T], centred: &[f32], width: usize) -> [f32; N] {
    let (mut totals, mut rest) = ([[0.0f32; ROWS]; N], factor);
    for columns in (ROWS..=width).step_by(ROWS) {
        let (block, after) = rest.split_at(columns * ROWS);
        rest = after;
        let mut sums = [[[0.0f32; ROWS]; CHAINS]; N];
        for (j, pair) in block.chunks_exact(ROWS * CHAINS).enumerate() {
            for (chain, column) in pair.chunks_exact(ROWS).enumerate() {
                for (n, sums) in sums.iter_mut().enumerate() {
                    let c = centred[n * width + j * CHAINS + chain];
                    sums[chain].iter_mut().zip(column).for_each(|(s, w)| *s += w.wide() * c);
                }
            }
        }
        for (total, sums) in totals.iter_mut().zip(sums) {
            for (lane, total) in total.iter_mut().enumerate() {
                let z: f32 = sums.iter().map(|s| s[lane]).sum();
                *total += z * z;
            }
        }
    }
    totals.map(folded)
}

/// The sum of eight lanes, in a fixed order.
#[inline(always)]
fn folded(s: [f32; ROWS]) -> f32 {
    (s[0] + s[4]) + (s[1] + s[5]) + ((s[2] + s[6]) + (s[3] + s[7]))
}

/// # Safety
/// The CPU has AVX2, FMA and F16C; lengths are those that [`squares`] asserts.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn squares_avx2<T: Element, const N: usize>(factor: &[T], centred: &[f32], width: usize) -> [f32; N] {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps};
    let (mut totals, mut at) = ([_mm256_setzero_ps(); N], 0);
    for columns in (ROWS..=width).step_by(ROWS) {
        let mut sums = [[_mm256_setzero_ps(); CHAINS]; N];
        for first in (0..columns).step_by(CHAINS) {
            for chain in 0..CHAINS {
                let column = first + chain;
                // SAFETY: blocks of 8, 16 .. `width` columns of eight rows fill the factor, and CHAINS divides 8.
                let w = unsafe { T::load(factor.as_ptr().add(at + column * ROWS)) };
                for (n, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: n < N and column < width.
                    let c = _mm256_set1_ps(unsafe { *centred.get_unchecked(n * width + column) });
                    sums[chain] = _mm256_fmadd_ps(w, c, sums[chain]);
                }
            }
        }
        at += columns * ROWS;
        for (total, sums) in totals.iter_mut().zip(sums) {
            let z = _mm256_add_ps(sums[0], sums[1]);
            *total = _mm256_fmadd_ps(z, z, *total);
        }
    }
    totals.map(|total| {
        let mut lanes = [0.0f32; ROWS];
        // SAFETY: `lanes` holds the eight floats that are stored.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), total) };
        folded(lanes)
    })
}

impl LocationGaussians {
    /// The distances of `images` images.
    pub(super) fn on_host(&self, x: &[f32], images: usize, y: &mut [f32]) {
        let mut distances = Reused::uninit(self.locations * images);
        distances.par_chunks_mut((LOCATIONS * images).max(1)).enumerate().for_each(|(task, distances)| {
            let first = task * LOCATIONS;
            let own = first..(first + LOCATIONS).min(self.locations);
            match &self.factors {
                Factors::F16(v) => self.of_locations(v, own, (x, images), distances),
                Factors::F32(v) => self.of_locations(v, own, (x, images), distances),
            }
        });
        for (location, found) in distances.chunks_exact(images.max(1)).enumerate() {
            for (image, distance) in found.iter().enumerate() {
                y[image * self.locations + location] = *distance;
            }
        }
    }

    /// Writes the distances at some locations, `[location][image]`.
    fn of_locations<T: Element>(
        &self,
        factors: &[T],
        own: std::ops::Range<usize>,
        (x, images): (&[f32], usize),
        distances: &mut [f32],
    ) {
        let (dim, width, each) = (self.dim, self.dim.next_multiple_of(ROWS), packed_len(self.dim));
        let mut centred = Reused::filled(IMAGES * width, 0.0);
        for (location, distances) in own.zip(distances.chunks_exact_mut(images.max(1))) {
            let factor = &factors[location * each..(location + 1) * each];
            let mean = &self.mean[location * dim..(location + 1) * dim];
            let scale = self.scales[location];
            for first in (0..images).step_by(IMAGES) {
                let some = IMAGES.min(images - first);
                for (image, row) in centred.chunks_exact_mut(width).take(some).enumerate() {
                    let from = &x[((first + image) * self.locations + location) * dim..][..dim];
                    row.iter_mut().zip(from.iter().zip(mean)).for_each(|(c, (x, m))| *c = x - m);
                }
                let found: [f32; IMAGES] = match some {
                    1 => [squares::<T, 1>(factor, &centred, width)[0]; IMAGES],
                    _ => squares(factor, &centred, width),
                };
                let squares = distances[first..].iter_mut().zip(&found[..some]);
                squares.for_each(|(distance, square)| *distance = square.sqrt() * scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mahalanobis::pack;

    /// The portable loop and the chosen one, against the plain sum in f64.
    #[test]
    fn both_loops_are_the_plain_sum() {
        for dim in [1usize, 7, 8, 9, 31, 64] {
            let w = |i: usize, j: usize| ((i * 13 + j * 7) % 11) as f32 / 11.0 - 0.4;
            let width = dim.next_multiple_of(ROWS);
            let mut c = vec![0.0; 4 * width];
            for n in 0..4 {
                (0..dim).for_each(|j| c[n * width + j] = ((n * 5 + j * 3) % 17) as f32 / 17.0 - 0.5);
            }
            let packed = pack(dim, w);
            let (portable, chosen) =
                (squares_portable::<f32, 4>(&packed, &c, width), squares::<f32, 4>(&packed, &c, width));
            for n in 0..4 {
                let row = |i: usize| (0..=i).map(|j| f64::from(w(i, j)) * f64::from(c[n * width + j])).sum::<f64>();
                let want: f64 = (0..dim).map(|i| row(i).powi(2)).sum();
                for got in [portable[n], chosen[n]] {
                    assert!((f64::from(got) - want).abs() <= 1e-5 * want.max(1e-3), "{dim}: {got}, {want} expected");
                }
            }
        }
    }
}
