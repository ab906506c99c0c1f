//! Joining two maps on their channels, and splitting a map in two (the gradient of joining).
//!
//! Bytes: every value read once and written once.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len, shape_error};

/// Pixels of a map of `len` values with `c` channels.
fn pixels(op: &'static str, len: usize, c: usize) -> Result<usize> {
    match len.checked_div(c) {
        Some(n) if n * c == len => Ok(n),
        _ => shape_error(op, format!("{len} values are no pixels of {c} channels")),
    }
}

/// `y[p] = [a[p], b[p]]` for maps of so many channels.
///
/// # Errors
/// When the maps have different numbers of pixels, or devices differ.
#[outlined]
pub fn concat_channels<'a>(
    a: impl Into<View<'a>>,
    b: impl Into<View<'a>>,
    channels: [usize; 2],
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "concat_channels";
    let [ca, cb] = channels;
    let n = pixels(OP, a.len(), ca)?;
    check_len(OP, "second map", b.len(), n * cb)?;
    check_len(OP, "output", y.len(), n * (ca + cb))?;
    match place(OP, &[&a, &b, &y])? {
        None => {
            let inputs = a.host().par_chunks(ca.max(1)).zip(b.host().par_chunks(cb.max(1)));
            y.host().par_chunks_mut((ca + cb).max(1)).zip(inputs).with_min_len(64).for_each(|(y, (a, b))| {
                y[..ca].copy_from_slice(a);
                y[ca..].copy_from_slice(b);
            });
        }
        Some(gpu) => {
            let total = y.len();
            let (a, b, y) = (a.device(), b.device(), y.device());
            launch!(gpu, concat_kernel, units(total), a.arg(), b.arg(), y.arg(), total, ca, cb);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn concat_kernel(a: &Array<f32>, b: &Array<f32>, y: &mut Array<f32>, total: usize, ca: usize, cb: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let (p, k) = (at / (ca + cb), at % (ca + cb));
        if k < ca {
            y[at] = a[p * ca + k];
        } else {
            y[at] = b[p * cb + k - ca];
        }
    }
}

/// The reverse: writes both maps, of so many channels, from the joined one.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn split_channels<'a>(
    y: impl Into<View<'a>>,
    channels: [usize; 2],
    a: impl Into<ViewMut<'a>>,
    b: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "split_channels";
    let [ca, cb] = channels;
    let n = pixels(OP, y.len(), ca + cb)?;
    check_len(OP, "first map", a.len(), n * ca)?;
    check_len(OP, "second map", b.len(), n * cb)?;
    match place(OP, &[&y, &a, &b])? {
        None => {
            let outputs = a.host().par_chunks_mut(ca.max(1)).zip(b.host().par_chunks_mut(cb.max(1)));
            outputs.zip(y.host().par_chunks((ca + cb).max(1))).with_min_len(64).for_each(|((a, b), y)| {
                a.copy_from_slice(&y[..ca]);
                b.copy_from_slice(&y[ca..]);
            });
        }
        Some(gpu) => {
            let total = y.len();
            let (y, a, b) = (y.device(), a.device(), b.device());
            launch!(gpu, split_kernel, units(total), y.arg(), a.arg(), b.arg(), total, ca, cb);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn split_kernel(y: &Array<f32>, a: &mut Array<f32>, b: &mut Array<f32>, total: usize, ca: usize, cb: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let (p, k) = (at / (ca + cb), at % (ca + cb));
        if k < ca {
            a[p * ca + k] = y[at];
        } else {
            b[p * cb + k - ca] = y[at];
        }
    }
}
