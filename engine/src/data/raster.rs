//! A decoded image in the samples of its file. It becomes floats row by row, so that a large one is never held as floats when a
//! model wants it small and nothing changes it before (corrupt.rs).

use image::DynamicImage;

use super::frame::{Format, Frame};
use super::picture::{ImageSpec, Picture};
use super::preprocess::Preprocessor;
use super::roi::Roi;
use crate::error::Result;

/// A decoded image: gray or colour, of 8 or 16 bits.
pub struct Raster {
    image: DynamicImage,
}

impl Raster {
    /// Fails for an image without pixels.
    pub(super) fn new(image: DynamicImage) -> std::result::Result<Self, String> {
        if image.width() == 0 || image.height() == 0 {
            return Err("it has no pixels".into());
        }
        Ok(Self { image })
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.image.height() as usize
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.image.width() as usize
    }

    /// 1 for gray, 3 for colour; alpha is dropped.
    pub fn channels(&self) -> usize {
        if self.image.color().has_color() { 3 } else { 1 }
    }

    /// Bytes of its samples.
    pub(super) fn bytes(&self) -> usize {
        self.image.as_bytes().len()
    }

    /// The samples as the file has them.
    pub fn into_image(self) -> DynamicImage {
        self.image
    }

    /// Its samples, as they lie in memory.
    pub fn frame(&self) -> Frame<'_> {
        let format = match &self.image {
            DynamicImage::ImageLuma8(_) => Format::Gray8,
            DynamicImage::ImageLumaA8(_) => Format::GrayAlpha8,
            DynamicImage::ImageRgb8(_) => Format::Rgb8,
            DynamicImage::ImageRgba8(_) => Format::Rgba8,
            DynamicImage::ImageLuma16(_) => Format::Gray16,
            DynamicImage::ImageLumaA16(_) => Format::GrayAlpha16,
            DynamicImage::ImageRgb16(_) => Format::Rgb16,
            _ => Format::Rgba16,
        };
        Frame::packed(self.image.as_bytes(), self.height(), self.width(), format)
    }

    /// All of it as floats.
    pub fn picture(&self) -> Picture {
        let (height, width, channels) = (self.height(), self.width(), self.channels());
        let mut values = vec![0.0; height * width * channels];
        let frame = self.frame();
        values.chunks_exact_mut(width * channels).enumerate().for_each(|(y, row)| frame.row(y, 0, channels, row));
        Picture { height, width, channels, values }
    }

    /// What a model takes, which looks at a region or at all of it; to the bit as [`Picture::fit`] makes it of the picture.
    ///
    /// # Errors
    /// When a side is 0, or the region does not lie in the image.
    pub fn fit(&self, spec: ImageSpec, roi: Option<&Roi>) -> Result<Picture> {
        let mut values = vec![0.0; spec.len()];
        Preprocessor::new(spec).within(roi.cloned()).run(&self.frame(), &mut values)?;
        Ok(Picture { height: spec.height, width: spec.width, channels: spec.channels, values })
    }
}
