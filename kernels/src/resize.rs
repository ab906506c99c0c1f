//! Resizing NHWC maps: nearest x2, bilinear, bilinear with antialias.
//!
//! The bilinear ones are two sparse matrices, one per axis: each output pixel is a weighted sum of
//! neighbouring input pixels. Forward applies them, backward applies their transposes.
//! Bytes: input read once, a row-resized map written and read, output written once.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::conv::Nhwc;
use crate::device::{Gpu, GpuBuffer, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::simd::simd_fn;

/// How output pixels are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Two taps per axis, also when shrinking (PyTorch `align_corners=False`).
    Bilinear,
    /// A triangle as wide as the scale when shrinking (Pillow's BILINEAR).
    BilinearAntialias,
}

/// Input pixels and weights of every output pixel of one axis.
struct Axis {
    taps: Vec<(usize, Vec<f32>)>,
}

impl Axis {
    fn new(filter: Filter, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let taps = (0..to)
            .map(|o| match filter {
                Filter::Bilinear => two_taps(o, scale, from),
                Filter::BilinearAntialias => triangle(o, scale, from),
            })
            .collect();
        Self { taps }
    }

    /// The transposed matrix: which outputs each input pixel reaches.
    fn transposed(&self, from: usize) -> Rows {
        let mut reaches = vec![Vec::new(); from];
        for (o, (first, weights)) in self.taps.iter().enumerate() {
            for (k, w) in weights.iter().enumerate() {
                reaches[first + k].push((o, *w));
            }
        }
        reaches
    }
}

/// Position (o + 0.5) * scale - 0.5, not below 0; upper neighbour clamped to the last pixel.
fn two_taps(o: usize, scale: f64, n: usize) -> (usize, Vec<f32>) {
    let at = ((o as f64 + 0.5) * scale - 0.5).max(0.0);
    let low = (at as usize).min(n - 1);
    let part = (at - low as f64).min(1.0);
    if low + 1 < n { (low, vec![(1.0 - part) as f32, part as f32]) } else { (low, vec![1.0]) }
}

/// Weights max(0, 1 - |j + 0.5 - m| / r) around m = scale (o + 0.5), r = max(scale, 1), made to sum to 1.
fn triangle(o: usize, scale: f64, n: usize) -> (usize, Vec<f32>) {
    let (m, r) = (scale * (o as f64 + 0.5), scale.max(1.0));
    let first = (m - r + 0.5).max(0.0) as usize;
    let end = ((m + r + 0.5) as usize).min(n);
    let raw: Vec<f64> = (first..end).map(|j| (1.0 - (j as f64 + 0.5 - m).abs() / r).max(0.0)).collect();
    let sum: f64 = raw.iter().sum();
    (first, raw.iter().map(|w| (w / sum) as f32).collect())
}

simd_fn! {
    /// `sum += weight * x`.
    fn add_scaled(sum: &mut [f32], weight: f32, x: &[f32]) {
        for (s, x) in sum.iter_mut().zip(x) {
            *s += weight * x;
        }
    }
}

fn check(x: usize, x_shape: Nhwc, size: (usize, usize), y: usize) -> Result<()> {
    let [n, h, w, c] = x_shape;
    if h * w * size.0 * size.1 == 0 {
        return shape_error("resize", format!("{h}x{w} to {}x{}: no pixels", size.0, size.1));
    }
    check_len("resize", "input", x, n * h * w * c)?;
    check_len("resize", "output", y, n * size.0 * size.1 * c)
}

/// A sparse matrix of one axis, row by row: for each output its inputs and weights.
type Rows = Vec<Vec<(usize, f32)>>;

impl Axis {
    /// For each output pixel the input pixels it sums.
    fn rows(&self) -> Rows {
        let row = |(first, w): &(usize, Vec<f32>)| w.iter().enumerate().map(|(k, w)| (first + k, *w)).collect();
        self.taps.iter().map(row).collect()
    }
}

/// A sparse matrix on a GPU: where each row starts, its columns, its weights.
struct GpuRows {
    starts: GpuBuffer<u32>,
    columns: GpuBuffer<u32>,
    weights: GpuBuffer,
}

impl GpuRows {
    fn new(gpu: &Gpu, rows: &Rows) -> Result<Self> {
        let mut starts = vec![0];
        for row in rows {
            starts.push(starts.last().copied().unwrap_or(0) + row.len() as u32);
        }
        let (columns, weights): (Vec<u32>, Vec<f32>) = rows.iter().flatten().map(|(i, w)| (*i as u32, *w)).unzip();
        Ok(Self { starts: gpu.upload(&starts)?, columns: gpu.upload(&columns)?, weights: gpu.upload(&weights)? })
    }
}

/// Applies one matrix to the rows and one to the columns of every channel.
fn apply_on_gpu(
    gpu: &Gpu,
    x: &GpuBuffer,
    [h, w, c]: [usize; 3],
    (rows, columns): (&Rows, &Rows),
    add: bool,
    y: &GpuBuffer,
) -> Result<()> {
    let (oh, ow) = (rows.len(), columns.len());
    let (r, s) = (GpuRows::new(gpu, rows)?, GpuRows::new(gpu, columns)?);
    let total = y.len();
    launch!(
        gpu,
        sparse_kernel,
        units(total),
        x.arg(),
        r.starts.arg(),
        r.columns.arg(),
        r.weights.arg(),
        s.starts.arg(),
        s.columns.arg(),
        s.weights.arg(),
        y.arg(),
        total,
        h,
        w,
        c,
        oh,
        ow,
        add
    );
    Ok(())
}

/// One unit for each output element: the weighted sum over its rows and columns.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)] // two sparse matrices and a shape
fn sparse_kernel(
    x: &Array<f32>,
    row_starts: &Array<u32>,
    row_at: &Array<u32>,
    row_weights: &Array<f32>,
    column_starts: &Array<u32>,
    column_at: &Array<u32>,
    column_weights: &Array<f32>,
    y: &mut Array<f32>,
    total: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
    #[comptime] add: bool,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let channel = at % c;
        let i = (at / c) % ow;
        let j = (at / (c * ow)) % oh;
        let image = at / (c * ow * oh);
        let mut sum = f32::new(0.0);
        if comptime!(add) {
            sum = y[at];
        }
        for r in row_starts[j]..row_starts[j + 1] {
            let line = (image * h + row_at[r as usize] as usize) * w;
            let mut part = f32::new(0.0);
            for s in column_starts[i]..column_starts[i + 1] {
                part += column_weights[s as usize] * x[(line + column_at[s as usize] as usize) * c + channel];
            }
            sum += row_weights[r as usize] * part;
        }
        y[at] = sum;
    }
}

/// Forward: writes `y` of shape `[n, size.0, size.1, c]`.
///
/// # Errors
/// When a size is 0, or lengths or devices do not fit.
pub fn resize<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    size: (usize, usize),
    filter: Filter,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    resized(x.into(), x_shape, size, filter, false, y.into())
}

/// [`resize`] whose result is added to `y`.
///
/// # Errors
/// When a size is 0, or lengths or devices do not fit.
pub fn resize_add<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    size: (usize, usize),
    filter: Filter,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    resized(x.into(), x_shape, size, filter, true, y.into())
}

fn resized(x: View, x_shape: Nhwc, size: (usize, usize), filter: Filter, add: bool, y: ViewMut) -> Result<()> {
    check(x.len(), x_shape, size, y.len())?;
    let [_, h, w, c] = x_shape;
    let (rows, cols) = (Axis::new(filter, h, size.0), Axis::new(filter, w, size.1));
    match place("resize", &[&x, &y])? {
        Some(gpu) => apply_on_gpu(&gpu, x.device(), [h, w, c], (&rows.rows(), &cols.rows()), add, y.device()),
        None => {
            let x = x.host();
            let add_row = |sum: &mut [f32], _: &mut Vec<f32>, weight: f32, row: usize| {
                add_scaled(sum, weight, &x[row * w * c..(row + 1) * w * c]);
            };
            apply_on_host((&rows, &cols), [h, w, c], add_row, add, y.host());
            Ok(())
        }
    }
}

/// [`resize`] on the CPU of one image of `[h, w, c]` values that is nowhere as a whole: `row(r, values)` writes its row `r`,
/// possibly several times. The sums are those of [`resize`], in the same order.
///
/// # Errors
/// When a size is 0, or the length of `y` does not fit.
pub fn resize_rows(
    row: impl Fn(usize, &mut [f32]) + Sync,
    [h, w, c]: [usize; 3],
    size: (usize, usize),
    filter: Filter,
    y: &mut [f32],
) -> Result<()> {
    check(h * w * c, [1, h, w, c], size, y.len())?;
    let axes = (&Axis::new(filter, h, size.0), &Axis::new(filter, w, size.1));
    let add_row = |sum: &mut [f32], values: &mut Vec<f32>, weight: f32, r: usize| {
        values.resize(sum.len(), 0.0);
        row(r, values);
        add_scaled(sum, weight, values);
    };
    apply_on_host(axes, [h, w, c], add_row, false, y);
    Ok(())
}

/// Applies one matrix to the rows and one to the columns. `add_row(sum, scratch, weight, r)` adds row `r` of all images, one
/// below the other, times a weight.
fn apply_on_host(
    (rows, columns): (&Axis, &Axis),
    [h, w, c]: [usize; 3],
    add_row: impl Fn(&mut [f32], &mut Vec<f32>, f32, usize) + Sync,
    add: bool,
    y: &mut [f32],
) {
    let (oh, ow) = (rows.taps.len(), columns.taps.len());
    let scratch = || (Vec::new(), Vec::new());
    y.par_chunks_mut(ow * c).enumerate().for_each_init(scratch, |(line, values): &mut (Vec<f32>, _), (row, out)| {
        let (n, j) = (row / oh, row % oh);
        line.clear();
        line.resize(w * c, 0.0);
        let (first, weights) = &rows.taps[j];
        for (k, weight) in weights.iter().enumerate() {
            add_row(line, values, *weight, n * h + first + k);
        }
        for (pixel, (first, weights)) in out.chunks_exact_mut(c).zip(&columns.taps) {
            if !add {
                pixel.fill(0.0);
            }
            for (k, weight) in weights.iter().enumerate() {
                add_scaled(pixel, *weight, &line[(first + k) * c..(first + k + 1) * c]);
            }
        }
    });
}

/// Backward: writes `dx` of shape `x_shape` from the gradient of the output.
///
/// # Errors
/// When a size is 0, or lengths or devices do not fit.
pub fn resize_backward<'a>(
    grad: impl Into<View<'a>>,
    x_shape: Nhwc,
    size: (usize, usize),
    filter: Filter,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    let (grad, dx) = (grad.into(), dx.into());
    check(dx.len(), x_shape, size, grad.len())?;
    let [_, h, w, c] = x_shape;
    let (oh, ow) = size;
    let rows = Axis::new(filter, h, oh).transposed(h);
    let cols = Axis::new(filter, w, ow).transposed(w);
    match place("resize_backward", &[&grad, &dx])? {
        Some(gpu) => apply_on_gpu(&gpu, grad.device(), [oh, ow, c], (&rows, &cols), false, dx.device()),
        None => {
            let grad = grad.host();
            dx.host().par_chunks_mut(w * c).enumerate().for_each_init(Vec::new, |line: &mut Vec<f32>, (row, out)| {
                let (n, j) = (row / h, row % h);
                line.clear();
                line.resize(ow * c, 0.0);
                for (o, weight) in &rows[j] {
                    let at = (n * oh + o) * ow * c;
                    add_scaled(line, *weight, &grad[at..at + ow * c]);
                }
                for (pixel, reach) in out.chunks_exact_mut(c).zip(&cols) {
                    pixel.fill(0.0);
                    for (o, weight) in reach {
                        add_scaled(pixel, *weight, &line[o * c..(o + 1) * c]);
                    }
                }
            });
            Ok(())
        }
    }
}

#[cube(launch_unchecked)]
fn upsample_kernel(x: &Array<f32>, y: &mut Array<f32>, total: usize, h: usize, w: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let channel = at % c;
        let i = (at / c) % (2 * w);
        let j = (at / (2 * c * w)) % (2 * h);
        let image = at / (4 * c * w * h);
        y[at] = x[((image * h + j / 2) * w + i / 2) * c + channel];
    }
}

#[cube(launch_unchecked)]
fn upsample_backward_kernel(grad: &Array<f32>, dx: &mut Array<f32>, total: usize, w: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let channel = at % c;
        let i = (at / c) % w;
        let line = at / (c * w);
        let upper = ((2 * line) * 2 * w + 2 * i) * c + channel;
        let lower = upper + 2 * w * c;
        dx[at] = grad[upper] + grad[upper + c] + grad[lower] + grad[lower + c];
    }
}

/// Nearest x2: `y[j, i] = x[j / 2, i / 2]`.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn upsample_nearest<'a>(x: impl Into<View<'a>>, x_shape: Nhwc, y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "upsample_nearest";
    let (x, y) = (x.into(), y.into());
    let [_, h, w, c] = x_shape;
    check_len(OP, "input", x.len(), x_shape.iter().product())?;
    check_len(OP, "output", y.len(), 4 * x.len())?;
    match place(OP, &[&x, &y])? {
        Some(gpu) => {
            let total = y.len();
            launch!(gpu, upsample_kernel, units(total), x.device().arg(), y.device().arg(), total, h, w, c);
        }
        None => {
            let lines = y.host().par_chunks_mut((4 * w * c).max(1)).zip(x.host().par_chunks((w * c).max(1)));
            lines.for_each(|(out, line)| {
                let (upper, lower) = out.split_at_mut(2 * w * c);
                for (pair, pixel) in upper.chunks_exact_mut(2 * c).zip(line.chunks_exact(c)) {
                    pair[..c].copy_from_slice(pixel);
                    pair[c..].copy_from_slice(pixel);
                }
                lower.copy_from_slice(upper);
            });
        }
    }
    Ok(())
}

/// Backward of [`upsample_nearest`]: sums each 2x2 block.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn upsample_nearest_backward<'a>(
    grad: impl Into<View<'a>>,
    x_shape: Nhwc,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "upsample_nearest_backward";
    let (grad, dx) = (grad.into(), dx.into());
    let [_, _, w, c] = x_shape;
    check_len(OP, "input gradient", dx.len(), x_shape.iter().product())?;
    check_len(OP, "gradient", grad.len(), 4 * dx.len())?;
    match place(OP, &[&grad, &dx])? {
        Some(gpu) => {
            let total = dx.len();
            let (grad, dx) = (grad.device(), dx.device());
            launch!(gpu, upsample_backward_kernel, units(total), grad.arg(), dx.arg(), total, w, c);
        }
        None => {
            let lines = dx.host().par_chunks_mut((w * c).max(1)).zip(grad.host().par_chunks((4 * w * c).max(1)));
            lines.for_each(|(out, rows)| {
                let (upper, lower) = rows.split_at(2 * w * c);
                for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
                    let (u, l) = (&upper[2 * i * c..], &lower[2 * i * c..]);
                    for (k, d) in pixel.iter_mut().enumerate() {
                        *d = u[k] + u[c + k] + l[k] + l[c + k];
                    }
                }
            });
        }
    }
    Ok(())
}
