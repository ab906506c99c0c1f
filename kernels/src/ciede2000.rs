//! CIEDE2000 colour difference (Sharma, Wu and Dalal 2005), kL = kC = kH = 1.
//!
//! Straight from two sRGB images (u8 or f32) or two Lab images to one map, in one pass: conversion
//! and formula run over blocks that stay in registers and L1. Bytes per pixel: 6 read from u8 (24
//! from f32), 4 written; operations: about 400.

use std::f32::consts::{FRAC_PI_3, FRAC_PI_6, PI, TAU};

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::colour::{self, BLOCK, Lab, Planes, SrgbValue, linear_to_lab, load_linear, planes_to_lab, read, split};
use crate::device::{GpuBuffer, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::math;
use crate::simd::{formulas, lanes_fn};

formulas! {
    use crate::colour::wide::Lab;

    /// sqrt(c^7 / (c^7 + 25^7)).
    pub fn chroma_share(c: f32) -> f32 {
        let c2 = c * c;
        let c7 = c2 * c2 * c2 * c;
        (c7 / (c7 + 6_103_515_625.0)).sqrt()
    }

    /// Hue angle in 0..2 pi; 0 for a colour without chroma.
    pub fn hue(a: f32, b: f32) -> f32 {
        let h = math::atan2(b, a);
        math::below(h, 0.0, h + TAU, h)
    }

    /// CIEDE2000 between two colours. Equation numbers are those of Sharma et al.
    pub fn delta_e(p: Lab, q: Lab) -> f32 {
        // Equations 2 to 7: chroma, a' and hue.
        let mean = 0.5 * ((p.a * p.a + p.b * p.b).sqrt() + (q.a * q.a + q.b * q.b).sqrt());
        let g = 1.0 + 0.5 * (1.0 - chroma_share(mean));
        let a1 = g * p.a;
        let a2 = g * q.a;
        let c1 = (a1 * a1 + p.b * p.b).sqrt();
        let c2 = (a2 * a2 + q.b * q.b).sqrt();
        let h1 = hue(a1, p.b);
        let h2 = hue(a2, q.b);
        // Equations 8 to 11: differences. A hue difference of exactly 180 degrees is not wrapped; the
        // margin of 1e-6 keeps rounding from wrapping it.
        let straight = h2 - h1;
        let up = math::below(straight, -3.141_593_7, straight + TAU, straight);
        let wrapped = math::above(straight, 3.141_593_7, straight - TAU, up);
        let dh = math::above(c1 * c2, 0.0, wrapped, 0.0);
        let dl = q.l - p.l;
        let dc = c2 - c1;
        let d_hue = 2.0 * (c1 * c2).sqrt() * math::sin(0.5 * dh);
        // Equations 12 to 14: means.
        let l = 0.5 * (p.l + q.l);
        let c = 0.5 * (c1 + c2);
        let sum = h1 + h2;
        let turned = math::below(sum, TAU, 0.5 * sum + PI, 0.5 * sum - PI);
        let near = math::above(straight.abs(), 3.141_593_7, turned, 0.5 * sum);
        let h = math::above(c1 * c2, 0.0, near, sum);
        // Equations 15 to 21: weights. 0.104_719_76 is 6 degrees, 1.099_557_4 is 63.
        let t =
            1.0 - 0.17 * math::cos(h - FRAC_PI_6) + 0.24 * math::cos(2.0 * h) + 0.32 * math::cos(3.0 * h + 0.104_719_76)
                - 0.20 * math::cos(4.0 * h - 1.099_557_4);
        let z = (h * 57.295_78 - 275.0) / 25.0;
        let rotation = FRAC_PI_3 * math::exp(-z * z);
        let rc = 2.0 * chroma_share(c);
        let l50 = (l - 50.0) * (l - 50.0);
        let sl = 1.0 + 0.015 * l50 / (20.0 + l50).sqrt();
        let sc = 1.0 + 0.045 * c;
        let sh = 1.0 + 0.015 * c * t;
        let rt = -math::sin(rotation) * rc;
        // Equation 22.
        let x = dl / sl;
        let y = dc / sc;
        let w = d_hue / sh;
        math::max(x * x + y * y + w * w + rt * y * w, 0.0).sqrt()
    }
}

lanes_fn! {
    pub(crate) fn delta_e_block<L>(p: &Planes, q: &Planes, out: &mut [f32; BLOCK]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for at in (0..BLOCK).step_by(L::WIDTH) {
            let ([l, a, b], [m, c, d]) = (read(zero, p, at), read(zero, q, at));
            let (left, right) = (colour::wide::Lab { l, a, b }, colour::wide::Lab { l: m, a: c, b: d });
            wide::delta_e(left, right).0.write(&mut out[at..]);
        }
    }
}

/// Runs the formula over blocks that `load` fills with Lab planes.
fn over_blocks<T: Sync>(p: &[T], q: &[T], out: &mut [f32], load: impl Fn(&[T], &mut Planes) + Sync) {
    out.par_chunks_mut(BLOCK).zip(p.par_chunks(3 * BLOCK).zip(q.par_chunks(3 * BLOCK))).with_min_len(16).for_each(
        |(out, (p, q))| {
            let (mut left, mut right, mut delta) = ([[0.0; BLOCK]; 3], [[0.0; BLOCK]; 3], [0.0; BLOCK]);
            load(p, &mut left);
            load(q, &mut right);
            delta_e_block(&left, &right, &mut delta);
            out.copy_from_slice(&delta[..out.len()]);
        },
    );
}

#[cube(launch_unchecked)]
fn delta_e_kernel(p: &Array<f32>, q: &Array<f32>, out: &mut Array<f32>, pixels: usize) {
    let at = ABSOLUTE_POS;
    if at < pixels {
        let left = Lab { l: p[3 * at], a: p[3 * at + 1], b: p[3 * at + 2] };
        let right = Lab { l: q[3 * at], a: q[3 * at + 1], b: q[3 * at + 2] };
        out[at] = delta_e(left, right);
    }
}

#[cube(launch_unchecked)]
fn delta_e_rgb_kernel(
    p_bytes: &Array<u32>,
    p: &Array<f32>,
    q_bytes: &Array<u32>,
    q: &Array<f32>,
    out: &mut Array<f32>,
    pixels: usize,
    #[comptime] from_bytes: bool,
) {
    let at = ABSOLUTE_POS;
    if at < pixels {
        let left = linear_to_lab(load_linear(p_bytes, p, at, from_bytes));
        let right = linear_to_lab(load_linear(q_bytes, q, at, from_bytes));
        out[at] = delta_e(left, right);
    }
}

/// Delta E between interleaved Lab pixels.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn ciede2000<'a>(lab1: impl Into<View<'a>>, lab2: impl Into<View<'a>>, out: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "ciede2000";
    let (p, q) = (lab1, lab2);
    let n = out.len();
    check_len(OP, "first image", p.len(), 3 * n)?;
    check_len(OP, "second image", q.len(), 3 * n)?;
    match place(OP, &[&p, &q, &out])? {
        None => over_blocks(p.host(), q.host(), out.host(), split),
        Some(gpu) => {
            launch!(gpu, delta_e_kernel, units(n), p.device().arg(), q.device().arg(), out.device().arg(), n);
        }
    }
    Ok(())
}

/// Delta E between interleaved sRGB pixels (f32 in 0..1, or u8).
///
/// # Errors
/// When lengths or devices differ.
pub fn ciede2000_rgb<'a, T: SrgbValue>(
    rgb1: impl Into<View<'a, T>>,
    rgb2: impl Into<View<'a, T>>,
    out: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "ciede2000_rgb";
    let (p, q, out) = (rgb1.into(), rgb2.into(), out.into());
    let n = out.len();
    check_len(OP, "first image", p.len(), 3 * n)?;
    check_len(OP, "second image", q.len(), 3 * n)?;
    match place(OP, &[&p, &q, &out])? {
        None => over_blocks(p.host(), q.host(), out.host(), |pixels, planes| {
            T::load_linear(pixels, planes);
            planes_to_lab(planes);
        }),
        Some(_) => rgb_on_gpu(&p.device().words(), &q.device().words(), T::BYTES, out.device()),
    }
    Ok(())
}

fn rgb_on_gpu(p: &GpuBuffer<u32>, q: &GpuBuffer<u32>, bytes: bool, out: &GpuBuffer) {
    let n = out.len();
    launch!(out.gpu(), delta_e_rgb_kernel, units(n), p.arg(), p.arg(), q.arg(), q.arg(), out.arg(), n, bytes);
}
