//! Sums that a covariance is made of: of rows less a shift, `c_i = x_i - s`, the column sums `sum c_i` and the products
//! `sum c_i c_i^T`.
//!
//! With a shift near the mean nothing is cancelled. Operations: `2 d^2` per row, as one weight gradient of a 1x1
//! convolution with itself; bytes: `4 d` per row read and written, then read twice.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::conv::{ConvOptions, conv2d_backward_bias, conv2d_backward_weight};
use crate::device::{Buffer, Device, View, ViewMut, launch, place, units};
use crate::error::{Result, shape_error};
use crate::simd::{by_registers, lanes_fn};

const OP: &str = "covariance";

/// Rows that one task takes.
const ROWS: usize = 64;

lanes_fn! {
    fn centre_part<L>(x: &[f32], shift: &[f32], y: &mut [f32]) {
        let d = shift.len();
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            by_registers!(L, d, |part| {
                zero.read(&x[part.clone()]).sub(zero.read(&shift[part.clone()])).write(&mut y[part]);
            });
        }
    }
}

#[cube(launch_unchecked)]
fn centre_kernel(x: &Array<f32>, shift: &Array<f32>, y: &mut Array<f32>, total: usize, d: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        y[at] = x[at] - shift[at % d];
    }
}

/// `y = x - shift`, row by row of `shift.len()`.
fn centre(x: View, shift: View, y: ViewMut) -> Result<()> {
    let d = shift.len();
    match place(OP, &[&x, &shift, &y])? {
        None => {
            let parts = y.host().par_chunks_mut(ROWS * d).zip(x.host().par_chunks(ROWS * d));
            let shift = shift.host();
            parts.for_each(|(y, x)| centre_part(x, shift, y));
        }
        Some(gpu) => {
            let total = y.len();
            launch!(
                gpu,
                centre_kernel,
                units(total),
                x.device().arg(),
                shift.device().arg(),
                y.device().arg(),
                total,
                d
            );
        }
    }
    Ok(())
}

/// Column sums `[d]` and products `[d][d]` of the rows `x` `[n][d]` less `shift` `[d]`, which lie on `device`.
///
/// # Errors
/// When lengths or devices do not fit, or the device is out of memory.
pub fn moments<'a>(x: impl Into<View<'a>>, shift: impl Into<View<'a>>, device: &Device) -> Result<(Buffer, Buffer)> {
    let (x, shift) = (x.into(), shift.into());
    let d = shift.len();
    if d == 0 || !x.len().is_multiple_of(d) {
        return shape_error(OP, format!("{} values are no rows of {d}", x.len()));
    }
    let rows = [1, 1, x.len() / d, d];
    let mut centred = device.alloc(x.len())?;
    centre(x, shift, (&mut centred).into())?;
    let (mut sums, mut products) = (device.zeros(d)?, device.zeros(d * d)?);
    conv2d_backward_bias(&centred, rows, &mut sums)?;
    conv2d_backward_weight(&centred, rows, &centred, [d, 1, 1, d], ConvOptions::default(), &mut products)?;
    Ok((sums, products))
}
