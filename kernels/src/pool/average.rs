//! Average pooling, over windows and over whole maps.
//!
//! A window is divided by `kernel^2`, or by its pixels inside the map when padding is not counted.
//! Bytes: input read once, output written once. Operations: `k * k` additions per output.

use std::ops::Range;

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use super::{PoolOptions, PoolSizes, inputs, windows};
use crate::device::{View, ViewMut, launch, place, units};
use crate::elementwise::{add_product, add_scaled};
use crate::error::{Result, check_len};
use crate::shape::{Nhwc, pixel_at, place_of};
use crate::simd::lanes_fn;

/// Reciprocal of what a window of `inside` pixels is divided by.
fn share(opts: PoolOptions, inside: usize, count_padding: bool) -> f32 {
    1.0 / if count_padding { opts.kernel * opts.kernel } else { inside.max(1) } as f32
}

lanes_fn! {
    /// One output row of one image, its windows in the input rows `rows`.
    fn average_row<L>(image: &[f32], w: usize, opts: PoolOptions, rows: Range<usize>, count_padding: bool, out: &mut [f32], c: usize) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            let columns = opts.window(i, w);
            let factor = zero.same(share(opts, rows.len() * columns.len(), count_padding));
            pixel.fill(0.0);
            for sy in rows.clone() {
                for x in image[(sy * w + columns.start) * c..(sy * w + columns.end) * c].chunks_exact(c) {
                    add_product(pixel, factor, x);
                }
            }
        }
    }
}

/// Forward: writes `y` of the shape that [`PoolOptions::output`] gives.
///
/// # Errors
/// When shapes, lengths or devices do not fit together.
#[outlined]
pub fn avg_pool2d<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    opts: PoolOptions,
    count_padding: bool,
    y: impl Into<ViewMut<'a>>,
) -> Result<Nhwc> {
    const OP: &str = "avg_pool2d";
    let [_, h, w, c] = x_shape;
    let shape = opts.output(x_shape)?;
    let [n, oh, ow, _] = shape;
    check_len(OP, "input", x.len(), x_shape.iter().product())?;
    check_len(OP, "output", y.len(), shape.iter().product())?;
    match place(OP, &[&x, &y])? {
        None => {
            let x = x.host();
            y.host().par_chunks_mut((ow * c).max(1)).enumerate().for_each(|(row, out)| {
                let (image, rows) = (row / oh, opts.window(row % oh, h));
                average_row(&x[image * h * w * c..], w, opts, rows, count_padding, out, c);
            });
        }
        Some(gpu) => {
            let total = n * oh * ow * c;
            let (x, y) = (x.device(), y.device());
            let sizes = PoolSizes::new(x_shape, shape, opts);
            launch!(gpu, average_kernel, units(total), x.arg(), y.arg(), total, sizes.arg(), count_padding);
        }
    }
    Ok(shape)
}

/// Backward: writes `dx`.
///
/// # Errors
/// When shapes, lengths or devices do not fit together.
#[outlined]
pub fn avg_pool2d_backward<'a>(
    grad: impl Into<View<'a>>,
    x_shape: Nhwc,
    opts: PoolOptions,
    count_padding: bool,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "avg_pool2d_backward";
    let [_, h, w, c] = x_shape;
    let shape = opts.output(x_shape)?;
    let [_, oh, ow, _] = shape;
    check_len(OP, "gradient", grad.len(), shape.iter().product())?;
    check_len(OP, "input gradient", dx.len(), x_shape.iter().product())?;
    match place(OP, &[&grad, &dx])? {
        None => {
            let grad = grad.host();
            dx.host().par_chunks_mut((h * w * c).max(1)).enumerate().for_each(|(image, dx)| {
                dx.fill(0.0);
                for (j, i) in (0..oh).flat_map(|j| (0..ow).map(move |i| (j, i))) {
                    let from = ((image * oh + j) * ow + i) * c;
                    let (rows, columns) = (opts.window(j, h), opts.window(i, w));
                    let factor = share(opts, rows.len() * columns.len(), count_padding);
                    for at in rows.flat_map(|sy| columns.clone().map(move |sx| sy * w + sx)) {
                        add_scaled(&mut dx[at * c..(at + 1) * c], factor, &grad[from..from + c]);
                    }
                }
            });
        }
        Some(gpu) => {
            let total = dx.len();
            let (grad, dx) = (grad.device(), dx.device());
            let sizes = PoolSizes::new(x_shape, shape, opts);
            launch!(
                gpu,
                average_backward_kernel,
                units(total),
                grad.arg(),
                dx.arg(),
                total,
                sizes.arg(),
                count_padding
            );
        }
    }
    Ok(())
}

/// Reciprocal of what window (`j`, `i`) is divided by.
#[cube]
fn window_share(j: usize, i: usize, s: PoolSizes, #[comptime] count_padding: bool) -> f32 {
    if comptime!(count_padding) {
        1.0 / (s.kernel * s.kernel) as f32
    } else {
        let (rows, columns) = (inputs(j, s.h, s), inputs(i, s.w, s));
        1.0 / usize::max((rows.end - rows.first) * (columns.end - columns.first), 1) as f32
    }
}

/// One unit for each output element.
#[cube(launch_unchecked)]
fn average_kernel(x: &Array<f32>, y: &mut Array<f32>, total: usize, s: PoolSizes, #[comptime] count_padding: bool) {
    let at = ABSOLUTE_POS;
    if at < total {
        let o = place_of(at, s.oh, s.ow, s.c);
        let (rows, columns) = (inputs(o.y, s.h, s), inputs(o.x, s.w, s));
        let mut sum = f32::new(0.0);
        for sy in rows.first..rows.end {
            for sx in columns.first..columns.end {
                sum += x[pixel_at(o.image, sy, sx, s.h, s.w) * s.c + o.channel];
            }
        }
        y[at] = sum * window_share(o.y, o.x, s, count_padding);
    }
}

/// One unit for each input element: its share of the windows that hold it.
#[cube(launch_unchecked)]
fn average_backward_kernel(
    grad: &Array<f32>,
    dx: &mut Array<f32>,
    total: usize,
    s: PoolSizes,
    #[comptime] count_padding: bool,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let p = place_of(at, s.h, s.w, s.c);
        let mut sum = f32::new(0.0);
        let (down, across) = (windows(p.y, s.oh, s), windows(p.x, s.ow, s));
        for j in down.first..down.end {
            for i in across.first..across.end {
                let value = grad[pixel_at(p.image, j, i, s.oh, s.ow) * s.c + p.channel];
                sum += value * window_share(j, i, s, count_padding);
            }
        }
        dx[at] = sum;
    }
}

/// Mean over rows and columns: `[n, h, w, c]` to `[n, c]`.
///
/// # Errors
/// When lengths or devices do not fit, or the map has no pixels.
#[outlined]
pub fn global_avg_pool2d<'a>(x: impl Into<View<'a>>, x_shape: Nhwc, y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "global_avg_pool2d";
    let [n, h, w, c] = x_shape;
    check_len(OP, "input", x.len(), x_shape.iter().product())?;
    check_len(OP, "output", y.len(), n * c)?;
    let pixels = h * w;
    match place(OP, &[&x, &y])? {
        None => {
            let images = x.host().par_chunks((pixels * c).max(1));
            y.host().par_chunks_mut(c.max(1)).zip(images).for_each(|(mean, image)| {
                mean.fill(0.0);
                image.chunks_exact(c).for_each(|pixel| add_scaled(mean, 1.0, pixel));
                mean.iter_mut().for_each(|m| *m /= pixels as f32);
            });
        }
        Some(gpu) => launch!(gpu, global_kernel, units(n * c), x.device().arg(), y.device().arg(), n * c, pixels, c),
    }
    Ok(())
}

/// Backward: writes `dx` of shape `x_shape` from `grad` `[n, c]`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn global_avg_pool2d_backward<'a>(
    grad: impl Into<View<'a>>,
    x_shape: Nhwc,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "global_avg_pool2d_backward";
    let [n, h, w, c] = x_shape;
    check_len(OP, "gradient", grad.len(), n * c)?;
    check_len(OP, "input gradient", dx.len(), x_shape.iter().product())?;
    let pixels = h * w;
    match place(OP, &[&grad, &dx])? {
        None => {
            let images = dx.host().par_chunks_mut((pixels * c).max(1));
            images.zip(grad.host().par_chunks(c.max(1))).for_each(|(image, grad)| {
                for pixel in image.chunks_exact_mut(c) {
                    pixel.iter_mut().zip(grad).for_each(|(d, g)| *d = g / pixels as f32);
                }
            });
        }
        Some(gpu) => {
            let total = dx.len();
            let (grad, dx) = (grad.device(), dx.device());
            launch!(gpu, global_backward_kernel, units(total), grad.arg(), dx.arg(), total, pixels, c);
        }
    }
    Ok(())
}

/// One unit for each image and channel.
#[cube(launch_unchecked)]
fn global_kernel(x: &Array<f32>, y: &mut Array<f32>, total: usize, pixels: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let begin = at / c * pixels * c + at % c;
        let mut sum = f32::new(0.0);
        for p in 0..pixels {
            sum += x[begin + p * c];
        }
        y[at] = sum / pixels as f32;
    }
}

/// One unit for each input element.
#[cube(launch_unchecked)]
fn global_backward_kernel(grad: &Array<f32>, dx: &mut Array<f32>, total: usize, pixels: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        dx[at] = grad[at / (c * pixels) * c + at % c] / pixels as f32;
    }
}
