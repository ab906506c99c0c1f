//! Images as the generator sees them: in -1..1, sides a multiple of its stride.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;

/// Images `[n, h, w, c]` in 0..1 as `[n, side, side, c]` in -1..1, the last row and column repeated.
///
/// # Errors
/// When the batch is no map.
pub fn seen(images: &Tensor, side: usize) -> Result<Tensor> {
    let [n, h, w, c] = images.nhwc()?;
    let values = images.values()?;
    let mut out = Vec::with_capacity(n * side * side * c);
    for image in values.chunks_exact((h * w * c).max(1)) {
        for y in 0..side {
            let row = &image[y.min(h - 1) * w * c..][..w * c];
            for x in 0..side {
                out.extend(row[x.min(w - 1) * c..][..c].iter().map(|v| 2.0 * v - 1.0));
            }
        }
    }
    Tensor::new(out, &[n, side, side, c])
}

/// The first `h` rows and `w` columns of one map of `side` columns.
pub fn cropped(map: &[f32], side: usize, (h, w): (usize, usize), channels: usize) -> Vec<f32> {
    map.chunks_exact(side * channels).take(h).flat_map(|row| row[..w * channels].iter().copied()).collect()
}
