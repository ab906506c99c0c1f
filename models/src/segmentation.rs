//! From anomaly maps to scores.

use hotad_engine::Result;
use hotad_engine::data::picture::ImageSpec;
use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::window::Border;

use crate::detector::Score;

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
