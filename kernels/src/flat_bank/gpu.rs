//! The search on a GPU: squared differences are summed in f32, one pass over the bank for each neighbour; no
//! distance is written but the smallest of each cube. Operations: 3 d per pair and neighbour.

use cubecl::prelude::*;

use crate::device::{Gpu, GpuBuffer, UNITS, grid, launch, units};
#[cfg(feature = "cuda")]
use crate::device::{Queue, WARP, Written, launch_written, macros};
use crate::error::Result;

/// One pass over the bank for each neighbour; a pass finds the next one after the last in the order
/// of distance and index.
pub(super) fn nearest(
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
    let search = Search {
        query,
        bank,
        last: &gpu.alloc(q)?,
        last_at: &gpu.alloc(q)?,
        squares: &gpu.alloc(splits * q)?,
        places: &gpu.alloc(splits * q)?,
        sizes: (q, m, d),
        query_tiles,
        splits,
        per_split: bank_tiles.div_ceil(splits) * TILE,
    };
    for pass in 0..k {
        search.queue(gpu, pass > 0);
        launch!(
            gpu,
            next_kernel,
            units(q),
            search.squares.arg(),
            search.places.arg(),
            search.last.arg(),
            search.last_at.arg(),
            index.arg(),
            distance.arg(),
            q,
            k,
            pass,
            splits
        );
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

/// One search, whose passes find a neighbour each.
struct Search<'a> {
    query: &'a GpuBuffer,
    bank: &'a GpuBuffer,
    /// What the pass before has found.
    last: &'a GpuBuffer,
    last_at: &'a GpuBuffer<u32>,
    /// The nearest of each split, `[split][query]`.
    squares: &'a GpuBuffer,
    places: &'a GpuBuffer<u32>,
    /// Queries, bank vectors, elements of a vector.
    sizes: (usize, usize, usize),
    query_tiles: usize,
    splits: usize,
    /// Bank vectors of a split.
    per_split: usize,
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
        let (q, m, d) = self.sizes;
        #[cfg(feature = "cuda")]
        if let Some(queue) = gpu.cuda().filter(|_| d.is_multiple_of(4)) {
            return self.queue_written(queue, after);
        }
        launch!(
            gpu,
            nearest_kernel,
            (grid(self.query_tiles * self.splits), CubeDim::new_1d(UNITS)),
            self.query.arg(),
            self.bank.arg(),
            self.last.arg(),
            self.last_at.arg(),
            self.squares.arg(),
            self.places.arg(),
            q,
            m,
            d,
            self.query_tiles,
            self.splits,
            self.per_split,
            after
        );
    }

    /// nearest.cu, which copies four elements at a time.
    #[cfg(feature = "cuda")]
    fn queue_written(&self, queue: &Queue, after: bool) {
        let (q, m, d) = self.sizes;
        let sizes = Sizes {
            queries: q as i32,
            vectors: m as i32,
            d: d as i32,
            query_tiles: self.query_tiles as i32,
            splits: self.splits as i32,
            per_split: self.per_split as i32,
        };
        let kernel = Written {
            entry: "nearest_distance",
            parts: &[WARP, include_str!("nearest.cu")],
            macros: macros(&[("AFTER", after.into())]),
            threads: 128,
            shared: (3 * 2 * TILE * 32 * size_of::<f32>()) as u32,
            writable: &[false, false, false, false, true, true],
        };
        let [query, bank, last, squares] = [self.query, self.bank, self.last, self.squares].map(GpuBuffer::handle);
        let buffers = [query, bank, last, self.last_at.handle(), squares, self.places.handle()];
        launch_written(queue, kernel, self.query_tiles * self.splits, &buffers, &sizes);
    }
}

/// Queries and bank vectors of a tile.
const TILE: usize = 64;

/// Whether (square, place) comes before (other, other place).
#[cube]
fn before(square: f32, place: u32, other: f32, other_place: u32) -> bool {
    square < other || (square == other && place < other_place)
}

/// One cube for 64 queries and a share of the bank: squared distances of a 64 x 64 tile, 4 x 4 to a
/// unit, in registers; only the nearest of the share is written, `[split][query]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // queries, bank, results and their shape
fn nearest_kernel(
    query: &Array<f32>,
    bank: &Array<f32>,
    last: &Array<f32>,
    last_at: &Array<u32>,
    squares: &mut Array<f32>,
    places: &mut Array<u32>,
    q: usize,
    m: usize,
    d: usize,
    query_tiles: usize,
    splits: usize,
    per_split: usize,
    #[comptime] after: bool,
) {
    let (first_query, split) = ((CUBE_POS % query_tiles) * 64, CUBE_POS / query_tiles);
    if split < splits {
        // Rows of 17 elements: no two units of a line meet in a bank.
        let mut a = SharedMemory::<f32>::new(1088usize);
        let mut b = SharedMemory::<f32>::new(1088usize);
        let mut found = SharedMemory::<f32>::new(1024usize);
        let mut found_at = SharedMemory::<u32>::new(1024usize);
        let unit = UNIT_POS as usize;
        let (row, column) = (unit / 16, unit % 16);
        let mut best = Array::<f32>::new(4usize);
        let mut best_at = Array::<u32>::new(4usize);
        #[unroll]
        for i in 0..4usize {
            best[i] = f32::new(3.4e38);
            best_at[i] = u32::MAX;
        }
        let end = usize::min((split + 1) * per_split, m);
        let mut first = split * per_split;
        while first < end {
            let mut sums = Array::<f32>::new(16usize);
            #[unroll]
            for i in 0..16usize {
                sums[i] = f32::new(0.0);
            }
            let mut k0 = 0usize;
            while k0 < d {
                sync_cube();
                #[unroll]
                for i in 0..4usize {
                    let line = row + 16 * i;
                    let k = k0 + column;
                    let mut x = f32::new(0.0);
                    let mut y = f32::new(0.0);
                    if k < d {
                        if first_query + line < q {
                            x = query[(first_query + line) * d + k];
                        }
                        if first + line < end {
                            y = bank[(first + line) * d + k];
                        }
                    }
                    a[line * 17 + column] = x;
                    b[line * 17 + column] = y;
                }
                sync_cube();
                for k in 0..16usize {
                    let mut x = Array::<f32>::new(4usize);
                    let mut y = Array::<f32>::new(4usize);
                    #[unroll]
                    for i in 0..4usize {
                        x[i] = a[(row + 16 * i) * 17 + k];
                        y[i] = b[(column + 16 * i) * 17 + k];
                    }
                    #[unroll]
                    for i in 0..4usize {
                        #[unroll]
                        for j in 0..4usize {
                            let e = x[i] - y[j];
                            sums[i * 4 + j] += e * e;
                        }
                    }
                }
                k0 += 16;
            }
            #[unroll]
            for i in 0..4usize {
                let own = usize::min(first_query + row + 16 * i, q - 1);
                #[unroll]
                for j in 0..4usize {
                    let place = first + column + 16 * j;
                    let square = sums[i * 4 + j];
                    let mut fresh = place < end;
                    if comptime!(after) {
                        fresh = fresh && before(last[own], last_at[own], square, place as u32);
                    }
                    if fresh && before(square, place as u32, best[i], best_at[i]) {
                        best[i] = square;
                        best_at[i] = place as u32;
                    }
                }
            }
            first += 64;
        }
        sync_cube();
        #[unroll]
        for i in 0..4usize {
            found[(row + 16 * i) * 16 + column] = best[i];
            found_at[(row + 16 * i) * 16 + column] = best_at[i];
        }
        sync_cube();
        if unit < 64 && first_query + unit < q {
            let mut top = found[unit * 16];
            let mut top_at = found_at[unit * 16];
            for i in 1..16usize {
                if before(found[unit * 16 + i], found_at[unit * 16 + i], top, top_at) {
                    top = found[unit * 16 + i];
                    top_at = found_at[unit * 16 + i];
                }
            }
            squares[split * q + first_query + unit] = top;
            places[split * q + first_query + unit] = top_at;
        }
    }
}

/// The nearest of all splits becomes neighbour `pass` of its query. Where no distance is a finite number there is none, and
/// the first vector is named with an infinite one.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // candidates and results
fn next_kernel(
    squares: &Array<f32>,
    places: &Array<u32>,
    last: &mut Array<f32>,
    last_at: &mut Array<u32>,
    index: &mut Array<u32>,
    distance: &mut Array<f32>,
    q: usize,
    k: usize,
    pass: usize,
    splits: usize,
) {
    let at = ABSOLUTE_POS;
    if at < q {
        let mut top = squares[at];
        let mut top_at = places[at];
        for split in 1..splits {
            let (square, place) = (squares[split * q + at], places[split * q + at]);
            if before(square, place, top, top_at) {
                top = square;
                top_at = place;
            }
        }
        if top_at == u32::MAX {
            top_at = 0u32.runtime();
            top = top * top;
        }
        last[at] = top;
        last_at[at] = top_at;
        index[at * k + pass] = top_at;
        distance[at * k + pass] = top.sqrt();
    }
}
