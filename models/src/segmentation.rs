//! From anomaly maps to scores.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::device::Buffer;
use hotad_kernels::resize::{Filter, resize};
use hotad_kernels::window::Border;

use serde::{Deserialize, Serialize};

use crate::anomaly_map::AnomalyMap;
use crate::detector::Score;

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

/// Scores of a batch of maps: the mean of each, or the largest value or values after a Gaussian blur of `sigma` pixels
/// (0: none). The map itself stays sharp.
///
/// # Errors
/// When the maps do not have the size of `image`.
pub fn scores(maps: Vec<f32>, image: ImageSpec, sigma: f32, aggregate: Aggregate) -> Result<Vec<Score>> {
    top_scores(maps, image, sigma, aggregate, TOP_SHARE)
}

/// [`scores`], with the share of the pixels (above 0, 1 at most) whose mean is [`Aggregate::Top`].
///
/// # Errors
/// When the maps do not have the size of `image`.
pub fn top_scores(
    maps: Vec<f32>,
    image: ImageSpec,
    sigma: f32,
    aggregate: Aggregate,
    share: f64,
) -> Result<Vec<Score>> {
    let pixels = image.height * image.width;
    let mut smooth = maps.clone();
    if sigma > 0.0 && aggregate != Aggregate::Mean {
        let shape = [maps.len() / pixels, image.height, image.width, 1];
        gaussian_blur(&maps, shape, sigma, (4.0 * sigma).ceil() as usize, Border::Symmetric, &mut smooth)?;
    }
    let value = |m: &[f32]| match aggregate {
        Aggregate::Max => m.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        Aggregate::Mean => m.iter().sum::<f32>() / m.len() as f32,
        Aggregate::Top => top_mean(m, share),
    };
    let values = smooth.chunks_exact(pixels).map(value);
    Ok(values.zip(AnomalyMap::of_batch(&maps, image)).map(|(value, map)| Score { value, map }).collect())
}

/// Mean of the largest values of a map, a share of all, one at least. A NaN counts as the largest.
pub(crate) fn top_mean(map: &[f32], share: f64) -> f32 {
    let count = ((share * map.len() as f64).round() as usize).clamp(1, map.len());
    let mut sorted = map.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted[..count].iter().sum::<f32>() / count as f32
}

/// Maps over a grid of patches at the size of `image` (bilinear), blurred by `sigma` pixels (0: not), made where the patches
/// are.
///
/// # Errors
/// When the values are no whole maps, or the device is out of memory.
pub fn enlarged(patches: &Buffer, (h, w): (usize, usize), image: ImageSpec, sigma: f32) -> Result<Vec<AnomalyMap>> {
    let (n, device) = (patches.len() / (h * w), patches.device());
    let mut maps = device.alloc(n * image.height * image.width)?;
    resize(patches, [n, h, w, 1], (image.height, image.width), Filter::Bilinear, &mut maps)?;
    if sigma > 0.0 {
        let mut smooth = device.alloc(maps.len())?;
        let shape = [n, image.height, image.width, 1];
        gaussian_blur(&maps, shape, sigma, (4.0 * sigma).ceil() as usize, Border::Symmetric, &mut smooth)?;
        maps = smooth;
    }
    Ok(AnomalyMap::of_batch(&maps.into_vec()?, image).collect())
}

/// Scores of images from the anomaly scores of their patches: the largest of each image, and the maps over a grid, enlarged
/// and blurred by `blur` pixels.
///
/// # Errors
/// When the scores are no whole images.
pub(crate) fn of_patches(patches: Buffer, grid: (usize, usize), image: ImageSpec, blur: f32) -> Result<Vec<Score>> {
    let maps = enlarged(&patches, grid, image, blur)?;
    let largest = |image: &[f32]| image.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let patches = patches.into_vec()?;
    let values = patches.chunks_exact(grid.0 * grid.1).map(largest);
    Ok(values.zip(maps).map(|(value, map)| Score { value, map }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_the_mean_of_the_largest_share_and_may_be_negative() {
        let image = ImageSpec { height: 10, width: 10, channels: 1 };
        let maps: Vec<f32> = (0..200).map(|v| v as f32 - 200.0).collect();
        let value = |share, aggregate| -> Vec<f32> {
            let all = top_scores(maps.clone(), image, 0.0, aggregate, share).expect("two maps");
            all.iter().map(|s| s.value).collect()
        };
        assert_eq!(value(0.03, Aggregate::Top), [-102.0, -2.0]);
        assert_eq!(value(1e-9, Aggregate::Top), value(0.5, Aggregate::Max), "one pixel at least");
        assert_eq!(value(1.0, Aggregate::Top), value(0.5, Aggregate::Mean));
    }
}
