//! How large an image may be. What a file declares is checked before memory is taken for it: a few kilobytes can declare
//! gigabytes.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use image::ImageFormat;

use crate::error::Error;

/// The megapixels of this process: no lock, as every frame asks for them.
static CHOSEN: AtomicU32 = AtomicU32::new(MEGAPIXELS);

/// Largest image and file that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pixels of an image or mask.
    pub pixels: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

/// Megapixels by default, which images of an inspection line do not come near to.
pub const MEGAPIXELS: u32 = 100;

/// Most megapixels that may be allowed.
pub const MOST_MEGAPIXELS: u32 = 1_000_000;

/// Bytes of the file of such an image.
const BYTES: u64 = 512_000_000;

impl Default for Limits {
    fn default() -> Self {
        Self::megapixels(MEGAPIXELS)
    }
}

/// Why an image is refused, and what to do; without the name of its file.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// What is wrong with it.
    #[error("{0}")]
    Unusable(String),
    /// It is beyond the limits.
    #[error("{reason}; raise {} or make the image smaller", .megapixels.map_or("the limit".into(), |n| format!("it to {n} megapixels")))]
    TooLarge {
        /// What is too large.
        reason: String,
        /// Limit under which it would be read, where that is known.
        megapixels: Option<u64>,
    },
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Unusable(reason)
    }
}

impl Refusal {
    /// The error of a file.
    pub fn of_file(self, path: &Path) -> Error {
        let (path, reason) = (path.into(), self.to_string());
        match self {
            Self::Unusable(_) => Error::Image { path, reason },
            Self::TooLarge { megapixels, .. } => Error::TooLarge { path, reason, megapixels },
        }
    }
}

impl Limits {
    /// So many megapixels, and files that are as much larger; they are never limited to less than by default.
    pub fn megapixels(number: u32) -> Self {
        let bytes = BYTES * u64::from(number.max(MEGAPIXELS)) / u64::from(MEGAPIXELS);
        Self { pixels: u64::from(number) * 1_000_000, bytes }
    }

    /// Limits frames, images and masks to so many megapixels, in the whole process and from now on.
    ///
    /// # Errors
    /// Beyond 1 to [`MOST_MEGAPIXELS`].
    pub fn set_megapixels(number: u32) -> Result<(), Error> {
        if !(1..=MOST_MEGAPIXELS).contains(&number) {
            let reason = format!("{number} is out of range; use 1 to {MOST_MEGAPIXELS}");
            return Err(Error::Argument { name: "max_megapixels", reason });
        }
        CHOSEN.store(number, Ordering::Relaxed);
        Ok(())
    }

    /// The limits of this process.
    pub fn chosen() -> Self {
        Self::megapixels(CHOSEN.load(Ordering::Relaxed))
    }

    /// Refuses an image by its declared size.
    ///
    /// # Errors
    /// Says what the limit is and how it is raised.
    pub fn check_pixels(&self, width: u64, height: u64) -> Result<(), Refusal> {
        let pixels = width.saturating_mul(height);
        if pixels <= self.pixels {
            return Ok(());
        }
        let (most, needed) = (self.pixels / 1_000_000, pixels.div_ceil(1_000_000));
        let reason =
            format!("declares {width} x {height} pixels ({needed} megapixels) but the limit is {most} megapixels");
        Err(Refusal::TooLarge { reason, megapixels: Some(needed) })
    }

    /// Refuses a file by its length.
    pub(super) fn check_bytes(&self, bytes: u64) -> Result<(), Refusal> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let (size, most) = (bytes.div_ceil(1_000_000), self.bytes / 1_000_000);
        let needed = bytes.saturating_mul(MEGAPIXELS.into()).div_ceil(BYTES);
        let reason = format!("is a file of {size} MB but the limit is {most} MB");
        Err(Refusal::TooLarge { reason, megapixels: Some(needed) })
    }

    /// Most memory that a decoder may take: of a PNG for a row, texts and a colour profile, which may unpack to gigabytes; of
    /// others for pixels too, of four floats at most.
    pub(super) fn memory(&self, format: ImageFormat) -> u64 {
        let pixel = if format == ImageFormat::Png { 1 } else { 16 };
        self.pixels.saturating_mul(pixel).saturating_add(16 << 20)
    }
}
