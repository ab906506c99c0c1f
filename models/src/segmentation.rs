//! From anomaly maps to scores.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::planned::Outputs;
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::device::{Buffer, HostBuffer};
use hotad_kernels::resize::{Filter, resize};
use hotad_kernels::window::Border;

use serde::{Deserialize, Serialize};

use crate::anomaly_map::AnomalyMap;
use crate::detector::{Score, Scores};

/// What an image score is of its anomaly map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// The largest value, after a blur.
    Max,
    /// The mean.
    Mean,
    /// The mean of the largest values, after a blur.
    Top,
}

/// Share of the pixels whose mean is [`Aggregate::Top`], where no other is set.
pub const TOP_SHARE: f64 = 0.01;

/// How image scores are taken from anomaly maps.
#[derive(Clone, Copy, Debug)]
pub struct Aggregation {
    /// Size of the maps.
    pub image: ImageSpec,
    /// Gaussian blur in pixels before the largest value or values are taken; 0 for none. The map itself stays sharp.
    pub blur: f32,
    /// What of a map is its image's score.
    pub aggregate: Aggregate,
    /// Share of the pixels (above 0, 1 at most) whose mean is [`Aggregate::Top`].
    pub share: f64,
}

impl Aggregation {
    /// With the usual share.
    pub fn new(image: ImageSpec, blur: f64, aggregate: Aggregate) -> Self {
        Self { image, blur: blur as f32, aggregate, share: TOP_SHARE }
    }

    /// The maps, and behind them the blurred ones where image scores are taken from those; made where the maps are.
    ///
    /// # Errors
    /// When the maps do not have the size of images, or the device is out of memory.
    pub fn prepared(&self, maps: Buffer) -> Result<Outputs> {
        let smooth = self.blurred(&maps)?;
        Ok(std::iter::once(maps).chain(smooth).collect())
    }

    fn blurred(&self, maps: &Buffer) -> Result<Option<Buffer>> {
        let blurs = self.blur > 0.0 && self.aggregate != Aggregate::Mean;
        blurs.then(|| smooth(maps, self.image, self.blur)).transpose()
    }

    /// Scores from the values of what [`Aggregation::prepared`] has made.
    pub fn scores(&self, prepared: &[HostBuffer<f32>]) -> Scores {
        let [Some(maps), Some(smooth)] = [prepared.first(), prepared.last()] else { return Scores::new() };
        self.of_values(maps, smooth)
    }

    /// Scores of a batch of maps.
    ///
    /// # Errors
    /// As [`Aggregation::prepared`], or what went wrong on the device.
    pub fn of(&self, maps: Buffer) -> Result<Scores> {
        let smooth = self.blurred(&maps)?.map(Buffer::into_host).transpose()?;
        let maps = maps.into_host()?;
        Ok(self.of_values(&maps, smooth.as_deref().unwrap_or(&maps)))
    }

    /// Scores of maps by their blurred ones.
    fn of_values(&self, maps: &[f32], smooth: &[f32]) -> Scores {
        let value = |m: &[f32]| match self.aggregate {
            Aggregate::Max => largest(m),
            Aggregate::Mean => m.iter().sum::<f32>() / m.len() as f32,
            Aggregate::Top => top_mean(&mut HostBuffer::copied(m), self.share),
        };
        let values = smooth.chunks_exact(self.image.height * self.image.width).map(value);
        values.zip(AnomalyMap::of_batch(maps, self.image)).map(|(value, map)| Score { value, map }).collect()
    }
}

/// The largest value of a map; a NaN is passed over.
pub(crate) fn largest(map: &[f32]) -> f32 {
    map.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Maps blurred by a Gaussian of `sigma` pixels (0: as they are), where they are.
///
/// # Errors
/// When they do not have the size of images, or the device is out of memory.
pub(crate) fn smooth(maps: &Buffer, image: ImageSpec, sigma: f32) -> Result<Buffer> {
    if sigma == 0.0 {
        return Ok(maps.clone());
    }
    let mut smooth = maps.device().alloc(maps.len())?;
    let shape = [maps.len() / (image.height * image.width), image.height, image.width, 1];
    gaussian_blur(maps, shape, sigma, (4.0 * sigma).ceil() as usize, Border::Symmetric, &mut smooth)?;
    Ok(smooth)
}

/// Mean of the largest values of a map, a share of all, one at least. A NaN counts as the largest.
/// Sorts the map in place.
pub(crate) fn top_mean(map: &mut [f32], share: f64) -> f32 {
    let count = ((share * map.len() as f64).round() as usize).clamp(1, map.len());
    map.sort_unstable_by(|a, b| b.total_cmp(a));
    map[..count].iter().sum::<f32>() / count as f32
}

/// Maps over a grid of patches at the size of `image` (bilinear), blurred by `sigma` pixels (0: not), made where the patches
/// are.
///
/// # Errors
/// When the values are no whole maps, or the device is out of memory.
pub fn enlarged(patches: &Buffer, (h, w): (usize, usize), image: ImageSpec, sigma: f32) -> Result<Buffer> {
    let n = patches.len() / (h * w);
    let mut maps = patches.device().alloc(n * image.height * image.width)?;
    resize(patches, [n, h, w, 1], (image.height, image.width), Filter::Bilinear, &mut maps)?;
    if sigma > 0.0 { smooth(&maps, image, sigma) } else { Ok(maps) }
}

/// Scores of images from the anomaly scores of their patches: the largest of each image, and the maps of [`enlarged`].
pub(crate) fn of_patches(patches: &[f32], grid: (usize, usize), maps: &[f32], image: ImageSpec) -> Scores {
    let values = patches.chunks_exact(grid.0 * grid.1).map(largest);
    values.zip(AnomalyMap::of_batch(maps, image)).map(|(value, map)| Score { value, map }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_the_mean_of_the_largest_share_and_may_be_negative() {
        let image = ImageSpec { height: 10, width: 10, channels: 1 };
        let maps = HostBuffer::collect((0..200u8).map(|v| f32::from(v) - 200.0));
        let value = |share, aggregate| -> Vec<f32> {
            let all = Aggregation { image, blur: 0.0, aggregate, share }.scores(std::slice::from_ref(&maps));
            all.iter().map(|s| s.value).collect()
        };
        assert_eq!(value(0.03, Aggregate::Top), [-102.0, -2.0]);
        assert_eq!(value(1e-9, Aggregate::Top), value(0.5, Aggregate::Max), "one pixel at least");
        assert_eq!(value(1.0, Aggregate::Top), value(0.5, Aggregate::Mean));
    }
}
