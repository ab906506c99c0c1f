//! Resizing on the CPU of an image that is nowhere as a whole: its rows are made when they are wanted.

use std::ops::Range;

use rayon::prelude::*;

use super::axis::Axis;
use super::{Filter, check, weighted_pixels};
use crate::elementwise::add_scaled;
use crate::error::{Result, device_error};
use crate::memory::zeros;

/// Pieces that the output is cut into at most, each with scratch rows of its own.
const PIECES: usize = 32;
/// Elements of all scratch rows together, unless those of one piece are more.
const SCRATCH: usize = 1 << 24;
/// Rows of the output that a row of a larger image is summed into at most: two, and one more at each end where sizes are nearly the same.
const OPEN: usize = 4;

/// Resizes images of one size to another. Nothing is allocated after [`RowResizer::new`].
pub struct RowResizer {
    from: [usize; 3],
    to: (usize, usize),
    rows: Axis,
    columns: Axis,
    /// Rows of the output in a piece.
    lines: usize,
    /// A row of the input and the sums of [`OPEN`] rows for each piece of the output.
    scratch: Vec<f32>,
}

impl RowResizer {
    /// From images `[h, w, c]` to `(rows, columns)`.
    ///
    /// # Errors
    /// When a size is 0, or there is no memory for rows so long.
    pub fn new(from: [usize; 3], to: (usize, usize), filter: Filter) -> Result<Self> {
        let [h, w, c] = from;
        check(h * w * c, [1, h, w, c], to, to.0 * to.1 * c)?;
        let (rows, columns) = (Axis::new(filter, h, to.0), Axis::new(filter, w, to.1));
        let piece = (1 + OPEN) * w * c;
        let pieces = (SCRATCH / piece).clamp(1, PIECES.min(to.0));
        let lines = to.0.div_ceil(pieces);
        let Some(scratch) = zeros(piece * to.0.div_ceil(lines)) else {
            return device_error(format!("cpu: out of memory: rows of {w} pixels are too long to be resized"));
        };
        Ok(Self { from, to, rows, columns, lines, scratch })
    }

    /// The shape `[h, w, c]` of the images that it resizes.
    pub fn from(&self) -> [usize; 3] {
        self.from
    }

    /// Rows and columns that it resizes them to.
    pub fn to(&self) -> (usize, usize) {
        self.to
    }

    /// Writes `y` of shape `[rows, columns, c]`; `row(r, values)` writes row `r` of the image, possibly several times. The sums
    /// are those of [`super::resize`], in the same order.
    ///
    /// # Errors
    /// When the length of `y` does not fit.
    pub fn run(&mut self, row: impl Fn(usize, &mut [f32]) + Sync, y: &mut [f32]) -> Result<()> {
        let ([h, w, c], (oh, ow)) = (self.from, self.to);
        check(h * w * c, [1, h, w, c], self.to, y.len())?;
        let lines = self.lines;
        let scratch = self.scratch.par_chunks_mut((1 + OPEN) * w * c);
        let pieces = y.par_chunks_mut(lines * ow * c).zip(scratch).enumerate();
        let axes = (&self.rows, &self.columns);
        pieces.for_each(|(piece, (out, scratch))| {
            let lines = piece * lines..piece * lines + out.len() / (ow * c);
            if oh < h {
                shrunk(axes, c, &row, lines, scratch, out)
            } else {
                enlarged(axes, c, &row, lines, scratch, out)
            }
        });
        Ok(())
    }
}

/// Some rows of an image with fewer rows than the input: each row of the input is made once and summed into those that it
/// reaches.
fn shrunk(
    (rows, columns): (&Axis, &Axis),
    c: usize,
    row: &impl Fn(usize, &mut [f32]),
    lines: Range<usize>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let width = scratch.len() / (1 + OPEN);
    let (values, sums) = scratch.split_at_mut(width);
    let end = |j: usize| rows.taps(j).0 + rows.taps(j).1.len();
    let (mut begun, mut done) = (lines.start, lines.start);
    let mut out = out.chunks_exact_mut(out.len() / lines.len());
    for r in rows.taps(lines.start).0..end(lines.end - 1) {
        row(r, values);
        while begun < lines.end && rows.taps(begun).0 <= r {
            sums[begun % OPEN * width..][..width].fill(0.0);
            begun += 1;
        }
        for j in done..begun {
            let (first, weights) = rows.taps(j);
            if let Some(weight) = weights.get(r - first) {
                add_scaled(&mut sums[j % OPEN * width..][..width], *weight, values);
            }
        }
        while done < begun && end(done) <= r + 1 {
            if let Some(out) = out.next() {
                out.fill(0.0);
                weighted_pixels(columns, &sums[done % OPEN * width..][..width], c, out);
            }
            done += 1;
        }
    }
}

/// Some rows of an image with as many rows as the input or more: few rows of the input are summed into each.
fn enlarged(
    (rows, columns): (&Axis, &Axis),
    c: usize,
    row: &impl Fn(usize, &mut [f32]),
    lines: Range<usize>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let (values, rest) = scratch.split_at_mut(scratch.len() / (1 + OPEN));
    let sum = &mut rest[..values.len()];
    for (j, out) in lines.clone().zip(out.chunks_exact_mut(out.len() / lines.len())) {
        sum.fill(0.0);
        let (first, weights) = rows.taps(j);
        for (k, weight) in weights.iter().enumerate() {
            row(first + k, values);
            add_scaled(sum, *weight, values);
        }
        out.fill(0.0);
        weighted_pixels(columns, sum, c, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resize::resize;

    /// Sizes that shrink, grow and stay, by odd factors, on each axis.
    #[test]
    fn rows_give_the_sums_of_the_whole_image() {
        for ([h, w, c], (oh, ow)) in [
            ([97, 61, 3], (32, 32)),
            ([50, 70, 1], (49, 69)),
            ([33, 20, 3], (32, 40)),
            ([5, 7, 2], (64, 9)),
            ([200, 3, 3], (7, 3)),
            ([40, 40, 1], (1, 1)),
            ([1, 1, 3], (40, 2)),
            ([64, 64, 3], (64, 32)),
        ] {
            for filter in [Filter::Bilinear, Filter::BilinearAntialias] {
                let x: Vec<f32> = (0..h * w * c).map(|i| ((i * 37) % 101) as f32 / 101.0).collect();
                let (mut whole, mut by_rows) = (vec![0.0; oh * ow * c], vec![7.0; oh * ow * c]);
                resize(&x, [1, h, w, c], (oh, ow), filter, &mut whole).expect("shapes that fit");
                let mut resizer = RowResizer::new([h, w, c], (oh, ow), filter).expect("shapes that fit");
                let row = |r: usize, values: &mut [f32]| values.copy_from_slice(&x[r * w * c..(r + 1) * w * c]);
                for _ in 0..2 {
                    resizer.run(row, &mut by_rows).expect("shapes that fit");
                    assert!(whole == by_rows, "{h}x{w}x{c} to {oh}x{ow}, {filter:?}");
                }
            }
        }
    }
}
