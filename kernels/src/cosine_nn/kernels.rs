//! What a GPU runs: the search of each cube, the choice among cubes, and the vectors that were found.

use cubecl::prelude::*;

use crate::device::UNITS;
use crate::reduce::cube_sum;

/// Queries that one pass over the bank serves.
pub(super) const GROUP: usize = 4;
/// Entries of a tile.
pub(super) const ENTRIES: usize = 64;
/// Elements of an entry in a tile.
const ELEMENTS: usize = 32;
/// Elements from one entry to the next in shared memory: no two units meet in a bank.
const PITCH: usize = ELEMENTS + 1;
/// Units that share an entry, each with as many elements of it as another.
const QUARTERS: usize = UNITS as usize / ENTRIES;
const QUARTER: usize = ELEMENTS / QUARTERS;

/// Sizes of a search, and how its entries are shared among cubes.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct SearchSizes {
    pub images: usize,
    pub locations: usize,
    /// Entries of a location.
    pub entries: usize,
    pub dim: usize,
    /// Shares of the entries of a location.
    pub splits: usize,
    /// Entries of a share.
    pub per_split: usize,
    /// Locations side by side.
    pub columns: usize,
    /// Most rows and columns from the location of a query to one that is searched.
    pub reach: usize,
}

impl SearchSizes {
    /// As a kernel argument.
    pub fn arg<R: Runtime>(&self) -> SearchSizesLaunch<R> {
        let Self { images, locations, entries, dim, splits, per_split, columns, reach } = *self;
        SearchSizesLaunch::new(images, locations, entries, dim, splits, per_split, columns, reach)
    }
}

/// What a cube searches: a share of the entries near a location, for a group of images.
#[derive(CubeType, Clone, Copy)]
struct Task {
    location: usize,
    split: usize,
    first_image: usize,
}

/// One cube for each task. A tile of entries is read into shared memory in whole lines. Only the best vector of the
/// share is written, `[split][image][location]`. `among` is read where `chosen` says so.
#[cube(launch_unchecked)]
pub(super) fn nearest_kernel<E: Float>(
    queries: &Array<f32>,
    bank: &Array<E>,
    inverse_norms: &Array<f32>,
    among: &Array<u32>,
    index: &mut Array<u32>,
    cosine: &mut Array<f32>,
    s: SearchSizes,
    #[comptime] group: usize,
    #[comptime] chosen: bool,
) {
    let task = Task {
        location: CUBE_POS % s.locations,
        split: (CUBE_POS / s.locations) % s.splits,
        first_image: CUBE_POS / (s.locations * s.splits) * group,
    };
    if task.first_image < s.images {
        let mut tile = SharedMemory::<f32>::new(comptime!(ENTRIES * PITCH));
        let mut query = SharedMemory::<f32>::new(comptime!(group * ELEMENTS));
        let mut parts = SharedMemory::<f32>::new(comptime!(group * UNITS as usize));
        let unit = UNIT_POS as usize;
        let (entry, quarter) = (unit / QUARTERS, unit % QUARTERS);
        // In shared memory they take no registers; the units meet before they are read.
        let mut norms = SharedMemory::<f32>::new(group);
        let own = inverse_query_norms(queries, task, s, group);
        if unit == 0 {
            #[unroll]
            for g in 0..group {
                norms[g] = own[g];
            }
        }
        let mut best = Array::<f32>::new(group);
        let mut best_at = Array::<u32>::new(group);
        #[unroll]
        for g in 0..group {
            best[g] = f32::new(-3.4e38);
            best_at[g] = 0;
        }

        let end = usize::min((task.split + 1) * s.per_split, s.entries);
        let rows = near(task.location / s.columns, s.locations / s.columns, s.reach);
        let columns = near(task.location % s.columns, s.columns, s.reach);
        for at in 0..rows.count * columns.count {
            let other = (rows.first + at / columns.count) * s.columns + columns.first + at % columns.count;
            let base = other * s.entries;
            let mut first = task.split * s.per_split;
            while first < end {
                let sums = products::<E>(queries, bank, &mut tile, &mut query, task, base, first, end, s, group);
                #[unroll]
                for g in 0..group {
                    parts[g * comptime!(UNITS as usize) + unit] = sums[g];
                }
                sync_cube();
                let row = first + entry;
                if quarter == 0 && row < end {
                    let scale = inverse_norms[base + row];
                    #[unroll]
                    for g in 0..group {
                        let p = g * comptime!(UNITS as usize) + unit;
                        let dot = (parts[p] + parts[p + 1]) + (parts[p + 2] + parts[p + 3]);
                        let mut found = dot * scale * norms[g];
                        if comptime!(chosen) {
                            let image = usize::min(task.first_image + g, s.images - 1);
                            found = select(among[image * s.entries + row] != 0, found, f32::new(-3.4e38));
                        }
                        if found > best[g] {
                            best[g] = found;
                            best_at[g] = (base + row) as u32;
                        }
                    }
                }
                first += ENTRIES;
            }
        }
        write_best(&mut parts, &best, &best_at, index, cosine, task, s, group);
    }
}

/// Rows or columns of a grid.
#[derive(CubeType, Clone, Copy)]
struct Span {
    first: usize,
    count: usize,
}

/// Those at most `reach` from `at`, of `all`.
#[cube]
fn near(at: usize, all: usize, reach: usize) -> Span {
    let first = at - usize::min(at, reach);
    Span { first, count: usize::min(at + reach + 1, all) - first }
}

/// Where the query of the `g`-th image of a task begins; beyond the last image it is that one's.
#[cube]
fn query_at(g: usize, task: Task, s: SearchSizes) -> usize {
    let image = usize::min(task.first_image + g, s.images - 1);
    (image * s.locations + task.location) * s.dim
}

/// 1 / |query| of each image of a task; 0 where the query is 0.
#[cube]
fn inverse_query_norms(queries: &Array<f32>, task: Task, s: SearchSizes, #[comptime] group: usize) -> Array<f32> {
    let mut inverse = Array::<f32>::new(group);
    #[unroll]
    for g in 0..group {
        let from = query_at(g, task, s);
        let mut square = f32::new(0.0);
        let mut k = UNIT_POS as usize;
        while k < s.dim {
            square += queries[from + k] * queries[from + k];
            k += comptime!(UNITS as usize);
        }
        let norm = cube_sum(square).sqrt();
        sync_cube();
        inverse[g] = select(norm > 0.0, 1.0 / f32::max(norm, f32::new(1e-37)), f32::new(0.0));
    }
    inverse
}

/// This unit's part of the products of its entry with each query: those of its quarter of every [`ELEMENTS`]. The entries of
/// the location begin at `base`.
#[cube]
fn products<E: Float>(
    queries: &Array<f32>,
    bank: &Array<E>,
    tile: &mut SharedMemory<f32>,
    query: &mut SharedMemory<f32>,
    task: Task,
    base: usize,
    first: usize,
    end: usize,
    s: SearchSizes,
    #[comptime] group: usize,
) -> Array<f32> {
    let (entry, quarter) = (UNIT_POS as usize / QUARTERS, UNIT_POS as usize % QUARTERS);
    let mut sums = Array::<f32>::new(group);
    #[unroll]
    for g in 0..group {
        sums[g] = f32::new(0.0);
    }
    let mut k0 = 0usize;
    while k0 < s.dim {
        sync_cube();
        load_entries::<E>(bank, tile, base, first, end, k0, s.dim);
        load_queries(queries, query, task, k0, s, group);
        sync_cube();
        #[unroll]
        for k in 0..QUARTER {
            let b = tile[entry * PITCH + quarter * QUARTER + k];
            #[unroll]
            for g in 0..group {
                sums[g] += b * query[g * ELEMENTS + quarter * QUARTER + k];
            }
        }
        k0 += ELEMENTS;
    }
    sums
}

/// Elements from `k0` on of the entries from `first` on, as far as `end`, of a location whose entries begin at `base`.
#[cube]
fn load_entries<E: Float>(
    bank: &Array<E>,
    tile: &mut SharedMemory<f32>,
    base: usize,
    first: usize,
    end: usize,
    k0: usize,
    dim: usize,
) {
    #[unroll]
    for i in 0..comptime!(ENTRIES * ELEMENTS / UNITS as usize) {
        let at = UNIT_POS as usize + comptime!(UNITS as usize) * i;
        let (row, k) = (first + at / ELEMENTS, k0 + at % ELEMENTS);
        let mut v = f32::new(0.0);
        if row < end && k < dim {
            v = f32::cast_from(bank[(base + row) * dim + k]);
        }
        tile[at / ELEMENTS * PITCH + at % ELEMENTS] = v;
    }
}

/// Elements from `k0` on of each query of a task.
#[cube]
fn load_queries(
    queries: &Array<f32>,
    query: &mut SharedMemory<f32>,
    task: Task,
    k0: usize,
    s: SearchSizes,
    #[comptime] group: usize,
) {
    let unit = UNIT_POS as usize;
    if unit < comptime!(group * ELEMENTS) {
        let k = k0 + unit % ELEMENTS;
        let mut v = f32::new(0.0);
        if k < s.dim {
            v = queries[query_at(unit / ELEMENTS, task, s) + k];
        }
        query[unit] = v;
    }
}

/// Writes the best vector of the share for each image, the first among equals.
#[cube]
fn write_best(
    parts: &mut SharedMemory<f32>,
    best: &Array<f32>,
    best_at: &Array<u32>,
    index: &mut Array<u32>,
    cosine: &mut Array<f32>,
    task: Task,
    s: SearchSizes,
    #[comptime] group: usize,
) {
    let mut places = SharedMemory::<u32>::new(comptime!(group * ENTRIES));
    let unit = UNIT_POS as usize;
    let entry = unit / QUARTERS;
    sync_cube();
    if unit % QUARTERS == 0 {
        #[unroll]
        for g in 0..group {
            parts[g * ENTRIES + entry] = best[g];
            places[g * ENTRIES + entry] = best_at[g];
        }
    }
    sync_cube();
    if unit < group {
        let mut top = parts[unit * ENTRIES];
        let mut top_at = places[unit * ENTRIES];
        for e in 1..ENTRIES {
            let (v, p) = (parts[unit * ENTRIES + e], places[unit * ENTRIES + e]);
            if v > top || (v == top && p < top_at) {
                top = v;
                top_at = p;
            }
        }
        let image = task.first_image + unit;
        if image < s.images {
            let to = (task.split * s.images + image) * s.locations + task.location;
            index[to] = top_at;
            cosine[to] = top;
        }
    }
}

/// The best of all splits; the lowest index among equals.
#[cube(launch_unchecked)]
pub(super) fn best_split_kernel(
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
            let (v, p) = (some_cosine[split * n + at], some_index[split * n + at]);
            if v > top || (v == top && p < top_at) {
                top = v;
                top_at = p;
            }
        }
        index[at] = top_at;
        cosine[at] = top;
    }
}

/// The named vectors; `count` is how many the bank has.
#[cube(launch_unchecked)]
pub(super) fn gather_kernel<E: Float>(
    bank: &Array<E>,
    index: &Array<u32>,
    to: &mut Array<f32>,
    n: usize,
    count: usize,
    dim: usize,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let vector = usize::min(index[at / dim] as usize, count - 1);
        to[at] = f32::cast_from(bank[vector * dim + at % dim]);
    }
}
