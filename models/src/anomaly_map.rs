//! How anomalous each pixel of an image is.

use hotad_engine::Result;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::data::roi::Roi;

/// An anomaly map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnomalyMap {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Row by row; larger is more anomalous.
    pub values: Vec<f32>,
}

impl AnomalyMap {
    /// Maps of images of a size, which lie one after another in `values`.
    pub fn of_batch(values: &[f32], image: ImageSpec) -> impl Iterator<Item = Self> {
        let ImageSpec { height, width, .. } = image;
        values.chunks_exact(height * width).map(move |map| Self { height, width, values: map.to_vec() })
    }

    /// The map at another size (rows, columns), bilinear.
    ///
    /// # Errors
    /// When a side is 0.
    pub fn resized(self, (height, width): (usize, usize)) -> Result<Self> {
        let picture = Picture { height: self.height, width: self.width, channels: 1, values: self.values };
        Ok(Self { height, width, values: picture.resized(height, width)?.values })
    }

    /// The map of a whole image of `size` (rows, columns), of which this one shows a region; outside is the value that comes with
    /// it. Without a region it shows all of the image.
    ///
    /// # Errors
    /// When a side is 0, or the region does not lie in the image.
    pub fn of_whole(self, size: (usize, usize), roi: Option<(&Roi, f32)>) -> Result<Self> {
        let Some((roi, outside)) = roi else { return self.resized(size) };
        let (height, width) = size;
        roi.check(height, width)?;
        let part = self.resized((roi.bounds().height, roi.bounds().width))?;
        let mut values = vec![0.0; height * width];
        roi.place(&part.values, outside, width, &mut values);
        Ok(Self { height, width, values })
    }
}
