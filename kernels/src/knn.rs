//! Euclidean k-nearest neighbours over a flat bank, without a distance matrix.
//!
//! Candidates come from |q|^2 + |b|^2 - 2 q.b, a register tile of 4 queries by 3 bank vectors at a
//! time over bank blocks that fit the cache; the few best of each query are then measured directly,
//! so that distances are exact and duplicates are in index order. Operations: 2 d per pair; bytes:
//! the bank once per block of queries.

use rayon::prelude::*;

use crate::error::{Result, check_len, shape_error};
use crate::simd::{madd, simd_fn};

/// Queries that one task handles.
const QUERIES: usize = 32;
/// Bank vectors of one cache block.
const VECTORS: usize = 48;
/// Candidates kept beyond `k`, against rounding in the expanded form.
const SPARE: usize = 8;

/// One neighbour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Bank vector.
    pub index: usize,
    /// Euclidean distance.
    pub distance: f32,
}

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

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b) * f64::from(a - b)).sum::<f64>().sqrt() as f32
}

/// The `k` nearest bank vectors of each query, ascending by distance, the lower index first among
/// equals; `query` is `[q][d]`, `bank` `[m][d]`, the result `[q][k]`.
///
/// # Errors
/// When lengths do not fit or `k` is 0 or larger than the bank.
pub fn l2_knn(query: &[f32], bank: &[f32], d: usize, k: usize) -> Result<Vec<Neighbour>> {
    const OP: &str = "l2_knn";
    if d == 0 || k == 0 || k > bank.len() / d {
        return shape_error(OP, format!("{k} neighbours from {} elements of dimension {d}", bank.len()));
    }
    check_len(OP, "query", query.len() % d, 0)?;
    check_len(OP, "bank", bank.len() % d, 0)?;
    let norms: Vec<f32> = bank.par_chunks(d).map(square_norm).collect();
    let keep = (k + SPARE).min(norms.len());
    let per_task: Vec<Vec<Neighbour>> =
        query.par_chunks(QUERIES * d).map(|queries| search(queries, bank, &norms, d, keep, k)).collect();
    Ok(per_task.concat())
}

fn search(queries: &[f32], bank: &[f32], norms: &[f32], d: usize, keep: usize, k: usize) -> Vec<Neighbour> {
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
        let mut exact: Vec<Neighbour> =
            best.found.iter().map(|(_, i)| Neighbour { index: *i, distance: distance(query, vector(*i)) }).collect();
        exact.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.index.cmp(&b.index)));
        exact.truncate(k);
        exact
    };
    rows.iter().zip(best).flat_map(measure).collect()
}
