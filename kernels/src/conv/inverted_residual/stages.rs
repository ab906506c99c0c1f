//! The three stages of a block of expanded channels, each in register tiles of some pixels by one or two panels of
//! 16 channels.

use super::super::micro::{Sums, accumulate, clamp, for_rows, load, store, tiles};
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
    pub taps: &'a [[usize; 2]],
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
        for (first, count) in tiles(places.len(), R) {
            let places = &places[first..first + count];
            let mut at = 0;
            while at < bias.len() {
                let pair = L::PANELS == 2 && at + LANES < bias.len();
                // SAFETY: one or two panels of 16 biases and `x.channels` steps from channel `at` on; `count` pixels
                // from `first` on, and their places in `out`, all as asserted above. `lanes_fn` runs this only on
                // CPUs with the set of `L`.
                unsafe {
                    let from = x.values.as_ptr().add(first * x.channels);
                    let (panels, bias) = (panels.as_ptr().add(at * x.channels), bias.as_ptr().add(at));
                    let to = out.as_mut_ptr().add(at);
                    let from = (from, x.channels);
                    if pair {
                        for_rows!(count, R, M => expand_tile::<L, V, 2, M>(from, panels, bias, bounds, places, to));
                    } else {
                        for_rows!(count, R, M => expand_tile::<L, V, 1, M>(from, panels, bias, bounds, places, to));
                    }
                }
                at += LANES * (1 + usize::from(pair));
            }
        }
    }
}

/// `M` pixels of `channels` values times `P` panels plus their biases, between the bounds, to the pixels' places.
///
/// # Safety
/// The CPU has the set of `L`; pixels, panels, biases and places are there.
#[inline(always)]
unsafe fn expand_tile<L: Lanes, const V: usize, const P: usize, const M: usize>(
    (x, channels): (*const f32, usize),
    panels: *const f32,
    bias: *const f32,
    bounds: Bounds,
    places: &[usize],
    out: *mut f32,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        let mut start = [[L::splat(0.0); V]; P];
        for (p, start) in start.iter_mut().enumerate() {
            *start = load(bias.add(p * LANES));
        }
        let mut sums: Sums<L, V, P, M> = [start; M];
        multiply((x, channels), channels, (panels, channels * LANES), &mut sums);
        for (sums, place) in sums.iter_mut().zip(places) {
            for (p, sums) in sums.iter_mut().enumerate() {
                clamp(sums, bounds);
                store(sums, out.add(place + p * LANES));
            }
        }
    }
}

/// Adds `steps` products to the sums of `M` pixels and `P` panels: a pixel has `x.1` values, a panel begins every
/// `panels.1` elements.
///
/// # Safety
/// The CPU has the set of `L`; the pixels have `steps` values, the panels `steps` rows of lanes.
#[inline(always)]
unsafe fn multiply<L: Lanes, const V: usize, const P: usize, const M: usize>(
    x: (*const f32, usize),
    steps: usize,
    panels: (*const f32, usize),
    sums: &mut Sums<L, V, P, M>,
) {
    let (mut rows, mut starts) = ([x.0; M], [panels.0; P]);
    // SAFETY: the caller vouches for pixels and panels.
    unsafe {
        for (m, row) in rows.iter_mut().enumerate() {
            *row = row.add(m * x.1);
        }
        for (p, start) in starts.iter_mut().enumerate() {
            *start = start.add(p * panels.1);
        }
        accumulate(&rows, 1, &starts, steps, sums);
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
        let inside = |[from, to]: &[usize; 2]| {
            far + from + channels <= map.len() && to + channels <= kernel.weights.len()
        };
        assert!(kernel.taps.iter().all(inside), "a tap leads out of the scratch");
        assert!(channels.is_multiple_of(LANES) && channels <= stride && corners.len() * stride <= out.len(), "room");
        for (first, count) in tiles(corners.len(), R) {
            let corners = &corners[first..first + count];
            for at in (0..channels).step_by(LANES) {
                // SAFETY: 16 biases and weights from channel `at` on, 16 values of the map at every tap of
                // every corner, 16 values of every output, all as asserted above. `lanes_fn` runs this only
                // on CPUs with the set of `L`.
                unsafe {
                    let (map, to) = (map.as_ptr().add(at), out.as_mut_ptr().add(first * stride + at));
                    for_rows!(count, R, M => depthwise_tile::<L, V, M>(map, corners, kernel, at, (to, stride)));
                }
            }
        }
    }
}

/// Sixteen channels from channel `at` on of the kernel at `M` corners, to pixels that lie `out.1` elements apart.
///
/// # Safety
/// The CPU has the set of `L`; `map` leads to channel `at` of a map with all taps of these corners, and there are
/// `M` pixels.
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[inline(always)]
unsafe fn depthwise_tile<L: Lanes, const V: usize, const M: usize>(
    map: *const f32,
    corners: &[usize],
    kernel: &Depthwise,
    at: usize,
    out: (*mut f32, usize),
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        let mut rows = [map; M];
        for (row, corner) in rows.iter_mut().zip(corners) {
            *row = row.add(*corner);
        }
        let mut sums = [load::<L, V>(kernel.bias.as_ptr().add(at)); M];
        for [from, weight] in kernel.taps {
            let factors = load::<L, V>(kernel.weights.as_ptr().add(weight + at));
            for m in 0..M {
                let values = load::<L, V>(rows[m].add(*from));
                for v in 0..V {
                    sums[m][v] = values[v].mul_add(factors[v], sums[m][v]);
                }
            }
        }
        for (m, sum) in sums.iter_mut().enumerate() {
            clamp(sum, kernel.bounds);
            store(sum, out.0.add(m * out.1));
        }
    }
}

lanes_fn! {
    /// Adds the first `steps` channels of every pixel of `x` times `panels` to the pixel's `wide` sums, or
    /// overwrites them where `begins` says that there are none yet; one panel of `steps` rows of lanes begins every `panel` elements.
    pub(super) fn project<L, V, R>(
        x: Pixels,
        panels: &[f32],
        steps: usize,
        panel: usize,
        wide: usize,
        begins: bool,
        sums: &mut [f32],
    ) {
        let pixels = x.values.len() / x.channels;
        assert!(steps <= x.channels && pixels * wide <= sums.len() && wide.is_multiple_of(LANES), "room for sums");
        assert!(wide == 0 || (wide / LANES - 1) * panel + steps * LANES <= panels.len(), "panels of all channels");
        for (first, count) in tiles(pixels, R) {
            let mut at = 0;
            while at < wide {
                let pair = L::PANELS == 2 && at + LANES < wide;
                // SAFETY: `count` pixels from `first` on with `steps` values each, one or two panels of `steps` rows
                // of lanes, and the sums of every pixel from channel `at` on, all as asserted above. `lanes_fn` runs
                // this only on CPUs with the set of `L`.
                unsafe {
                    let x = (x.values.as_ptr().add(first * x.channels), x.channels);
                    let panels = (panels.as_ptr().add(at / LANES * panel), panel);
                    let to = (sums.as_mut_ptr().add(first * wide + at), wide);
                    if pair {
                        for_rows!(count, R, M => project_tile::<L, V, 2, M>(x, steps, panels, begins, to));
                    } else {
                        for_rows!(count, R, M => project_tile::<L, V, 1, M>(x, steps, panels, begins, to));
                    }
                }
                at += LANES * (1 + usize::from(pair));
            }
        }
    }
}

/// Adds to `P` panels of the sums of `M` pixels, which lie `to.1` elements apart, or overwrites them where `begins`.
///
/// # Safety
/// As for [`multiply`]; the sums are there.
#[inline(always)]
unsafe fn project_tile<L: Lanes, const V: usize, const P: usize, const M: usize>(
    x: (*const f32, usize),
    steps: usize,
    panels: (*const f32, usize),
    begins: bool,
    to: (*mut f32, usize),
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        let mut tile: Sums<L, V, P, M> = [[[L::splat(0.0); V]; P]; M];
        if !begins {
            for (m, sums) in tile.iter_mut().enumerate() {
                for (p, sums) in sums.iter_mut().enumerate() {
                    *sums = load(to.0.add(m * to.1 + p * LANES));
                }
            }
        }
        multiply(x, steps, panels, &mut tile);
        for (m, sums) in tile.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                store(sums, to.0.add(m * to.1 + p * LANES));
            }
        }
    }
}
