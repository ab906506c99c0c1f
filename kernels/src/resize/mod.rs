//! Resizing NHWC maps: nearest x2, bilinear, bilinear with antialias.
//!
//! The bilinear ones are two sparse matrices, one per axis: each output pixel is a weighted sum of
//! neighbouring input pixels. Forward applies them, backward applies their transposes.
//! Bytes: input read once, a row-resized map written and read, output written once.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::device::{Gpu, GpuBuffer, Reused, View, ViewMut, launch, place, units};
use crate::elementwise::{add_product, add_scaled};
use crate::error::{Result, check_len, shape_error};
use crate::shape::{Nhwc, place_of};
use crate::simd::lanes_fn;
use crate::sparse_rows::SparseRows;

mod axis;
mod rows;
mod upsample;

use axis::Axis;
pub use rows::RowResizer;
pub use upsample::{upsample_nearest, upsample_nearest_backward};

/// How output pixels are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Two taps per axis, also when shrinking (PyTorch `align_corners=False`).
    Bilinear,
    /// A triangle as wide as the scale when shrinking (Pillow's BILINEAR).
    BilinearAntialias,
}

fn check(x: usize, x_shape: Nhwc, size: (usize, usize), y: usize) -> Result<()> {
    let [n, h, w, c] = x_shape;
    if h * w * size.0 * size.1 == 0 {
        return shape_error("resize", format!("{h}x{w} to {}x{}: no pixels", size.0, size.1));
    }
    check_len("resize", "input", x, n * h * w * c)?;
    check_len("resize", "output", y, n * size.0 * size.1 * c)
}

/// A sparse matrix on a GPU: where each row starts, its columns, its weights.
struct GpuRows {
    starts: GpuBuffer<u32>,
    columns: GpuBuffer<u32>,
    weights: GpuBuffer,
}

impl GpuRows {
    fn new(gpu: &Gpu, rows: &SparseRows) -> Result<Self> {
        let mut starts = vec![0];
        for row in rows.iter() {
            starts.push(starts.last().copied().unwrap_or(0) + row.len() as u32);
        }
        let (columns, weights): (Vec<u32>, Vec<f32>) =
            rows.iter().flatten().map(|entry| (entry.column, entry.value)).unzip();
        Ok(Self {
            starts: gpu.constants(&starts)?,
            columns: gpu.constants(&columns)?,
            weights: gpu.constants(&weights)?,
        })
    }

    /// As a kernel argument.
    fn arg<R: Runtime>(&self) -> SparseLaunch<R> {
        SparseLaunch::new(self.starts.arg(), self.columns.arg(), self.weights.arg())
    }
}

/// A sparse matrix inside a kernel.
#[derive(CubeType, CubeLaunch)]
struct Sparse {
    starts: Array<u32>,
    columns: Array<u32>,
    weights: Array<f32>,
}

/// Sizes of maps before and after.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct ResizeSizes {
    /// Elements that are written.
    total: usize,
    h: usize,
    w: usize,
    c: usize,
    oh: usize,
    ow: usize,
}

/// Applies one matrix to the rows and one to the columns of every channel.
fn apply_on_gpu(
    gpu: &Gpu,
    x: &GpuBuffer,
    [h, w, c]: [usize; 3],
    (rows, columns): (&SparseRows, &SparseRows),
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
        r.arg(),
        s.arg(),
        y.arg(),
        ResizeSizesLaunch::new(total, h, w, c, oh, ow),
        add
    );
    Ok(())
}

/// One unit for each output element: the weighted sum over its rows and columns.
#[cube(launch_unchecked)]
fn sparse_kernel(
    x: &Array<f32>,
    rows: &Sparse,
    columns: &Sparse,
    y: &mut Array<f32>,
    s: ResizeSizes,
    #[comptime] add: bool,
) {
    let at = ABSOLUTE_POS;
    if at < s.total {
        let o = place_of(at, s.oh, s.ow, s.c);
        let mut sum = f32::new(0.0);
        if comptime!(add) {
            sum = y[at];
        }
        for r in rows.starts[o.y]..rows.starts[o.y + 1] {
            let line = (o.image * s.h + rows.columns[r as usize] as usize) * s.w;
            let mut part = f32::new(0.0);
            for q in columns.starts[o.x]..columns.starts[o.x + 1] {
                let pixel = line + columns.columns[q as usize] as usize;
                part += columns.weights[q as usize] * x[pixel * s.c + o.channel];
            }
            sum += rows.weights[r as usize] * part;
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
            apply_on_host((&rows, &cols), [h, w, c], x.host(), add, y.host());
            Ok(())
        }
    }
}

/// Applies one matrix to the rows and one to the columns of every image.
fn apply_on_host((rows, columns): (&Axis, &Axis), [h, w, c]: [usize; 3], x: &[f32], add: bool, y: &mut [f32]) {
    let (oh, ow) = (rows.len(), columns.len());
    y.par_chunks_mut(ow * c).enumerate().for_each_init(
        || Reused::uninit(w * c),
        |line, (row, out)| {
            let (n, j) = (row / oh, row % oh);
            line.fill(0.0);
            let (first, weights) = rows.taps(j);
            for (k, weight) in weights.iter().enumerate() {
                let at = (n * h + first + k) * w * c;
                add_scaled(line, *weight, &x[at..at + w * c]);
            }
            if !add {
                out.fill(0.0);
            }
            weighted_pixels(columns, line, c, out);
        },
    );
}

/// Adds to each output pixel the weighted sum of those of a line `[w, c]`.
fn weighted_pixels(columns: &Axis, line: &[f32], c: usize, out: &mut [f32]) {
    match c {
        1 => few_channels::<1>(columns, line, out),
        3 => few_channels::<3>(columns, line, out),
        _ => many_channels(columns, line, c, out),
    }
}

lanes_fn! {
    /// [`weighted_pixels`] of channels that fill registers.
    fn many_channels<L>(columns: &Axis, line: &[f32], c: usize, out: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            let (first, weights) = columns.taps(i);
            for (weight, x) in weights.iter().zip(line[first * c..].chunks_exact(c)) {
                add_product(pixel, zero.same(*weight), x);
            }
        }
    }
}

/// [`weighted_pixels`] of so few channels that a pixel is no vector. The sums are the same.
fn few_channels<const C: usize>(columns: &Axis, line: &[f32], out: &mut [f32]) {
    let line = line.as_chunks::<C>().0;
    for (i, pixel) in out.as_chunks_mut::<C>().0.iter_mut().enumerate() {
        let (first, weights) = columns.taps(i);
        for (weight, x) in weights.iter().zip(&line[first..]) {
            for (sum, x) in pixel.iter_mut().zip(x) {
                *sum += weight * x;
            }
        }
    }
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
    let rows = Axis::new(filter, h, oh).rows().transposed(h);
    let cols = Axis::new(filter, w, ow).rows().transposed(w);
    match place("resize_backward", &[&grad, &dx])? {
        Some(gpu) => apply_on_gpu(&gpu, grad.device(), [oh, ow, c], (&rows, &cols), false, dx.device()),
        None => {
            let grad = grad.host();
            dx.host().par_chunks_mut(w * c).enumerate().for_each_init(
                || Reused::uninit(ow * c),
                |line, (row, out)| {
                    let (n, j) = (row / h, row % h);
                    line.fill(0.0);
                    for entry in &rows[j] {
                        let at = (n * oh + entry.column as usize) * ow * c;
                        add_scaled(line, entry.value, &grad[at..at + ow * c]);
                    }
                    for (pixel, reach) in out.chunks_exact_mut(c).zip(cols.iter()) {
                        pixel.fill(0.0);
                        for entry in reach {
                            add_scaled(pixel, entry.value, &line[entry.column as usize * c..][..c]);
                        }
                    }
                },
            );
            Ok(())
        }
    }
}
