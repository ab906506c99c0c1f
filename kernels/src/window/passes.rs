//! The passes over rows and lines, on registers.

use crate::simd::{Lanes, lanes_fn};

/// Registers of outputs that a pass sums at a time: chains of multiply-adds that do not wait for each other.
const BLOCK: usize = 8;
/// The same for passes with two or three sums of an output.
const SUMS_BLOCK: usize = 4;

/// Calls `$block::<L, registers, whole>(at, lanes, ..)` for blocks that cover `0..$n`: of `$most` registers, then of one.
/// The last block overlaps its neighbour; only where there are fewer outputs than lanes it is not whole.
macro_rules! for_blocks {
    ($l:ident, $most:expr, $n:expr, $block:ident($($arg:expr),*)) => {{
        let (n, mut at) = ($n, 0);
        while at + $most * $l::WIDTH <= n {
            $block::<$l, { $most }, true>(at, $l::WIDTH, $($arg),*);
            at += $most * $l::WIDTH;
        }
        while at < n && n >= $l::WIDTH {
            $block::<$l, 1, true>(at.min(n - $l::WIDTH), $l::WIDTH, $($arg),*);
            at += $l::WIDTH;
        }
        if at < n {
            $block::<$l, 1, false>(at, n - at, $($arg),*);
        }
    }};
}

/// A register of `lanes` values, all where `WHOLE`.
///
/// # Safety
/// The CPU has the set of `L`, and so many values can be read there.
#[inline(always)]
unsafe fn read<L: Lanes, const WHOLE: bool>(from: *const f32, lanes: usize) -> L {
    // SAFETY: the caller vouches for it.
    unsafe { if WHOLE { L::load(from) } else { L::load_part(from, lanes) } }
}

/// Writes registers from `at` on, `lanes` values where not `WHOLE`.
///
/// # Safety
/// So many values can be written there.
#[inline(always)]
unsafe fn write<L: Lanes, const B: usize, const WHOLE: bool>(sums: &[L; B], to: *mut f32, lanes: usize) {
    for (b, sum) in sums.iter().enumerate() {
        // SAFETY: the caller vouches for it.
        unsafe { if WHOLE { sum.store(to.add(b * L::WIDTH)) } else { sum.store_part(to, lanes) } }
    }
}

/// # Safety
/// The CPU has the set of `L`; `line` has the values of all taps of the outputs, `out` the outputs.
#[inline(always)]
unsafe fn line_block<L: Lanes, const B: usize, const WHOLE: bool>(
    at: usize,
    lanes: usize,
    weights: &[f32],
    line: &[f32],
    step: usize,
    out: &mut [f32],
) {
    // SAFETY: the caller vouches for set, values and outputs.
    unsafe {
        let mut sums = [L::splat(0.0); B];
        let from = line.as_ptr().add(at);
        for (t, w) in weights.iter().enumerate() {
            let weight = L::splat(*w);
            for (b, sum) in sums.iter_mut().enumerate() {
                *sum = weight.mul_add(read::<L, WHOLE>(from.add(t * step + b * L::WIDTH), lanes), *sum);
            }
        }
        write::<L, B, WHOLE>(&sums, out.as_mut_ptr().add(at), lanes);
    }
}

lanes_fn! {
    /// `out[i] = sum over t of weights[t] * line[i + t * step]`.
    pub(super) fn weighted_line<L>(weights: &[f32], line: &[f32], step: usize, out: &mut [f32]) {
        let span = weights.len().saturating_sub(1) * step;
        assert!(out.len() + span <= line.len(), "the line is shorter than its window reaches");
        // SAFETY: a block ends inside `out`, and `span` later inside `line`, as asserted. `lanes_fn` runs this only on
        // CPUs with the set of `L`.
        unsafe { for_blocks!(L, BLOCK, out.len(), line_block(weights, line, step, out)) }
    }
}

/// Whether every tap lies inside a map of rows of `stride`.
fn inside(taps: &[(usize, f32)], map: &[f32], stride: usize) -> bool {
    taps.iter().all(|(row, _)| (row + 1) * stride <= map.len())
}

/// # Safety
/// The CPU has the set of `L`; every tap is a row of `map`, and the outputs are in `out`, which is as long as a row.
#[inline(always)]
unsafe fn row_block<L: Lanes, const B: usize, const WHOLE: bool>(
    at: usize,
    lanes: usize,
    taps: &[(usize, f32)],
    map: &[f32],
    out: &mut [f32],
) {
    // SAFETY: the caller vouches for set, rows and outputs.
    unsafe {
        let mut sums = [L::splat(0.0); B];
        for (row, w) in taps {
            let (weight, from) = (L::splat(*w), map.as_ptr().add(row * out.len() + at));
            for (b, sum) in sums.iter_mut().enumerate() {
                *sum = weight.mul_add(read::<L, WHOLE>(from.add(b * L::WIDTH), lanes), *sum);
            }
        }
        write::<L, B, WHOLE>(&sums, out.as_mut_ptr().add(at), lanes);
    }
}

lanes_fn! {
    /// `out = sum over taps of weight * map[row]`, for a map whose rows are as long as `out`.
    pub(crate) fn weighted_rows<L>(taps: &[(usize, f32)], map: &[f32], out: &mut [f32]) {
        assert!(inside(taps, map, out.len()), "a tap lies outside the map");
        // SAFETY: rows and outputs as asserted. `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { for_blocks!(L, BLOCK, out.len(), row_block(taps, map, out)) }
    }
}

/// Lines of vertical sums of x, x^2 and xy.
pub(crate) type CrossLines<'a> = [&'a mut [f32]; 3];

/// # Safety
/// The CPU has the set of `L`; every tap is a row of `x` and of `y`, and the outputs are in each of the lines, which are
/// as long as a row.
#[inline(always)]
unsafe fn cross_block<L: Lanes, const B: usize, const WHOLE: bool>(
    at: usize,
    lanes: usize,
    taps: &[(usize, f32)],
    x: &[f32],
    y: &[f32],
    [sx, sxx, sxy]: &mut CrossLines,
) {
    // SAFETY: the caller vouches for set, rows and outputs.
    unsafe {
        let zero = L::splat(0.0);
        let (mut a, mut b, mut c) = ([zero; B], [zero; B], [zero; B]);
        for (row, w) in taps {
            let (weight, from) = (L::splat(*w), row * sx.len() + at);
            for i in 0..B {
                let from = from + i * L::WIDTH;
                let (xs, ys) = (x.as_ptr().add(from), y.as_ptr().add(from));
                let xs: L = read::<L, WHOLE>(xs, lanes);
                let weighted = weight.mul(xs);
                a[i] = a[i].add(weighted);
                b[i] = weighted.mul_add(xs, b[i]);
                c[i] = weighted.mul_add(read::<L, WHOLE>(ys, lanes), c[i]);
            }
        }
        write::<L, B, WHOLE>(&a, sx.as_mut_ptr().add(at), lanes);
        write::<L, B, WHOLE>(&b, sxx.as_mut_ptr().add(at), lanes);
        write::<L, B, WHOLE>(&c, sxy.as_mut_ptr().add(at), lanes);
    }
}

lanes_fn! {
    /// Vertical sums of x, x^2 and xy over the rows in `taps`.
    pub(crate) fn cross_rows<L>(taps: &[(usize, f32)], x: &[f32], y: &[f32], lines: &mut CrossLines) {
        let n = lines[0].len();
        assert!(lines.iter().all(|line| line.len() == n), "lines of one length");
        assert!(inside(taps, x, n) && inside(taps, y, n), "a tap lies outside the map");
        // SAFETY: rows and outputs as asserted. `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { for_blocks!(L, SUMS_BLOCK, n, cross_block(taps, x, y, lines)) }
    }
}

/// # Safety
/// The CPU has the set of `L`; every tap is a row of `y`, and the outputs are in both lines, which are as long as a row.
#[inline(always)]
unsafe fn square_block<L: Lanes, const B: usize, const WHOLE: bool>(
    at: usize,
    lanes: usize,
    taps: &[(usize, f32)],
    y: &[f32],
    sy: &mut [f32],
    syy: &mut [f32],
) {
    // SAFETY: the caller vouches for set, rows and outputs.
    unsafe {
        let zero = L::splat(0.0);
        let (mut a, mut b) = ([zero; B], [zero; B]);
        for (row, w) in taps {
            let (weight, from) = (L::splat(*w), y.as_ptr().add(row * sy.len() + at));
            for i in 0..B {
                let values = read::<L, WHOLE>(from.add(i * L::WIDTH), lanes);
                let weighted = weight.mul(values);
                a[i] = a[i].add(weighted);
                b[i] = weighted.mul_add(values, b[i]);
            }
        }
        write::<L, B, WHOLE>(&a, sy.as_mut_ptr().add(at), lanes);
        write::<L, B, WHOLE>(&b, syy.as_mut_ptr().add(at), lanes);
    }
}

lanes_fn! {
    /// Vertical sums of y and y^2 over the rows in `taps`.
    pub(crate) fn square_rows<L>(taps: &[(usize, f32)], y: &[f32], sy: &mut [f32], syy: &mut [f32]) {
        let n = sy.len();
        assert!(syy.len() == n && inside(taps, y, n), "a tap lies outside the map");
        // SAFETY: rows and outputs as asserted. `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { for_blocks!(L, SUMS_BLOCK, n, square_block(taps, y, sy, syy)) }
    }
}
