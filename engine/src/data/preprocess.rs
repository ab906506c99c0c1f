//! From a frame to what a model takes, in one pass: channels, floats in 0..1 and size.

use hotad_kernels::resize::{Filter, RowResizer};
use rayon::prelude::*;

use super::frame::Frame;
use super::picture::ImageSpec;
use crate::error::{Error, Result};

/// Brings frames to the size and channels of a model (bilinear, antialiased when shrinking). What depends on the size of the
/// frames alone is kept for the next one of it.
pub struct Preprocessor {
    spec: ImageSpec,
    resizer: Option<RowResizer>,
}

impl Preprocessor {
    /// For images of `spec`.
    pub fn new(spec: ImageSpec) -> Self {
        Self { spec, resizer: None }
    }

    /// Writes the `height * width * channels` values of `frame` as the model takes it.
    ///
    /// # Errors
    /// When `values` has another length.
    pub fn run(&mut self, frame: &Frame, values: &mut [f32]) -> Result<()> {
        let ImageSpec { height, width, channels } = self.spec;
        if values.len() != self.spec.len() {
            let detail = format!("{} values for an image of {}", values.len(), self.spec);
            return Err(Error::Shape { op: "preprocess", detail });
        }
        let row = |y: usize, values: &mut [f32]| frame.row(y, 0, channels, values);
        if (frame.height(), frame.width()) == (height, width) {
            values.par_chunks_mut(width * channels).enumerate().for_each(|(y, values)| row(y, values));
            return Ok(());
        }
        Ok(self.resizer([frame.height(), frame.width(), channels])?.run(row, values)?)
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
