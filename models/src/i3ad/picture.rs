//! Images as I3AD holds them, in 0..1 with sides a multiple of the generator's stride, and as its generator sees
//! them, in -1..1.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_kernels::elementwise::affine;

/// Images `[n, h, w, c]` as `[n, side, side, c]`, the last row and column repeated.
///
/// # Errors
/// When the batch is no map.
pub fn padded(images: &Tensor, side: usize) -> Result<Tensor> {
    let [n, h, w, c] = images.nhwc()?;
    let values = images.values()?;
    let mut out = Vec::with_capacity(n * side * side * c);
    for image in values.chunks_exact((h * w * c).max(1)) {
        for y in 0..side {
            let row = &image[y.min(h - 1) * w * c..][..w * c];
            (0..side).for_each(|x| out.extend_from_slice(&row[x.min(w - 1) * c..][..c]));
        }
    }
    Tensor::new(out, &[n, side, side, c])
}

/// Values of 0..1 as the generator sees them, in -1..1.
///
/// # Errors
/// When the device is out of memory.
pub fn signed(images: &Tensor) -> Result<Tensor> {
    mapped(images, 2.0, -1.0)
}

/// What the generator paints, in -1..1, as values of 0..1.
///
/// # Errors
/// When the device is out of memory.
pub fn unit(painted: &Tensor) -> Result<Tensor> {
    mapped(painted, 0.5, 0.5)
}

/// `factor * x + offset`, off the tape.
fn mapped(x: &Tensor, factor: f32, offset: f32) -> Result<Tensor> {
    let mut y = x.device().alloc(x.len())?;
    affine(x.view(), factor, offset, &mut y)?;
    Tensor::from_buffer(y, x.shape())
}

/// The first `h` rows and `w` columns of one map of `side` columns.
pub fn cropped(map: &[f32], side: usize, (h, w): (usize, usize), channels: usize) -> Vec<f32> {
    map.chunks_exact(side * channels).take(h).flat_map(|row| row[..w * channels].iter().copied()).collect()
}
