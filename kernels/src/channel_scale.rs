//! A factor for each channel of each image: the excitation of squeeze-and-excitation (Hu et al. 2018,
//! equation 4).
//!
//! `y[n, h, w, c] = x[n, h, w, c] * s[n, c]`. Bytes: 4 read and 4 written per element; backward reads
//! both maps once.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::shape::Nhwc;
use crate::simd::{by_registers, lanes_fn};

lanes_fn! {
    fn scale_part<L>(x: &[f32], s: &[f32], y: &mut [f32]) {
        let c = s.len();
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            by_registers!(L, c, |part| {
                zero.read(&x[part.clone()]).mul(zero.read(&s[part.clone()])).write(&mut y[part]);
            });
        }
    }
}

lanes_fn! {
    fn scale_backward_part<L>(x: &[f32], s: &[f32], grad: &[f32], dx: &mut [f32], ds: &mut [f32]) {
        let (c, ds) = (s.len(), &mut ds[..s.len()]);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        ds.fill(0.0);
        for ((d, x), g) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(grad.chunks_exact(c)) {
            by_registers!(L, c, |part| {
                let (x, g, ds) = (zero.read(&x[part.clone()]), zero.read(&g[part.clone()]), &mut ds[part.clone()]);
                g.mul(zero.read(&s[part.clone()])).write(&mut d[part]);
                g.mul_add(x, zero.read(ds)).write(ds);
            });
        }
    }
}

/// Forward: `x` and `y` of shape `shape`, `s` of `[n, c]`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn channel_scale<'a>(
    x: impl Into<View<'a>>,
    shape: Nhwc,
    s: impl Into<View<'a>>,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "channel_scale";
    let [n, h, w, c] = shape;
    let total = n * h * w * c;
    check_len(OP, "input", x.len(), total)?;
    check_len(OP, "factors", s.len(), n * c)?;
    check_len(OP, "output", y.len(), total)?;
    match place(OP, &[&x, &s, &y])? {
        None => {
            let image = (h * w * c).max(1);
            let images = y.host().par_chunks_mut(image).zip(x.host().par_chunks(image));
            images.zip(s.host().par_chunks(c.max(1))).for_each(|((y, x), s)| scale_part(x, s, y));
        }
        Some(gpu) => {
            let (x, s, y) = (x.device(), s.device(), y.device());
            launch!(gpu, scale_kernel, units(total), x.arg(), s.arg(), y.arg(), total, h * w, c);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn scale_kernel(x: &Array<f32>, s: &Array<f32>, y: &mut Array<f32>, total: usize, pixels: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        y[at] = x[at] * s[at / (c * pixels) * c + at % c];
    }
}

/// Backward: writes `dx` and `ds`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn channel_scale_backward<'a>(
    x: impl Into<View<'a>>,
    shape: Nhwc,
    s: impl Into<View<'a>>,
    grad: impl Into<View<'a>>,
    dx: impl Into<ViewMut<'a>>,
    ds: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "channel_scale_backward";
    let [n, h, w, c] = shape;
    let total = n * h * w * c;
    check_len(OP, "input", x.len(), total)?;
    check_len(OP, "gradient", grad.len(), total)?;
    check_len(OP, "input gradient", dx.len(), total)?;
    check_len(OP, "factors", s.len(), n * c)?;
    check_len(OP, "factor gradient", ds.len(), n * c)?;
    match place(OP, &[&x, &s, &grad, &dx, &ds])? {
        None => {
            let image = (h * w * c).max(1);
            let inputs = x.host().par_chunks(image).zip(grad.host().par_chunks(image));
            let factors = s.host().par_chunks(c.max(1)).zip(ds.host().par_chunks_mut(c.max(1)));
            dx.host().par_chunks_mut(image).zip(inputs).zip(factors).for_each(|((dx, (x, grad)), (s, ds))| {
                scale_backward_part(x, s, grad, dx, ds);
            });
        }
        Some(gpu) => {
            let (x, s, grad, dx, ds) = (x.device(), s.device(), grad.device(), dx.device(), ds.device());
            launch!(
                gpu,
                scale_backward_kernel,
                units(n * c),
                x.arg(),
                s.arg(),
                grad.arg(),
                dx.arg(),
                ds.arg(),
                n * c,
                h * w,
                c
            );
        }
    }
    Ok(())
}

/// One unit for each image and channel; neighbouring units read neighbouring channels.
#[cube(launch_unchecked)]
fn scale_backward_kernel(
    x: &Array<f32>,
    s: &Array<f32>,
    grad: &Array<f32>,
    dx: &mut Array<f32>,
    ds: &mut Array<f32>,
    total: usize,
    pixels: usize,
    c: usize,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let begin = at / c * pixels * c + at % c;
        let factor = s[at];
        let mut sum = f32::new(0.0);
        for p in 0..pixels {
            let g = grad[begin + p * c];
            dx[begin + p * c] = g * factor;
            sum += g * x[begin + p * c];
        }
        ds[at] = sum;
    }
}
