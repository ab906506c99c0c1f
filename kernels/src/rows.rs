//! Copies of whole rows from one place to another. Bytes: 4 read and 4 written per element.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, shape_error};

/// Writes `len` elements of `from`, beginning with `from_at`, to `to`, beginning with `to_at`.
///
/// # Errors
/// When they reach beyond an end, or devices do not fit.
#[outlined]
pub fn copy_range<'a>(
    from: impl Into<View<'a>>,
    from_at: usize,
    to: impl Into<ViewMut<'a>>,
    to_at: usize,
    len: usize,
) -> Result<()> {
    const OP: &str = "copy_range";
    if from_at + len > from.len() || to_at + len > to.len() {
        let places = format!("from {from_at} of {} to {to_at} of {}", from.len(), to.len());
        return shape_error(OP, format!("{len} elements {places}"));
    }
    match place(OP, &[&from, &to])? {
        None => to.host()[to_at..to_at + len].copy_from_slice(&from.host()[from_at..from_at + len]),
        Some(gpu) => {
            launch!(gpu, range_kernel, units(len), from.device().arg(), to.device().arg(), from_at, to_at, len);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn range_kernel(from: &Array<f32>, to: &mut Array<f32>, from_at: usize, to_at: usize, len: usize) {
    let at = ABSOLUTE_POS;
    if at < len {
        to[to_at + at] = from[from_at + at];
    }
}
