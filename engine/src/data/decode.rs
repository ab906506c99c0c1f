//! From a file to its pixels: regular files alone, within limits, whole or not at all, the right way up.

use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::jpeg;
use super::limits::{Limits, Refusal};
use super::notices::{Notice, note};
use super::pages::further_frames;
use super::raster::Raster;
use super::tiff;
use crate::error::{AtPath, Result};
use crate::input_file;

/// Reads and decodes a file within the limits of this process.
///
/// # Errors
/// When the file cannot be read, is no image, is damaged, or exceeds the limits.
pub fn open(path: &Path) -> Result<Raster> {
    decode_at(path, &read(path)?)
}

/// The bytes of a file that may be an image.
///
/// # Errors
/// When it cannot be read, is no regular file, or exceeds the limits of this process.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let limits = Limits::chosen();
    let mut bytes = Vec::new();
    let file = input_file::open(path)?;
    limits.check_bytes(file.metadata().at(path)?.len()).map_err(|e| e.of_file(path))?;
    file.take(limits.bytes + 1).read_to_end(&mut bytes).at(path)?;
    limits.check_bytes(bytes.len() as u64).map_err(|e| e.of_file(path))?;
    Ok(bytes)
}

/// Decodes the bytes of a file within the limits of this process, and notes what the user should know of it.
pub(super) fn decode_at(path: &Path, bytes: &[u8]) -> Result<Raster> {
    let raster = decode(bytes, &Limits::chosen()).map_err(|e| e.of_file(path))?;
    if further_frames(bytes) {
        note(Notice::FurtherFrames, path);
    }
    Ok(raster)
}

/// Decodes a PNG, JPEG, BMP or TIFF, told by its content, and turns it as its metadata say.
///
/// # Errors
/// What is wrong and what to do, without the name of the file.
pub fn decode(bytes: &[u8], limits: &Limits) -> std::result::Result<Raster, Refusal> {
    let image = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, limits)?,
        Ok(format @ (ImageFormat::Png | ImageFormat::Bmp | ImageFormat::Tiff)) => by_library(bytes, format, limits)?,
        Ok(other) => return Err(format!("{other:?} is not read; convert it to PNG, JPEG, BMP or TIFF").into()),
        Err(_) if bytes.is_empty() => return Err(unreadable("the file is empty").into()),
        Err(_) => return Err(unreadable("neither PNG, JPEG, BMP nor TIFF").into()),
    };
    Ok(Raster::new(image).map_err(unreadable)?)
}

/// Reason for an image that cannot be decoded, in one line of a length to be read: what libraries say may list a table.
pub(super) fn unreadable(why: impl std::fmt::Display) -> String {
    let why: String = why.to_string().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
    format!("not a readable image ({why}); replace or remove the file")
}

fn by_library(bytes: &[u8], format: ImageFormat, limits: &Limits) -> std::result::Result<DynamicImage, Refusal> {
    let refuse = |error: ImageError| match error {
        ImageError::Limits(_) => {
            let most = limits.pixels / 1_000_000;
            let reason = format!("takes more memory to decode than the limit of {most} megapixels allows");
            Refusal::TooLarge { reason, megapixels: None }
        }
        error => unreadable(error).into(),
    };
    if format == ImageFormat::Tiff && !tiff::tables_fit(bytes) {
        return Err(unreadable("the file is cut off or its directory is damaged").into());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut memory = image::Limits::default();
    memory.max_alloc = Some(limits.memory(format));
    reader.limits(memory);
    let mut decoder = reader.into_decoder().map_err(refuse)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(width.into(), height.into())?;
    let samples = decoder.color_type();
    if samples.bytes_per_pixel() > 2 * samples.channel_count() {
        let reason = "its samples are floats, of which the range is not known; convert it to 8 or 16 bits";
        return Err(Refusal::Unusable(reason.into()));
    }
    let orientation = decoder.orientation().map_err(refuse)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(refuse)?;
    image.apply_orientation(orientation);
    Ok(image)
}
