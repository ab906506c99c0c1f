//! Max pooling over NHWC maps.
//!
//! Padding counts as minus infinity; among equal maxima the first in row order takes the gradient.
//! Bytes: input read once, output written once. Operations: `k * k` comparisons per output.

use std::ops::Range;

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use super::{PoolOptions, PoolSizes, inputs, windows};
use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::shape::{Nhwc, pixel_at, place_of};
use crate::simd::{LANES, by_registers, lanes_fn};

lanes_fn! {
    /// One output row of one image, its windows in the input rows `rows`.
    fn pool_row<L>(image: &[f32], w: usize, opts: PoolOptions, rows: Range<usize>, out: &mut [f32], c: usize) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            let columns = opts.window(i, w);
            pixel.fill(f32::NEG_INFINITY);
            for sy in rows.clone() {
                for x in image[(sy * w + columns.start) * c..(sy * w + columns.end) * c].chunks_exact(c) {
                    by_registers!(L, c, |part| {
                        let best = &mut pixel[part.clone()];
                        zero.read(&x[part]).max(zero.read(best)).write(best);
                    });
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
pub fn max_pool2d<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    opts: PoolOptions,
    y: impl Into<ViewMut<'a>>,
) -> Result<Nhwc> {
    const OP: &str = "max_pool2d";
    let [_, h, w, c] = x_shape;
    let shape = opts.output(x_shape)?;
    let [n, oh, ow, _] = shape;
    check_len(OP, "input", x.len(), x_shape.iter().product())?;
    check_len(OP, "output", y.len(), shape.iter().product())?;
    match place(OP, &[&x, &y])? {
        None => {
            let x = x.host();
            y.host().par_chunks_mut(ow * c).enumerate().for_each(|(row, out)| {
                pool_row(&x[row / oh * h * w * c..], w, opts, opts.window(row % oh, h), out, c);
            });
        }
        Some(gpu) => {
            let total = n * oh * ow * c;
            let (x, y) = (x.device(), y.device());
            let sizes = PoolSizes::new(x_shape, shape, opts);
            launch!(gpu, pool_kernel, units(total), x.arg(), y.arg(), total, sizes.arg());
        }
    }
    Ok(shape)
}

/// Backward: writes `dx`; finds the maxima again from `x`.
///
/// # Errors
/// When shapes, lengths or devices do not fit together.
#[outlined]
pub fn max_pool2d_backward<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    grad: impl Into<View<'a>>,
    opts: PoolOptions,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "max_pool2d_backward";
    let [_, h, w, c] = x_shape;
    let shape = opts.output(x_shape)?;
    let [_, oh, ow, _] = shape;
    check_len(OP, "input", x.len(), x_shape.iter().product())?;
    check_len(OP, "gradient", grad.len(), shape.iter().product())?;
    check_len(OP, "input gradient", dx.len(), x.len())?;
    match place(OP, &[&x, &grad, &dx])? {
        None => {
            let size = (h * w * c).max(1);
            let grad = grad.host();
            dx.host().par_chunks_mut(size).zip(x.host().par_chunks(size)).enumerate().for_each(|(n, (dx, x))| {
                dx.fill(0.0);
                for j in 0..oh {
                    for i in 0..ow {
                        let from = ((n * oh + j) * ow + i) * c;
                        route(x, dx, &grad[from..from + c], opts.window(j, h), opts.window(i, w), w);
                    }
                }
            });
        }
        Some(gpu) => {
            let total = x.len();
            let (x, grad, dx) = (x.device(), grad.device(), dx.device());
            let sizes = PoolSizes::new(x_shape, shape, opts);
            launch!(gpu, pool_backward_kernel, units(total), x.arg(), grad.arg(), dx.arg(), total, sizes.arg());
        }
    }
    Ok(())
}

/// One unit for each output element.
#[cube(launch_unchecked)]
fn pool_kernel(x: &Array<f32>, y: &mut Array<f32>, total: usize, s: PoolSizes) {
    let at = ABSOLUTE_POS;
    if at < total {
        let o = place_of(at, s.oh, s.ow, s.c);
        let (rows, columns) = (inputs(o.y, s.h, s), inputs(o.x, s.w, s));
        let mut best = f32::new(-3.4e38);
        for sy in rows.first..rows.end {
            for sx in columns.first..columns.end {
                best = f32::max(best, x[pixel_at(o.image, sy, sx, s.h, s.w) * s.c + o.channel]);
            }
        }
        y[at] = best;
    }
}

/// One unit for each input element: the gradients of the windows whose first maximum it is.
#[cube(launch_unchecked)]
fn pool_backward_kernel(x: &Array<f32>, grad: &Array<f32>, dx: &mut Array<f32>, total: usize, s: PoolSizes) {
    let at = ABSOLUTE_POS;
    if at < total {
        let p = place_of(at, s.h, s.w, s.c);
        let own = x[at];
        let mut sum = f32::new(0.0);
        let (down, across) = (windows(p.y, s.oh, s), windows(p.x, s.ow, s));
        for j in down.first..down.end {
            for i in across.first..across.end {
                let (rows, columns) = (inputs(j, s.h, s), inputs(i, s.w, s));
                let mut largest = true;
                for sy in rows.first..rows.end {
                    for sx in columns.first..columns.end {
                        let other = x[pixel_at(p.image, sy, sx, s.h, s.w) * s.c + p.channel];
                        let before = sy * s.w + sx < p.y * s.w + p.x;
                        if other > own || (before && other == own) {
                            largest = false;
                        }
                    }
                }
                if largest {
                    sum += grad[pixel_at(p.image, j, i, s.oh, s.ow) * s.c + p.channel];
                }
            }
        }
        dx[at] = sum;
    }
}

lanes_fn! {
    /// Adds the gradient of one output pixel to the first maximum of its window, channel by channel.
    fn route<L>(x: &[f32], dx: &mut [f32], grad: &[f32], rows: Range<usize>, columns: Range<usize>, width: usize) {
        let c = grad.len();
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        by_registers!(L, c, |part| {
            // The places are whole numbers in the bits of a register.
            let (mut best, mut place) = (zero.same(f32::NEG_INFINITY), zero);
            for y in rows.clone() {
                for at in y * width + columns.start..y * width + columns.end {
                    let value = zero.read(&x[at * c..][part.clone()]);
                    place = value.above(best, zero.same(f32::from_bits(at as u32)), place);
                    best = value.max(best);
                }
            }
            let mut places = [0.0; LANES];
            place.write(&mut places);
            for (channel, place) in part.zip(places) {
                dx[place.to_bits() as usize * c + channel] += grad[channel];
            }
        });
    }
}
