//! Resizing on the CPU of an image that is nowhere as a whole: its rows are made when they are wanted.

use rayon::prelude::*;

use super::axis::Axis;
use super::{Filter, add_scaled, check, weighted_pixels};
use crate::error::Result;

/// Pieces that the output is cut into, each with scratch rows of its own.
const PIECES: usize = 32;

/// Resizes images of one size to another. Nothing is allocated after [`RowResizer::new`].
pub struct RowResizer {
    from: [usize; 3],
    to: (usize, usize),
    rows: Axis,
    columns: Axis,
    /// Two rows of the input for each piece of the output.
    scratch: Vec<f32>,
}

impl RowResizer {
    /// From images `[h, w, c]` to `(rows, columns)`.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn new(from: [usize; 3], to: (usize, usize), filter: Filter) -> Result<Self> {
        let [h, w, c] = from;
        check(h * w * c, [1, h, w, c], to, to.0 * to.1 * c)?;
        let (rows, columns) = (Axis::new(filter, h, to.0), Axis::new(filter, w, to.1));
        Ok(Self { from, to, rows, columns, scratch: vec![0.0; 2 * w * c * PIECES.min(to.0)] })
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
        let lines = oh.div_ceil(PIECES);
        let pieces = y.par_chunks_mut(lines * ow * c).zip(self.scratch.par_chunks_mut(2 * w * c)).enumerate();
        let (rows, columns) = (&self.rows, &self.columns);
        pieces.for_each(|(piece, (out, scratch))| {
            let (sum, values) = scratch.split_at_mut(w * c);
            for (j, out) in (piece * lines..).zip(out.chunks_exact_mut(ow * c)) {
                sum.fill(0.0);
                let (first, weights) = rows.taps(j);
                for (k, weight) in weights.iter().enumerate() {
                    row(first + k, values);
                    add_scaled(sum, *weight, values);
                }
                out.fill(0.0);
                weighted_pixels(columns, sum, c, out);
            }
        });
        Ok(())
    }
}
