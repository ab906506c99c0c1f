//! A region of interest: the part of a frame that a model looks at.
//!
//! A union of boxes and polygons in pixels of the frame, or a mask of its size. A frame is cropped to the bounds of the region;
//! pixels within the bounds but outside of the region become gray ([`OUTSIDE`]), so that nothing there can be learned or found.
//! A pixel is inside of a polygon when its centre is, by the even-odd rule.

mod rows;
mod shape;
mod text;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::picture::{Mask, Picture};
use crate::error::{Error, Result};
use rows::Rows;
use shape::{Runs, Shape};

/// What pixels outside of a region become, in every channel.
pub const OUTSIDE: f32 = 0.5;

/// Largest column and row that a region reaches to.
pub const SIDE: u32 = 100_000;

/// Most corners of all shapes together; a box has two.
const CORNERS: usize = 4096;

/// The smallest box around a region, in pixels of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// What a region is made of, as a model file holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Parts {
    /// A union.
    Shapes(Vec<Shape>),
    /// A mask of the size of the frame.
    Mask(Runs),
}

/// A region of interest; a clone shares its memory.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Roi(Arc<Inner>);

#[derive(PartialEq)]
struct Inner {
    parts: Parts,
    bounds: Bounds,
    rows: Rows,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::Config(format!("region of interest: {}", reason.into())))
}

impl TryFrom<Parts> for Roi {
    type Error = Error;

    fn try_from(parts: Parts) -> Result<Self> {
        let (bounds, rows) = match &parts {
            Parts::Shapes(shapes) => {
                shapes.iter().try_for_each(Shape::check)?;
                let corners: usize = shapes.iter().map(Shape::corners).sum();
                if corners > CORNERS {
                    return refuse(format!("its shapes have {corners} corners, more than {CORNERS}; use a mask"));
                }
                Rows::of_shapes(shapes)?
            }
            Parts::Mask(runs) => {
                runs.check()?;
                Rows::of_runs(runs)?
            }
        };
        Ok(Self(Arc::new(Inner { parts, bounds, rows })))
    }
}

impl From<Roi> for Parts {
    fn from(roi: Roi) -> Self {
        roi.0.parts.clone()
    }
}

impl Roi {
    /// A union of boxes: first column, first row, columns and rows of each.
    ///
    /// # Errors
    /// Without a box, for one without pixels, one beyond [`SIDE`], or too many.
    pub fn boxes(boxes: &[[u32; 4]]) -> Result<Self> {
        let shape = |[left, top, width, height]: [u32; 4]| Shape::Box { left, top, width, height };
        Parts::Shapes(boxes.iter().copied().map(shape).collect()).try_into()
    }

    /// A polygon with these corners: column and row, the top left corner of the frame being (0, 0).
    ///
    /// # Errors
    /// For fewer than three corners, one that is not finite, below 0 or beyond [`SIDE`], too many, or no pixel inside.
    pub fn polygon(corners: &[[f64; 2]]) -> Result<Self> {
        Parts::Shapes(vec![Shape::Polygon(corners.to_vec())]).try_into()
    }

    /// The pixels of an image file whose value is above 0, for frames of its size.
    ///
    /// # Errors
    /// When the file cannot be read, has no such pixel, or they are too scattered.
    pub fn mask(path: &Path) -> Result<Self> {
        let mask = Mask::read(path)?;
        Self::of_mask(&mask).map_err(|e| Error::Image { path: path.into(), reason: e.to_string() })
    }

    /// The pixels that a mask names, for frames of its size.
    ///
    /// # Errors
    /// When it names none, or they are too scattered.
    pub fn of_mask(mask: &Mask) -> Result<Self> {
        Parts::Mask(Runs::of(mask)).try_into()
    }

    /// The smallest box around it.
    pub fn bounds(&self) -> Bounds {
        self.0.bounds
    }

    /// Whether every pixel within its bounds is inside.
    pub fn is_rectangle(&self) -> bool {
        self.0.rows.are_full(self.0.bounds.width)
    }

    /// Pixels inside.
    pub fn pixels(&self) -> usize {
        self.0.rows.pixels()
    }

    /// Columns inside of row `y` of the frame, from the first to the one after the last of each span, in order.
    pub fn spans(&self, y: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let Bounds { left, top, height, .. } = self.0.bounds;
        let row = (top..top + height).contains(&y).then(|| self.0.rows.row(y - top));
        row.into_iter().flatten().map(move |(start, end)| (left + *start as usize, left + *end as usize))
    }

    /// Fails for frames that it does not lie in, or that are not of the size of its mask.
    ///
    /// # Errors
    /// [`Error::Frame`] with both sizes.
    pub fn check(&self, height: usize, width: usize) -> Result<()> {
        let Bounds { left, top, width: columns, height: rows } = self.0.bounds;
        let (right, bottom) = (left + columns, top + rows);
        let what = match &self.0.parts {
            Parts::Mask(mask) if (mask.height as usize, mask.width as usize) == (height, width) => return Ok(()),
            Parts::Mask(mask) => {
                format!(
                    "the mask of the region of interest has {} x {}; they must be the same",
                    mask.width, mask.height
                )
            }
            Parts::Shapes(_) if right <= width && bottom <= height => return Ok(()),
            Parts::Shapes(_) => {
                format!("the region of interest reaches to {right} x {bottom}; it must lie within the frame")
            }
        };
        Err(Error::Frame(format!("the frame has {width} x {height} pixels, {what}")))
    }

    /// Makes pixels outside gray in row `y` of its bounds, of `channels` values each.
    pub(super) fn gray_row(&self, y: usize, channels: usize, values: &mut [f32]) {
        let mut start = 0;
        for (first, end) in self.0.rows.row(y) {
            values[start..*first as usize * channels].fill(OUTSIDE);
            start = *end as usize * channels;
        }
        values[start..].fill(OUTSIDE);
    }

    /// Calls `work` with the position, row by row, of every pixel whose centre is outside, of an image of `height` x `width`
    /// pixels that its bounds are brought to.
    pub fn for_each_outside(&self, (height, width): (usize, usize), mut work: impl FnMut(usize)) {
        if self.is_rectangle() {
            return;
        }
        let centre = |i: usize, all: usize, of: usize| (2 * i + 1) * of / (2 * all);
        for y in 0..height {
            let mut spans = self.0.rows.row(centre(y, height, self.0.bounds.height));
            for x in 0..width {
                let column = centre(x, width, self.0.bounds.width) as u32;
                while spans.first().is_some_and(|(_, end)| *end <= column) {
                    spans = &spans[1..];
                }
                if spans.first().is_none_or(|(first, _)| column < *first) {
                    work(y * width + x);
                }
            }
        }
    }

    /// Whether each pixel is inside, as [`Roi::for_each_outside`] tells.
    pub fn inside(&self, (height, width): (usize, usize)) -> Vec<bool> {
        let mut inside = vec![true; height * width];
        self.for_each_outside((height, width), |at| inside[at] = false);
        inside
    }

    /// Makes pixels outside gray in a picture of its bounds.
    pub fn gray(&self, picture: &mut Picture) {
        let channels = picture.channels;
        let size = (picture.height, picture.width);
        self.for_each_outside(size, |at| picture.values[at * channels..][..channels].fill(OUTSIDE));
    }

    /// The part of a picture of a whole frame within its bounds, gray outside.
    ///
    /// # Errors
    /// As [`Roi::check`].
    pub fn cut(&self, picture: &Picture) -> Result<Picture> {
        self.check(picture.height, picture.width)?;
        let (Bounds { left, top, width, height }, channels) = (self.0.bounds, picture.channels);
        let row = |y: usize| &picture.values[((top + y) * picture.width + left) * channels..][..width * channels];
        let values: Vec<f32> = (0..height).flat_map(row).copied().collect();
        let mut part = Picture { height, width, channels, values };
        self.gray(&mut part);
        Ok(part)
    }

    /// Writes a map of its bounds into one of the whole frame, of `width` columns; the rest and all outside becomes `rest`.
    pub fn place(&self, map: &[f32], rest: f32, width: usize, frame: &mut [f32]) {
        frame.fill(rest);
        let Bounds { left, top, width: columns, height } = self.0.bounds;
        for y in 0..height {
            for (start, end) in self.spans(top + y) {
                frame[(top + y) * width..][start..end].copy_from_slice(&map[y * columns..][start - left..end - left]);
            }
        }
    }

    /// Whether each pixel of a whole frame is inside.
    ///
    /// # Errors
    /// As [`Roi::check`].
    pub fn inside_frame(&self, (height, width): (usize, usize)) -> Result<Vec<bool>> {
        self.check(height, width)?;
        let mut inside = vec![false; height * width];
        for y in 0..height {
            self.spans(y).for_each(|(start, end)| inside[y * width..][start..end].fill(true));
        }
        Ok(inside)
    }
}
