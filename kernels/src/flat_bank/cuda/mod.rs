//! The search on NVIDIA's tensor cores: a first pass over halves bounds the distances of groups of vectors
//! (halves.cu, first_pass.cu), what may be nearest is measured in f32 (candidates.cu). All `k` neighbours come from
//! one pass, in three launches for up to [`MOST_QUERIES`] queries.

use bytemuck::{Pod, Zeroable};

use crate::device::{Gpu, GpuBuffer, Queue, WARP, Written, launch_written, macros};
use crate::error::{KernelError, Result};

/// Queries that pass the bank together: half a byte is kept for each of these and each vector.
const MOST_QUERIES: usize = 1024;
/// Neighbours at most: the lanes of a warp keep one each.
const MOST_NEIGHBOURS: usize = 32;
/// Elements at most: a query lies in shared memory.
const MOST_ELEMENTS: usize = 8192;
/// Differences from which a search has its first pass: below, each of the launches takes longer than its work, and
/// the other search has two of them for each neighbour.
const FEWEST_DIFFERENCES: usize = 1 << 22;

/// Rows and elements of a piece of halves.
const PIECE: usize = 16;
/// Vectors of a group.
const GROUP: usize = 8;
/// Elements that a step of the first pass takes, and vectors of a block.
const TERMS: usize = 32;
const COLUMNS: usize = 128;
/// Units of 16 queries that a block is compiled for.
const ROWS: [usize; 4] = [1, 4, 7, 8];
/// Bytes of `Shared` of candidates.cu.
const SHARED: usize = 8 * 32 * 8 + 4096 * 2 + 256 * 4 + 16;

/// `Rows` of halves.cu.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Rows {
    tiles: i32,
    rows: i32,
    first: i32,
    d: i32,
    pieces: i32,
    scale: f32,
    rounding: f32,
}

/// `Pass` of first_pass.cu.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Pass {
    queries: i32,
    query_tiles: i32,
    bank_tiles: i32,
    pieces: i32,
}

/// `Search` of candidates.cu.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Search {
    first: i32,
    vectors: i32,
    groups: i32,
    k: i32,
    rounding: f32,
    widen: f32,
    slack: f32,
}

/// Vectors as halves.
#[derive(Clone, Debug)]
struct Halves {
    pieces: GpuBuffer,
    norms: GpuBuffer,
    bounds: GpuBuffer,
}

/// A bank as halves, beside its copy in f32 and half as large.
#[derive(Clone, Debug)]
pub(super) struct FirstPass {
    vectors: usize,
    d: usize,
    centre: GpuBuffer,
    scale: f32,
    bank: Halves,
}

/// The queries of a pass and how blocks share them.
struct Queries {
    first: usize,
    count: usize,
    /// Units of 16 queries of a block.
    rows: usize,
    tiles: usize,
}

impl Queries {
    /// Passes of nearly the same size; the last may have fewer queries.
    fn passes(queries: usize) -> impl Iterator<Item = Self> {
        let per_pass = queries.div_ceil(queries.div_ceil(MOST_QUERIES)).next_multiple_of(PIECE);
        let units = per_pass / PIECE;
        let least = units.div_ceil(units.div_ceil(ROWS[ROWS.len() - 1]));
        let rows = ROWS.into_iter().find(|rows| *rows >= least).unwrap_or(least);
        let pass = move |first| Self { first, count: per_pass.min(queries - first), rows, tiles: units.div_ceil(rows) };
        (0..queries).step_by(per_pass).map(pass)
    }
}

/// From the mean of vectors the centre, zeros where that is no finite number, and the power of two by which the
/// largest element's distance from it comes to lie between 128 and 256: halves are exact to 2^-11 from 2^-14 on.
pub(super) fn centre_and_scale(mean: Vec<f32>, vectors: &[f32], d: usize) -> (Vec<f32>, f32) {
    let mut centre = mean;
    centre.truncate(d); // it has whole pairs
    centre.iter_mut().filter(|c| !c.is_finite()).for_each(|c| *c = 0.0);
    let from_centre = vectors.chunks_exact(d).flat_map(|row| row.iter().zip(&centre).map(|(v, c)| (v - c).abs()));
    let largest = from_centre.filter(|v| v.is_finite()).fold(0.0, f32::max);
    let exponent = if largest > 0.0 { 7 - largest.log2().floor() as i32 } else { 0 };
    (centre, (exponent.clamp(-100, 100) as f32).exp2())
}

impl FirstPass {
    /// Of a bank on a GPU that has tensor cores and memory for it; none where elements are no whole quadruples.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn new(
        gpu: &Gpu,
        bank: &GpuBuffer,
        d: usize,
        centre_and_scale: impl FnOnce() -> (Vec<f32>, f32),
    ) -> Result<Option<Self>> {
        let Some(queue) = gpu.cuda().filter(|_| d.is_multiple_of(4) && d <= MOST_ELEMENTS) else { return Ok(None) };
        match Self::prepare(gpu, queue, bank, d, centre_and_scale()) {
            Err(KernelError::Memory(_)) => Ok(None),
            made => made.map(Some),
        }
    }

    fn prepare(gpu: &Gpu, queue: &Queue, bank: &GpuBuffer, d: usize, (centre, scale): (Vec<f32>, f32)) -> Result<Self> {
        let vectors = bank.len() / d;
        let rows = vectors.next_multiple_of(COLUMNS);
        let halves = Halves {
            pieces: gpu.alloc(rows * d.next_multiple_of(TERMS) / 2)?,
            norms: gpu.alloc(rows)?,
            bounds: gpu.alloc(rows / GROUP * 2)?,
        };
        let made = Self { vectors, d, centre: gpu.upload(&centre)?, scale, bank: halves };
        made.round(queue, bank, &made.bank, (0, vectors, rows / PIECE), true);
        Ok(made)
    }

    /// Bound of what sums of halves and f32 round, relative to the squared norms (first_pass.cu).
    fn rounding(&self) -> f32 {
        (self.d.next_multiple_of(TERMS) + 64) as f32 / (1 << 22) as f32
    }

    fn pieces(&self) -> i32 {
        (self.d.next_multiple_of(TERMS) / PIECE) as i32
    }

    /// Queues the rounding of some rows of a matrix, `tiles` of 16 with those that are zeros.
    fn round(
        &self,
        queue: &Queue,
        from: &GpuBuffer,
        to: &Halves,
        (first, rows, tiles): (usize, usize, usize),
        is_bank: bool,
    ) {
        let kernel = Written {
            entry: "halves_of_rows",
            parts: &[WARP, include_str!("halves.cu")],
            macros: macros(&[("BANK", is_bank.into())]),
            threads: 256,
            shared: (8 * PIECE * 3 * size_of::<f32>()) as u32,
            writable: &[false, false, true, true, true],
            cooperative: false,
        };
        let sizes = Rows {
            tiles: tiles as i32,
            rows: rows as i32,
            first: first as i32,
            d: self.d as i32,
            pieces: self.pieces(),
            scale: self.scale,
            rounding: self.rounding(),
        };
        let Halves { pieces, norms, bounds } = to;
        let buffers = [from.handle(), self.centre.handle(), pieces.handle(), norms.handle(), bounds.handle()];
        launch_written(queue, kernel, tiles, &buffers, &sizes);
    }

    /// Whether a search is worth its launches and `k` neighbours fit into shared memory.
    pub fn takes(&self, queries: usize, k: usize) -> bool {
        k <= MOST_NEIGHBOURS && queries * self.vectors * self.d * k >= FEWEST_DIFFERENCES
    }

    /// The `k` nearest of the vectors, ascending by distance and index.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn nearest(
        &self,
        gpu: &Gpu,
        query: &GpuBuffer,
        bank: &GpuBuffer,
        k: usize,
        index: &mut GpuBuffer<u32>,
        distance: &mut GpuBuffer,
    ) -> Result<()> {
        let Some(queue) = gpu.cuda() else { unreachable!("it was made on this GPU") };
        for pass in Queries::passes(query.len() / self.d) {
            let rows = pass.tiles * pass.rows * PIECE;
            let halves = Halves {
                pieces: gpu.alloc(rows * self.d.next_multiple_of(TERMS) / 2)?,
                norms: gpu.alloc(rows * 2)?,
                bounds: gpu.alloc(1)?,
            };
            self.round(queue, query, &halves, (pass.first, pass.count, rows / PIECE), false);
            let least = gpu.alloc(pass.count * self.groups())?;
            self.queue_first(queue, &pass, &halves, &least);
            let from = [query.handle(), bank.handle(), halves.norms.handle(), self.bank.bounds.handle()];
            let buffers = [&from[..], &[least.handle(), index.handle(), distance.handle()]].concat();
            let kernel = Written {
                entry: "nearest_of_candidates",
                parts: &[WARP, include_str!("candidates.cu")],
                macros: macros(&[("DIM", self.d)]),
                threads: 256,
                shared: (SHARED + self.d * size_of::<f32>()) as u32,
                writable: &[false, false, false, false, false, true, true],
                cooperative: false,
            };
            launch_written(queue, kernel, pass.count, &buffers, &self.search(pass.first, k));
        }
        Ok(())
    }

    fn groups(&self) -> usize {
        self.vectors.next_multiple_of(COLUMNS) / GROUP
    }

    fn queue_first(&self, queue: &Queue, pass: &Queries, halves: &Halves, least: &GpuBuffer) {
        let bank_tiles = self.vectors.div_ceil(COLUMNS);
        let kernel = Written {
            entry: "least_of_groups",
            parts: &[WARP, include_str!("first_pass.cu")],
            macros: macros(&[("ROWS", pass.rows)]),
            threads: 128,
            shared: (3 * (pass.rows * PIECE + COLUMNS) * TERMS * 2) as u32,
            writable: &[false, false, false, true],
            cooperative: false,
        };
        let sizes = Pass {
            queries: pass.count as i32,
            query_tiles: pass.tiles as i32,
            bank_tiles: bank_tiles as i32,
            pieces: self.pieces(),
        };
        let Halves { pieces, norms, .. } = &self.bank;
        let buffers = [halves.pieces.handle(), pieces.handle(), norms.handle(), least.handle()];
        launch_written(queue, kernel, pass.tiles * bank_tiles, &buffers, &sizes);
    }

    fn search(&self, first: usize, k: usize) -> Search {
        let d = self.d as f32;
        Search {
            first: first as i32,
            vectors: self.vectors as i32,
            groups: self.groups() as i32,
            k: k as i32,
            rounding: self.rounding(),
            // d / 32 + 7 terms of a sum, one after another, and what the bounds round.
            widen: 1.0 + (d + 64.0) / (1 << 24) as f32,
            // Squares below 2^-149 are zero.
            slack: self.scale * d.sqrt() * (-73f32).exp2(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Queries;

    #[test]
    fn passes_have_all_queries_once_and_blocks_little_to_spare() {
        for queries in [1, 16, 17, 130, 196, 784, 1023, 1024, 1025, 3136, 25_088] {
            let mut next = 0;
            for pass in Queries::passes(queries) {
                assert_eq!(pass.first, next, "of {queries}");
                next += pass.count;
                let room = pass.tiles * pass.rows * 16;
                assert!(room >= pass.count && room < 2 * pass.count.next_multiple_of(16) + 48, "{room}");
            }
            assert_eq!(next, queries);
        }
        let grid = Queries::passes(3136).next().expect("a pass");
        assert_eq!((grid.count, grid.rows, grid.tiles), (784, 7, 7));
    }
}
