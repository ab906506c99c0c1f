//! The search on the CPU: every location is a task, which reads every bank vector near it once for all queries.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{BankData, LocationBank, Neighbourhood};
use crate::bank_data::BankElement;
use crate::device::Reused;
use crate::simd::lanes_fn;

/// The vector nearest to a query.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Nearest {
    index: u32,
    cosine: f32,
}

/// Running sums of a dot product, which do not wait for each other.
const CHAINS: usize = 4;

/// Bytes of the bank that are asked of memory before they are read: processors fetch ahead by themselves, but not beyond a page.
const AHEAD: usize = 2048;

/// Vectors that all queries are compared with before the next are read.
const BLOCK: usize = 32;

lanes_fn! {
    /// Dot products of a query with some vectors, one behind the other.
    fn dots[T: BankElement][T]<L>(query: &[f32], vectors: &[T], to: &mut [f32]) {
        let d = query.len();
        assert_eq!(vectors.len(), to.len() * d, "query and bank vectors have one length");
        for (vector, to) in vectors.chunks_exact(d).zip(to) {
            ahead(vector, AHEAD);
            // SAFETY: every register ends inside both vectors, which are `d` long. `lanes_fn` runs this only on CPUs with
            // the set of `L`.
            let (sum, at) = unsafe {
                let (mut sums, mut at) = ([L::splat(0.0); CHAINS], 0);
                while at + CHAINS * L::WIDTH <= d {
                    for (k, sum) in sums.iter_mut().enumerate() {
                        let at = at + k * L::WIDTH;
                        *sum = L::load(query.as_ptr().add(at)).mul_add(T::load(vector.as_ptr().add(at)), *sum);
                    }
                    at += CHAINS * L::WIDTH;
                }
                while at + L::WIDTH <= d {
                    sums[0] = L::load(query.as_ptr().add(at)).mul_add(T::load(vector.as_ptr().add(at)), sums[0]);
                    at += L::WIDTH;
                }
                (sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum(), at)
            };
            let mut tail = 0.0;
            for (q, v) in query[at..].iter().zip(&vector[at..]) {
                tail += q * v.wide();
            }
            *to = sum + tail;
        }
    }
}

/// Asks memory for as many bytes as a vector has, `distance` bytes behind its begin.
#[inline(always)]
fn ahead<T>(vector: &[T], distance: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of_val(vector)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(vector.as_ptr().cast::<i8>().wrapping_add(distance + line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (vector, distance);
}

/// 1 / norm, 0 for a zero vector.
fn inverse_norm(v: &[f32]) -> f32 {
    let square: f64 = v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    if square > 0.0 { square.sqrt().recip() as f32 } else { 0.0 }
}

pub(super) fn inverse_norms<T: BankElement>(data: &[T], dim: usize) -> Vec<f32> {
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
    /// Nearest vector of every location for every query.
    pub(super) fn on_host(
        &self,
        queries: &[f32],
        images: usize,
        (near, among): (Neighbourhood, Option<&[u32]>),
        index: &mut [u32],
        cosine: &mut [f32],
    ) {
        let mut found = Reused::filled(self.locations * images, Nearest { index: 0, cosine: f32::NEG_INFINITY });
        found.par_chunks_exact_mut(images.max(1)).enumerate().for_each(|(location, found)| {
            let query = |n: usize| &queries[(n * self.locations + location) * self.dim..][..self.dim];
            let scales = Reused::collect((0..images).map(|n| inverse_norm(query(n))));
            near.each(location, self.locations, |other| match &self.data {
                BankData::F16(v) => self.search(v, other, (&query, &scales), among, found),
                BankData::F32(v) => self.search(v, other, (&query, &scales), among, found),
            });
        });
        for (at, (index, cosine)) in index.iter_mut().zip(cosine).enumerate() {
            let found = found[at % self.locations * images + at / self.locations];
            (*index, *cosine) = (found.index, found.cosine);
        }
    }

    /// Puts what location `other` has nearer than `found` to the queries at a location in its place; `scales` are 1 / norm of
    /// these, 0 for a zero vector.
    fn search<'a, T: BankElement>(
        &self,
        data: &[T],
        other: usize,
        (query, scales): (impl Fn(usize) -> &'a [f32], &[f32]),
        among: Option<&[u32]>,
        found: &mut [Nearest],
    ) {
        let from = other * self.entries;
        let vectors = data[from * self.dim..(from + self.entries) * self.dim].chunks(BLOCK * self.dim);
        let norms = self.inverse_norms[from..from + self.entries].chunks(BLOCK);
        let mut products = [0.0; BLOCK];
        for (block, (vectors, norms)) in vectors.zip(norms).enumerate() {
            let products = &mut products[..norms.len()];
            for (n, (best, own)) in found.iter_mut().zip(scales).enumerate() {
                dots(query(n), vectors, products);
                for (entry, (product, scale)) in (block * BLOCK..).zip(products.iter().zip(norms)) {
                    let cosine = product * scale * own;
                    let searched = among.is_none_or(|among| among[n * self.entries + entry] != 0);
                    if searched && cosine > best.cosine {
                        *best = Nearest { index: (from + entry) as u32, cosine };
                    }
                }
            }
        }
    }

    /// Mean cosine of every image to every entry.
    pub(super) fn means_on_host(&self, queries: &[f32], means: &mut [f32]) {
        let image = self.locations * self.dim;
        means.par_chunks_exact_mut(self.entries).zip(queries.par_chunks_exact(image)).for_each(|(means, queries)| {
            match &self.data {
                BankData::F16(v) => self.means(v, queries, means),
                BankData::F32(v) => self.means(v, queries, means),
            }
        });
    }

    /// Mean cosine of one image to every entry.
    fn means<T: BankElement>(&self, data: &[T], queries: &[f32], means: &mut [f32]) {
        means.fill(0.0);
        let mut products = [0.0; BLOCK];
        let locations = data.chunks_exact(self.entries * self.dim).zip(self.inverse_norms.chunks_exact(self.entries));
        for ((vectors, scales), query) in locations.zip(queries.chunks_exact(self.dim)) {
            let own = inverse_norm(query) / self.locations as f32;
            let blocks = vectors.chunks(BLOCK * self.dim).zip(scales.chunks(BLOCK)).zip(means.chunks_mut(BLOCK));
            for ((vectors, scales), means) in blocks {
                let products = &mut products[..scales.len()];
                dots(query, vectors, products);
                for ((mean, product), scale) in means.iter_mut().zip(products).zip(scales) {
                    *mean += *product * scale * own;
                }
            }
        }
    }
}
