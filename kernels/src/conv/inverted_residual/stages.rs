//! The three stages of a block of expanded channels, each a register tile of some pixels by 16 channels.
//! In the last tile rows beyond the last pixel repeat it: they are summed again and written again.

use crate::simd::{LANES, Lanes, lanes_fn};

/// The least and the largest value of an activation.
pub(super) type Bounds = Option<(f32, f32)>;

/// Pixels one after the other.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub values: &'a [f32],
    pub channels: usize,
}

/// A depthwise kernel for some channels.
pub(super) struct Depthwise<'a> {
    /// Offset of each tap in the map, and in the weights.
    pub taps: &'a [(usize, usize)],
    pub weights: &'a [f32],
    /// One value for each channel, whose number is a multiple of [`LANES`].
    pub bias: &'a [f32],
    pub bounds: Bounds,
}

lanes_fn! {
    /// Every pixel times `panels` (`[channels / lanes][pixel channels][lanes]`) plus the bias, between the
    /// bounds, to the pixel's place in `out`.
    pub(super) fn expand<L, V, R>(
        x: Pixels,
        panels: &[f32],
        bias: &[f32],
        bounds: Bounds,
        places: &[usize],
        out: &mut [f32],
    ) {
        assert!(places.len() * x.channels <= x.values.len(), "a pixel for every place");
        assert!(bias.len().is_multiple_of(LANES) && panels.len() == bias.len() * x.channels, "whole panels");
        let room = out.len().checked_sub(bias.len());
        assert!(room.is_some_and(|most| places.iter().all(|at| *at <= most)), "places inside the scratch");
        for first in (0..places.len()).step_by(R) {
            let (mut rows, mut to) = ([x.values.as_ptr(); R], [out.as_mut_ptr(); R]);
            for r in 0..R {
                let pixel = (first + r).min(places.len() - 1);
                // SAFETY: the pixel lies in `x` and its place in `out`, as asserted.
                (rows[r], to[r]) = unsafe { (rows[r].add(pixel * x.channels), to[r].add(places[pixel])) };
            }
            for at in (0..bias.len()).step_by(LANES) {
                // SAFETY: 16 biases and a panel of `x.channels` steps from channel `at` on; rows of
                // `x.channels` values; 16 values at the place of every pixel, all as asserted above.
                // `lanes_fn` runs this only on CPUs with the set of `L`.
                unsafe {
                    let mut sums = [load::<L, V>(bias.as_ptr().add(at)); R];
                    multiply(&rows, x.channels, panels.as_ptr().add(at * x.channels), &mut sums);
                    clamp(&mut sums, bounds);
                    for (sum, to) in sums.iter().zip(to) {
                        store(sum, to.add(at));
                    }
                }
            }
        }
    }
}

lanes_fn! {
    /// The kernel at every corner of `map`, to one pixel of `stride` values after the other in `out`.
    pub(super) fn depthwise<L, V, R>(
        map: &[f32],
        corners: &[usize],
        kernel: &Depthwise,
        stride: usize,
        out: &mut [f32],
    ) {
        let channels = kernel.bias.len();
        let far = corners.iter().copied().max().unwrap_or(0);
        let inside = |(from, to): &(usize, usize)| {
            far + from + channels <= map.len() && to + channels <= kernel.weights.len()
        };
        assert!(kernel.taps.iter().all(inside), "a tap leads out of the scratch");
        assert!(channels.is_multiple_of(LANES) && channels <= stride && corners.len() * stride <= out.len(), "room");
        for first in (0..corners.len()).step_by(R) {
            let (mut rows, mut to) = ([map.as_ptr(); R], [out.as_mut_ptr(); R]);
            for r in 0..R {
                let pixel = (first + r).min(corners.len() - 1);
                // SAFETY: every corner lies in the map and every pixel in `out`, as asserted.
                (rows[r], to[r]) = unsafe { (rows[r].add(corners[pixel]), to[r].add(pixel * stride)) };
            }
            for at in (0..channels).step_by(LANES) {
                // SAFETY: 16 biases and weights from channel `at` on, 16 values of the map at every tap of
                // every corner, 16 values of every output, all as asserted above. `lanes_fn` runs this only
                // on CPUs with the set of `L`.
                unsafe {
                    let mut sums = [load::<L, V>(kernel.bias.as_ptr().add(at)); R];
                    for (from, weight) in kernel.taps {
                        let factors = load::<L, V>(kernel.weights.as_ptr().add(weight + at));
                        for (sum, row) in sums.iter_mut().zip(&rows) {
                            let values = load::<L, V>(row.add(from + at));
                            for v in 0..V {
                                sum[v] = values[v].mul_add(factors[v], sum[v]);
                            }
                        }
                    }
                    clamp(&mut sums, kernel.bounds);
                    for (sum, to) in sums.iter().zip(to) {
                        store(sum, to.add(at));
                    }
                }
            }
        }
    }
}

lanes_fn! {
    /// Adds the first `steps` channels of every pixel of `x` times `panels` to the pixel's `wide` sums; one
    /// panel of `steps` rows of lanes begins every `panel` elements.
    pub(super) fn project<L, V, R>(
        x: Pixels,
        panels: &[f32],
        steps: usize,
        panel: usize,
        wide: usize,
        sums: &mut [f32],
    ) {
        let pixels = x.values.len() / x.channels;
        assert!(steps <= x.channels && pixels * wide <= sums.len() && wide.is_multiple_of(LANES), "room for sums");
        assert!(wide == 0 || (wide / LANES - 1) * panel + steps * LANES <= panels.len(), "panels of all channels");
        for first in (0..pixels).step_by(R) {
            let (mut rows, mut to) = ([x.values.as_ptr(); R], [sums.as_mut_ptr(); R]);
            for r in 0..R {
                let pixel = (first + r).min(pixels - 1);
                // SAFETY: every pixel lies in `x` and its sums in `sums`, as asserted.
                (rows[r], to[r]) = unsafe { (rows[r].add(pixel * x.channels), to[r].add(pixel * wide)) };
            }
            for at in (0..wide).step_by(LANES) {
                // SAFETY: rows of `steps` values, a panel of `steps` rows of lanes, and 16 sums of every
                // pixel from channel `at` on, all as asserted above. `lanes_fn` runs this only on CPUs with
                // the set of `L`.
                unsafe {
                    let mut tile = [[L::splat(0.0); V]; R];
                    for (sum, to) in tile.iter_mut().zip(to) {
                        *sum = load::<L, V>(to.add(at));
                    }
                    multiply(&rows, steps, panels.as_ptr().add(at / LANES * panel), &mut tile);
                    for (sum, to) in tile.iter().zip(to) {
                        store(sum, to.add(at));
                    }
                }
            }
        }
    }
}

/// Adds `steps` products of a value of each row and a row of lanes of `panel` to the sums.
///
/// # Safety
/// The CPU has the set of `L`; every row has `steps` values, the panel `steps` rows of [`LANES`].
#[inline(always)]
unsafe fn multiply<L: Lanes, const V: usize, const R: usize>(
    rows: &[*const f32; R],
    steps: usize,
    panel: *const f32,
    sums: &mut [[L; V]; R],
) {
    let mut tile = *sums;
    for i in 0..steps {
        // SAFETY: the caller vouches for step `i` of rows and panel.
        unsafe {
            let right = load::<L, V>(panel.add(i * LANES));
            for (sum, row) in tile.iter_mut().zip(rows) {
                let left = L::splat(*row.add(i));
                for v in 0..V {
                    sum[v] = left.mul_add(right[v], sum[v]);
                }
            }
        }
    }
    *sums = tile;
}

/// [`LANES`] values in `V` registers.
///
/// # Safety
/// The CPU has the set of `L`, and so many values can be read there.
#[inline(always)]
unsafe fn load<L: Lanes, const V: usize>(from: *const f32) -> [L; V] {
    // SAFETY: `V` registers of `WIDTH` are LANES values, for which the caller vouches.
    unsafe {
        let mut values = [L::splat(0.0); V];
        for (v, value) in values.iter_mut().enumerate() {
            *value = L::load(from.add(v * L::WIDTH));
        }
        values
    }
}

/// Writes [`LANES`] values.
///
/// # Safety
/// So many values can be written there.
#[inline(always)]
unsafe fn store<L: Lanes, const V: usize>(values: &[L; V], to: *mut f32) {
    for (v, value) in values.iter().enumerate() {
        // SAFETY: `V` registers of `WIDTH` are LANES values, for which the caller vouches.
        unsafe { value.store(to.add(v * L::WIDTH)) };
    }
}

/// Brings sums between bounds.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
unsafe fn clamp<L: Lanes, const V: usize, const R: usize>(sums: &mut [[L; V]; R], bounds: Bounds) {
    let Some((least, most)) = bounds else { return };
    // SAFETY: the caller vouches for the set.
    let (least, most) = unsafe { (L::splat(least), L::splat(most)) };
    for value in sums.iter_mut().flatten() {
        *value = value.max(least).min(most);
    }
}
