//! From maps of a model to those of frames.

use hotad_engine::Result;
use hotad_engine::data::roi::Roi;
use hotad_kernels::resize::{Filter, RowResizer};

use crate::inspector::reserve;

/// Enlarges maps (bilinear); its memory is used again.
#[derive(Default)]
pub struct Enlarger {
    /// What depends on the sizes alone.
    resizer: Option<RowResizer>,
    /// A map of a region, before it is put into that of the frame.
    part: Vec<f32>,
}

impl Enlarger {
    /// Writes a map of `from` rows and columns at the `size` of a frame; where it is of a region, with a value for all outside.
    pub fn run(
        &mut self,
        map: &[f32],
        from: (usize, usize),
        roi: Option<(&Roi, f32)>,
        size: (usize, usize),
        frame: &mut Vec<f32>,
    ) -> Result<()> {
        let pixels = size.0 * size.1;
        reserve(frame, pixels.saturating_sub(frame.len()))?;
        frame.resize(pixels, 0.0);
        let Some((roi, outside)) = roi else { return resize(&mut self.resizer, map, from, size, frame) };
        let bounds = roi.bounds();
        self.part.resize(bounds.width * bounds.height, 0.0);
        resize(&mut self.resizer, map, from, (bounds.height, bounds.width), &mut self.part)?;
        roi.place(&self.part, outside, size.1, frame);
        Ok(())
    }
}

/// Brings a map to a size.
fn resize(
    kept: &mut Option<RowResizer>,
    map: &[f32],
    (height, width): (usize, usize),
    size: (usize, usize),
    to: &mut [f32],
) -> Result<()> {
    if size == (height, width) {
        to.copy_from_slice(map);
        return Ok(());
    }
    let resizer = match kept.take().filter(|resizer| resizer.to() == size) {
        Some(known) => known,
        None => RowResizer::new([height, width, 1], size, Filter::BilinearAntialias)?,
    };
    let row = |y: usize, values: &mut [f32]| values.copy_from_slice(&map[y * width..][..width]);
    Ok(kept.insert(resizer).run(row, to)?)
}
