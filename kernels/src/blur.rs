//! Gaussian blur of NHWC maps: separable, any radius, also larger than the image.
//!
//! Weights exp(-i^2 / 2 sigma^2) for i = -radius..radius, made to sum to 1. Bytes: 4 read and 4
//! written per element; operations: `4 * (2 * radius + 1)`.

use rayon::prelude::*;

use crate::conv::Nhwc;
use crate::error::{Result, check_len};
use crate::window::{Border, Plan, Window, weighted_rows};

/// Blurs every channel; writes `y` of the shape of `x`. `border` is a mirroring one or zero.
///
/// # Errors
/// When lengths differ or the map is empty.
pub fn gaussian_blur(x: &[f32], shape: Nhwc, sigma: f32, radius: usize, border: Border, y: &mut [f32]) -> Result<()> {
    const OP: &str = "gaussian_blur";
    let plan = Plan::new(OP, shape, Window::Gaussian { size: 2 * radius + 1, sigma }, border)?;
    check_len(OP, "input", x.len(), shape.iter().product())?;
    check_len(OP, "output", y.len(), shape[0] * plan.out_h * plan.out_len())?;
    let image = plan.h * plan.row_len();
    y.par_chunks_mut(plan.out_len()).with_min_len(8).enumerate().for_each_init(
        || plan.line(),
        |line, (at, out)| {
            let (n, j) = (at / plan.out_h, at % plan.out_h);
            weighted_rows(&plan.rows[j], &x[n * image..(n + 1) * image], plan.centre(line));
            plan.horizontal(line, out);
        },
    );
    Ok(())
}
