//! What a GPU runs: the search of each cube, the choice among cubes, and the vectors that were found.

use cubecl::prelude::*;

use crate::reduce::cube_sum;

/// Queries that one pass over the bank serves.
pub(super) const GROUP: usize = 4;
/// Entries of a tile.
pub(super) const ENTRIES: usize = 64;

/// One cube for a location, a share of its entries and a group of images. A tile of 64 entries by 32
/// elements is read into shared memory in whole lines; four units share an entry. Only the best entry
/// of the share is written, `[split][image][location]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // queries, bank, results and their shape
pub(super) fn nearest_kernel<E: Float>(
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
pub(super) fn gather_kernel<E: Float>(
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
