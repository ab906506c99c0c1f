//! The passes over rows and lines, on registers.

use crate::simd::{Lanes, lanes_fn};
use crate::sparse_rows::Entry;

/// Registers of outputs that a pass sums at a time: chains of multiply-adds that do not wait for each other.
const BLOCK: usize = 8;
/// The same for passes with two or three sums of an output.
const SUMS_BLOCK: usize = 4;

/// Calls `$block::<L, registers>(zero, outputs, ..)` for ranges of outputs that cover `0..$n`: of `$most` registers, of half as many,
/// of one. The last range overlaps its neighbour; only where there are fewer outputs than lanes it is shorter than a register.
macro_rules! for_blocks {
    ($l:ident, $most:expr, $zero:expr, $n:expr, $block:ident($($arg:expr),*)) => {{
        let (n, mut at) = ($n, 0);
        while at + $most * $l::WIDTH <= n {
            $block::<$l, { $most }>($zero, (at, $most * $l::WIDTH), $($arg),*);
            at += $most * $l::WIDTH;
        }
        while at + $most / 2 * $l::WIDTH <= n {
            $block::<$l, { $most / 2 }>($zero, (at, $most / 2 * $l::WIDTH), $($arg),*);
            at += $most / 2 * $l::WIDTH;
        }
        while at < n && n >= $l::WIDTH {
            $block::<$l, 1>($zero, (at.min(n - $l::WIDTH), $l::WIDTH), $($arg),*);
            at += $l::WIDTH;
        }
        if at < n {
            $block::<$l, 1>($zero, (at, n - at), $($arg),*);
        }
    }};
}

/// Register `b` of some values; zeros in the lanes beyond their end.
#[inline(always)]
fn register<L: Lanes>(zero: L, values: &[f32], b: usize) -> L {
    zero.read(&values[b * L::WIDTH..values.len().min((b + 1) * L::WIDTH)])
}

/// Writes registers side by side, the last as far as `to` is long.
#[inline(always)]
fn write<L: Lanes, const B: usize>(sums: &[L; B], to: &mut [f32]) {
    for (b, sum) in sums.iter().enumerate() {
        let end = to.len().min((b + 1) * L::WIDTH);
        sum.write(&mut to[b * L::WIDTH..end]);
    }
}

/// The first output of a range, and how many there are.
type Outputs = (usize, usize);

#[inline(always)]
fn line_block<L: Lanes, const B: usize>(
    zero: L,
    (at, count): Outputs,
    weights: &[f32],
    line: &[f32],
    step: usize,
    out: &mut [f32],
) {
    let mut sums = [zero; B];
    for (w, from) in weights.iter().zip(line[at..].windows(count).step_by(step)) {
        let weight = zero.same(*w);
        for (b, sum) in sums.iter_mut().enumerate() {
            *sum = weight.mul_add(register(zero, from, b), *sum);
        }
    }
    write(&sums, &mut out[at..][..count]);
}

lanes_fn! {
    /// `out[i] = sum over t of weights[t] * line[i + t * step]`.
    pub(super) fn weighted_line<L>(weights: &[f32], line: &[f32], step: usize, out: &mut [f32]) {
        let span = weights.len().saturating_sub(1) * step;
        assert!(out.len() + span <= line.len(), "the line is shorter than its window reaches");
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for_blocks!(L, BLOCK, zero, out.len(), line_block(weights, line, step, out));
    }
}

#[inline(always)]
fn row_block<L: Lanes, const B: usize>(zero: L, (at, count): Outputs, taps: &[Entry], map: &[f32], out: &mut [f32]) {
    let mut sums = [zero; B];
    for Entry { column: row, value } in taps {
        let (weight, from) = (zero.same(*value), &map[*row as usize * out.len() + at..][..count]);
        for (b, sum) in sums.iter_mut().enumerate() {
            *sum = weight.mul_add(register(zero, from, b), *sum);
        }
    }
    write(&sums, &mut out[at..][..count]);
}

lanes_fn! {
    /// `out = sum over taps of weight * map[row]`, for a map whose rows are as long as `out`.
    pub(crate) fn weighted_rows<L>(taps: &[Entry], map: &[f32], out: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for_blocks!(L, BLOCK, zero, out.len(), row_block(taps, map, out));
    }
}

/// Lines of vertical sums of x, x^2 and xy.
pub(crate) type CrossLines<'a> = [&'a mut [f32]; 3];

#[inline(always)]
fn cross_block<L: Lanes, const B: usize>(
    zero: L,
    (at, count): Outputs,
    taps: &[Entry],
    x: &[f32],
    y: &[f32],
    [sx, sxx, sxy]: &mut CrossLines,
) {
    let (mut a, mut b, mut c) = ([zero; B], [zero; B], [zero; B]);
    for Entry { column: row, value } in taps {
        let (weight, from) = (zero.same(*value), *row as usize * sx.len() + at);
        let (x, y) = (&x[from..][..count], &y[from..][..count]);
        for i in 0..B {
            let xs = register(zero, x, i);
            let weighted = weight.mul(xs);
            a[i] = a[i].add(weighted);
            b[i] = weighted.mul_add(xs, b[i]);
            c[i] = weighted.mul_add(register(zero, y, i), c[i]);
        }
    }
    write(&a, &mut sx[at..][..count]);
    write(&b, &mut sxx[at..][..count]);
    write(&c, &mut sxy[at..][..count]);
}

lanes_fn! {
    /// Vertical sums of x, x^2 and xy over the rows in `taps`.
    pub(crate) fn cross_rows<L>(taps: &[Entry], x: &[f32], y: &[f32], lines: &mut CrossLines) {
        let n = lines[0].len();
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for_blocks!(L, SUMS_BLOCK, zero, n, cross_block(taps, x, y, lines));
    }
}

#[inline(always)]
fn square_block<L: Lanes, const B: usize>(
    zero: L,
    (at, count): Outputs,
    taps: &[Entry],
    y: &[f32],
    sy: &mut [f32],
    syy: &mut [f32],
) {
    let (mut a, mut b) = ([zero; B], [zero; B]);
    for Entry { column: row, value } in taps {
        let (weight, from) = (zero.same(*value), &y[*row as usize * sy.len() + at..][..count]);
        for i in 0..B {
            let values = register(zero, from, i);
            let weighted = weight.mul(values);
            a[i] = a[i].add(weighted);
            b[i] = weighted.mul_add(values, b[i]);
        }
    }
    write(&a, &mut sy[at..][..count]);
    write(&b, &mut syy[at..][..count]);
}

lanes_fn! {
    /// Vertical sums of y and y^2 over the rows in `taps`.
    pub(crate) fn square_rows<L>(taps: &[Entry], y: &[f32], sy: &mut [f32], syy: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        for_blocks!(L, SUMS_BLOCK, zero, sy.len(), square_block(taps, y, sy, syy));
    }
}
