//! Sums that a covariance is made of: of rows less a shift, `c_i = x_i - s`, the column sums `sum c_i` and the products
//! `sum c_i c_i^T`.
//!
//! With a shift near the mean nothing is cancelled. On the CPU `d^2` operations and `4 d` bytes per row, and memory for half of
//! the products twice (cpu.rs). On a GPU
//! a weight gradient of a 1x1 convolution of the centred rows with themselves: `2 d^2` operations, and `4 d` bytes per row
//! read and written, then read twice.

mod cpu;

use cubecl::prelude::*;

use crate::conv::{ConvOptions, conv2d_backward_bias, conv2d_backward_weight};
use crate::device::{Buffer, Device, Gpu, View, ViewMut, launch, place, units};
use crate::error::{Result, shape_error};

const OP: &str = "covariance";

#[cube(launch_unchecked)]
fn centre_kernel(x: &Array<f32>, shift: &Array<f32>, y: &mut Array<f32>, total: usize, d: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        y[at] = x[at] - shift[at % d];
    }
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
    let (mut sums, mut products) = (device.zeros(d)?, device.zeros(d * d)?);
    let [sums_view, products_view] = [&mut sums, &mut products].map(ViewMut::from);
    match place(OP, &[&x, &shift, &sums_view, &products_view])? {
        None => cpu::add_moments(x.host(), shift.host(), sums_view.host(), products_view.host()),
        Some(gpu) => {
            let rows = [1, 1, x.len() / d, d];
            let centred = centre(&gpu, &x, &shift, device)?;
            conv2d_backward_bias(&centred, rows, &mut sums)?;
            conv2d_backward_weight(&centred, rows, &centred, [d, 1, 1, d], ConvOptions::default(), &mut products)?;
        }
    }
    Ok((sums, products))
}

/// The rows less the shift.
fn centre(gpu: &Gpu, x: &View, shift: &View, device: &Device) -> Result<Buffer> {
    let (total, d) = (x.len(), shift.len());
    let mut centred = device.alloc(total)?;
    let y = ViewMut::from(&mut centred);
    launch!(gpu, centre_kernel, units(total), x.device().arg(), shift.device().arg(), y.device().arg(), total, d);
    Ok(centred)
}
