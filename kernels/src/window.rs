//! Windowed means along rows and columns, and their adjoints, under three border rules.
//!
//! A window is separable: a vertical pass over image rows writes one line, a horizontal pass over
//! that line writes one row of means. In NHWC a horizontal step is `c` elements, so both passes run
//! over contiguous floats whatever the number of channels.

use crate::border;
pub use crate::border::Border;
use crate::error::{Result, shape_error};
use crate::simd::{madd, simd_fn};

use crate::conv::Nhwc;

/// Floats that one step of the loops below holds in registers.
const LANES: usize = 32;

/// Weights of a local mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    /// exp(-i^2 / 2 sigma^2), made to sum to 1; `size` is odd.
    Gaussian {
        /// Pixels along one side.
        size: usize,
        /// Standard deviation in pixels.
        sigma: f32,
    },
    /// All weights equal; `size` is odd.
    Uniform {
        /// Pixels along one side.
        size: usize,
    },
}

/// Weights of one output row: source row and weight.
pub(crate) type Taps = Vec<(usize, f32)>;

/// Everything about a window on maps of one shape.
pub(crate) struct Plan {
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Rows and columns of the map of means.
    pub out_h: usize,
    pub out_w: usize,
    weights: Vec<f32>,
    border: Border,
    /// For each row of means: the image rows it sums.
    pub rows: Vec<Taps>,
    /// For each image row: the rows of means it reaches, with the weight of the adjoint.
    pub adjoint_rows: Vec<Taps>,
}

/// Where position `p` of an axis of `n`, seen beyond its ends, lies.
fn mirror(p: isize, n: usize, border: Border) -> Option<usize> {
    usize::try_from(border::mirror(p as i32, n as i32, border)).ok()
}

/// The adjoint of the windowed mean along an axis of `n` as a band: for input `i` and `d` below the
/// window size, the weight of mean `i + d - lead`, where `lead` is what [`lead`] says.
pub(crate) fn adjoint_band(n: usize, window: Window, border: Border) -> Vec<f32> {
    let weights = window.weights();
    let size = weights.len();
    let shift = size - 1 - lead(size, border);
    let means = if border == Border::Valid { n + 1 - size } else { n };
    let mut band = vec![0.0; n * size];
    for j in 0..means {
        for (t, w) in weights.iter().enumerate() {
            if let Some(i) = mirror((j + t) as isize - shift as isize, n, border) {
                band[i * size + j + lead(size, border) - i] += w;
            }
        }
    }
    band
}

/// Means before its own position that an input reaches.
pub(crate) fn lead(size: usize, border: Border) -> usize {
    if border == Border::Valid { size - 1 } else { size / 2 }
}

impl Plan {
    pub fn new(op: &'static str, shape: Nhwc, window: Window, border: Border) -> Result<Self> {
        let [_, h, w, c] = shape;
        let weights = window.weights();
        let size = weights.len();
        if size.is_multiple_of(2) || h * w * c == 0 {
            return shape_error(op, format!("window {size} must be odd and {h}x{w}x{c} not empty"));
        }
        let valid = border == Border::Valid;
        if valid && (h < size || w < size) {
            return shape_error(op, format!("{h}x{w} pixels are fewer than the {size}x{size} window"));
        }
        let (out_h, out_w) = if valid { (h - size + 1, w - size + 1) } else { (h, w) };
        let shift = if valid { 0 } else { (size / 2) as isize };
        let rows: Vec<Taps> = (0..out_h)
            .map(|j| {
                let at = |t: usize| mirror(j as isize + t as isize - shift, h, border);
                weights.iter().enumerate().filter_map(|(t, w)| at(t).map(|row| (row, *w))).collect()
            })
            .collect();
        let mut adjoint_rows = vec![Taps::new(); h];
        for (j, taps) in rows.iter().enumerate() {
            for (row, weight) in taps {
                match adjoint_rows[*row].last_mut() {
                    Some((last, sum)) if *last == j => *sum += weight,
                    _ => adjoint_rows[*row].push((j, *weight)),
                }
            }
        }
        Ok(Self { h, w, c, out_h, out_w, weights, border, rows, adjoint_rows })
    }

    /// Floats of one image row.
    pub fn row_len(&self) -> usize {
        self.w * self.c
    }

    /// Floats of one row of means.
    pub fn out_len(&self) -> usize {
        self.out_w * self.c
    }

    fn radius(&self) -> usize {
        self.weights.len() / 2
    }

    /// Floats before the image row in a padded line.
    fn lead(&self) -> usize {
        if self.border == Border::Valid { 0 } else { self.radius() * self.c }
    }

    /// A line for [`Plan::horizontal`].
    pub fn line(&self) -> Vec<f32> {
        vec![0.0; self.row_len() + 2 * self.lead()]
    }

    /// The part of a line that the vertical pass writes.
    pub fn centre<'a>(&self, line: &'a mut [f32]) -> &'a mut [f32] {
        let lead = self.lead();
        &mut line[lead..lead + self.w * self.c]
    }

    /// Fills the ends of the line by the border rule and writes one row of means.
    pub fn horizontal(&self, line: &mut [f32], out: &mut [f32]) {
        let (r, c) = (self.radius(), self.c);
        if self.lead() > 0 {
            for q in (0..r).chain(r + self.w..self.w + 2 * r) {
                if let Some(column) = mirror(q as isize - r as isize, self.w, self.border) {
                    for k in 0..c {
                        line[q * c + k] = line[(r + column) * c + k];
                    }
                }
            }
        }
        weighted_line(&self.weights, line, self.c, out);
    }

    /// A line for [`Plan::horizontal_adjoint`].
    pub fn adjoint_line(&self) -> Vec<f32> {
        vec![0.0; (self.out_w + 4 * self.radius()) * self.c]
    }

    /// The part of an adjoint line that the vertical pass writes.
    pub fn adjoint_centre<'a>(&self, line: &'a mut [f32]) -> &'a mut [f32] {
        let lead = 2 * self.radius() * self.c;
        &mut line[lead..lead + self.out_w * self.c]
    }

    /// A row for the result of [`Plan::horizontal_adjoint`].
    pub fn adjoint_row(&self) -> Vec<f32> {
        vec![0.0; (self.out_w + 2 * self.radius()) * self.c]
    }

    /// The adjoint of [`Plan::horizontal`]; returns the image row inside `padded`.
    pub fn horizontal_adjoint<'a>(&self, line: &[f32], padded: &'a mut [f32]) -> &'a [f32] {
        weighted_line(&self.weights, line, self.c, padded);
        let (r, c) = (self.radius(), self.c);
        if self.lead() > 0 {
            for q in (0..r).chain(r + self.w..self.w + 2 * r) {
                if let Some(column) = mirror(q as isize - r as isize, self.w, self.border) {
                    for k in 0..c {
                        padded[(r + column) * c + k] += padded[q * c + k];
                    }
                }
            }
        }
        let lead = self.lead();
        &padded[lead..lead + self.row_len()]
    }
}

impl Window {
    /// Weights along one axis, summing to 1.
    pub(crate) fn weights(&self) -> Vec<f32> {
        let raw: Vec<f64> = match *self {
            Self::Gaussian { size, sigma } => {
                let mid = (size / 2) as f64;
                (0..size).map(|i| (-(i as f64 - mid).powi(2) / (2.0 * f64::from(sigma).powi(2))).exp()).collect()
            }
            Self::Uniform { size } => vec![1.0; size],
        };
        let sum: f64 = raw.iter().sum();
        raw.iter().map(|w| (w / sum) as f32).collect()
    }
}

/// Starts of blocks of `block` that cover `0..n`; the last one overlaps its neighbour, so that no
/// remainder is left to a slow loop.
#[inline(always)]
fn starts(n: usize, block: usize) -> impl Iterator<Item = usize> {
    let overlap = (!n.is_multiple_of(block)).then(|| n - block);
    (0..n / block).map(move |i| i * block).chain(overlap)
}

#[inline(always)]
fn line_block<const FMA: bool, const N: usize>(weights: &[f32], line: &[f32], step: usize, out: &mut [f32], n: usize) {
    let span = weights.len().saturating_sub(1) * step;
    assert!(n + span <= line.len(), "the line is shorter than its window reaches");
    for at in starts(n, N) {
        let mut sum = [0.0; N];
        for (t, w) in weights.iter().enumerate() {
            // SAFETY: at + N <= n and t * step <= span, so this ends inside `line`: asserted above.
            let values = unsafe { *line.as_ptr().add(at + t * step).cast::<[f32; N]>() };
            for (s, v) in sum.iter_mut().zip(values) {
                *s = madd::<FMA>(*w, v, *s);
            }
        }
        out[at..at + N].copy_from_slice(&sum);
    }
}

simd_fn! {
    /// `out[i] = sum over t of weights[t] * line[i + t * step]`.
    fn weighted_line(weights: &[f32], line: &[f32], step: usize, out: &mut [f32]) {
        let n = out.len();
        if n < LANES {
            line_block::<FMA, 1>(weights, line, step, out, n);
        } else if let Ok(eleven) = <&[f32; 11]>::try_from(weights) {
            // The usual window: the loop over taps unrolls.
            line_block::<FMA, LANES>(eleven, line, step, out, n);
        } else {
            line_block::<FMA, LANES>(weights, line, step, out, n);
        }
    }
}

/// Whether every tap lies inside a map of rows of `stride`.
fn inside(taps: &[(usize, f32)], map: &[f32], stride: usize) -> bool {
    taps.iter().all(|(row, _)| (row + 1) * stride <= map.len())
}

#[inline(always)]
fn row_block<const FMA: bool, const N: usize>(taps: &[(usize, f32)], map: &[f32], out: &mut [f32]) {
    let stride = out.len();
    for at in starts(stride, N) {
        let mut sum = [0.0; N];
        for (row, w) in taps {
            // SAFETY: at + N <= stride, and the row is inside `map`: asserted by the callers.
            let values = unsafe { *map.as_ptr().add(row * stride + at).cast::<[f32; N]>() };
            for (s, v) in sum.iter_mut().zip(values) {
                *s = madd::<FMA>(*w, v, *s);
            }
        }
        out[at..at + N].copy_from_slice(&sum);
    }
}

simd_fn! {
    /// `out = sum over taps of weight * map[row]`, for a map whose rows are as long as `out`.
    pub(crate) fn weighted_rows(taps: &[(usize, f32)], map: &[f32], out: &mut [f32]) {
        assert!(inside(taps, map, out.len()), "a tap lies outside the map");
        if out.len() < LANES {
            row_block::<FMA, 1>(taps, map, out);
        } else {
            row_block::<FMA, LANES>(taps, map, out);
        }
    }
}

/// Lines of vertical sums of x, x^2 and xy.
pub(crate) type CrossLines<'a> = [&'a mut [f32]; 3];

#[inline(always)]
fn cross_block<const FMA: bool, const N: usize>(
    taps: &[(usize, f32)],
    x: &[f32],
    y: &[f32],
    [sx, sxx, sxy]: &mut CrossLines,
) {
    let stride = sx.len();
    for at in starts(stride, N) {
        let (mut a, mut b, mut c) = ([0.0; N], [0.0; N], [0.0; N]);
        for (row, w) in taps {
            let from = row * stride + at;
            // SAFETY: at + N <= stride, and the row is inside x and y: asserted by the caller.
            let (xs, ys) =
                unsafe { (*x.as_ptr().add(from).cast::<[f32; N]>(), *y.as_ptr().add(from).cast::<[f32; N]>()) };
            for k in 0..N {
                let wx = w * xs[k];
                a[k] += wx;
                b[k] = madd::<FMA>(wx, xs[k], b[k]);
                c[k] = madd::<FMA>(wx, ys[k], c[k]);
            }
        }
        sx[at..at + N].copy_from_slice(&a);
        sxx[at..at + N].copy_from_slice(&b);
        sxy[at..at + N].copy_from_slice(&c);
    }
}

simd_fn! {
    /// Vertical sums of x, x^2 and xy over the rows in `taps`.
    pub(crate) fn cross_rows(taps: &[(usize, f32)], x: &[f32], y: &[f32], lines: &mut CrossLines) {
        let n = lines[0].len();
        assert!(inside(taps, x, n) && inside(taps, y, n), "a tap lies outside the map");
        if n < LANES {
            cross_block::<FMA, 1>(taps, x, y, lines);
        } else {
            cross_block::<FMA, LANES>(taps, x, y, lines);
        }
    }
}

#[inline(always)]
fn square_block<const FMA: bool, const N: usize>(taps: &[(usize, f32)], y: &[f32], sy: &mut [f32], syy: &mut [f32]) {
    let stride = sy.len();
    for at in starts(stride, N) {
        let (mut a, mut b) = ([0.0; N], [0.0; N]);
        for (row, w) in taps {
            // SAFETY: at + N <= stride, and the row is inside `y`: asserted by the caller.
            let values = unsafe { *y.as_ptr().add(row * stride + at).cast::<[f32; N]>() };
            for (k, v) in values.into_iter().enumerate() {
                let wy = w * v;
                a[k] += wy;
                b[k] = madd::<FMA>(wy, v, b[k]);
            }
        }
        sy[at..at + N].copy_from_slice(&a);
        syy[at..at + N].copy_from_slice(&b);
    }
}

simd_fn! {
    /// Vertical sums of y and y^2 over the rows in `taps`.
    pub(crate) fn square_rows(taps: &[(usize, f32)], y: &[f32], sy: &mut [f32], syy: &mut [f32]) {
        assert!(inside(taps, y, sy.len()), "a tap lies outside the map");
        if sy.len() < LANES {
            square_block::<FMA, 1>(taps, y, sy, syy);
        } else {
            square_block::<FMA, LANES>(taps, y, sy, syy);
        }
    }
}
