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
    pub fn resized(self, size: (usize, usize)) -> Result<Self> {
        self.resized_into(size, |len| Ok(HostBuffer::try_uninit(len)?))
    }

    /// The map at another size, where it has another, in memory from `take`.
    fn resized_into(
        self,
        (height, width): (usize, usize),
        take: impl FnOnce(usize) -> Result<HostBuffer<f32>>,
    ) -> Result<Self> {
        if (height, width) == (self.height, self.width) {
            return Ok(self);
        }
        let mut values = take(height * width)?;
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
        let once = |len| Ok(HostBuffer::from(vec![0.0; len]));
        let Some((roi, outside)) = roi else { return self.resized_into(size, once) };
        let (height, width) = size;
        roi.check(height, width)?;
        let bounds = (roi.bounds().height, roi.bounds().width);
        let (part, mut values) = (self.resized_into(bounds, once)?, once(height * width)?);
        roi.place(&part.values, outside, width, &mut values);
        Ok(Self { height, width, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_has_the_size_stays_as_it_is() {
        // A pass of weights 1 and 0 would make infinity times 0 of its neighbours.
        let map = || AnomalyMap { height: 2, width: 2, values: vec![1.0, f32::INFINITY, 3.0, 4.0].into() };
        assert_eq!(map().resized((2, 2)).expect("a size"), map());
        assert_eq!(map().of_whole((2, 2), None).expect("a size"), map());
        let larger = map().of_whole((4, 4), None).expect("a size");
        assert_eq!((larger.height, larger.width, larger.values.len()), (4, 4, 16));
    }
}
