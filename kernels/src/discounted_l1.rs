//! Spatially discounted L1 (Yu et al. 2018, section 3.2; I3AD, section 2.2): far inside a hole many
//! fillings are right, so an error there weighs less.
//!
//! `loss = mean of weight * |x - y|`, weight = gamma^l in the hole, l = Euclidean distance in pixels to the
//! nearest known pixel. The weights are made on the host along with the masks, by the exact distance
//! transform of Felzenszwalb and Huttenlocher (2012): two passes of lower envelopes of parabolas. Bytes of
//! the loss: 8 read and 4 written per element, 4 read per pixel.

use cubecl::prelude::*;
use hotad_kernels_macros::outlined;
use rayon::prelude::*;

use crate::device::{UNITS, View, ViewMut, grid, launch, place};
use crate::error::{Result, check_len, shape_error};
use crate::loss::absolute_error_slope;
use crate::reduce::{cube_sum, group_sums};

/// Farther than any pixel of an image.
const FAR: f64 = 1e12;

/// Lower envelope of the parabolas `(q - p)^2 + heights[p]`, at every q, in place.
fn envelope(heights: &mut [f64], places: &mut Vec<usize>, bounds: &mut Vec<f64>) {
    let height = |p: usize| heights[p] + (p * p) as f64;
    places.clear();
    bounds.clear();
    for q in 0..heights.len() {
        let mut from = f64::NEG_INFINITY;
        while let Some(p) = places.last().copied() {
            // Where the parabola of q goes below that of p.
            from = (height(q) - height(p)) / (2 * (q - p)) as f64;
            if from > bounds[places.len() - 1] {
                break;
            }
            places.pop();
            bounds.pop();
            from = f64::NEG_INFINITY;
        }
        places.push(q);
        bounds.push(from);
    }
    let mut at = 0;
    let result: Vec<f64> = (0..heights.len())
        .map(|q| {
            while at + 1 < places.len() && bounds[at + 1] < q as f64 {
                at += 1;
            }
            let d = q as f64 - places[at] as f64;
            d * d + heights[places[at]]
        })
        .collect();
    heights.copy_from_slice(&result);
}

/// Squared distance of every pixel to the nearest one that is 0 in `mask`.
fn squared_distances(mask: &[f32], w: usize) -> Vec<f64> {
    let h = mask.len() / w;
    let mut field: Vec<f64> = mask.iter().map(|m| if *m == 0.0 { 0.0 } else { FAR }).collect();
    let (mut places, mut bounds) = (Vec::new(), Vec::new());
    let mut column = vec![0.0; h];
    for x in 0..w {
        (0..h).for_each(|y| column[y] = field[y * w + x]);
        envelope(&mut column, &mut places, &mut bounds);
        (0..h).for_each(|y| field[y * w + x] = column[y]);
    }
    field.chunks_exact_mut(w).for_each(|row| envelope(row, &mut places, &mut bounds));
    field
}

/// Weights of the pixels of masks of `h` x `w` (1 = hole): `gamma` to the power of the distance to the nearest known
/// pixel of the same image, `known` on known pixels.
///
/// # Errors
/// When the masks are no whole number of images, or an image has no known pixel.
pub fn discount_weights(masks: &[f32], (h, w): (usize, usize), gamma: f32, known: f32) -> Result<Vec<f32>> {
    const OP: &str = "discount_weights";
    check_len(OP, "masks", masks.len() % (h * w).max(1), 0)?;
    if masks.chunks(h * w).any(|m| m.iter().all(|v| *v != 0.0)) {
        return shape_error(OP, "a mask without any known pixel has no distances");
    }
    let mut weights = vec![0.0; masks.len()];
    weights.par_chunks_mut((h * w).max(1)).zip(masks.par_chunks((h * w).max(1))).for_each(|(weights, mask)| {
        for (weight, d) in weights.iter_mut().zip(squared_distances(mask, w)) {
            *weight = if d == 0.0 { known } else { f64::from(gamma).powf(d.sqrt()) as f32 };
        }
    });
    Ok(weights)
}

/// Writes the mean of `weight * |x - y|` over all elements to `value` (one element), and its gradient with
/// respect to `x` to `dx`. `weight` has one value for each pixel.
///
/// # Errors
/// When lengths or devices do not fit.
#[outlined]
pub fn weighted_l1<'a>(
    x: impl Into<View<'a>>,
    y: impl Into<View<'a>>,
    weight: impl Into<View<'a>>,
    value: impl Into<ViewMut<'a>>,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "weighted_l1";
    let n = x.len();
    let channels = n / weight.len().max(1);
    check_len(OP, "input", n, channels * weight.len())?;
    check_len(OP, "target", y.len(), n)?;
    check_len(OP, "value", value.len(), 1)?;
    check_len(OP, "gradient", dx.len(), n)?;
    let scale = 1.0 / n.max(1) as f32;
    match place(OP, &[&x, &y, &weight, &value, &dx])? {
        None => {
            let (x, y, weight) = (x.host(), y.host(), weight.host());
            let chunk = 4096 * channels.max(1);
            let parts = dx.host().par_chunks_mut(chunk).enumerate().map(|(part, dx)| {
                let mut sum = 0.0;
                for (i, d) in dx.iter_mut().enumerate() {
                    let at = part * chunk + i;
                    let weight = weight[at / channels];
                    sum += f64::from(weight * (x[at] - y[at]).abs());
                    *d = scale * weight * absolute_error_slope(x[at], y[at]);
                }
                sum
            });
            let sums: Vec<f64> = parts.collect();
            value.host()[0] = (sums.iter().sum::<f64>() / n.max(1) as f64) as f32;
        }
        Some(gpu) => {
            let cubes = n.div_ceil(1 << 14).clamp(1, 1024);
            let partial = gpu.alloc::<f32>(cubes)?;
            let shape = (grid(cubes), CubeDim::new_1d(UNITS));
            let (x, y, weight, dx) = (x.device(), y.device(), weight.device(), dx.device());
            launch!(
                gpu,
                weighted_kernel,
                shape,
                x.arg(),
                y.arg(),
                weight.arg(),
                dx.arg(),
                partial.arg(),
                LossSizesLaunch::new(n, cubes, channels),
                scale
            );
            group_sums(&partial, 1, (scale, 0.0), value.device(), (1, 0));
        }
    }
    Ok(())
}

/// Elements, cubes, and channels of a pixel.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct LossSizes {
    n: usize,
    cubes: usize,
    channels: usize,
}

/// Gradient of every element, and the partial sum of every cube.
#[cube(launch_unchecked)]
fn weighted_kernel(
    x: &Array<f32>,
    y: &Array<f32>,
    weight: &Array<f32>,
    dx: &mut Array<f32>,
    partial: &mut Array<f32>,
    s: LossSizes,
    scale: f32,
) {
    let mut sum = f32::new(0.0);
    let mut at = ABSOLUTE_POS;
    while at < s.n {
        let (a, b) = (x[at], y[at]);
        let factor = weight[at / s.channels];
        sum += factor * (a - b).abs();
        dx[at] = scale * factor * absolute_error_slope(a, b);
        at += s.cubes * comptime!(UNITS as usize);
    }
    let total = cube_sum(sum);
    if UNIT_POS == 0 && CUBE_POS < s.cubes {
        partial[CUBE_POS] = total;
    }
}
