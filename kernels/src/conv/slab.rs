//! The part of an image that a task of the dense pass works on, padded with zeros, in the cache.

use super::Nhwc;
use super::masked::{MASKED_CHANNELS, masked};
use super::micro::NR;
use crate::device::HostBuffer;

/// A zero-padded piece of one image: `height x width x channels`, in the cache.
pub(super) struct Slab {
    pub data: HostBuffer<f32>,
    pub width: usize,
    pub channels: usize,
}

impl Slab {
    pub fn new() -> Self {
        Self { data: HostBuffer::room(0), width: 0, channels: 0 }
    }

    /// Room for a window of zeros.
    fn clear(&mut self, height: usize, width: usize, channels: usize) {
        (self.width, self.channels) = (width, channels);
        let len = height * width * channels + NR;
        if self.data.len() != len {
            self.data = HostBuffer::room(len);
        }
        self.data.fill(0.0);
    }

    /// [`Slab::fill`] with the five channels of a masked input, from colours and mask.
    pub fn fill_masked(
        &mut self,
        (rgb, mask): (&[f32], &[f32]),
        (h, w): (usize, usize),
        (top, left): (isize, isize),
        (height, width): (usize, usize),
    ) {
        self.clear(height, width, MASKED_CHANNELS);
        let (x0, x1) = visible(w, left, width);
        for (row, line) in self.data.chunks_exact_mut(width * MASKED_CHANNELS).take(height).enumerate() {
            let y = top + row as isize;
            if y < 0 || y >= h as isize || x1 == x0 {
                continue;
            }
            let from = y as usize * w + (x0 as isize + left) as usize;
            let pixels = rgb[3 * from..].chunks_exact(3).zip(&mask[from..]);
            for (t, (s, m)) in
                line[x0 * MASKED_CHANNELS..x1 * MASKED_CHANNELS].chunks_exact_mut(MASKED_CHANNELS).zip(pixels)
            {
                for (channel, t) in t.iter_mut().enumerate() {
                    *t = masked(s[channel.min(2)], *m, channel);
                }
            }
        }
    }

    /// Copies the window that starts at pixel `(top, left)` of `image`; outside pixels are zero.
    /// `NR` spare elements follow, so that a tile may read past the last pixel.
    pub fn fill(
        &mut self,
        image: &[f32],
        shape: Nhwc,
        channels: (usize, usize),
        (top, left): (isize, isize),
        (height, width): (usize, usize),
    ) {
        let [_, h, w, c] = shape;
        let (c0, n) = channels;
        self.clear(height, width, n);
        let (x0, x1) = visible(w, left, width);
        for (row, line) in self.data.chunks_exact_mut((width * n).max(1)).take(height).enumerate() {
            let y = top + row as isize;
            if y < 0 || y >= h as isize || x1 == x0 {
                continue;
            }
            let from = (y as usize * w + (x0 as isize + left) as usize) * c;
            let source = &image[from..from + (x1 - x0) * c];
            let target = &mut line[x0 * n..x1 * n];
            if n == c {
                target.copy_from_slice(source);
            } else {
                for (t, s) in target.chunks_exact_mut(n).zip(source.chunks_exact(c)) {
                    t.copy_from_slice(&s[c0..c0 + n]);
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
