//! Windowed means along rows and columns, and their adjoints, under three border rules.
//!
//! A window is separable: a vertical pass over image rows writes one line, a horizontal pass over
//! that line writes one row of means. In NHWC a horizontal step is `c` elements, so both passes run
//! over contiguous floats whatever the number of channels.

mod passes;

use crate::border;
pub use crate::border::Border;
use crate::device::Reused;
use crate::error::{Result, shape_error};
use crate::shape::Nhwc;
use crate::sparse_rows::{Entry, SparseRows};
use passes::weighted_line;
pub(crate) use passes::{cross_rows, square_rows, weighted_rows};

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

/// Everything about a window on maps of one shape.
pub(crate) struct WindowPlan {
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Rows and columns of the map of means.
    pub out_h: usize,
    pub out_w: usize,
    weights: Reused<f32>,
    border: Border,
    /// Elements of a padded line beyond the ends of the image row, and the elements that they mirror.
    ends: Reused<[usize; 2]>,
    /// For each row of means: the image rows it sums, with their weights.
    pub rows: SparseRows,
    /// For each image row: the rows of means it reaches, with the weight of the adjoint.
    pub adjoint_rows: SparseRows,
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

/// The elements before and after a row of `w` pixels of `c` channels in a line with `r` more on either side, each with
/// the element of the row that it mirrors under a border rule, if any.
fn ends(r: usize, w: usize, c: usize, border: Border) -> Reused<[usize; 2]> {
    let beyond = (0..r).chain(r + w..w + 2 * r);
    let mirrored = beyond.filter_map(|q| Some((q, r + mirror(q as isize - r as isize, w, border)?)));
    mirrored.flat_map(|(q, column)| (0..c).map(move |k| [q * c + k, column * c + k])).collect()
}

impl WindowPlan {
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
        let mut rows = SparseRows::with_capacity(out_h, size);
        for j in 0..out_h {
            let at = |t: usize| mirror(j as isize + t as isize - shift, h, border);
            rows.push(weights.iter().enumerate().filter_map(|(t, w)| at(t).map(|row| Entry::new(row, *w))));
        }
        let adjoint_rows = rows.transposed(h);
        let ends = if valid { Reused::with_capacity(0) } else { ends(size / 2, w, c, border) };
        Ok(Self { h, w, c, out_h, out_w, weights, border, ends, rows, adjoint_rows })
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

    /// A line for [`WindowPlan::horizontal`].
    pub fn line(&self) -> Reused<f32> {
        Reused::filled(self.row_len() + 2 * self.lead(), 0.0)
    }

    /// The part of a line that the vertical pass writes.
    pub fn centre<'a>(&self, line: &'a mut [f32]) -> &'a mut [f32] {
        let lead = self.lead();
        &mut line[lead..lead + self.w * self.c]
    }

    /// Fills the ends of the line by the border rule and writes one row of means.
    pub fn horizontal(&self, line: &mut [f32], out: &mut [f32]) {
        for [to, from] in self.ends.iter() {
            line[*to] = line[*from];
        }
        weighted_line(&self.weights, line, self.c, out);
    }

    /// A line for [`WindowPlan::horizontal_adjoint`].
    pub fn adjoint_line(&self) -> Reused<f32> {
        Reused::filled((self.out_w + 4 * self.radius()) * self.c, 0.0)
    }

    /// The part of an adjoint line that the vertical pass writes.
    pub fn adjoint_centre<'a>(&self, line: &'a mut [f32]) -> &'a mut [f32] {
        let lead = 2 * self.radius() * self.c;
        &mut line[lead..lead + self.out_w * self.c]
    }

    /// A row for the result of [`WindowPlan::horizontal_adjoint`].
    pub fn adjoint_row(&self) -> Reused<f32> {
        Reused::filled((self.out_w + 2 * self.radius()) * self.c, 0.0)
    }

    /// The adjoint of [`WindowPlan::horizontal`]; returns the image row inside `padded`.
    pub fn horizontal_adjoint<'a>(&self, line: &[f32], padded: &'a mut [f32]) -> &'a [f32] {
        weighted_line(&self.weights, line, self.c, padded);
        for [from, to] in self.ends.iter() {
            padded[*to] += padded[*from];
        }
        let lead = self.lead();
        &padded[lead..lead + self.row_len()]
    }
}

impl Window {
    /// Weights along one axis, summing to 1.
    pub(crate) fn weights(&self) -> Reused<f32> {
        let raw: Reused<f64> = match *self {
            Self::Gaussian { size, sigma } => {
                let mid = (size / 2) as f64;
                (0..size).map(|i| (-(i as f64 - mid).powi(2) / (2.0 * f64::from(sigma).powi(2))).exp()).collect()
            }
            Self::Uniform { size } => Reused::filled(size, 1.0),
        };
        let sum: f64 = raw.iter().sum();
        Reused::collect(raw.iter().map(|w| (w / sum) as f32))
    }
}
