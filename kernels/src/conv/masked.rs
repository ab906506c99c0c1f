//! Masks of inpainting: masked input, checkerboards, and putting a picture together (I3AD, sections 2.2
//! and 2.4).
//!
//! A mask has one value for each pixel, 1 where something is to be made up. Every pass reads and writes
//! each element once.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{Buffer, View, ViewMut, launch, mixed, place, units};
use crate::error::{Result, check_len, shape_error};

/// Channels of a masked input: three colours, ones, the mask.
pub const MASKED_CHANNELS: usize = 5;

/// Channel `channel` of a masked input.
#[cube]
#[inline(always)]
pub fn masked(colour: f32, mask: f32, channel: usize) -> f32 {
    select(channel < 3, colour * (1.0 - mask), select(channel == 3, f32::new(1.0), mask))
}

/// `[rgb * (1 - mask), 1, mask]` for every pixel, as backward passes need it.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn masked_input<'a>(rgb: impl Into<View<'a>>, mask: impl Into<View<'a>>) -> Result<Buffer> {
    const OP: &str = "masked_input";
    check_len(OP, "colours", rgb.len(), 3 * mask.len())?;
    match (rgb, mask) {
        (View::Host(rgb), View::Host(mask)) => {
            let mut out = vec![0.0; MASKED_CHANNELS * mask.len()];
            for (at, v) in out.iter_mut().enumerate() {
                let (pixel, channel) = (at / MASKED_CHANNELS, at % MASKED_CHANNELS);
                *v = masked(rgb[3 * pixel + channel.min(2)], mask[pixel], channel);
            }
            Ok(Buffer::Host(out.into()))
        }
        (View::Gpu(rgb), View::Gpu(mask)) if rgb.gpu().is(mask.gpu()) => {
            let n = MASKED_CHANNELS * mask.len();
            let out = rgb.gpu().alloc(n)?;
            launch!(rgb.gpu(), masked_kernel, units(n), rgb.arg(), mask.arg(), out.arg(), n);
            Ok(Buffer::Gpu(out))
        }
        _ => mixed(OP),
    }
}

#[cube(launch_unchecked)]
fn masked_kernel(rgb: &Array<f32>, mask: &Array<f32>, out: &mut Array<f32>, n: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let (pixel, channel) = (at / 5, at % 5);
        out[at] = masked(rgb[3 * pixel + usize::min(channel, 2)], mask[pixel], channel);
    }
}

/// Gradient of the colours from that of a masked input (`[pixel][5]`).
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn masked_input_backward<'a>(
    grad: impl Into<View<'a>>,
    mask: impl Into<View<'a>>,
    d_rgb: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "masked_input_backward";
    check_len(OP, "gradient", grad.len(), MASKED_CHANNELS * mask.len())?;
    check_len(OP, "colour gradient", d_rgb.len(), 3 * mask.len())?;
    match place(OP, &[&grad, &mask, &d_rgb])? {
        None => {
            let (grad, mask) = (grad.host(), mask.host());
            for (at, d) in d_rgb.host().iter_mut().enumerate() {
                *d = grad[at / 3 * MASKED_CHANNELS + at % 3] * (1.0 - mask[at / 3]);
            }
        }
        Some(gpu) => {
            let n = d_rgb.len();
            launch!(
                gpu,
                masked_backward_kernel,
                units(n),
                grad.device().arg(),
                mask.device().arg(),
                d_rgb.device().arg(),
                n
            );
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn masked_backward_kernel(grad: &Array<f32>, mask: &Array<f32>, d_rgb: &mut Array<f32>, n: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        d_rgb[at] = grad[at / 3 * 5 + at % 3] * (1.0 - mask[at / 3]);
    }
}

/// The four checkerboard masks of images of `h` x `w` (I3AD, section 3.3): cells of `cell` pixels, the first beginning
/// `shift` pixels above and to the left of the image; pixel (i, j) in cell (r, c) is 1 in mask `(r mod 2) * 2 + c mod 2` and 0 in
/// the others. Writes `[images][4][h][w]`, the same for each image.
///
/// # Errors
/// When a size is 0 or the length does not fit.
#[outlined]
pub fn checkerboard_masks<'a>(
    h: usize,
    w: usize,
    cell: usize,
    shift: usize,
    masks: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "checkerboard_masks";
    if h * w * cell == 0 {
        return shape_error(OP, format!("{h}x{w} in cells of {cell}"));
    }
    check_len(OP, "masks", masks.len() % (4 * h * w), 0)?;
    match masks {
        ViewMut::Host(masks) => {
            for (at, m) in masks.iter_mut().enumerate() {
                let (mask, i, j) = (at / (h * w) % 4, at / w % h + shift, at % w + shift);
                *m = f32::from(u8::from(mask == i / cell % 2 * 2 + j / cell % 2));
            }
        }
        ViewMut::Gpu(masks) => {
            let n = masks.len();
            launch!(masks.gpu(), checkerboard_kernel, units(n), masks.arg(), n, h, w, cell, shift);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn checkerboard_kernel(masks: &mut Array<f32>, n: usize, h: usize, w: usize, cell: usize, shift: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let (mask, i, j) = (at / (h * w) % 4, at / w % h + shift, at % w + shift);
        let own = i / cell % 2 * 2 + j / cell % 2;
        masks[at] = select(mask == own, f32::new(1.0), f32::new(0.0));
    }
}

/// What a pixel is once what was made up is pasted into what is known.
#[cube]
#[inline(always)]
pub fn pasted(made: f32, known: f32, mask: f32) -> f32 {
    made * mask + known * (1.0 - mask)
}

/// `y = made * mask + known * (1 - mask)` for maps of any number of channels over the pixels of a mask.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn paste<'a>(
    made: impl Into<View<'a>>,
    known: impl Into<View<'a>>,
    mask: impl Into<View<'a>>,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "paste";
    let c = y.len() / mask.len().max(1);
    check_len(OP, "output", y.len(), c * mask.len())?;
    check_len(OP, "made", made.len(), y.len())?;
    check_len(OP, "known", known.len(), y.len())?;
    match place(OP, &[&made, &known, &mask, &y])? {
        None => {
            let (made, known, mask) = (made.host(), known.host(), mask.host());
            y.host().par_iter_mut().enumerate().with_min_len(1 << 13).for_each(|(at, y)| {
                *y = pasted(made[at], known[at], mask[at / c]);
            });
        }
        Some(gpu) => {
            let n = y.len();
            let (made, known, mask, y) = (made.device(), known.device(), mask.device(), y.device());
            launch!(gpu, paste_kernel, units(n), made.arg(), known.arg(), mask.arg(), y.arg(), n, c);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn paste_kernel(made: &Array<f32>, known: &Array<f32>, mask: &Array<f32>, y: &mut Array<f32>, n: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        y[at] = pasted(made[at], known[at], mask[at / c]);
    }
}

/// Gradient of [`paste`] with respect to what was made up: writes `grad * mask`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn paste_backward<'a>(
    grad: impl Into<View<'a>>,
    mask: impl Into<View<'a>>,
    d_made: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "paste_backward";
    let c = grad.len() / mask.len().max(1);
    check_len(OP, "gradient", grad.len(), c * mask.len())?;
    check_len(OP, "gradient of the made", d_made.len(), grad.len())?;
    match place(OP, &[&grad, &mask, &d_made])? {
        None => {
            let (grad, mask) = (grad.host(), mask.host());
            d_made.host().iter_mut().enumerate().for_each(|(at, d)| *d = grad[at] * mask[at / c]);
        }
        Some(gpu) => {
            let n = grad.len();
            let (grad, mask, d_made) = (grad.device(), mask.device(), d_made.device());
            launch!(gpu, paste_backward_kernel, units(n), grad.arg(), mask.arg(), d_made.arg(), n, c);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn paste_backward_kernel(grad: &Array<f32>, mask: &Array<f32>, d_made: &mut Array<f32>, n: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        d_made[at] = grad[at] * mask[at / c];
    }
}

/// One picture out of four that were made under checkerboard masks: each pixel comes from the one that
/// made it up. `made` has shape `[images, 4, h, w, c]`, `masks` `[4, h, w]`; writes `y`,
/// `[images, h, w, c]`.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn join_checkerboard<'a>(
    made: impl Into<View<'a>>,
    masks: impl Into<View<'a>>,
    channels: usize,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "join_checkerboard";
    let image = masks.len() / 4 * channels;
    check_len(OP, "masks", masks.len() % 4, 0)?;
    check_len(OP, "output", y.len() % image.max(1), 0)?;
    check_len(OP, "made", made.len(), 4 * y.len())?;
    match place(OP, &[&made, &masks, &y])? {
        None => {
            let (made, masks) = (made.host(), masks.host());
            let images = y.host().par_chunks_mut(image.max(1)).zip(made.par_chunks((4 * image).max(1)));
            images.for_each(|(y, made)| {
                for (at, y) in y.iter_mut().enumerate() {
                    *y = (0..4).map(|k| made[k * image + at] * masks[(k * image + at) / channels]).sum();
                }
            });
        }
        Some(gpu) => {
            let n = y.len();
            let (made, masks, y) = (made.device(), masks.device(), y.device());
            launch!(gpu, join_kernel, units(n), made.arg(), masks.arg(), y.arg(), n, image, channels);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn join_kernel(made: &Array<f32>, masks: &Array<f32>, y: &mut Array<f32>, n: usize, image: usize, c: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let (number, inside) = (at / image, at % image);
        let mut sum = f32::new(0.0);
        #[unroll]
        for k in 0..4usize {
            sum += made[(number * 4 + k) * image + inside] * masks[(k * image + inside) / c];
        }
        y[at] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_checkerboards_still_cover_every_pixel_once() {
        for (cell, shift) in [(7, 0), (7, 3), (8, 4), (5, 4)] {
            let mut masks = vec![f32::NAN; 2 * 4 * 400];
            checkerboard_masks(20, 20, cell, shift, &mut masks).expect("two images");
            let (masks, second) = masks.split_at(4 * 400);
            assert_eq!(masks, second, "every image has the same");
            for at in 0..400 {
                assert_eq!((0..4).map(|k| masks[k * 400 + at]).sum::<f32>(), 1.0);
                let (row, column) = ((at / 20 + shift) / cell % 2, (at % 20 + shift) / cell % 2);
                assert_eq!(masks[(2 * row + column) * 400 + at], 1.0, "cells of {cell} moved by {shift}");
            }
        }
        assert!(checkerboard_masks(4, 4, 2, 0, &mut vec![0.0; 4 * 16 + 1]).is_err(), "no whole image");
    }
}
