//! Byte by byte, for sets without instructions for it.

use super::super::tile::Lane;
use super::{QUAD, Tile};

/// # Safety
/// As for [`Tile::run`].
pub(super) unsafe fn tile(tile: &Tile, sums: &mut [Lane]) {
    for (pixel, sums) in sums.iter_mut().enumerate() {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let mut total = tile.starts[lane];
            for (tap, weights) in tile.taps.iter().zip(tile.weights) {
                // SAFETY: the caller vouches for the words of 16 channels.
                let bytes = unsafe { tile.words.add(tap + pixel * tile.step + lane).read() }.to_le_bytes();
                let weights = &weights.0[lane * QUAD..];
                let product = |(x, w): (&u8, &u8)| i32::from(*x) * i32::from(w.cast_signed());
                total += bytes.iter().zip(weights).map(product).sum::<i32>();
            }
            *sum = total.cast_unsigned();
        }
    }
}
