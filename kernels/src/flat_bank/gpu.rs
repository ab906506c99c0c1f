//! The bank on a GPU. Unless tensor cores find what may be nearest (cuda/), squared differences are summed in f32, one
//! pass over the bank for each neighbour; no distance is written but the smallest of each cube. Operations: 3 d per pair
//! and neighbour.

use cubecl::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::{FirstPass, centre_and_scale};
use super::kernels::{FoundLaunch, Shape, TILE, nearest_kernel, next_kernel};
#[cfg(feature = "cuda")]
use super::panels::mean;
use super::{narrowed, widened};
use crate::bank_data::BankData;
use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch, units};
#[cfg(feature = "cuda")]
use crate::device::{Queue, WARP, Written, launch_written, macros};
#[cfg(feature = "cuda")]
use crate::error::KernelError;
use crate::error::Result;

/// Vectors in the memory of a GPU.
#[derive(Clone, Debug)]
pub(super) struct GpuBank {
    /// `[len][dimension]`.
    pub values: GpuBuffer,
    /// Whether they were given in half precision.
    halves: bool,
    #[cfg(feature = "cuda")]
    first_pass: Option<FirstPass>,
}

impl GpuBank {
    /// Of vectors of `d` elements.
    pub fn new(gpu: &Gpu, data: &BankData, d: usize) -> Result<Self> {
        let wide = widened(data);
        let values = gpu.upload(&wide)?;
        let _ = d; // for tensor cores alone
        Ok(Self {
            halves: matches!(data, BankData::F16(_)),
            #[cfg(feature = "cuda")]
            first_pass: FirstPass::new(gpu, &values, d, || centre_and_scale(mean(data, d), &wide, d))?,
            values,
        })
    }

    /// All vectors, in the precision they were given in.
    pub fn vectors(&self) -> Result<BankData> {
        let values = self.values.read()?;
        Ok(if self.halves { BankData::F16(narrowed(values)) } else { BankData::F32(values) })
    }

    /// The `k` nearest vectors of `d` elements of each query.
    pub fn nearest(
        &self,
        gpu: &Gpu,
        query: &GpuBuffer,
        (d, k): (usize, usize),
        index: &mut GpuBuffer<u32>,
        distance: &mut GpuBuffer,
    ) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(first) = self.first_pass.as_ref().filter(|f| f.takes(query.len() / d, k)) {
            match first.nearest(gpu, query, &self.values, k, index, distance) {
                // The other way needs less.
                Err(KernelError::Memory(_)) => {}
                done => return done,
            }
        }
        in_passes(gpu, query, &self.values, (d, k), index, distance)
    }
}

/// One pass over the bank for each neighbour; a pass finds the next one after the last in the order
/// of distance and index.
fn in_passes(
    gpu: &Gpu,
    query: &GpuBuffer,
    bank: &GpuBuffer,
    (d, k): (usize, usize),
    index: &mut GpuBuffer<u32>,
    distance: &mut GpuBuffer,
) -> Result<()> {
    let (q, m) = (query.len() / d, bank.len() / d);
    let (query_tiles, bank_tiles) = (q.div_ceil(TILE), m.div_ceil(TILE));
    let splits = (blocks(gpu) / query_tiles.max(1)).clamp(1, bank_tiles.max(1));
    let shape =
        Shape { queries: q, vectors: m, dim: d, query_tiles, splits, per_split: bank_tiles.div_ceil(splits) * TILE };
    let last = Buffers::new(gpu, q)?;
    let nearest = Buffers::new(gpu, splits * q)?;
    let search = Search { query, bank, last: &last, nearest: &nearest, shape };
    for pass in 0..k {
        search.queue(gpu, pass > 0);
        launch!(gpu, next_kernel, units(q), nearest.arg(), last.arg(), index.arg(), distance.arg(), q, k, pass, splits);
    }
    Ok(())
}

/// Cubes that the device has room for at a time.
fn blocks(gpu: &Gpu) -> usize {
    #[cfg(feature = "cuda")]
    if let Some(queue) = gpu.cuda() {
        return 3 * queue.limits().multiprocessors as usize;
    }
    let _ = gpu;
    512
}

/// Bank vectors that were found, in the memory of the GPU.
struct Buffers {
    squares: GpuBuffer,
    places: GpuBuffer<u32>,
}

impl Buffers {
    fn new(gpu: &Gpu, len: usize) -> Result<Self> {
        Ok(Self { squares: gpu.alloc(len)?, places: gpu.alloc(len)? })
    }

    /// As a kernel argument.
    fn arg<R: Runtime>(&self) -> FoundLaunch<R> {
        FoundLaunch::new(self.squares.arg(), self.places.arg())
    }
}

/// One search, whose passes find a neighbour each.
struct Search<'a> {
    query: &'a GpuBuffer,
    bank: &'a GpuBuffer,
    /// What the pass before has found.
    last: &'a Buffers,
    /// The nearest of each split, `[split][query]`.
    nearest: &'a Buffers,
    shape: Shape,
}

/// `Search` of nearest.cu.
#[cfg(feature = "cuda")]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Sizes {
    queries: i32,
    vectors: i32,
    d: i32,
    query_tiles: i32,
    splits: i32,
    per_split: i32,
}

impl Search<'_> {
    /// Queues one pass, `after` what the one before has found.
    fn queue(&self, gpu: &Gpu, after: bool) {
        #[cfg(feature = "cuda")]
        if let Some(queue) = gpu.cuda().filter(|_| self.shape.dim.is_multiple_of(4)) {
            return self.queue_written(queue, after);
        }
        launch!(
            gpu,
            nearest_kernel,
            (grid(self.shape.query_tiles * self.shape.splits), CubeDim::new_1d(UNITS)),
            self.query.arg(),
            self.bank.arg(),
            self.last.arg(),
            self.nearest.arg(),
            self.shape.arg(),
            after
        );
    }

    /// nearest.cu, which copies four elements at a time.
    #[cfg(feature = "cuda")]
    fn queue_written(&self, queue: &Queue, after: bool) {
        let s = self.shape;
        let sizes = Sizes {
            queries: s.queries as i32,
            vectors: s.vectors as i32,
            d: s.dim as i32,
            query_tiles: s.query_tiles as i32,
            splits: s.splits as i32,
            per_split: s.per_split as i32,
        };
        let kernel = Written {
            entry: "nearest_distance",
            parts: &[WARP, include_str!("nearest.cu")],
            macros: macros(&[("AFTER", after.into())]),
            threads: 128,
            shared: (3 * 2 * TILE * 32 * size_of::<f32>()) as u32,
            writable: &[false, false, false, false, true, true],
            cooperative: false,
        };
        let Self { query, bank, last, nearest, .. } = self;
        let buffers = [
            query.handle(),
            bank.handle(),
            last.squares.handle(),
            last.places.handle(),
            nearest.squares.handle(),
            nearest.places.handle(),
        ];
        launch_written(queue, kernel, s.query_tiles * s.splits, &buffers, &sizes);
    }
}
