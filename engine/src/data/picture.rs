//! Reading images and masks, and bringing them to the size a model wants.

use std::ops::RangeInclusive;
use std::path::Path;

use hotad_kernels::resize::{Filter, resize};
use serde::{Deserialize, Serialize};

use super::roi::Roi;
use super::{Item, decode};
use crate::error::{Error, Result};

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

impl std::fmt::Display for ImageSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {} x {}", self.height, self.width, self.channels)
    }
}

/// Rows and columns of the images that a model can be for.
const SIDES: RangeInclusive<usize> = 16..=1024;

impl ImageSpec {
    /// Fails for images that no model takes.
    ///
    /// # Errors
    /// Names rows, columns and channels.
    pub fn check(&self) -> Result<()> {
        let known = SIDES.contains(&self.height) && SIDES.contains(&self.width) && [1, 3].contains(&self.channels);
        if known { Ok(()) } else { Err(Error::Config(format!("images of {self} are out of range"))) }
    }

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

/// Gray of a colour: the luma of Rec. 709.
pub(super) fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// Writes pixels of 1 or 3 channels as pixels of 1 or 3 channels: gray is repeated, of colours it is the luma.
pub fn convert_channels((from, channels): (&[f32], usize), (to, wanted): (&mut [f32], usize)) {
    match (channels, wanted) {
        (1, 3) => to.as_chunks_mut::<3>().0.iter_mut().zip(from).for_each(|(to, v)| *to = [*v; 3]),
        (3, 1) => to.iter_mut().zip(from.as_chunks::<3>().0).for_each(|(to, colour)| *to = luma(*colour)),
        _ => to.copy_from_slice(from),
    }
}

impl Picture {
    /// Reads a PNG, JPEG, BMP or TIFF of 8 or 16 bits, turned as its metadata say: gray stays gray, colour becomes RGB, alpha
    /// is dropped.
    ///
    /// # Errors
    /// When the file cannot be read or decoded, or exceeds the limits.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(decode::open(path)?.picture())
    }

    /// The same picture with 1 or 3 channels.
    pub fn with_channels(self, channels: usize) -> Self {
        if self.channels == channels {
            return self;
        }
        let mut values = vec![0.0; self.height * self.width * channels];
        convert_channels((&self.values, self.channels), (&mut values, channels));
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

    /// What a model takes that looks at a region, or at all of it.
    ///
    /// # Errors
    /// When a side is 0, or the region does not lie in the picture.
    pub fn fit_within(self, spec: ImageSpec, roi: Option<&Roi>) -> Result<Self> {
        match roi {
            Some(roi) => roi.cut(&self.with_channels(spec.channels))?.resized(spec.height, spec.width),
            None => self.fit(spec),
        }
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
    /// When the file cannot be read or decoded, or exceeds the limits.
    pub fn read(path: &Path) -> Result<Self> {
        let raster = decode::open(path)?;
        let (height, width) = (raster.height(), raster.width());
        let mut defect = Vec::with_capacity(height * width);
        let (frame, mut row) = (raster.frame(), vec![0.0; width]);
        for y in 0..height {
            frame.row(y, 0, 1, &mut row);
            defect.extend(row.iter().map(|v| *v > 0.0));
        }
        Ok(Self { height, width, defect })
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
