//! Small image files, made by code.

use std::io::Cursor;

use hotad_engine::random;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageEncoder, ImageFormat};
use rand::Rng;

/// Noise over a gradient, in the given type.
pub fn picture(width: u32, height: u32, like: fn(DynamicImage) -> DynamicImage) -> DynamicImage {
    let rng = &mut random::stream(3, "pictures", u64::from(width));
    let image = image::ImageBuffer::from_fn(width, height, |x, y| {
        image::Rgba(
            [(8 * x) as u16 * 256, (4 * y) as u16 * 256, 40_000, 60_000].map(|v| v ^ rng.random_range(0..9_000)),
        )
    });
    like(DynamicImage::ImageRgba16(image))
}

/// Every type of samples that the formats hold.
pub const TYPES: [fn(DynamicImage) -> DynamicImage; 8] = [
    |i| i.to_luma8().into(),
    |i| i.to_luma_alpha8().into(),
    |i| i.to_rgb8().into(),
    |i| i.to_rgba8().into(),
    |i| i.to_luma16().into(),
    |i| i.to_luma_alpha16().into(),
    |i| i.to_rgb16().into(),
    |i| i.to_rgba16().into(),
];

pub const GRAY: fn(DynamicImage) -> DynamicImage = TYPES[0];
pub const COLOUR: fn(DynamicImage) -> DynamicImage = TYPES[2];

pub fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("the format holds it");
    bytes.into_inner()
}

/// EXIF data that hold an orientation alone.
fn exif(orientation: u8) -> Vec<u8> {
    let head = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
    [&head[..], &[orientation, 0, 0, 0, 0, 0, 0]].concat()
}

pub fn turned_jpeg(image: &DynamicImage, orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif(orientation)).expect("JPEG has EXIF");
    encoder.encode_image(image).expect("JPEG holds it");
    bytes
}

pub fn turned_png(image: &DynamicImage, orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif(orientation)).expect("PNG has EXIF");
    image.write_with_encoder(encoder).expect("PNG holds it");
    bytes
}

/// A TIFF, little-endian and of one page, whose entry of a tag has another value; the tag is put in place of another.
pub fn changed_tiff(image: &DynamicImage, replaced: u16, tag: u16, value: u32) -> Vec<u8> {
    let mut bytes = encoded(image, ImageFormat::Tiff);
    let (start, entries) = directory(&bytes);
    let at = (0..entries).map(|i| start + 2 + 12 * i).find(|at| bytes[*at..*at + 2] == replaced.to_le_bytes());
    let at = at.expect("the entry is there");
    bytes[at..at + 2].copy_from_slice(&tag.to_le_bytes());
    bytes[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// A TIFF of two pages, which are the same.
pub fn pages_tiff(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = encoded(image, ImageFormat::Tiff);
    let (start, entries) = directory(&bytes);
    let next = start + 2 + 12 * entries;
    let page = bytes[start..next + 4].to_vec();
    let second = (bytes.len() as u32).to_le_bytes();
    bytes[next..next + 4].copy_from_slice(&second);
    bytes.extend(page);
    bytes
}

/// Where the first page is described, and by how many entries.
fn directory(bytes: &[u8]) -> (usize, usize) {
    assert_eq!(&bytes[..4], b"II*\0");
    let start = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize;
    (start, usize::from(u16::from_le_bytes([bytes[start], bytes[start + 1]])))
}

/// A PNG of two frames, as far as its first chunks say.
pub fn animated_png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = encoded(image, ImageFormat::Png);
    bytes.splice(33..33, chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]));
    bytes
}

/// A gray PNG that declares a size and holds next to nothing.
pub fn declaring_png(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let chunks = [chunk(b"IHDR", &header), chunk(b"IDAT", &[0x78, 0x9c, 3, 0]), chunk(b"IEND", &[])];
    [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat()
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
}

/// Puts right the checksums of a PNG whose chunks still follow each other.
pub fn right_checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let end = (at + 8).saturating_add(length);
        let Some(body) = bytes.get(at + 4..end) else { return };
        let sum = crc32(body).to_be_bytes();
        let Some(old) = bytes.get_mut(end..end + 4) else { return };
        old.copy_from_slice(&sum);
        at = end + 4;
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
