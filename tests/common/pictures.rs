//! Image files of one format: `image::open` and `save` compile the decoders and encoders of all formats into each test that calls
//! them, which takes seconds.

use std::fs::File;
use std::io::{BufReader, BufWriter, Cursor};
use std::path::Path;

use image::codecs::{bmp::BmpEncoder, jpeg::JpegDecoder, png::PngDecoder};
use image::{DynamicImage, GrayImage};

/// The image of a PNG file.
pub fn read_png(path: &Path) -> DynamicImage {
    let file = File::open(path).map_err(image::ImageError::from);
    let image = file.and_then(|file| DynamicImage::from_decoder(PngDecoder::new(BufReader::new(file))?));
    image.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The image in the bytes of a JPEG file.
pub fn decode_jpeg(bytes: &[u8]) -> DynamicImage {
    DynamicImage::from_decoder(JpegDecoder::new(Cursor::new(bytes)).expect("a JPEG file")).expect("an image")
}

/// Writes a BMP file.
pub fn write_bmp(image: &GrayImage, path: &Path) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    image.write_with_encoder(BmpEncoder::new(&mut file)).expect("a BMP file");
}
