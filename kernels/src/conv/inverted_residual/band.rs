//! What a band of output rows sees of the expanded map.

use super::super::Geometry;
use crate::device::Reused;

/// The expanded map of a band, and the input rows that the band sees.
pub(super) struct Band {
    /// Output rows.
    pub rows: usize,
    /// Rows and columns of the expanded map, zeros included.
    pub height: usize,
    pub width: usize,
    /// First row that is one of the image's.
    pub top: usize,
    /// Rows of the image.
    pub from: usize,
    pub to: usize,
}

impl Band {
    /// Of `rows` output rows from row `first` on.
    pub fn new(g: &Geometry, first: usize, rows: usize) -> Self {
        let height = (rows - 1) * g.opts.stride + g.w[1];
        let start = first * g.opts.stride; // in rows with zeros before them
        let from = start.saturating_sub(g.before[0]).min(g.x[1]);
        let to = (start + height).saturating_sub(g.before[0]).min(g.x[1]);
        Self { rows, height, width: width(g), top: g.before[0].saturating_sub(start), from, to }
    }

    /// Where the seen pixels lie, with so many channels of each.
    pub fn places(&self, g: &Geometry, block: usize) -> Reused<usize> {
        grid(self.to - self.from, g.x[2], |row, column| ((self.top + row) * self.width + g.before[1] + column) * block)
    }

    /// Where the windows of output rows begin.
    pub fn corners(&self, g: &Geometry, block: usize) -> Reused<usize> {
        let step = g.opts.stride * block;
        grid(self.rows, g.y[2], |row, column| (row * self.width + column) * step)
    }

    /// Zeros around the seen pixels.
    pub fn clear(&self, g: &Geometry, block: usize, scratch: &mut [f32]) {
        let seen = self.top..self.top + self.to - self.from;
        let (left, right) = (g.before[1] * block, (g.before[1] + g.x[2]) * block);
        for (r, line) in scratch.chunks_exact_mut(self.width * block).enumerate() {
            if seen.contains(&r) {
                line[..left].fill(0.0);
                line[right..].fill(0.0);
            } else {
                line.fill(0.0);
            }
        }
    }
}

/// Numbers for each row and column.
fn grid(rows: usize, columns: usize, number: impl Fn(usize, usize) -> usize) -> Reused<usize> {
    let mut numbers = Reused::uninit(rows * columns);
    for (row, line) in numbers.chunks_exact_mut(columns.max(1)).enumerate() {
        line.iter_mut().enumerate().for_each(|(column, to)| *to = number(row, column));
    }
    numbers
}

/// Columns of an expanded map, zeros included. A stride may leave the last columns of the map out; they are expanded all the same.
pub(super) fn width(g: &Geometry) -> usize {
    ((g.y[2] - 1) * g.opts.stride + g.w[2]).max(g.before[1] + g.x[2])
}
