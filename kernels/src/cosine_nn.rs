//! Location-wise cosine nearest neighbour over the patch memory bank (PAEDID, section 2.1.3).
//!
//! At every location, the bank vector of the same location with the largest cosine to the query; a
//! vector of norm zero has cosine 0 with everything, the lowest index wins among equals. The bank
//! is laid out location by location, so that a search reads memory from front to back once; no
//! similarity is stored. Bytes: 2 (f16) or 4 per bank element, read once for all queries of a
//! batch; operations: 2 per element and query.

use std::sync::OnceLock;

use cubecl::prelude::*;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::device::{Gpu, GpuBuffer, UNITS, View, ViewMut, grid, launch, mixed, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::reduce::cube_sum;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Isa, isa};
use crate::simd::{madd, simd_fn};

const OP: &str = "cosine_nn";

/// Bank vectors, `[location][entry][dim]`.
#[derive(Clone, Debug, PartialEq)]
pub enum BankData {
    /// Half precision, accumulated in f32.
    F16(Vec<f16>),
    /// Single precision.
    F32(Vec<f32>),
}

/// A patch memory bank: `entries` vectors of `dim` elements at each of `locations`.
#[derive(Clone, Debug)]
pub struct LocationBank {
    locations: usize,
    entries: usize,
    dim: usize,
    data: BankData,
    /// 1 / norm of each vector, 0 for a zero vector; `[location][entry]`.
    inverse_norms: Vec<f32>,
    /// The copy on the GPU that has asked for it first.
    resident: OnceLock<GpuBank>,
}

/// A bank in the memory of a GPU.
#[derive(Clone, Debug)]
struct GpuBank {
    data: GpuBankData,
    inverse_norms: GpuBuffer,
}

/// Bank vectors on a GPU; halves are widened where it has none.
#[derive(Clone, Debug)]
enum GpuBankData {
    F16(GpuBuffer<f16>),
    F32(GpuBuffer),
}

/// The best entry at one location.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Nearest {
    index: u32,
    cosine: f32,
}

/// An element of a bank vector.
trait Element: Copy + Send + Sync {
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
        Ok(Self { locations, entries, dim, data, inverse_norms, resident: OnceLock::new() })
    }

    /// Locations, entries at each, elements of a vector.
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.locations, self.entries, self.dim)
    }

    /// The vectors, `[location][entry][dim]`.
    pub fn data(&self) -> &BankData {
        &self.data
    }

    /// The bank in the memory of `gpu`, uploaded when first asked for.
    fn resident(&self, gpu: &Gpu) -> Result<&GpuBank> {
        let bank = match self.resident.get() {
            Some(bank) => bank,
            None => {
                let bank = self.upload(gpu)?;
                self.resident.get_or_init(|| bank)
            }
        };
        if bank.inverse_norms.gpu().is(gpu) { Ok(bank) } else { mixed(OP) }
    }

    fn upload(&self, gpu: &Gpu) -> Result<GpuBank> {
        let data = match &self.data {
            BankData::F16(v) if gpu.facts().f16 => GpuBankData::F16(gpu.upload(v)?),
            BankData::F16(v) => {
                let mut wide = vec![0.0; v.len()];
                v.convert_to_f32_slice(&mut wide);
                GpuBankData::F32(gpu.upload(&wide)?)
            }
            BankData::F32(v) => GpuBankData::F32(gpu.upload(v)?),
        };
        Ok(GpuBank { data, inverse_norms: gpu.upload(&self.inverse_norms)? })
    }

    /// Writes to `to` (`[image][location][dim]`) the vectors that `index` (`[image][location]`) names,
    /// widened. An index beyond the last entry counts as the last.
    ///
    /// # Errors
    /// When lengths or devices do not fit.
    pub fn gather<'a>(&self, index: impl Into<View<'a, u32>>, to: impl Into<ViewMut<'a>>) -> Result<()> {
        let (index, to) = (index.into(), to.into());
        let (dim, entries) = (self.dim, self.entries);
        check_len(OP, "vectors", to.len(), index.len() * dim)?;
        match place(OP, &[&index, &to])? {
            None => {
                for (at, (to, entry)) in to.host().chunks_exact_mut(dim).zip(index.host()).enumerate() {
                    let entry = (*entry as usize).min(entries - 1);
                    let from = (at % self.locations * entries + entry) * dim;
                    match &self.data {
                        BankData::F16(v) => f16::widen_into(&v[from..from + dim], to),
                        BankData::F32(v) => f32::widen_into(&v[from..from + dim], to),
                    }
                }
            }
            Some(gpu) => {
                let n = to.len();
                let (index, to) = (index.device(), to.device());
                let locations = self.locations;
                match &self.resident(&gpu)?.data {
                    GpuBankData::F16(b) => launch!(
                        gpu,
                        gather_kernel<f16>,
                        units(n),
                        b.arg(),
                        index.arg(),
                        to.arg(),
                        n,
                        locations,
                        entries,
                        dim
                    ),
                    GpuBankData::F32(b) => launch!(
                        gpu,
                        gather_kernel<f32>,
                        units(n),
                        b.arg(),
                        index.arg(),
                        to.arg(),
                        n,
                        locations,
                        entries,
                        dim
                    ),
                }
            }
        }
        Ok(())
    }

    /// Best entry for each query vector; `queries` is `[image][location][dim]`. Writes the entry to
    /// `index` and its cosine to `cosine`, both `[image][location]`.
    ///
    /// # Errors
    /// When `queries` is not a whole number of images, or lengths or devices do not fit.
    pub fn nearest<'a>(
        &self,
        queries: impl Into<View<'a>>,
        index: impl Into<ViewMut<'a, u32>>,
        cosine: impl Into<ViewMut<'a>>,
    ) -> Result<()> {
        let (queries, index, cosine) = (queries.into(), index.into(), cosine.into());
        let image = self.locations * self.dim;
        if !queries.len().is_multiple_of(image) {
            let detail = format!(
                "{} query elements are no multiple of {} locations x {}",
                queries.len(),
                self.locations,
                self.dim
            );
            return shape_error(OP, detail);
        }
        let images = queries.len() / image;
        check_len(OP, "index", index.len(), images * self.locations)?;
        check_len(OP, "cosine", cosine.len(), images * self.locations)?;
        match place(OP, &[&queries, &index, &cosine])? {
            None => self.on_host(queries.host(), images, index.host(), cosine.host()),
            Some(gpu) => self.on_gpu(&gpu, queries.device(), images, index.device(), cosine.device())?,
        }
        Ok(())
    }

    fn on_host(&self, queries: &[f32], images: usize, index: &mut [u32], cosine: &mut [f32]) {
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

    fn on_gpu(
        &self,
        gpu: &Gpu,
        queries: &GpuBuffer,
        images: usize,
        index: &mut GpuBuffer<u32>,
        cosine: &mut GpuBuffer,
    ) -> Result<()> {
        let (locations, entries, dim) = self.shape();
        let bank = self.resident(gpu)?;
        let group = if images > 1 { GROUP } else { 1 };
        let groups = images.div_ceil(group);
        // Enough cubes for a large GPU, each with whole tiles of entries.
        let tiles = entries.div_ceil(ENTRIES);
        let splits = 1024usize.div_ceil(locations * groups).clamp(1, tiles);
        let per_split = tiles.div_ceil(splits) * ENTRIES;
        let (some_index, some_cosine) =
            (gpu.alloc::<u32>(splits * index.len())?, gpu.alloc::<f32>(splits * index.len())?);
        let shape = (grid(locations * splits * groups), CubeDim::new_1d(UNITS));
        match &bank.data {
            GpuBankData::F16(b) => launch!(
                gpu,
                nearest_kernel<f16>,
                shape,
                queries.arg(),
                b.arg(),
                bank.inverse_norms.arg(),
                some_index.arg(),
                some_cosine.arg(),
                images,
                locations,
                entries,
                dim,
                splits,
                per_split,
                group
            ),
            GpuBankData::F32(b) => launch!(
                gpu,
                nearest_kernel<f32>,
                shape,
                queries.arg(),
                b.arg(),
                bank.inverse_norms.arg(),
                some_index.arg(),
                some_cosine.arg(),
                images,
                locations,
                entries,
                dim,
                splits,
                per_split,
                group
            ),
        }
        let n = index.len();
        launch!(
            gpu,
            best_split_kernel,
            units(n),
            some_index.arg(),
            some_cosine.arg(),
            index.arg(),
            cosine.arg(),
            n,
            splits
        );
        Ok(())
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

/// Queries that one pass over the bank serves.
const GROUP: usize = 4;
/// Entries of a tile.
const ENTRIES: usize = 64;

/// One cube for a location, a share of its entries and a group of images. A tile of 64 entries by 32
/// elements is read into shared memory in whole lines; four units share an entry. Only the best entry
/// of the share is written, `[split][image][location]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // queries, bank, results and their shape
fn nearest_kernel<E: Float>(
    queries: &Array<f32>,
    bank: &Array<E>,
    inverse_norms: &Array<f32>,
    index: &mut Array<u32>,
    cosine: &mut Array<f32>,
    images: usize,
    locations: usize,
    entries: usize,
    dim: usize,
    splits: usize,
    per_split: usize,
    #[comptime] group: usize,
) {
    let location = CUBE_POS % locations;
    let split = (CUBE_POS / locations) % splits;
    let first_image = CUBE_POS / (locations * splits) * group;
    if first_image < images {
        let mut tile = SharedMemory::<f32>::new(2112usize); // 64 rows of 33: no two units meet in a bank
        let mut query = SharedMemory::<f32>::new(comptime!(group * 32));
        let mut parts = SharedMemory::<f32>::new(comptime!(group * 256));
        let mut places = SharedMemory::<u32>::new(comptime!(group * 64));
        let unit = UNIT_POS as usize;
        let (entry, quarter) = (unit / 4, unit % 4);

        let mut own = Array::<f32>::new(group);
        let mut best = Array::<f32>::new(group);
        let mut best_at = Array::<u32>::new(group);
        #[unroll]
        for g in 0..group {
            let image = usize::min(first_image + g, images - 1);
            let from = (image * locations + location) * dim;
            let mut square = f32::new(0.0);
            let mut k = unit;
            while k < dim {
                square += queries[from + k] * queries[from + k];
                k += 256;
            }
            let norm = cube_sum(square).sqrt();
            sync_cube();
            own[g] = select(norm > 0.0, 1.0 / f32::max(norm, f32::new(1e-37)), f32::new(0.0));
            best[g] = f32::new(-3.4e38);
            best_at[g] = 0;
        }

        let end = usize::min((split + 1) * per_split, entries);
        let mut first = split * per_split;
        while first < end {
            let mut sums = Array::<f32>::new(group);
            #[unroll]
            for g in 0..group {
                sums[g] = f32::new(0.0);
            }
            let mut k0 = 0usize;
            while k0 < dim {
                sync_cube();
                #[unroll]
                for i in 0..8usize {
                    let at = unit + 256 * i;
                    let (row, k) = (first + at / 32, k0 + at % 32);
                    let mut v = f32::new(0.0);
                    if row < end && k < dim {
                        v = f32::cast_from(bank[(location * entries + row) * dim + k]);
                    }
                    tile[at / 32 * 33 + at % 32] = v;
                }
                if unit < comptime!(group * 32) {
                    let image = usize::min(first_image + unit / 32, images - 1);
                    let k = k0 + unit % 32;
                    let mut v = f32::new(0.0);
                    if k < dim {
                        v = queries[(image * locations + location) * dim + k];
                    }
                    query[unit] = v;
                }
                sync_cube();
                #[unroll]
                for k in 0..8usize {
                    let b = tile[entry * 33 + quarter * 8 + k];
                    #[unroll]
                    for g in 0..group {
                        sums[g] += b * query[g * 32 + quarter * 8 + k];
                    }
                }
                k0 += 32;
            }
            #[unroll]
            for g in 0..group {
                parts[g * 256 + unit] = sums[g];
            }
            sync_cube();
            if quarter == 0 && first + entry < end {
                let row = first + entry;
                let scale = inverse_norms[location * entries + row];
                #[unroll]
                for g in 0..group {
                    let p = g * 256 + unit;
                    let dot = (parts[p] + parts[p + 1]) + (parts[p + 2] + parts[p + 3]);
                    let found = dot * scale * own[g];
                    if found > best[g] {
                        best[g] = found;
                        best_at[g] = row as u32;
                    }
                }
            }
            first += 64;
        }

        sync_cube();
        if quarter == 0 {
            #[unroll]
            for g in 0..group {
                parts[g * 64 + entry] = best[g];
                places[g * 64 + entry] = best_at[g];
            }
        }
        sync_cube();
        if unit < group {
            let mut top = parts[unit * 64];
            let mut top_at = places[unit * 64];
            for e in 1..64usize {
                let (v, p) = (parts[unit * 64 + e], places[unit * 64 + e]);
                if v > top || (v == top && p < top_at) {
                    top = v;
                    top_at = p;
                }
            }
            let image = first_image + unit;
            if image < images {
                let to = (split * images + image) * locations + location;
                index[to] = top_at;
                cosine[to] = top;
            }
        }
    }
}

/// The best of all splits; the first among equals, which has the lower index.
#[cube(launch_unchecked)]
fn best_split_kernel(
    some_index: &Array<u32>,
    some_cosine: &Array<f32>,
    index: &mut Array<u32>,
    cosine: &mut Array<f32>,
    n: usize,
    splits: usize,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let mut top = some_cosine[at];
        let mut top_at = some_index[at];
        for split in 1..splits {
            let v = some_cosine[split * n + at];
            if v > top {
                top = v;
                top_at = some_index[split * n + at];
            }
        }
        index[at] = top_at;
        cosine[at] = top;
    }
}

#[cube(launch_unchecked)]
fn gather_kernel<E: Float>(
    bank: &Array<E>,
    index: &Array<u32>,
    to: &mut Array<f32>,
    n: usize,
    locations: usize,
    entries: usize,
    dim: usize,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let vector = at / dim;
        let entry = usize::min(index[vector] as usize, entries - 1);
        to[at] = f32::cast_from(bank[((vector % locations) * entries + entry) * dim + at % dim]);
    }
}
