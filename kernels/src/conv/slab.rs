//! The part of an image that a task of the dense pass works on, padded with zeros, in the cache.

use bytemuck::Pod;

use super::masked::{MASKED_CHANNELS, masked};
use super::reduced::Convert;
use crate::device::Reused;
use crate::shape::Nhwc;

/// Bytes after the last pixel that may be read.
const SPARE: usize = 64;

/// A zero-padded piece of one image: `height x width x channels`, in the cache, in the type that is multiplied.
pub(super) struct Slab<E: Pod = f32> {
    pixels: Reused<E>,
    pub width: usize,
    pub channels: usize,
}

impl<E: Pod> Default for Slab<E> {
    fn default() -> Self {
        Self { pixels: Reused::default(), width: 0, channels: 0 }
    }
}

impl<E: Pod> Slab<E> {
    /// All elements, and [`SPARE`] bytes more.
    pub fn data(&self) -> &[E] {
        &self.pixels
    }

    /// Room for a window of zeros.
    fn clear(&mut self, height: usize, width: usize, channels: usize, zero: E) {
        (self.width, self.channels) = (width, channels);
        self.pixels.resize(height * width * channels + SPARE / size_of::<E>());
        self.pixels.fill(zero);
    }

    /// [`Slab::fill`] with the five channels of a masked input, from colours and mask.
    pub fn fill_masked(
        &mut self,
        (rgb, mask): (&[f32], &[f32]),
        (h, w): (usize, usize),
        (top, left): (isize, isize),
        (height, width): (usize, usize),
        how: &impl Convert<E>,
    ) {
        self.clear(height, width, MASKED_CHANNELS, how.zero());
        let (x0, x1) = visible(w, left, width);
        for (row, line) in self.pixels.chunks_exact_mut(width * MASKED_CHANNELS).take(height).enumerate() {
            let y = top + row as isize;
            if y < 0 || y >= h as isize || x1 == x0 {
                continue;
            }
            let from = y as usize * w + (x0 as isize + left) as usize;
            let pixels = rgb[3 * from..].chunks_exact(3).zip(&mask[from..]);
            for (t, (s, m)) in
                line[x0 * MASKED_CHANNELS..x1 * MASKED_CHANNELS].chunks_exact_mut(MASKED_CHANNELS).zip(pixels)
            {
                let seen: [f32; MASKED_CHANNELS] =
                    std::array::from_fn(|channel| masked(s[channel.min(2)], *m, channel));
                how.convert(&seen, t);
            }
        }
    }

    /// Copies the window that starts at pixel `(top, left)` of `image`; outside pixels are zero.
    /// [`SPARE`] bytes follow, so that a tile may read past the last pixel.
    pub fn fill(
        &mut self,
        image: &[f32],
        shape: Nhwc,
        channels: (usize, usize),
        (top, left): (isize, isize),
        (height, width): (usize, usize),
        how: &impl Convert<E>,
    ) {
        let [_, h, w, c] = shape;
        let (c0, n) = channels;
        self.clear(height, width, n, how.zero());
        let (x0, x1) = visible(w, left, width);
        for (row, line) in self.pixels.chunks_exact_mut((width * n).max(1)).take(height).enumerate() {
            let y = top + row as isize;
            if y < 0 || y >= h as isize || x1 == x0 {
                continue;
            }
            let from = (y as usize * w + (x0 as isize + left) as usize) * c;
            let source = &image[from..from + (x1 - x0) * c];
            let target = &mut line[x0 * n..x1 * n];
            if n == c {
                how.convert(source, target);
            } else {
                for (t, s) in target.chunks_exact_mut(n).zip(source.chunks_exact(c)) {
                    how.convert(&s[c0..c0 + n], t);
                }
            }
        }
    }
}

/// First and last column of a window of some width from `left` on that an image of `w` columns has.
fn visible(w: usize, left: isize, width: usize) -> (usize, usize) {
    let first = (-left).clamp(0, width as isize) as usize;
    (first, (w as isize - left).clamp(first as isize, width as isize) as usize)
}
