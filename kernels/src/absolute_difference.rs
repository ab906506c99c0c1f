//! Mean absolute or squared difference over channels: the anomaly map of a reconstruction.
//!
//! `map[n, j, i] = (1/c) * sum over channels of |x - y|`, or of `(x - y)^2`. Bytes: 8 read per element, 4 written per pixel.

use cubecl::prelude::*;
use rayon::prelude::*;

use crate::device::{View, ViewMut, launch, place, units};
use crate::error::{Result, check_len};
use crate::shape::Nhwc;

/// Writes the map, `[n, h, w]`, of two batches of shape `shape`.
///
/// # Errors
/// When lengths or devices do not fit together.
pub fn mean_absolute_difference<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    shape: Nhwc,
    map: impl Into<ViewMut<'a>>,
) -> Result<()> {
    mean_difference(x.into(), y.into(), shape, map.into(), false)
}

/// [`mean_absolute_difference`] with squares for absolute values.
///
/// # Errors
/// When lengths or devices do not fit together.
pub fn mean_squared_difference<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    shape: Nhwc,
    map: impl Into<ViewMut<'a>>,
) -> Result<()> {
    mean_difference(x.into(), y.into(), shape, map.into(), true)
}

fn mean_difference(x: View, y: View, shape: Nhwc, map: ViewMut, squared: bool) -> Result<()> {
    const OP: &str = "residual";
    let [n, h, w, c] = shape;
    let pixels = n * h * w;
    check_len(OP, "x", x.len(), pixels * c)?;
    check_len(OP, "y", y.len(), pixels * c)?;
    check_len(OP, "map", map.len(), pixels)?;
    match place(OP, &[&x, &y, &map])? {
        None => {
            let pairs = x.host().par_chunks_exact(c).zip(y.host().par_chunks_exact(c));
            map.host().par_iter_mut().zip(pairs).with_min_len(1 << 12).for_each(|(m, (x, y))| {
                let differences = x.iter().zip(y).map(|(x, y)| x - y);
                let sum: f32 = if squared { differences.map(|d| d * d).sum() } else { differences.map(f32::abs).sum() };
                *m = sum / c as f32;
            });
        }
        Some(gpu) => {
            let (x, y, map) = (x.device(), y.device(), map.device());
            launch!(gpu, residual_kernel, units(pixels), x.arg(), y.arg(), map.arg(), pixels, c, squared);
        }
    }
    Ok(())
}

#[cube(launch_unchecked)]
fn residual_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    map: &mut Array<f32>,
    pixels: usize,
    c: usize,
    #[comptime] squared: bool,
) {
    let at = ABSOLUTE_POS;
    if at < pixels {
        let mut sum = f32::new(0.0);
        for k in 0..c {
            let d = x[at * c + k] - y[at * c + k];
            sum += if comptime!(squared) { d * d } else { d.abs() };
        }
        map[at] = sum / f32::cast_from(c);
    }
}
