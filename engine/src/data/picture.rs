//! Reading images and masks, and bringing them to the size a model wants.

use std::path::Path;

use hotad_kernels::resize::{Filter, resize};
use image::{DynamicImage, ImageReader};
use serde::{Deserialize, Serialize};

use super::Item;
use crate::error::{AtPath, Error, Result};

/// What a model takes: rows, columns, channels (1 or 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 (gray) or 3 (RGB).
    pub channels: usize,
}

impl ImageSpec {
    /// Values of one image.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether an image has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A decoded image: values in 0..1, row by row, channels together.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `height * width * channels` values.
    pub values: Vec<f32>,
}

/// Decodes a file; the format is told by its content, not its name.
pub(super) fn open(path: &Path) -> Result<DynamicImage> {
    let refuse = |reason: String| Error::Image { path: path.into(), reason };
    ImageReader::open(path)
        .at(path)?
        .with_guessed_format()
        .at(path)?
        .decode()
        .map_err(|e| refuse(format!("not a readable image ({e}); replace or remove the file")))
}

impl Picture {
    /// Reads a PNG, JPEG, BMP or TIFF of 8 or 16 bits: gray stays gray, colour becomes RGB, alpha is
    /// dropped.
    ///
    /// # Errors
    /// When the file cannot be read or decoded.
    pub fn read(path: &Path) -> Result<Self> {
        let image = open(path)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, values) = if image.color().has_color() {
            (3, image.into_rgb32f().into_raw())
        } else {
            (1, image.to_luma32f().into_raw())
        };
        Ok(Self { height, width, channels, values })
    }

    /// The same picture with 1 or 3 channels; gray of colour is the luma of Rec. 709.
    pub fn with_channels(self, channels: usize) -> Self {
        let values = match (self.channels, channels) {
            (1, 3) => self.values.iter().flat_map(|v| [*v; 3]).collect(),
            (3, 1) => self.values.chunks_exact(3).map(|p| 0.2126 * p[0] + 0.7152 * p[1] + 0.0722 * p[2]).collect(),
            _ => return self,
        };
        Self { channels, values, ..self }
    }

    /// The same picture with other numbers of pixels (bilinear, antialiased when shrinking).
    ///
    /// # Errors
    /// When a side is 0.
    pub fn resized(self, height: usize, width: usize) -> Result<Self> {
        if (height, width) == (self.height, self.width) {
            return Ok(self);
        }
        let mut values = vec![0.0; height * width * self.channels];
        let shape = [1, self.height, self.width, self.channels];
        resize(&self.values, shape, (height, width), Filter::BilinearAntialias, &mut values)?;
        Ok(Self { height, width, values, ..self })
    }

    /// What a model takes.
    ///
    /// # Errors
    /// When a side is 0.
    pub fn fit(self, spec: ImageSpec) -> Result<Self> {
        self.with_channels(spec.channels).resized(spec.height, spec.width)
    }

    /// Writes an 8-bit PNG, whole or not at all.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        let bytes: Vec<u8> = self.values.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect();
        let colour = if self.channels == 1 { image::ExtendedColorType::L8 } else { image::ExtendedColorType::Rgb8 };
        crate::atomic_file::write(path, |out| {
            let encoder = image::codecs::png::PngEncoder::new(out);
            image::ImageEncoder::write_image(encoder, &bytes, self.width as u32, self.height as u32, colour)
                .map_err(std::io::Error::other)
        })
    }
}

/// A ground-truth mask at its own size.
#[derive(Clone, Debug)]
pub struct Mask {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// One flag per pixel, row by row.
    pub defect: Vec<bool>,
}

impl Mask {
    /// Reads one mask file: every value above 0 is defect.
    ///
    /// # Errors
    /// When the file cannot be read or decoded.
    pub fn read(path: &Path) -> Result<Self> {
        let gray = Picture::read(path)?.with_channels(1);
        let defect = gray.values.iter().map(|v| *v > 0.0).collect();
        Ok(Self { height: gray.height, width: gray.width, defect })
    }

    /// The union of an item's masks, which must be as large as its image; an empty mask for a normal
    /// image.
    ///
    /// # Errors
    /// When a mask cannot be read or has another size than the image.
    pub fn of_item(item: &Item, height: usize, width: usize) -> Result<Self> {
        let mut union = Self { height, width, defect: vec![false; height * width] };
        for path in &item.masks {
            let mask = Self::read(path)?;
            if (mask.height, mask.width) != (height, width) {
                let reason = format!(
                    "mask is {}x{} but its image {} is {height}x{width}; they must have the same size",
                    mask.height,
                    mask.width,
                    item.path.display()
                );
                return Err(Error::Image { path: path.clone(), reason });
            }
            union.defect.iter_mut().zip(mask.defect).for_each(|(u, m)| *u |= m);
        }
        Ok(union)
    }
}
