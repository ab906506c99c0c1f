//! Layer-wise external attention (Katafuchi and Tokunaga 2022, LEA-Net, equations 2 and 3).
//!
//! `M = sigmoid(mean of g over its channels)` and `y = (1 + M) f`: a map of one value per pixel, made by
//! another network, lifts every channel of a feature map. Bytes: g read once and M written in one pass;
//! f read and y written once in the other. In inference the second is the epilogue of the convolution
//! that makes f (see [`crate::conv::PreparedConv`]).

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::activation::sigmoid;
use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len, shape_error};
use crate::simd::{by_registers, lanes_fn};

/// Pixels that a task takes.
const PIXELS: usize = 256;

/// What a pixel's features are multiplied by.
#[cube]
#[inline(always)]
pub fn lift(attention: f32) -> f32 {
    1.0 + attention
}

/// Channels of a map of `len` values over the pixels of an attention map.
fn channels(op: &'static str, what: &'static str, len: usize, pixels: usize) -> Result<usize> {
    match len.checked_div(pixels) {
        Some(c) if c > 0 && c * pixels == len => Ok(c),
        _ => shape_error(op, format!("{what} of {len} values is no map over {pixels} pixels")),
    }
}

lanes_fn! {
    fn map_part<L>(g: &[f32], c: usize, map: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (m, pixel) in map.iter_mut().zip(g.chunks_exact(c)) {
            let mut sum = zero;
            by_registers!(L, c, |part| {
                sum = sum.add(zero.read(&pixel[part]));
            });
            *m = sigmoid(sum.sum() / c as f32);
        }
    }
}

/// `M` from the feature tensor `g` of the external network (equation 2): one value for each pixel.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn attention_map<'a>(g: impl Into<View<'a>>, map: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "attention_map";
    let n = map.len();
    let c = channels(OP, "feature tensor", g.len(), n)?;
    match place(OP, &[&g, &map])? {
        None => {
            let parts = map.host().par_chunks_mut(PIXELS).zip(g.host().par_chunks(PIXELS * c));
            parts.for_each(|(map, g)| map_part(g, c, map));
        }
        Some(gpu) => launch!(gpu, map_kernel, units(n), g.device().arg(), map.device().arg(), n, c),
    }
    Ok(())
}

/// One unit for each pixel.
#[cube(launch_unchecked)]
fn map_kernel(g: &Array<f32>, map: &mut Array<f32>, n: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let mut sum = f32::new(0.0);
        for k in 0..c {
            sum += g[at * c + k];
        }
        map[at] = sigmoid(sum / c as f32);
    }
}

/// Gradient of [`attention_map`]: writes `dg` from the map and its gradient.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn attention_map_backward<'a>(
    map: impl Into<View<'a>>,
    grad: impl Into<View<'a>>,
    dg: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "attention_map_backward";
    check_len(OP, "gradient", grad.len(), map.len())?;
    let c = channels(OP, "feature tensor", dg.len(), map.len())?;
    match place(OP, &[&map, &grad, &dg])? {
        None => {
            let pairs = map.host().par_iter().zip(grad.host());
            dg.host().par_chunks_mut(c).zip(pairs).with_min_len(PIXELS).for_each(|(pixel, (m, g))| {
                pixel.fill(g * m * (1.0 - m) / c as f32);
            });
        }
        Some(gpu) => {
            let n = dg.len();
            let (map, grad, dg) = (map.device(), grad.device(), dg.device());
            launch!(gpu, map_backward_kernel, units(n), map.arg(), grad.arg(), dg.arg(), n, c);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn map_backward_kernel(map: &Array<f32>, grad: &Array<f32>, dg: &mut Array<f32>, n: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let m = map[at / c];
        dg[at] = grad[at / c] * m * (1.0 - m) / c as f32;
    }
}

/// `y = (1 + M) f` (equation 3).
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn attend<'a>(f: impl Into<View<'a>>, map: impl Into<View<'a>>, y: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "attend";
    check_len(OP, "output", y.len(), f.len())?;
    let c = channels(OP, "feature map", f.len(), map.len())?;
    match place(OP, &[&f, &map, &y])? {
        None => {
            let pixels = y.host().par_chunks_mut(c).zip(f.host().par_chunks(c)).zip(map.host());
            pixels.with_min_len(PIXELS).for_each(|((y, f), m)| {
                y.iter_mut().zip(f).for_each(|(y, f)| *y = lift(*m) * f);
            });
        }
        Some(gpu) => {
            let n = y.len();
            let (f, map, y) = (f.device(), map.device(), y.device());
            launch!(gpu, attend_kernel, units(n), f.arg(), map.arg(), y.arg(), n, c);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn attend_kernel(f: &Array<f32>, map: &Array<f32>, y: &mut Array<f32>, n: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        y[at] = lift(map[at / c]) * f[at];
    }
}

lanes_fn! {
    fn attend_backward_part<L>(f: &[f32], map: &[f32], grad: &[f32], c: usize, df: &mut [f32], dm: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        let pixels = f.chunks_exact(c).zip(grad.chunks_exact(c)).zip(df.chunks_exact_mut(c));
        for ((((f, g), d), m), dm) in pixels.zip(map).zip(dm) {
            let (factor, mut sum) = (zero.same(lift(*m)), zero);
            by_registers!(L, c, |part| {
                let g = zero.read(&g[part.clone()]);
                sum = g.mul_add(zero.read(&f[part.clone()]), sum);
                factor.mul(g).write(&mut d[part]);
            });
            *dm = sum.sum();
        }
    }
}

/// Gradients of [`attend`]: writes `df` and `dm` from the gradient of the output.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn attend_backward<'a>(
    f: impl Into<View<'a>>,
    map: impl Into<View<'a>>,
    grad: impl Into<View<'a>>,
    df: impl Into<ViewMut<'a>>,
    dm: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "attend_backward";
    let c = channels(OP, "feature map", f.len(), map.len())?;
    check_len(OP, "gradient", grad.len(), f.len())?;
    check_len(OP, "feature gradient", df.len(), f.len())?;
    check_len(OP, "map gradient", dm.len(), map.len())?;
    match place(OP, &[&f, &map, &grad, &df, &dm])? {
        None => {
            let (f, map, grad) = (f.host(), map.host(), grad.host());
            let parts = df.host().par_chunks_mut(PIXELS * c).zip(dm.host().par_chunks_mut(PIXELS));
            parts.enumerate().for_each(|(i, (df, dm))| {
                let at = i * PIXELS;
                let values = at * c..at * c + df.len();
                attend_backward_part(&f[values.clone()], &map[at..at + dm.len()], &grad[values], c, df, dm);
            });
        }
        Some(gpu) => {
            let n = map.len();
            let (f, map, grad, df, dm) = (f.device(), map.device(), grad.device(), df.device(), dm.device());
            launch!(gpu, attend_backward_kernel, units(n), f.arg(), map.arg(), grad.arg(), df.arg(), dm.arg(), n, c);
        }
    }
    Ok(())
}

/// One unit for each pixel.
#[cube(launch_unchecked)]
fn attend_backward_kernel(
    f: &Array<f32>,
    map: &Array<f32>,
    grad: &Array<f32>,
    df: &mut Array<f32>,
    dm: &mut Array<f32>,
    n: usize,
    c: usize,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        let factor = lift(map[at]);
        let mut sum = f32::new(0.0);
        for k in 0..c {
            let g = grad[at * c + k];
            df[at * c + k] = factor * g;
            sum += f[at * c + k] * g;
        }
        dm[at] = sum;
    }
}
