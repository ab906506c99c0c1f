//! Nearest x2.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::shape::{Nhwc, pixel_at, place_of};

#[cube(launch_unchecked)]
fn upsample_kernel(x: &Array<f32>, y: &mut Array<f32>, total: usize, h: usize, w: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let o = place_of(at, 2 * h, 2 * w, c);
        y[at] = x[pixel_at(o.image, o.y / 2, o.x / 2, h, w) * c + o.channel];
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
#[outlined]
pub fn upsample_nearest<'a>(x: impl Into<View<'a>>, x_shape: Nhwc, y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "upsample_nearest";
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
#[outlined]
pub fn upsample_nearest_backward<'a>(
    grad: impl Into<View<'a>>,
    x_shape: Nhwc,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "upsample_nearest_backward";
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
