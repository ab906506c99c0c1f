//! Colour taken apart and put together again: what a network that colours gray images learns from and
//! is judged by (Katafuchi and Tokunaga 2021; LEA-Net, section 3-1).
//!
//! Lightness is L / 100; colour is (a + 128) / 255 and (b + 128) / 255, two values per pixel, so that
//! all are in 0..1. The colour difference is CIEDE2000 between a pixel and its own lightness under the
//! predicted colour, in one pass from sRGB: bytes per pixel 3 (from u8) or 12, and 8, read, 4 written.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::ciede2000::{delta_e, delta_e_block};
use crate::colour::{
    BLOCK, Lab, Planes, SrgbValue, join, lab_to_rgb, linear_to_lab, load_linear, planes_to_lab, planes_to_rgb,
};
use crate::device::{GpuBuffer, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};

/// a or b from 0..1 to -128..127.
#[cube]
#[inline(always)]
pub fn colour_from_unit(v: f32) -> f32 {
    255.0 * v - 128.0
}

/// a or b from -128..127 to 0..1.
#[cube]
#[inline(always)]
pub fn colour_to_unit(v: f32) -> f32 {
    (v + 128.0) / 255.0
}

/// Lab planes of up to a block of sRGB pixels.
fn lab_planes<T: SrgbValue>(rgb: &[T]) -> Planes {
    let mut planes = [[0.0; BLOCK]; 3];
    T::load_linear(rgb, &mut planes);
    planes_to_lab(&mut planes);
    planes
}

/// Puts the predicted colour into Lab planes.
fn put_colour(ab: &[f32], planes: &mut Planes) {
    for (i, p) in ab.chunks_exact(2).enumerate() {
        (planes[1][i], planes[2][i]) = (colour_from_unit(p[0]), colour_from_unit(p[1]));
    }
}

/// Takes sRGB pixels (f32 in 0..1, or u8) apart into lightness, one value, and colour, two.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn split_colour<'a, T: SrgbValue>(
    rgb: impl Into<View<'a, T>>,
    lightness: impl Into<ViewMut<'a>>,
    colour: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "split_colour";
    let (rgb, lightness, colour) = (rgb.into(), lightness.into(), colour.into());
    let n = lightness.len();
    check_len(OP, "image", rgb.len(), 3 * n)?;
    check_len(OP, "colour", colour.len(), 2 * n)?;
    match place(OP, &[&rgb, &lightness, &colour])? {
        None => {
            let outputs = lightness.host().par_chunks_mut(BLOCK).zip(colour.host().par_chunks_mut(2 * BLOCK));
            outputs.zip(rgb.host().par_chunks(3 * BLOCK)).with_min_len(16).for_each(|((l, ab), rgb)| {
                let planes = lab_planes(rgb);
                for (i, (l, ab)) in l.iter_mut().zip(ab.chunks_exact_mut(2)).enumerate() {
                    *l = planes[0][i] / 100.0;
                    (ab[0], ab[1]) = (colour_to_unit(planes[1][i]), colour_to_unit(planes[2][i]));
                }
            });
        }
        Some(_) => split_on_gpu(&rgb.device().words(), T::BYTES, lightness.device(), colour.device()),
    }
    Ok(())
}

fn split_on_gpu(rgb: &GpuBuffer<u32>, bytes: bool, lightness: &GpuBuffer, colour: &GpuBuffer) {
    let n = lightness.len();
    launch!(rgb.gpu(), split_kernel, units(n), rgb.arg(), rgb.arg(), lightness.arg(), colour.arg(), n, bytes);
}

#[cube(launch_unchecked)]
fn split_kernel(
    bytes: &Array<u32>,
    floats: &Array<f32>,
    lightness: &mut Array<f32>,
    colour: &mut Array<f32>,
    pixels: usize,
    #[comptime] from_bytes: bool,
) {
    let at = ABSOLUTE_POS;
    if at < pixels {
        let lab = linear_to_lab(load_linear(bytes, floats, at, from_bytes));
        lightness[at] = lab.l / 100.0;
        colour[2 * at] = colour_to_unit(lab.a);
        colour[2 * at + 1] = colour_to_unit(lab.b);
    }
}

/// scale * delta E between sRGB pixels and themselves under another colour.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn recolour_difference<'a, T: SrgbValue>(
    rgb: impl Into<View<'a, T>>,
    colour: impl Into<View<'a>>,
    scale: f32,
    map: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "recolour_difference";
    let (rgb, colour, map) = (rgb.into(), colour.into(), map.into());
    let n = map.len();
    check_len(OP, "image", rgb.len(), 3 * n)?;
    check_len(OP, "colour", colour.len(), 2 * n)?;
    match place(OP, &[&rgb, &colour, &map])? {
        None => {
            let inputs = rgb.host().par_chunks(3 * BLOCK).zip(colour.host().par_chunks(2 * BLOCK));
            map.host().par_chunks_mut(BLOCK).zip(inputs).with_min_len(16).for_each(|(map, (rgb, ab))| {
                let own = lab_planes(rgb);
                let (mut other, mut delta) = (own, [0.0; BLOCK]);
                put_colour(ab, &mut other);
                delta_e_block(&own, &other, &mut delta);
                map.iter_mut().zip(delta).for_each(|(m, d)| *m = scale * d);
            });
        }
        Some(_) => difference_on_gpu(&rgb.device().words(), T::BYTES, colour.device(), scale, map.device()),
    }
    Ok(())
}

fn difference_on_gpu(rgb: &GpuBuffer<u32>, bytes: bool, ab: &GpuBuffer, scale: f32, map: &GpuBuffer) {
    let n = map.len();
    launch!(rgb.gpu(), difference_kernel, units(n), rgb.arg(), rgb.arg(), ab.arg(), map.arg(), n, scale, bytes);
}

#[cube(launch_unchecked)]
fn difference_kernel(
    bytes: &Array<u32>,
    floats: &Array<f32>,
    colour: &Array<f32>,
    map: &mut Array<f32>,
    pixels: usize,
    scale: f32,
    #[comptime] from_bytes: bool,
) {
    let at = ABSOLUTE_POS;
    if at < pixels {
        let own = linear_to_lab(load_linear(bytes, floats, at, from_bytes));
        let other = Lab { l: own.l, a: colour_from_unit(colour[2 * at]), b: colour_from_unit(colour[2 * at + 1]) };
        map[at] = scale * delta_e(own, other);
    }
}

/// sRGB pixels with their own lightness and another colour, in 0..1.
///
/// # Errors
/// When lengths or devices do not fit.
pub fn recolour<'a, T: SrgbValue>(
    rgb: impl Into<View<'a, T>>,
    colour: impl Into<View<'a>>,
    out: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "recolour";
    let (rgb, colour, out) = (rgb.into(), colour.into(), out.into());
    let n = rgb.len() / 3;
    check_len(OP, "output", out.len(), rgb.len())?;
    check_len(OP, "colour", colour.len(), 2 * n)?;
    match place(OP, &[&rgb, &colour, &out])? {
        None => {
            let inputs = rgb.host().par_chunks(3 * BLOCK).zip(colour.host().par_chunks(2 * BLOCK));
            out.host().par_chunks_mut(3 * BLOCK).zip(inputs).with_min_len(16).for_each(|(out, (rgb, ab))| {
                let mut planes = lab_planes(rgb);
                put_colour(ab, &mut planes);
                planes_to_rgb(&mut planes);
                join(&planes, out);
            });
        }
        Some(_) => recolour_on_gpu(&rgb.device().words(), T::BYTES, colour.device(), out.device()),
    }
    Ok(())
}

fn recolour_on_gpu(rgb: &GpuBuffer<u32>, bytes: bool, ab: &GpuBuffer, out: &GpuBuffer) {
    let n = out.len() / 3;
    launch!(rgb.gpu(), recolour_kernel, units(n), rgb.arg(), rgb.arg(), ab.arg(), out.arg(), n, bytes);
}

#[cube(launch_unchecked)]
fn recolour_kernel(
    bytes: &Array<u32>,
    floats: &Array<f32>,
    colour: &Array<f32>,
    out: &mut Array<f32>,
    pixels: usize,
    #[comptime] from_bytes: bool,
) {
    let at = ABSOLUTE_POS;
    if at < pixels {
        let own = linear_to_lab(load_linear(bytes, floats, at, from_bytes));
        let lab = Lab { l: own.l, a: colour_from_unit(colour[2 * at]), b: colour_from_unit(colour[2 * at + 1]) };
        let rgb = lab_to_rgb(lab);
        out[3 * at] = rgb.r;
        out[3 * at + 1] = rgb.g;
        out[3 * at + 2] = rgb.b;
    }
}
