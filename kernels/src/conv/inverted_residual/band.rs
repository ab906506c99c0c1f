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
        let (rows, w) = (self.to - self.from, g.x[2]);
        let place = |at: usize| ((self.top + at / w) * self.width + g.before[1] + at % w) * block;
        Reused::collect((0..rows * w).map(place))
    }

    /// Where the windows of output rows begin.
    pub fn corners(&self, g: &Geometry, block: usize) -> Reused<usize> {
        let (step, ow) = (g.opts.stride * block, g.y[2]);
        Reused::collect((0..self.rows * ow).map(|at| (at / ow * self.width + at % ow) * step))
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

/// Columns of an expanded map, zeros included. A stride may leave the last columns of the map out; they are expanded all the same.
pub(super) fn width(g: &Geometry) -> usize {
    ((g.y[2] - 1) * g.opts.stride + g.w[2]).max(g.before[1] + g.x[2])
}
