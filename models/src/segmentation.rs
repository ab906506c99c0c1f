//! From the defective part of an image to an anomaly map and a score.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::window::Border;

use crate::detector::Score;

/// Mean absolute value over channels, pixel by pixel, for a batch; `[n][h * w]`.
pub fn magnitude(defect: impl Iterator<Item = f32>, channels: usize) -> Vec<f32> {
    let mut sums = Vec::new();
    let mut sum = 0.0;
    for (i, v) in defect.enumerate() {
        sum += v.abs();
        if (i + 1) % channels == 0 {
            sums.push(sum / channels as f32);
            sum = 0.0;
        }
    }
    sums
}

/// Scores of a batch of maps: the largest value of each after a Gaussian blur of `sigma` pixels (0:
/// none). The map itself stays sharp.
///
/// # Errors
/// When the maps do not have the size of `image`.
pub fn scores(maps: Vec<f32>, image: ImageSpec, sigma: f32) -> Result<Vec<Score>> {
    let pixels = image.height * image.width;
    let mut smooth = maps.clone();
    if sigma > 0.0 {
        let shape = [maps.len() / pixels, image.height, image.width, 1];
        gaussian_blur(&maps, shape, sigma, (4.0 * sigma).ceil() as usize, Border::Symmetric, &mut smooth)?;
    }
    let largest = |m: &[f32]| m.iter().copied().fold(0.0, f32::max);
    let pairs = maps.chunks_exact(pixels).zip(smooth.chunks_exact(pixels));
    Ok(pairs.map(|(map, smooth)| Score { value: largest(smooth), map: map.to_vec() }).collect())
}
