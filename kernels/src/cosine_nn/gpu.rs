//! The search on a GPU: a fused product and running maximum; no similarity is written but the best of
//! each cube.

use cubecl::prelude::*;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{BankData, LocationBank, OP};
use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch, mixed, units};
#[cfg(feature = "cuda")]
use crate::device::{Queue, WARP, Written, launch_written, macros};
use crate::error::Result;
use crate::reduce::cube_sum;

/// A bank in the memory of a GPU.
#[derive(Clone, Debug)]
pub(super) struct GpuBank {
    data: GpuBankData,
    inverse_norms: GpuBuffer,
}

/// Bank vectors on a GPU; halves are widened where it has none.
#[derive(Clone, Debug)]
enum GpuBankData {
    F16(GpuBuffer<f16>),
    F32(GpuBuffer),
}

impl LocationBank {
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

    /// Queues the copying of the named vectors.
    pub(super) fn gather_on_gpu(&self, gpu: &Gpu, index: &GpuBuffer<u32>, to: &mut GpuBuffer) -> Result<()> {
        let (locations, entries, dim) = self.shape();
        let n = to.len();
        macro_rules! queue {
            ($bank:expr, $element:ty) => {
                launch!(
                    gpu,
                    gather_kernel<$element>,
                    units(n),
                    $bank.arg(),
                    index.arg(),
                    to.arg(),
                    n,
                    locations,
                    entries,
                    dim
                )
            };
        }
        match &self.resident(gpu)?.data {
            GpuBankData::F16(bank) => queue!(bank, f16),
            GpuBankData::F32(bank) => queue!(bank, f32),
        }
        Ok(())
    }

    /// Queues the search.
    pub(super) fn on_gpu(
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
        #[cfg(feature = "cuda")]
        if let Some(queue) = gpu.cuda().filter(|_| bank.in_whole_words(dim)) {
            let results = if splits == 1 { (&*index, &*cosine) } else { (&some_index, &some_cosine) };
            let shape = Shape {
                images: images as i32,
                locations: locations as i32,
                entries: entries as i32,
                splits: splits as i32,
                per_split: per_split as i32,
            };
            bank.search(queue, queries, results, (shape, dim), group);
            if splits > 1 {
                best_of_splits(gpu, (&some_index, &some_cosine), (index, cosine), splits);
            }
            return Ok(());
        }
        macro_rules! queue {
            ($data:expr, $element:ty) => {
                launch!(
                    gpu,
                    nearest_kernel<$element>,
                    shape,
                    queries.arg(),
                    $data.arg(),
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
                )
            };
        }
        match &bank.data {
            GpuBankData::F16(data) => queue!(data, f16),
            GpuBankData::F32(data) => queue!(data, f32),
        }
        best_of_splits(gpu, (&some_index, &some_cosine), (index, cosine), splits);
        Ok(())
    }
}

/// Queues the choice among splits.
fn best_of_splits(
    gpu: &Gpu,
    (some_index, some_cosine): (&GpuBuffer<u32>, &GpuBuffer),
    (index, cosine): (&GpuBuffer<u32>, &GpuBuffer),
    splits: usize,
) {
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
}

/// `Shape` of nearest.cu.
#[cfg(feature = "cuda")]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Shape {
    images: i32,
    locations: i32,
    entries: i32,
    splits: i32,
    per_split: i32,
}

#[cfg(feature = "cuda")]
impl GpuBank {
    /// Elements in 16 bytes.
    fn width(&self) -> usize {
        match self.data {
            GpuBankData::F16(_) => 8,
            GpuBankData::F32(_) => 4,
        }
    }

    /// Whether nearest.cu can read vectors 16 bytes at a time.
    fn in_whole_words(&self, dim: usize) -> bool {
        dim.is_multiple_of(self.width()) && dim <= LONGEST
    }

    /// Queues nearest.cu for groups of images.
    fn search(
        &self,
        queue: &Queue,
        queries: &GpuBuffer,
        (index, cosine): (&GpuBuffer<u32>, &GpuBuffer),
        (shape, dim): (Shape, usize),
        group: usize,
    ) {
        let (bank, half) = match &self.data {
            GpuBankData::F16(bank) => (bank.handle(), 1),
            GpuBankData::F32(bank) => (bank.handle(), 0),
        };
        let kernel = Written {
            entry: "nearest_cosine",
            parts: &[WARP, include_str!("nearest.cu")],
            macros: macros(&[
                ("HALF", half),
                ("LANES", (dim / self.width()).next_power_of_two().min(32)),
                ("GROUP", group),
                ("DIM", dim),
            ]),
            threads: UNITS,
            shared: (group * (dim + 2 * UNITS as usize) * size_of::<f32>()) as u32,
            writable: &[false, false, false, true, true],
        };
        let groups = (shape.images as usize).div_ceil(group);
        let blocks = shape.locations as usize * shape.splits as usize * groups;
        let buffers = [queries.handle(), bank, self.inverse_norms.handle(), index.handle(), cosine.handle()];
        launch_written(queue, kernel, blocks, &buffers, &shape);
    }
}

/// Longest vectors whose group of queries fits into 48 KiB of shared memory beside what is found.
#[cfg(feature = "cuda")]
const LONGEST: usize = 2048;

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
