//! A decoded image in the samples of its file. It becomes floats row by row, so that a large one is never held as floats when a
//! model wants it small.

use hotad_kernels::resize::{Filter, resize_rows};
use image::DynamicImage;

use super::picture::{ImageSpec, Picture, luma};
use crate::error::Result;

/// A decoded image: gray or colour, of 8 or 16 bits.
pub struct Raster {
    image: DynamicImage,
}

impl Raster {
    pub(super) fn new(image: DynamicImage) -> Self {
        Self { image }
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

    /// The samples as the file has them.
    pub fn into_image(self) -> DynamicImage {
        self.image
    }

    /// Writes row `y` in 1 or 3 channels, values in 0..1.
    pub fn row(&self, y: usize, channels: usize, values: &mut [f32]) {
        let byte = |v: u8| f32::from(v) / 255.0;
        let word = |v: u16| f32::from(v) / 65535.0;
        let width = self.width();
        match &self.image {
            DynamicImage::ImageLuma8(i) => write(line::<_, 1>(i, y, width), channels, byte, values),
            DynamicImage::ImageLumaA8(i) => write(line::<_, 2>(i, y, width), channels, byte, values),
            DynamicImage::ImageRgb8(i) => write(line::<_, 3>(i, y, width), channels, byte, values),
            DynamicImage::ImageRgba8(i) => write(line::<_, 4>(i, y, width), channels, byte, values),
            DynamicImage::ImageLuma16(i) => write(line::<_, 1>(i, y, width), channels, word, values),
            DynamicImage::ImageLumaA16(i) => write(line::<_, 2>(i, y, width), channels, word, values),
            DynamicImage::ImageRgb16(i) => write(line::<_, 3>(i, y, width), channels, word, values),
            DynamicImage::ImageRgba16(i) => write(line::<_, 4>(i, y, width), channels, word, values),
            // Floats, which decoding refuses, and what the library may add.
            other => write(line::<_, 4>(&other.to_rgba32f(), y, width), channels, |v| v, values),
        }
    }

    /// All of it as floats.
    pub fn picture(&self) -> Picture {
        let (height, width, channels) = (self.height(), self.width(), self.channels());
        let mut values = vec![0.0; height * width * channels];
        values.chunks_exact_mut((width * channels).max(1)).enumerate().for_each(|(y, row)| self.row(y, channels, row));
        Picture { height, width, channels, values }
    }

    /// What a model takes, to the bit as [`Picture::fit`] makes it of [`Raster::picture`].
    ///
    /// # Errors
    /// When a side is 0.
    pub fn fit(&self, spec: ImageSpec) -> Result<Picture> {
        let ImageSpec { height, width, channels } = spec;
        if (height, width) == (self.height(), self.width()) {
            return Ok(self.picture().with_channels(channels));
        }
        let mut values = vec![0.0; spec.len()];
        let shape = [self.height(), self.width(), channels];
        let row = |y: usize, values: &mut [f32]| self.row(y, channels, values);
        resize_rows(row, shape, (height, width), Filter::BilinearAntialias, &mut values)?;
        Ok(Picture { height, width, channels, values })
    }
}

/// Row `y` of samples that come `N` to a pixel.
fn line<T, const N: usize>(samples: &[T], y: usize, width: usize) -> &[[T; N]] {
    &samples.as_chunks().0[y * width..(y + 1) * width]
}

/// Writes pixels as gray or RGB. The first sample or the first three are the colour, what follows is alpha.
fn write<T: Copy, const N: usize>(pixels: &[[T; N]], channels: usize, unit: impl Fn(T) -> f32, values: &mut [f32]) {
    for (pixel, value) in pixels.iter().zip(values.chunks_exact_mut(channels)) {
        match (N, channels) {
            (1 | 2, _) => value.fill(unit(pixel[0])),
            (_, 1) => value[0] = luma([unit(pixel[0]), unit(pixel[1]), unit(pixel[2])]),
            _ => value.iter_mut().zip(pixel).for_each(|(v, p)| *v = unit(*p)),
        }
    }
}
