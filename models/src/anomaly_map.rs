//! How anomalous each pixel of an image is.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::data::roi::Roi;
use hotad_kernels::device::HostBuffer;
use hotad_kernels::resize::{Filter, resize};

/// An anomaly map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnomalyMap {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Row by row; larger is more anomalous. Reads like a slice, `into_vec` takes the values out.
    pub values: HostBuffer<f32>,
}

impl AnomalyMap {
    /// Maps of images of a size, which lie one after another in `values`.
    pub fn of_batch(values: &[f32], image: ImageSpec) -> impl Iterator<Item = Self> {
        let ImageSpec { height, width, .. } = image;
        values.chunks_exact(height * width).map(move |map| Self { height, width, values: HostBuffer::copied(map) })
    }

    /// The map at another size (rows, columns), bilinear.
    ///
    /// # Errors
    /// When a side is 0.
    pub fn resized(self, (height, width): (usize, usize)) -> Result<Self> {
        if (height, width) == (self.height, self.width) {
            return Ok(self);
        }
        self.resized_to((height, width), HostBuffer::try_uninit(height * width)?)
    }

    fn resized_to(&self, (height, width): (usize, usize), mut values: HostBuffer<f32>) -> Result<Self> {
        let shape = [1, self.height, self.width, 1];
        resize(&self.values[..], shape, (height, width), Filter::BilinearAntialias, &mut values[..])?;
        Ok(Self { height, width, values })
    }

    /// The map of a whole image of `size` (rows, columns), of which this one shows a region; outside is the value that comes with
    /// it. Without a region it shows all of the image.
    ///
    /// # Errors
    /// When a side is 0, or the region does not lie in the image.
    pub fn of_whole(self, size: (usize, usize), roi: Option<(&Roi, f32)>) -> Result<Self> {
        // Files have many sizes: their memory is not kept.
        let once = |(height, width)| HostBuffer::from(vec![0.0; height * width]);
        let Some((roi, outside)) = roi else { return self.resized_to(size, once(size)) };
        let (height, width) = size;
        roi.check(height, width)?;
        let bounds = (roi.bounds().height, roi.bounds().width);
        let (part, mut values) = (self.resized_to(bounds, once(bounds))?, once(size));
        roi.place(&part.values, outside, width, &mut values);
        Ok(Self { height, width, values })
    }
}
