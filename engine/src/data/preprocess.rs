//! From a frame to what a model takes, in one pass: region of interest, channels, floats in 0..1 and size.

use hotad_kernels::resize::{Filter, RowResizer};
use rayon::prelude::*;

use super::frame::Frame;
use super::picture::ImageSpec;
use super::roi::{Bounds, Roi};
use crate::error::{Error, Result};

/// Brings frames to the size and channels of a model (bilinear, antialiased when shrinking). What depends on the size of the
/// frames alone is kept for the next one of it.
pub struct Preprocessor {
    spec: ImageSpec,
    roi: Option<Roi>,
    resizer: Option<RowResizer>,
}

impl Preprocessor {
    /// For images of `spec`.
    pub fn new(spec: ImageSpec) -> Self {
        Self { spec, roi: None, resizer: None }
    }

    /// The same, of a region of each frame or of all of it.
    #[must_use]
    pub fn within(self, roi: Option<Roi>) -> Self {
        Self { roi, resizer: None, ..self }
    }

    /// Writes the `height * width * channels` values of `frame` as the model takes it.
    ///
    /// # Errors
    /// When `values` has another length, or the region does not lie in the frame.
    pub fn run(&mut self, frame: &Frame, values: &mut [f32]) -> Result<()> {
        let ImageSpec { height, width, channels } = self.spec;
        if values.len() != self.spec.len() {
            let detail = format!("{} values for an image of {}", values.len(), self.spec);
            return Err(Error::Shape { op: "preprocess", detail });
        }
        let roi = self.roi.clone();
        let Bounds { left, top, width: columns, height: rows } = bounds(frame, roi.as_ref())?;
        let row = |y: usize, values: &mut [f32]| {
            frame.row(top + y, left, channels, values);
            roi.iter().for_each(|roi| roi.gray_row(y, channels, values));
        };
        if (rows, columns) == (height, width) {
            values.par_chunks_mut(width * channels).enumerate().for_each(|(y, values)| row(y, values));
            return Ok(());
        }
        Ok(self.resizer([rows, columns, channels])?.run(row, values)?)
    }

    /// The resizer from frames of `[rows, columns, channels]`.
    fn resizer(&mut self, from: [usize; 3]) -> Result<&mut RowResizer> {
        let resizer = match self.resizer.take().filter(|r| r.from() == from) {
            Some(known) => known,
            None => RowResizer::new(from, (self.spec.height, self.spec.width), Filter::BilinearAntialias)?,
        };
        Ok(self.resizer.insert(resizer))
    }
}

/// The part of a frame that is looked at.
fn bounds(frame: &Frame, roi: Option<&Roi>) -> Result<Bounds> {
    let Some(roi) = roi else {
        return Ok(Bounds { left: 0, top: 0, width: frame.width(), height: frame.height() });
    };
    roi.check(frame.height(), frame.width())?;
    Ok(roi.bounds())
}
