//! sRGB to CIE Lab and back (IEC 61966-2-1; D65, 2 degree observer), matrices as scikit-image has them.
//!
//! Pixels are interleaved triples. Bytes: 12 read (3 from u8) and 12 written per pixel.

#![allow(clippy::excessive_precision)] // coefficients as published

use std::sync::LazyLock;

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{Element, GpuBuffer, View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::math;
use crate::simd::{Lanes, Wide, formulas, lanes_fn};

formulas! {
    /// A colour in CIE Lab.
    pub struct Lab {
        /// Lightness, 0..100.
        l,
        /// Green to red.
        a,
        /// Blue to yellow.
        b,
    }

    /// A colour in RGB.
    pub struct Rgb {
        /// Red.
        r,
        /// Green.
        g,
        /// Blue.
        b,
    }

    /// Linear light of one sRGB value: c > 0.04045 ? ((c + 0.055) / 1.055)^2.4 : c / 12.92.
    pub fn srgb_to_linear(c: f32) -> f32 {
        let power = math::exp(2.4 * math::ln((math::max(c, 0.04) + 0.055) / 1.055));
        math::above(c, 0.04045, power, c / 12.92)
    }

    /// sRGB value of linear light: c > 0.0031308 ? 1.055 c^(1/2.4) - 0.055 : 12.92 c, clipped to 0..1.
    pub fn linear_to_srgb(c: f32) -> f32 {
        let power = 1.055 * math::exp(math::ln(math::max(c, 0.003)) / 2.4) - 0.055;
        let s = math::max(math::above(c, 0.003_130_8, power, 12.92 * c), 0.0);
        math::above(s, 1.0, 1.0, s)
    }

    /// f(t) = t > 0.008856 ? cbrt t : 7.787 t + 16/116.
    pub fn lab_curve(t: f32) -> f32 {
        math::above(t, 0.008_856, math::cbrt(math::max(t, 0.008)), 7.787 * t + 0.137_931_034)
    }

    /// Inverse of [`lab_curve()`].
    pub fn lab_curve_inverse(f: f32) -> f32 {
        math::above(f, 0.206_896_6, f * f * f, (f - 0.137_931_034) / 7.787)
    }

    /// Lab of linear RGB: L = 116 fy - 16, a = 500 (fx - fy), b = 200 (fy - fz).
    pub fn linear_to_lab(c: Rgb) -> Lab {
        let x = 0.412_453 * c.r + 0.357_580 * c.g + 0.180_423 * c.b;
        let y = 0.212_671 * c.r + 0.715_160 * c.g + 0.072_169 * c.b;
        let z = 0.019_334 * c.r + 0.119_193 * c.g + 0.950_227 * c.b;
        let fx = lab_curve(x / 0.950_47);
        let fy = lab_curve(y);
        let fz = lab_curve(z / 1.088_83);
        Lab { l: 116.0 * fy - 16.0, a: 500.0 * (fx - fy), b: 200.0 * (fy - fz) }
    }

    /// sRGB of Lab, clipped to 0..1; fz is not below 0.
    pub fn lab_to_rgb(c: Lab) -> Rgb {
        let fy = (c.l + 16.0) / 116.0;
        let x = 0.950_47 * lab_curve_inverse(c.a / 500.0 + fy);
        let y = lab_curve_inverse(fy);
        let z = 1.088_83 * lab_curve_inverse(math::max(fy - c.b / 200.0, 0.0));
        Rgb {
            r: linear_to_srgb(3.240_481_34 * x - 1.537_151_52 * y - 0.498_536_33 * z),
            g: linear_to_srgb(-0.969_254_95 * x + 1.875_990_00 * y + 0.041_555_93 * z),
            b: linear_to_srgb(0.055_646_64 * x - 0.204_041_34 * y + 1.057_311_07 * z),
        }
    }
}

/// Pixels that are converted together.
pub(crate) const BLOCK: usize = 64;

/// Pixels of one block, plane by plane.
pub(crate) type Planes = [[f32; BLOCK]; 3];

/// A pixel format that can be read as linear RGB.
pub trait SrgbValue: Element {
    /// Whether it is a byte.
    const BYTES: bool;

    /// Loads up to a block of interleaved pixels as linear light.
    fn load_linear(pixels: &[Self], planes: &mut Planes)
    where
        Self: Sized;
}

impl SrgbValue for f32 {
    const BYTES: bool = false;

    fn load_linear(pixels: &[f32], planes: &mut Planes) {
        split(pixels, planes);
        decode(planes);
    }
}

/// Linear light of each 8-bit value.
static LINEAR: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let c = i as f64 / 255.0;
        (if c > 0.04045 { ((c + 0.055) / 1.055).powf(2.4) } else { c / 12.92 }) as f32
    })
});

impl SrgbValue for u8 {
    const BYTES: bool = true;

    fn load_linear(pixels: &[u8], planes: &mut Planes) {
        let table = &*LINEAR;
        let [r, g, b] = planes;
        for (i, p) in pixels.chunks_exact(3).enumerate().take(BLOCK) {
            (r[i], g[i], b[i]) = (table[usize::from(p[0])], table[usize::from(p[1])], table[usize::from(p[2])]);
        }
    }
}

/// Interleaved pixels to planes.
pub(crate) fn split(pixels: &[f32], planes: &mut Planes) {
    let [a, b, c] = planes;
    for (i, p) in pixels.chunks_exact(3).enumerate().take(BLOCK) {
        (a[i], b[i], c[i]) = (p[0], p[1], p[2]);
    }
}

/// Planes to interleaved pixels.
pub(crate) fn join(planes: &Planes, pixels: &mut [f32]) {
    for (i, p) in pixels.chunks_exact_mut(3).enumerate().take(BLOCK) {
        (p[0], p[1], p[2]) = (planes[0][i], planes[1][i], planes[2][i]);
    }
}

/// A register of each plane from `at` on.
#[inline(always)]
pub(crate) fn read<L: Lanes>(zero: L, planes: &Planes, at: usize) -> [Wide<L>; 3] {
    let [a, b, c] = planes;
    [Wide(zero.read(&a[at..])), Wide(zero.read(&b[at..])), Wide(zero.read(&c[at..]))]
}

/// Writes a register of each plane from `at` on.
#[inline(always)]
fn write<L: Lanes>(values: [Wide<L>; 3], planes: &mut Planes, at: usize) {
    for (value, plane) in values.into_iter().zip(planes) {
        value.0.write(&mut plane[at..]);
    }
}

lanes_fn! {
    fn decode<L>(planes: &mut Planes) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for at in (0..BLOCK).step_by(L::WIDTH) {
            let [r, g, b] = read(zero, planes, at);
            write([wide::srgb_to_linear(r), wide::srgb_to_linear(g), wide::srgb_to_linear(b)], planes, at);
        }
    }
}

lanes_fn! {
    /// Linear RGB planes to Lab planes, in place.
    pub(crate) fn planes_to_lab<L>(planes: &mut Planes) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for at in (0..BLOCK).step_by(L::WIDTH) {
            let [r, g, b] = read(zero, planes, at);
            let lab = wide::linear_to_lab(wide::Rgb { r, g, b });
            write([lab.l, lab.a, lab.b], planes, at);
        }
    }
}

lanes_fn! {
    pub(crate) fn planes_to_rgb<L>(planes: &mut Planes) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for at in (0..BLOCK).step_by(L::WIDTH) {
            let [l, a, b] = read(zero, planes, at);
            let rgb = wide::lab_to_rgb(wide::Lab { l, a, b });
            write([rgb.r, rgb.g, rgb.b], planes, at);
        }
    }
}

/// The red, green and blue of one pixel as linear light, from bytes four to a word or from floats.
#[cube]
pub(crate) fn load_linear(bytes: &Array<u32>, floats: &Array<f32>, pixel: usize, #[comptime] from_bytes: bool) -> Rgb {
    let at = 3 * pixel;
    if comptime!(from_bytes) {
        Rgb {
            r: srgb_to_linear(byte(bytes, at)),
            g: srgb_to_linear(byte(bytes, at + 1)),
            b: srgb_to_linear(byte(bytes, at + 2)),
        }
    } else {
        Rgb { r: srgb_to_linear(floats[at]), g: srgb_to_linear(floats[at + 1]), b: srgb_to_linear(floats[at + 2]) }
    }
}

/// Byte `at` of words of four, as 0..1.
#[cube]
fn byte(words: &Array<u32>, at: usize) -> f32 {
    let value = (words[at / 4] >> (8 * (at % 4) as u32)) & 255u32;
    f32::cast_from(value) / 255.0
}

#[cube(launch_unchecked)]
fn srgb_to_lab_kernel(
    bytes: &Array<u32>,
    floats: &Array<f32>,
    lab: &mut Array<f32>,
    pixels: usize,
    #[comptime] from_bytes: bool,
) {
    let at = ABSOLUTE_POS;
    if at < pixels {
        let c = linear_to_lab(load_linear(bytes, floats, at, from_bytes));
        lab[3 * at] = c.l;
        lab[3 * at + 1] = c.a;
        lab[3 * at + 2] = c.b;
    }
}

#[cube(launch_unchecked)]
fn lab_to_srgb_kernel(lab: &Array<f32>, rgb: &mut Array<f32>, pixels: usize) {
    let at = ABSOLUTE_POS;
    if at < pixels {
        let c = lab_to_rgb(Lab { l: lab[3 * at], a: lab[3 * at + 1], b: lab[3 * at + 2] });
        rgb[3 * at] = c.r;
        rgb[3 * at + 1] = c.g;
        rgb[3 * at + 2] = c.b;
    }
}

/// sRGB pixels (f32 in 0..1, or u8) to Lab.
///
/// # Errors
/// When lengths or devices differ.
pub fn srgb_to_lab<'a, T: SrgbValue>(rgb: impl Into<View<'a, T>>, lab: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "srgb_to_lab";
    let (rgb, lab) = (rgb.into(), lab.into());
    check_len(OP, "lab", lab.len(), rgb.len())?;
    match place(OP, &[&rgb, &lab])? {
        None => {
            let blocks = lab.host().par_chunks_mut(3 * BLOCK).zip(rgb.host().par_chunks(3 * BLOCK));
            blocks.with_min_len(16).for_each(|(lab, rgb)| {
                let mut planes = [[0.0; BLOCK]; 3];
                T::load_linear(rgb, &mut planes);
                planes_to_lab(&mut planes);
                join(&planes, lab);
            });
        }
        Some(_) => to_lab_on_gpu(&rgb.device().words(), T::BYTES, lab.device()),
    }
    Ok(())
}

fn to_lab_on_gpu(rgb: &GpuBuffer<u32>, bytes: bool, lab: &GpuBuffer) {
    let pixels = lab.len() / 3;
    launch!(rgb.gpu(), srgb_to_lab_kernel, units(pixels), rgb.arg(), rgb.arg(), lab.arg(), pixels, bytes);
}

/// Lab to sRGB in 0..1.
///
/// # Errors
/// When lengths or devices differ.
#[outlined]
pub fn lab_to_srgb<'a>(lab: impl Into<View<'a>>, rgb: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "lab_to_srgb";
    check_len(OP, "rgb", rgb.len(), lab.len())?;
    match place(OP, &[&lab, &rgb])? {
        None => {
            let blocks = rgb.host().par_chunks_mut(3 * BLOCK).zip(lab.host().par_chunks(3 * BLOCK));
            blocks.with_min_len(16).for_each(|(rgb, lab)| {
                let mut planes = [[0.0; BLOCK]; 3];
                split(lab, &mut planes);
                planes_to_rgb(&mut planes);
                join(&planes, rgb);
            });
        }
        Some(gpu) => {
            let pixels = lab.len() / 3;
            launch!(gpu, lab_to_srgb_kernel, units(pixels), lab.device().arg(), rgb.device().arg(), pixels);
        }
    }
    Ok(())
}
