//! Images as I3AD holds them, in 0..1 with sides a multiple of the generator's stride, and as its generator sees
//! them, in -1..1.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::{Buffer, HostBuffer};
use hotad_kernels::elementwise::affine;

/// Where a square part of an image of a batch begins.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Number of the image.
    pub image: usize,
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
}

/// Parts of `side` rows and columns of images `[n, h, w, c]`: `[parts, side, side, c]`. Beyond an image its last row and
/// column are repeated.
///
/// # Errors
/// When the batch is no map.
pub fn parts(images: &Tensor, side: usize, parts: impl Iterator<Item = Part> + Clone) -> Result<Tensor> {
    let [_, h, w, c] = images.nhwc()?;
    let values = images.values()?;
    let count = parts.clone().count();
    let mut out = HostBuffer::try_uninit(count * side * side * c)?;
    let mut lines = out.chunks_exact_mut((side * c).max(1));
    for Part { image, top, left } in parts {
        for (y, line) in (top..top + side).zip(&mut lines) {
            let row = &values[(image * h + y.min(h - 1)) * w * c..][..w * c];
            let inside = &row[left.min(w) * c..(left + side).min(w) * c];
            let (seen, beyond) = line.split_at_mut(inside.len());
            seen.copy_from_slice(inside);
            beyond.chunks_exact_mut(c).for_each(|pixel| pixel.copy_from_slice(&row[(w - 1) * c..]));
        }
    }
    Tensor::from_buffer(Buffer::Host(out), &[count, side, side, c])
}

/// Images `[n, h, w, c]` as `[n, side, side, c]`, the last row and column repeated.
///
/// # Errors
/// When the batch is no map.
pub fn padded(images: &Tensor, side: usize) -> Result<Tensor> {
    parts(images, side, (0..images.nhwc()?[0]).map(|image| Part { image, top: 0, left: 0 }))
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
