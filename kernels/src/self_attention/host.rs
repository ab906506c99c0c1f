//! Self-attention on the CPU: twelve rows of the matrix at a time, in the cache, made and used by the register tile of
//! the convolutions.

use rayon::prelude::*;

use super::AttentionShape;
use crate::conv::micro::{MOST_ROWS, NR, Sums, accumulate, for_rows, store, tiles};
use crate::conv::packed::{pack_columns, pack_rows};
use crate::device::{HostBuffer, Reused};
use crate::math;
use crate::simd::{Lanes, Wide, by_registers, lanes_fn};
use crate::softmax::softmax_row;

/// Up to [`MOST_ROWS`] rows of a matrix, and how far apart they are.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    count: usize,
    stride: usize,
}

impl Rows {
    /// The first rows.
    fn top(count: usize, stride: usize) -> Self {
        Self { first: 0, count, stride }
    }
}

lanes_fn! {
    /// Products of some rows of `depth` values of `a` with all columns of `panels`
    /// (`[columns / NR][depth][NR]`); writes `out[row][column]`, rows `width` apart.
    fn product<L, V, R>(
        a: &[f32],
        tile: Rows,
        depth: usize,
        panels: &[f32],
        out: &mut [f32],
        width: usize,
    ) {
        let blocks = width.div_ceil(NR);
        assert!((tile.first + tile.count - 1) * tile.stride + depth <= a.len(), "rows of the left operand");
        assert!(blocks * depth * NR <= panels.len() && tile.count * width <= out.len(), "panels and rows of the result");
        for (first, count) in tiles(tile.count, R) {
            let mut block = 0;
            while block < blocks {
                let pair = L::PANELS == 2 && block + 1 < blocks;
                // SAFETY: rows, panels and results as asserted. `lanes_fn` runs this only on CPUs with the set of `L`.
                unsafe {
                    let rows = a.as_ptr().add((tile.first + first) * tile.stride);
                    let panels = panels.as_ptr().add(block * depth * NR);
                    let to = &mut out[first * width..][..count * width];
                    if pair {
                        for_rows!(count, R, M => columns::<L, V, 2, M>(rows, tile.stride, depth, panels, to, block * NR));
                    } else {
                        for_rows!(count, R, M => columns::<L, V, 1, M>(rows, tile.stride, depth, panels, to, block * NR));
                    }
                }
                block += 1 + usize::from(pair);
            }
        }
    }
}

/// The columns from `first` on of `M` rows of a product: those of `P` panels, as far as `out` has them.
///
/// # Safety
/// The CPU has the set of `L`; there are `M` rows of `depth` values, `stride` apart, and `P` panels.
#[inline(always)]
unsafe fn columns<L: Lanes, const V: usize, const P: usize, const M: usize>(
    a: *const f32,
    stride: usize,
    depth: usize,
    b: *const f32,
    out: &mut [f32],
    first: usize,
) {
    let (mut rows, mut panels) = ([a; M], [b; P]);
    let mut values = [0.0; NR];
    // SAFETY: the caller vouches for rows and panels; `values` holds a row of a panel.
    unsafe {
        let mut sums: Sums<L, V, P, M> = [[[L::splat(0.0); V]; P]; M];
        rows.iter_mut().enumerate().for_each(|(m, row)| *row = row.add(m * stride));
        panels.iter_mut().enumerate().for_each(|(p, panel)| *panel = panel.add(p * depth * NR));
        accumulate(&rows, 1, &panels, depth, &mut sums);
        for (sums, line) in sums.iter().zip(out.chunks_exact_mut(out.len() / M)) {
            for (sums, to) in sums.iter().zip(line[first..].chunks_mut(NR)) {
                store(sums, values.as_mut_ptr());
                to.copy_from_slice(&values[..to.len()]);
            }
        }
    }
}

lanes_fn! {
    /// Turns scores into probabilities, and products of gradients and values into slopes of scores.
    fn slopes<L>(scores: &mut [f32], products: &mut [f32], log_sums: &[f32], along: &[f32]) {
        let n = scores.len();
        let (products, log_sums, along) = (&mut products[..n], &log_sums[..n], &along[..n]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        by_registers!(L, n, |part| {
            let (score, log_sum) = (Wide(zero.read(&scores[part.clone()])), Wide(zero.read(&log_sums[part.clone()])));
            let (product, along) = (Wide(zero.read(&products[part.clone()])), Wide(zero.read(&along[part.clone()])));
            let probability = math::wide::exp(score - log_sum);
            probability.0.write(&mut scores[part.clone()]);
            (probability * (product - along)).0.write(&mut products[part]);
        });
    }
}

/// Calls `work` with the first row, the number of rows and the place in `out` of every tile of rows.
fn for_tiles(out: &mut [f32], channels: usize, work: impl Fn(usize, usize, &mut [f32]) + Sync) {
    let tiles = out.par_chunks_mut(MOST_ROWS * channels).enumerate();
    tiles.for_each(|(tile, out)| work(tile * MOST_ROWS, out.len() / channels, out));
}

pub(super) fn forward(
    (keys, queries, values): (&[f32], &[f32], &[f32]),
    shape: AttentionShape,
    output: &mut [f32],
    log_sums: &mut [f32],
) {
    let AttentionShape { positions: p, keys: k, values: c, .. } = shape;
    if output.is_empty() {
        return;
    }
    for (n, (output, log_sums)) in output.chunks_exact_mut(p * c).zip(log_sums.chunks_exact_mut(p)).enumerate() {
        let key_panels = pack_rows(&keys[n * p * k..(n + 1) * p * k], p);
        let value_panels = pack_columns(&values[n * p * c..(n + 1) * p * c], p, c, &[0]);
        let queries = &queries[n * p * k..(n + 1) * p * k];
        let tiles = output.par_chunks_mut(MOST_ROWS * c).zip(log_sums.par_chunks_mut(MOST_ROWS)).enumerate();
        tiles.for_each_init(
            || Reused::uninit(MOST_ROWS * p),
            |scores, (tile, (output, log_sums))| {
                let rows = Rows { first: tile * MOST_ROWS, count: log_sums.len(), stride: k };
                product(queries, rows, k, &key_panels, scores, p);
                for (line, l) in scores.chunks_exact_mut(p).zip(log_sums.iter_mut()) {
                    *l = softmax_row(line);
                }
                product(scores, Rows::top(log_sums.len(), p), p, &value_panels, output, c);
            },
        );
    }
}

/// One side of the backward pass of an image: rows are queries, or keys.
struct Side<'a> {
    /// Keys or queries of the rows, and of the columns as panels.
    rows: &'a [f32],
    columns: &'a [f32],
    /// What is multiplied with each other for the slopes: gradients and values.
    row_values: &'a [f32],
    column_values: &'a [f32],
    shape: AttentionShape,
}

/// Rows of probabilities and of slopes.
struct Lines {
    probabilities: Vec<f32>,
    slopes: Vec<f32>,
}

impl Side<'_> {
    /// Makes the lines of a tile of rows; the log sums and `along` of every row and column are told by `of`.
    fn lines<'b>(&self, first: usize, count: usize, of: impl Fn(usize) -> (&'b [f32], &'b [f32])) -> Lines {
        let AttentionShape { positions: p, keys: k, values: c, .. } = self.shape;
        let mut lines = Lines { probabilities: vec![0.0; MOST_ROWS * p], slopes: vec![0.0; MOST_ROWS * p] };
        product(self.rows, Rows { first, count, stride: k }, k, self.columns, &mut lines.probabilities, p);
        product(self.row_values, Rows { first, count, stride: c }, c, self.column_values, &mut lines.slopes, p);
        let pairs = lines.probabilities.chunks_exact_mut(p).zip(lines.slopes.chunks_exact_mut(p)).take(count);
        for (m, (s, d)) in pairs.enumerate() {
            let (log_sums, along) = of(first + m);
            slopes(s, d, log_sums, along);
        }
        lines
    }
}

/// The values of images `n` of a map.
fn image(map: &[f32], n: usize, len: usize) -> &[f32] {
    &map[n * len..(n + 1) * len]
}

pub(super) fn backward(
    (keys, queries, values): (&[f32], &[f32], &[f32]),
    shape: AttentionShape,
    (output, log_sums, grad): (&[f32], &[f32], &[f32]),
    (d_keys, d_queries, d_values): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let AttentionShape { images, positions: p, keys: k, values: c } = shape;
    if output.is_empty() {
        return;
    }
    let dot = |(g, o): (&[f32], &[f32])| g.iter().zip(o).map(|(g, o)| g * o).sum::<f32>();
    let along: Vec<f32> = grad.par_chunks(c).zip(output.par_chunks(c)).map(dot).collect();
    let columns = |map: &[f32], channels: usize| -> HostBuffer<f32> { pack_columns(map, p, channels, &[0]) };
    for n in 0..images {
        let (keys, queries) = (image(keys, n, p * k), image(queries, n, p * k));
        let (values, grad) = (image(values, n, p * c), image(grad, n, p * c));
        let (log_sums, along) = (image(log_sums, n, p), image(&along, n, p));
        let (key_rows, value_rows) = (pack_rows(keys, p), pack_rows(values, p));
        let by_query = Side { rows: queries, columns: &key_rows, row_values: grad, column_values: &value_rows, shape };
        let key_columns = columns(keys, k);
        for_tiles(&mut d_queries[n * p * k..(n + 1) * p * k], k, |first, count, d_queries| {
            let tile: Vec<[Vec<f32>; 2]> =
                (first..first + count).map(|j| [vec![log_sums[j]; p], vec![along[j]; p]]).collect();
            let lines = by_query.lines(first, count, |j| (&tile[j - first][0][..], &tile[j - first][1][..]));
            product(&lines.slopes, Rows::top(count, p), p, &key_columns, d_queries, k);
        });
        let (query_rows, grad_rows) = (pack_rows(queries, p), pack_rows(grad, p));
        let by_key = Side { rows: keys, columns: &query_rows, row_values: values, column_values: &grad_rows, shape };
        let (query_columns, grad_columns) = (columns(queries, k), columns(grad, c));
        let d_values = d_values[n * p * c..(n + 1) * p * c].par_chunks_mut(MOST_ROWS * c);
        let d_keys = d_keys[n * p * k..(n + 1) * p * k].par_chunks_mut(MOST_ROWS * k);
        d_keys.zip(d_values).enumerate().for_each(|(tile, (d_keys, d_values))| {
            let count = d_keys.len() / k;
            let lines = by_key.lines(tile * MOST_ROWS, count, |_| (log_sums, along));
            product(&lines.slopes, Rows::top(count, p), p, &query_columns, d_keys, k);
            product(&lines.probabilities, Rows::top(count, p), p, &grad_columns, d_values, c);
        });
    }
}
