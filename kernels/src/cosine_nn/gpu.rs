//! The search on a GPU: a fused product and running maximum; no similarity is written but the best of
//! each cube.

use cubecl::prelude::*;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::kernels::{ENTRIES, GROUP, SearchSizes, best_split_kernel, gather_kernel, nearest_kernel};
use super::{BankData, LocationBank, Neighbourhood, OP};
use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch, mixed, units};
#[cfg(feature = "cuda")]
use crate::device::{Queue, WARP, Written, launch_written, macros};
use crate::error::Result;

/// A bank in the memory of a GPU.
#[derive(Clone, Debug)]
pub(super) struct GpuBank {
    pub data: GpuBankData,
    pub inverse_norms: GpuBuffer,
}

/// Bank vectors on a GPU; halves are widened where it has none.
#[derive(Clone, Debug)]
pub(super) enum GpuBankData {
    F16(GpuBuffer<f16>),
    F32(GpuBuffer),
}

impl LocationBank {
    /// The bank in the memory of `gpu`, uploaded when first asked for.
    pub(super) fn resident(&self, gpu: &Gpu) -> Result<&GpuBank> {
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
        let (n, count, dim) = (to.len(), self.inverse_norms.len(), self.dim);
        macro_rules! queue {
            ($bank:expr, $element:ty) => {
                launch!(gpu, gather_kernel<$element>, units(n), $bank.arg(), index.arg(), to.arg(), n, count, dim)
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
        (near, among): (Neighbourhood, Option<&GpuBuffer<u32>>),
        (index, cosine): (&mut GpuBuffer<u32>, &mut GpuBuffer),
    ) -> Result<()> {
        let (locations, entries, dim) = self.shape();
        let bank = self.resident(gpu)?;
        let group = if images > 1 { GROUP } else { 1 };
        let groups = images.div_ceil(group);
        // Enough cubes for a large GPU, each with whole tiles of entries.
        let tiles = entries.div_ceil(ENTRIES);
        let splits = 1024usize.div_ceil(locations * groups).clamp(1, tiles);
        let per_split = tiles.div_ceil(splits) * ENTRIES;
        let Neighbourhood { columns, reach } = near;
        let s =
            SearchSizes { images, locations, entries, dim, splits, per_split, columns, reach: reach.min(locations) };
        let (chosen, all) = (among.is_some(), gpu.alloc::<u32>(1)?);
        let among = among.unwrap_or(&all);
        let (some_index, some_cosine) =
            (gpu.alloc::<u32>(splits * index.len())?, gpu.alloc::<f32>(splits * index.len())?);
        let shape = (grid(locations * splits * groups), CubeDim::new_1d(UNITS));
        #[cfg(feature = "cuda")]
        if let Some(queue) = gpu.cuda().filter(|_| bank.in_whole_words(dim)) {
            let results = if splits == 1 { (&*index, &*cosine) } else { (&some_index, &some_cosine) };
            bank.search(queue, (queries, among), results, s, (group, chosen));
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
                    among.arg(),
                    some_index.arg(),
                    some_cosine.arg(),
                    s.arg(),
                    group,
                    chosen
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
    columns: i32,
    reach: i32,
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
        (queries, among): (&GpuBuffer, &GpuBuffer<u32>),
        (index, cosine): (&GpuBuffer<u32>, &GpuBuffer),
        s: SearchSizes,
        (group, chosen): (usize, bool),
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
                ("LANES", (s.dim / self.width()).next_power_of_two().min(32)),
                ("GROUP", group),
                ("AMONG", usize::from(chosen)),
                ("DIM", s.dim),
            ]),
            threads: UNITS,
            shared: (group * (s.dim + 2 * UNITS as usize) * size_of::<f32>()) as u32,
            writable: &[false, false, false, false, true, true],
            cooperative: false,
        };
        let blocks = s.locations * s.splits * s.images.div_ceil(group);
        let shape = Shape {
            images: s.images as i32,
            locations: s.locations as i32,
            entries: s.entries as i32,
            splits: s.splits as i32,
            per_split: s.per_split as i32,
            columns: s.columns as i32,
            reach: s.reach as i32,
        };
        let (index, cosine) = (index.handle(), cosine.handle());
        let buffers = [queries.handle(), bank, self.inverse_norms.handle(), among.handle(), index, cosine];
        launch_written(queue, kernel, blocks, &buffers, &shape);
    }
}

/// Longest vectors whose group of queries fits into 48 KiB of shared memory beside what is found.
#[cfg(feature = "cuda")]
const LONGEST: usize = 2048;
