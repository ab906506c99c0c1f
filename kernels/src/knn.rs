//! Euclidean k-nearest neighbours over a flat bank, without a distance matrix.
//!
//! On the CPU candidates come from |q|^2 + |b|^2 - 2 q.b, a register tile of 4 queries by 3 bank vectors at a
//! time over bank blocks that fit the cache; the few best of each query are then measured directly,
//! so that distances are exact and duplicates are in index order. A GPU sums squared differences, one
//! pass over the bank for each neighbour. Operations: 2 d per pair (3 d on a GPU); bytes: the bank once
//! per block of queries.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::device::{Gpu, GpuBuffer, UNITS, View, ViewMut, grid, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::simd::{madd, simd_fn};

/// Queries that one task handles.
const QUERIES: usize = 32;
/// Bank vectors of one cache block.
const VECTORS: usize = 48;
/// Candidates kept beyond `k`, against rounding in the expanded form.
const SPARE: usize = 8;

/// The best candidates of one query, ascending; squared distances.
struct Best {
    found: Vec<(f32, usize)>,
    keep: usize,
}

impl Best {
    fn offer(&mut self, square: f32, index: usize) {
        if self.found.len() == self.keep {
            if self.found.last().is_some_and(|(worst, _)| square >= *worst) {
                return;
            }
            self.found.pop();
        }
        let at = self.found.partition_point(|(s, _)| *s <= square);
        self.found.insert(at, (square, index));
    }
}

simd_fn! {
    /// Dot products of up to 4 queries with up to 3 bank vectors (short tiles repeat the last).
    fn dots(q: [&[f32]; 4], b: [&[f32]; 3], out: &mut [[f32; 3]; 4]) {
        let d = q[0].len();
        let (q, b) = (q.map(|v| &v[..d]), b.map(|v| &v[..d]));
        let mut sums = [[[0.0f32; 8]; 3]; 4];
        let whole = d / 8 * 8;
        // Opaque to the compiler, which would otherwise vectorise across chunks, with shuffles.
        let chunk = std::hint::black_box(8);
        for at in (0..whole).step_by(chunk) {
            // SAFETY: every slice has d elements and at + 8 <= whole <= d.
            let (left, right) = unsafe {
                (q.map(|v| *v.as_ptr().add(at).cast::<[f32; 8]>()), b.map(|v| *v.as_ptr().add(at).cast::<[f32; 8]>()))
            };
            for (row, l) in sums.iter_mut().zip(left) {
                for (sum, r) in row.iter_mut().zip(right) {
                    for k in 0..8 {
                        sum[k] = madd::<FMA>(l[k], r[k], sum[k]);
                    }
                }
            }
        }
        for i in 0..4 {
            for j in 0..3 {
                let s = &sums[i][j];
                let tail: f32 = (whole..d).map(|k| q[i][k] * b[j][k]).sum();
                out[i][j] = (s[0] + s[4]) + (s[1] + s[5]) + ((s[2] + s[6]) + (s[3] + s[7])) + tail;
            }
        }
    }
}

fn square_norm(v: &[f32]) -> f32 {
    v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() as f32
}

fn exact_distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b) * f64::from(a - b)).sum::<f64>().sqrt() as f32
}

/// The `k` nearest bank vectors of each query, ascending by distance, the lower index first among
/// equals; `query` is `[q][d]`, `bank` `[m][d]`, `index` and `distance` `[q][k]`.
///
/// # Errors
/// When lengths or devices do not fit or `k` is 0 or larger than the bank.
pub fn l2_knn<'a>(
    query: impl Into<View<'a>>,
    bank: impl Into<View<'a>>,
    d: usize,
    k: usize,
    index: impl Into<ViewMut<'a, u32>>,
    distance: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "l2_knn";
    let (query, bank, index, distance) = (query.into(), bank.into(), index.into(), distance.into());
    if d == 0 || k == 0 || k > bank.len() / d {
        return shape_error(OP, format!("{k} neighbours from {} elements of dimension {d}", bank.len()));
    }
    check_len(OP, "query", query.len() % d, 0)?;
    check_len(OP, "bank", bank.len() % d, 0)?;
    check_len(OP, "index", index.len(), query.len() / d * k)?;
    check_len(OP, "distance", distance.len(), query.len() / d * k)?;
    match place(OP, &[&query, &bank, &index, &distance])? {
        None => {
            let found = on_host(query.host(), bank.host(), d, k);
            for ((i, r), (index, distance)) in found.iter().flatten().zip(index.host().iter_mut().zip(distance.host()))
            {
                (*index, *distance) = (*i as u32, *r);
            }
            Ok(())
        }
        Some(gpu) => on_gpu(&gpu, query.device(), bank.device(), (d, k), index.device(), distance.device()),
    }
}

/// Index and distance of the neighbours of each block of queries.
fn on_host(query: &[f32], bank: &[f32], d: usize, k: usize) -> Vec<Vec<(usize, f32)>> {
    let norms: Vec<f32> = bank.par_chunks(d).map(square_norm).collect();
    let keep = (k + SPARE).min(norms.len());
    query.par_chunks(QUERIES * d).map(|queries| search(queries, bank, &norms, d, keep, k)).collect()
}

/// One pass over the bank for each neighbour; a pass finds the next one after the last in the order
/// of distance and index.
fn on_gpu(
    gpu: &Gpu,
    query: &GpuBuffer,
    bank: &GpuBuffer,
    (d, k): (usize, usize),
    index: &mut GpuBuffer<u32>,
    distance: &mut GpuBuffer,
) -> Result<()> {
    let (q, m) = (query.len() / d, bank.len() / d);
    let (query_tiles, bank_tiles) = (q.div_ceil(TILE), m.div_ceil(TILE));
    let splits = 512usize.div_ceil(query_tiles.max(1)).clamp(1, bank_tiles);
    let per_split = bank_tiles.div_ceil(splits) * TILE;
    let (squares, places) = (gpu.alloc::<f32>(splits * q)?, gpu.alloc::<u32>(splits * q)?);
    let (last, last_at) = (gpu.alloc::<f32>(q)?, gpu.alloc::<u32>(q)?);
    for pass in 0..k {
        launch!(
            gpu,
            nearest_kernel,
            (grid(query_tiles * splits), CubeDim::new_1d(UNITS)),
            query.arg(),
            bank.arg(),
            last.arg(),
            last_at.arg(),
            squares.arg(),
            places.arg(),
            q,
            m,
            d,
            query_tiles,
            splits,
            per_split,
            pass > 0
        );
        launch!(
            gpu,
            next_kernel,
            units(q),
            squares.arg(),
            places.arg(),
            last.arg(),
            last_at.arg(),
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

/// The nearest of all splits becomes neighbour `pass` of its query.
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
        last[at] = top;
        last_at[at] = top_at;
        index[at * k + pass] = top_at;
        distance[at * k + pass] = top.sqrt();
    }
}

fn search(queries: &[f32], bank: &[f32], norms: &[f32], d: usize, keep: usize, k: usize) -> Vec<(usize, f32)> {
    let rows: Vec<&[f32]> = queries.chunks_exact(d).collect();
    let own: Vec<f32> = rows.iter().map(|q| square_norm(q)).collect();
    let mut best: Vec<Best> = rows.iter().map(|_| Best { found: Vec::with_capacity(keep), keep }).collect();
    let vector = |i: usize| &bank[i * d..(i + 1) * d];
    let mut tile = [[0.0; 3]; 4];
    for block in (0..norms.len()).step_by(VECTORS) {
        let end = (block + VECTORS).min(norms.len());
        for q0 in (0..rows.len()).step_by(4) {
            let q = std::array::from_fn(|i| rows[(q0 + i).min(rows.len() - 1)]);
            for b0 in (block..end).step_by(3) {
                dots(q, std::array::from_fn(|j| vector((b0 + j).min(end - 1))), &mut tile);
                for (i, products) in tile.iter().enumerate().take(rows.len() - q0) {
                    for (j, product) in products.iter().enumerate().take(end - b0) {
                        best[q0 + i].offer(own[q0 + i] + norms[b0 + j] - 2.0 * product, b0 + j);
                    }
                }
            }
        }
    }
    let measure = |(query, best): (&&[f32], Best)| {
        let mut exact: Vec<(usize, f32)> =
            best.found.iter().map(|(_, i)| (*i, exact_distance(query, vector(*i)))).collect();
        exact.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        exact.truncate(k);
        exact
    };
    rows.iter().zip(best).flat_map(measure).collect()
}
