//! The three stages of a block of expanded channels, each in register tiles of some pixels by some panels of 16 channels: one
//! panel, or with AVX-512 two, or three of fewer pixels (8 x 48). A block of 48 channels is one such tile wide.

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

/// Panels of the next tile, of those that are left, on a set whose tiles take `usual` panels: where that is two, an odd number begins
/// with three, of fewer rows, as one alone is slower.
fn panels_of_tile(left: usize, usual: usize) -> usize {
    if usual == 1 {
        1
    } else if left.is_multiple_of(2) {
        2
    } else {
        left.min(3)
    }
}

/// Evaluates an expression for tiles that cover `$rows` x `$panels`: `$P` panels from `$panel` on by `$M` rows from `$row` on.
/// Some tiles of rows see all panels before the next do, so that they stay in the first cache.
macro_rules! for_tiles {
    ($L:ident, $R:ident, $rows:expr, $panels:expr, ($row:ident, $M:ident, $panel:ident, $P:ident) => $body:expr) => {
        for (first, count) in tiles($rows, $R * $L::PANELS) {
            let mut $panel = 0;
            while $panel < $panels {
                let wide = panels_of_tile($panels - $panel, $L::PANELS);
                match wide {
                    1 => for_tiles!(@ first, count, $R, ($row, $M), $P = 1 => $body),
                    2 if $L::PANELS == 2 => for_tiles!(@ first, count, $R, ($row, $M), $P = 2 => $body),
                    // Of as many sums as two panels of all rows have.
                    _ if $L::PANELS == 2 => for_tiles!(@ first, count, $R * 2 / 3, ($row, $M), $P = 3 => $body),
                    _ => unreachable!("as many panels as a tile takes"),
                }
                $panel += wide;
            }
        }
    };
    (@ $first:ident, $count:ident, $most:expr, ($row:ident, $M:ident), $P:ident = $wide:literal => $body:expr) => {
        for (start, rows) in tiles($count, $most) {
            const $P: usize = $wide;
            let $row = $first + start;
            for_rows!(rows, $most, $M => $body);
        }
    };
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
        for_tiles!(L, R, places.len(), bias.len() / LANES, (row, M, panel, P) => {
            let places = &places[row..row + M];
            // SAFETY: `P` panels of 16 biases and `x.channels` steps from panel `panel` on; `M` pixels from `row` on, and their
            // places in `out`, all as asserted above. `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let from = (x.values.as_ptr().add(row * x.channels), x.channels);
                let (at, to) = (panels.as_ptr().add(panel * LANES * x.channels), out.as_mut_ptr().add(panel * LANES));
                expand_tile::<L, V, P, M>(from, at, bias.as_ptr().add(panel * LANES), bounds, places, to);
            }
        });
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
        for_tiles!(L, R, corners.len(), channels / LANES, (row, M, panel, P) => {
            let corners = &corners[row..row + M];
            // SAFETY: `P` panels of 16 biases and weights from panel `panel` on, as many values of the map at every tap of
            // every corner, and of every output, all as asserted above. `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let at = panel * LANES;
                let (map, to) = (map.as_ptr().add(at), out.as_mut_ptr().add(row * stride + at));
                depthwise_tile::<L, V, P, M>(map, corners, kernel, at, (to, stride));
            }
        });
    }
}

/// `P` panels from channel `at` on of the kernel at `M` corners, to pixels that lie `out.1` elements apart.
///
/// # Safety
/// The CPU has the set of `L`; `map` leads to channel `at` of a map with all taps of these corners, and there are
/// `M` pixels.
#[allow(clippy::needless_range_loop)] // registers by index, see conv/micro.rs
#[inline(always)]
unsafe fn depthwise_tile<L: Lanes, const V: usize, const P: usize, const M: usize>(
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
        let mut start = [[L::splat(0.0); V]; P];
        for p in 0..P {
            start[p] = load(kernel.bias.as_ptr().add(at + p * LANES));
        }
        let mut sums: Sums<L, V, P, M> = [start; M];
        for [from, weight] in kernel.taps {
            let mut factors = [[L::splat(0.0); V]; P];
            for p in 0..P {
                factors[p] = load(kernel.weights.as_ptr().add(weight + at + p * LANES));
            }
            for m in 0..M {
                for p in 0..P {
                    let values = load::<L, V>(rows[m].add(from + p * LANES));
                    for v in 0..V {
                        sums[m][p][v] = values[v].mul_add(factors[p][v], sums[m][p][v]);
                    }
                }
            }
        }
        for m in 0..M {
            for p in 0..P {
                clamp(&mut sums[m][p], kernel.bounds);
                store(&sums[m][p], out.0.add(m * out.1 + p * LANES));
            }
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
        for_tiles!(L, R, pixels, wide / LANES, (row, M, at, P) => {
            // SAFETY: `M` pixels from `row` on with `steps` values each, `P` panels of `steps` rows of lanes, and the sums of
            // every pixel from panel `at` on, all as asserted above. `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let x = (x.values.as_ptr().add(row * x.channels), x.channels);
                let to = (sums.as_mut_ptr().add(row * wide + at * LANES), wide);
                project_tile::<L, V, P, M>(x, steps, (panels.as_ptr().add(at * panel), panel), begins, to);
            }
        });
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
