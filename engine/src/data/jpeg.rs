//! JPEG, strictly: data that end early or do not decode are an error, not gray pixels.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decode::unreadable;
use super::limits::{Limits, Refusal};

const END_OF_IMAGE: u8 = 0xd9;

/// Decodes a JPEG and turns it as its EXIF data say.
///
/// # Errors
/// What is wrong and what to do, without the name of the file.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<DynamicImage, Refusal> {
    // Width and height are of 16 bits; their product is what is limited.
    let strict = DecoderOptions::default().set_strict_mode(true).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), strict);
    decoder.decode_headers().map_err(unreadable)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| unreadable("it declares no size"))?;
    limits.check_pixels(width as u64, height as u64)?;
    if !has_end(bytes) {
        return Err(unreadable("the JPEG data are cut off: there is no end marker").into());
    }
    let gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let space = if gray { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(strict.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(unreadable)?;
    let (width, height) = (width as u32, height as u32);
    let image = match gray {
        true => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        false => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    let mut image = image.ok_or_else(|| unreadable("it holds fewer pixels than it declares"))?;
    let orientation = decoder.exif().and_then(|chunk| Orientation::from_exif_chunk(chunk));
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(image)
}

/// Whether the end marker of the image follows its segments and scans. A thumbnail within a segment has one of its own, which
/// does not count.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            END_OF_IMAGE => return true,
            // Restarts and the like, and zeros that are stuffed into a scan, stand alone.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(length) = bytes.get(at..at + 2) else { return false };
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
    false
}

/// The code after the next 0xff, which `at` is put behind.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    let start = *at + bytes.get(*at..)?.iter().position(|b| *b == 0xff)?;
    let code = start + bytes[start..].iter().position(|b| *b != 0xff)?;
    *at = code + 1;
    Some(bytes[code])
}
