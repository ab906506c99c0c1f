//! Files that hold several images, of which the first alone is looked at.

use super::tiff;

/// Whether a PNG is animated or a TIFF has further pages.
pub(super) fn further_frames(bytes: &[u8]) -> bool {
    png_frames(bytes).is_some_and(|frames| frames > 1) || tiff::has_pages(bytes)
}

/// Frames that the animation chunk of a PNG, which comes before its pixels, speaks of.
fn png_frames(bytes: &[u8]) -> Option<u32> {
    let mut at = bytes.starts_with(b"\x89PNG\r\n\x1a\n").then_some(8)?;
    let word = |at: usize| bytes.get(at..)?.first_chunk::<4>();
    loop {
        let length = u32::from_be_bytes(*word(at)?) as usize;
        match word(at + 4)? {
            b"acTL" => return word(at + 8).map(|frames| u32::from_be_bytes(*frames)),
            b"IDAT" => return None,
            _ => at = at.checked_add(length)?.checked_add(12)?,
        }
    }
}
