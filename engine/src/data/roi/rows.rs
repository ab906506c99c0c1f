//! The pixels of a region, row by row.

use super::shape::{Runs, Shape};
use super::{Bounds, refuse};
use crate::error::Result;

/// First column, and the one after the last.
pub type Span = (u32, u32);

/// Most spans of a region.
const SPANS: usize = 1 << 19;

/// Spans of each row within the bounds, in columns from the left of the bounds, ascending; none touch.
#[derive(Default, PartialEq)]
pub struct Rows {
    spans: Vec<Span>,
    /// Where the spans of each row end.
    ends: Vec<u32>,
}

/// Spans of the frame's rows, one after the other.
#[derive(Default)]
struct Builder {
    rows: Rows,
    /// The first row with a span, and the one after the last.
    top: usize,
    bottom: usize,
}

impl Rows {
    /// Of a union of shapes.
    pub fn of_shapes(shapes: &[Shape]) -> Result<(Bounds, Self)> {
        let first = shapes.iter().map(|s| s.rows().0).min().unwrap_or(0);
        let end = shapes.iter().map(|s| s.rows().1).max().unwrap_or(0);
        let (mut builder, mut spans, mut crossings) = (Builder::default(), Vec::new(), Vec::new());
        for y in first..end {
            shapes.iter().for_each(|shape| shape.add_row(y, &mut crossings, &mut spans));
            builder.add(y as usize, &mut spans)?;
        }
        builder.done()
    }

    /// The rows of a mask that is given by its runs.
    pub fn of_runs(runs: &Runs) -> Result<(Bounds, Self)> {
        let (mut builder, mut spans) = (Builder::default(), Vec::new());
        let width = u64::from(runs.width);
        let (mut y, mut at) = (0, 0);
        for (i, length) in runs.runs.iter().enumerate() {
            let end = at + u64::from(*length);
            while at < end {
                if at / width != y {
                    builder.add(y as usize, &mut spans)?;
                    y = at / width;
                }
                let stop = end.min((y + 1) * width);
                if i % 2 == 1 {
                    spans.push(((at - y * width) as u32, (stop - y * width) as u32));
                }
                at = stop;
            }
        }
        builder.add(y as usize, &mut spans)?;
        builder.done()
    }

    /// Of row `y` of the bounds.
    pub fn row(&self, y: usize) -> &[Span] {
        let start = if y == 0 { 0 } else { self.ends[y - 1] };
        &self.spans[start as usize..self.ends[y] as usize]
    }

    /// Whether every row is one span of `width` columns.
    pub fn are_full(&self, width: usize) -> bool {
        self.spans.len() == self.ends.len() && self.spans.iter().all(|span| *span == (0, width as u32))
    }

    /// Pixels of all spans.
    pub fn pixels(&self) -> usize {
        self.spans.iter().map(|(start, end)| (end - start) as usize).sum()
    }
}

impl Builder {
    /// Adds row `y`, one after the other, emptying `spans`, which may touch and come in any order.
    fn add(&mut self, y: usize, spans: &mut Vec<Span>) -> Result<()> {
        let Rows { spans: all, ends } = &mut self.rows;
        if spans.is_empty() && ends.is_empty() {
            return Ok(());
        }
        if ends.is_empty() {
            self.top = y;
        }
        spans.sort_unstable();
        let first = all.len();
        for (start, end) in spans.drain(..) {
            self.bottom = y + 1;
            match all[first..].last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => all.push((start, end)),
            }
        }
        if all.len() > SPANS {
            return refuse(format!("it has more than {SPANS} rows of pixels side by side; use a simpler one"));
        }
        ends.push(all.len() as u32);
        Ok(())
    }

    /// Bounds, and the rows within them.
    fn done(self) -> Result<(Bounds, Rows)> {
        let Self { mut rows, top, bottom } = self;
        let Some(left) = rows.spans.iter().map(|span| span.0).min() else {
            return refuse("no pixel is inside; use a larger one");
        };
        let right = rows.spans.iter().map(|span| span.1).max().unwrap_or(left);
        rows.ends.truncate(bottom - top);
        rows.spans.iter_mut().for_each(|(start, end)| (*start, *end) = (*start - left, *end - left));
        let bounds = Bounds { left: left as usize, top, width: (right - left) as usize, height: bottom - top };
        Ok((bounds, rows))
    }
}
