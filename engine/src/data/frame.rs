//! Pixels in memory that someone else owns: a decoded file, a camera's buffer, an array of another language.
//!
//! A frame says where its samples lie and becomes rows of floats in 0..1, gray or RGB. Integers are divided by their largest
//! value; colour becomes gray by the luma of Rec. 709 and gray is repeated for colour; alpha is dropped. Raw frames of a colour
//! sensor are demosaiced bilinearly: a missing colour is the mean of the two or four nearest samples of it (the nearest across
//! the border mirrored inwards).

use std::fmt;
use std::str::FromStr;

use super::limits::Limits;
use super::picture::luma;
use crate::error::{Error, Result};

/// Samples of a pixel, in the order in which they lie in memory, and their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One 8-bit sample.
    Gray8,
    /// Gray and alpha, 8 bits each.
    GrayAlpha8,
    /// One 16-bit sample, in the byte order of this machine.
    Gray16,
    /// Gray and alpha, 16 bits each.
    GrayAlpha16,
    /// Red, green, blue, 8 bits each.
    Rgb8,
    /// Blue, green, red, 8 bits each.
    Bgr8,
    /// Red, green, blue, alpha, 8 bits each.
    Rgba8,
    /// Blue, green, red, alpha, 8 bits each.
    Bgra8,
    /// Red, green, blue, 16 bits each.
    Rgb16,
    /// Red, green, blue, alpha, 16 bits each.
    Rgba16,
    /// A colour sensor whose first row begins red, green and whose second begins green, blue; 8 bits.
    BayerRggb8,
    /// First row blue, green; second green, red.
    BayerBggr8,
    /// First row green, red; second blue, green.
    BayerGrbg8,
    /// First row green, blue; second red, green.
    BayerGbrg8,
}

/// All formats with their names.
const NAMES: [(Format, &str); 14] = [
    (Format::Gray8, "gray8"),
    (Format::GrayAlpha8, "gray-alpha8"),
    (Format::Gray16, "gray16"),
    (Format::GrayAlpha16, "gray-alpha16"),
    (Format::Rgb8, "rgb8"),
    (Format::Bgr8, "bgr8"),
    (Format::Rgba8, "rgba8"),
    (Format::Bgra8, "bgra8"),
    (Format::Rgb16, "rgb16"),
    (Format::Rgba16, "rgba16"),
    (Format::BayerRggb8, "bayer-rggb8"),
    (Format::BayerBggr8, "bayer-bggr8"),
    (Format::BayerGrbg8, "bayer-grbg8"),
    (Format::BayerGbrg8, "bayer-gbrg8"),
];

impl Format {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(format, _)| *format)
    }

    /// Name, as bindings take it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(format, _)| *format == self).map_or("", |(_, name)| name)
    }

    /// Samples of a pixel, alpha among them.
    pub fn samples(self) -> usize {
        match self {
            Self::GrayAlpha8 | Self::GrayAlpha16 => 2,
            Self::Rgb8 | Self::Bgr8 | Self::Rgb16 => 3,
            Self::Rgba8 | Self::Bgra8 | Self::Rgba16 => 4,
            _ => 1,
        }
    }

    /// Bytes of a sample.
    pub fn sample_bytes(self) -> usize {
        if matches!(self, Self::Gray16 | Self::GrayAlpha16 | Self::Rgb16 | Self::Rgba16) { 2 } else { 1 }
    }

    /// Bytes of a pixel whose samples lie side by side.
    pub fn pixel_bytes(self) -> usize {
        self.samples() * self.sample_bytes()
    }

    /// Whether it has colour.
    pub fn is_colour(self) -> bool {
        self.samples() > 2 || self.pattern().is_some()
    }

    /// Colours (0 red, 1 green, 2 blue) of a sensor's first two rows and columns.
    fn pattern(self) -> Option<[[usize; 2]; 2]> {
        match self {
            Self::BayerRggb8 => Some([[0, 1], [1, 2]]),
            Self::BayerBggr8 => Some([[2, 1], [1, 0]]),
            Self::BayerGrbg8 => Some([[1, 0], [2, 1]]),
            Self::BayerGbrg8 => Some([[1, 2], [0, 1]]),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(format, _)| *format).ok_or_else(|| {
            let known: Vec<&str> = NAMES.iter().map(|(_, n)| *n).collect();
            Error::Frame(format!("no format {name:?}; known are {}", known.join(", ")))
        })
    }
}

/// Where samples lie: bytes from one to the next, possibly negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// From a pixel to the one below it.
    pub row: isize,
    /// From a pixel to the one right of it.
    pub pixel: isize,
    /// From a sample of a pixel to the next.
    pub sample: isize,
}

/// An image in borrowed memory.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    /// Position of the first sample in `bytes`.
    origin: usize,
    height: usize,
    width: usize,
    strides: Strides,
    format: Format,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::Frame(reason.into()))
}

impl<'a> Frame<'a> {
    /// A frame whose pixels lie side by side, rows `stride` bytes apart.
    ///
    /// # Errors
    /// When a side is 0, there are more pixels than [`Frame::check_size`] allows, a row is longer than `stride`, or `bytes` ends
    /// before the last pixel.
    pub fn new(bytes: &'a [u8], height: usize, width: usize, stride: usize, format: Format) -> Result<Self> {
        let row = width.saturating_mul(format.pixel_bytes());
        if stride < row {
            return refuse(format!("a stride of {stride} bytes for rows of {row} bytes ({width} pixels of {format})"));
        }
        let Ok(stride) = isize::try_from(stride) else { return refuse(format!("a stride of {stride} bytes")) };
        let strides =
            Strides { row: stride, pixel: format.pixel_bytes() as isize, sample: format.sample_bytes() as isize };
        Self::strided(bytes, 0, (height, width), strides, format)
    }

    /// A frame whose samples lie anywhere in `bytes`: the first at `origin`, the others by `strides`.
    ///
    /// # Errors
    /// When a side is 0, there are more pixels than [`Frame::check_size`] allows, or a sample lies outside of `bytes`.
    pub fn strided(
        bytes: &'a [u8],
        origin: usize,
        (height, width): (usize, usize),
        strides: Strides,
        format: Format,
    ) -> Result<Self> {
        Self::check_size(height, width)?;
        if format.pattern().is_some() && (height < 2 || width < 2) {
            return refuse(format!(
                "{width} x {height} pixels of {format}: a colour sensor has two rows and columns at least"
            ));
        }
        let steps = [(height - 1, strides.row), (width - 1, strides.pixel), (format.samples() - 1, strides.sample)];
        let (mut first, mut last) = (origin as i128, origin as i128);
        for (count, stride) in steps {
            let reach = count as i128 * stride as i128;
            if reach < 0 { first += reach } else { last += reach }
        }
        if first < 0 || last + format.sample_bytes() as i128 > bytes.len() as i128 {
            return refuse(format!(
                "{width} x {height} pixels of {format} need bytes {first} to {}, but {} are there",
                last + format.sample_bytes() as i128,
                bytes.len()
            ));
        }
        Ok(Self { bytes, origin, height, width, strides, format })
    }

    /// Fails for frames without pixels, and with more than images of this process may have.
    ///
    /// # Errors
    /// Names the size.
    pub fn check_size(height: usize, width: usize) -> Result<()> {
        if height == 0 || width == 0 {
            return refuse(format!("{width} x {height} pixels: there is nothing to inspect"));
        }
        let most = Limits::chosen().pixels;
        if (width as u64).saturating_mul(height as u64) > most {
            return refuse(format!(
                "{width} x {height} pixels are more than {} megapixels; raise the limit or take smaller frames",
                most / 1_000_000
            ));
        }
        Ok(())
    }

    /// All samples of a decoded image, side by side.
    pub(super) fn packed(bytes: &'a [u8], height: usize, width: usize, format: Format) -> Self {
        let (pixel, sample) = (format.pixel_bytes() as isize, format.sample_bytes() as isize);
        let strides = Strides { row: width as isize * pixel, pixel, sample };
        Self { bytes, origin: 0, height, width, strides, format }
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// 1 for gray, 3 for colour; alpha is dropped.
    pub fn channels(&self) -> usize {
        if self.format.is_colour() { 3 } else { 1 }
    }

    /// Writes the columns from `left` of row `y` in 1 or 3 channels, values in 0..1: as many pixels as `values` holds.
    pub fn row(&self, y: usize, left: usize, channels: usize, values: &mut [f32]) {
        let byte = |v: [u8; 1]| f32::from(v[0]) / 255.0;
        let word = |v: [u8; 2]| f32::from(u16::from_ne_bytes(v)) / 65535.0;
        if let Some(pattern) = self.format.pattern() {
            return self.demosaiced(pattern, y, left, channels, values);
        }
        match self.format {
            Format::Gray8 => self.samples::<1, 1>(y, left, byte, |[v]| [v; 3], channels, values),
            Format::GrayAlpha8 => self.samples::<1, 2>(y, left, byte, |[v, _]| [v; 3], channels, values),
            Format::Rgb8 => self.samples::<1, 3>(y, left, byte, |v| v, channels, values),
            Format::Bgr8 => self.samples::<1, 3>(y, left, byte, |[b, g, r]| [r, g, b], channels, values),
            Format::Rgba8 => self.samples::<1, 4>(y, left, byte, |[r, g, b, _]| [r, g, b], channels, values),
            Format::Bgra8 => self.samples::<1, 4>(y, left, byte, |[b, g, r, _]| [r, g, b], channels, values),
            Format::Gray16 => self.samples::<2, 1>(y, left, word, |[v]| [v; 3], channels, values),
            Format::GrayAlpha16 => self.samples::<2, 2>(y, left, word, |[v, _]| [v; 3], channels, values),
            Format::Rgb16 => self.samples::<2, 3>(y, left, word, |v| v, channels, values),
            _ => self.samples::<2, 4>(y, left, word, |[r, g, b, _]| [r, g, b], channels, values),
        }
    }

    /// Position of the first sample of a pixel.
    fn at(&self, y: usize, x: usize) -> usize {
        // `strided` has found every pixel to lie within the bytes.
        (self.origin as isize + y as isize * self.strides.row + x as isize * self.strides.pixel) as usize
    }

    /// Whether pixels lie side by side, and samples within them.
    fn is_packed(&self) -> bool {
        let Strides { pixel, sample, .. } = self.strides;
        let alone = self.format.samples() == 1;
        pixel == self.format.pixel_bytes() as isize && (alone || sample == self.format.sample_bytes() as isize)
    }

    /// Writes pixels of `N` samples of `B` bytes: `unit` makes a float of a sample, `colour` RGB of a pixel's.
    fn samples<const B: usize, const N: usize>(
        &self,
        y: usize,
        left: usize,
        unit: impl Fn([u8; B]) -> f32,
        colour: impl Fn([f32; N]) -> [f32; 3],
        channels: usize,
        values: &mut [f32],
    ) {
        let gray = |pixel: [f32; N]| if N > 2 { luma(colour(pixel)) } else { pixel[0] };
        match channels {
            1 => self.pixels(y, left, unit, |pixel| [gray(pixel)], values),
            _ => self.pixels(y, left, unit, colour, values),
        }
    }

    /// Writes pixels of `N` samples as `C` channels.
    fn pixels<const B: usize, const N: usize, const C: usize>(
        &self,
        y: usize,
        left: usize,
        unit: impl Fn([u8; B]) -> f32,
        channels: impl Fn([f32; N]) -> [f32; C],
        values: &mut [f32],
    ) {
        let pixels = values.as_chunks_mut::<C>().0.iter_mut();
        if self.is_packed() {
            let bytes = &self.bytes[self.at(y, left)..];
            for (pixel, value) in bytes.as_chunks::<B>().0.as_chunks::<N>().0.iter().zip(pixels) {
                *value = channels(pixel.map(&unit));
            }
            return;
        }
        for (x, value) in pixels.enumerate() {
            let first = self.at(y, left + x) as isize;
            let sample = |k: usize| {
                let at = (first + k as isize * self.strides.sample) as usize;
                unit(std::array::from_fn(|b| self.bytes[at + b]))
            };
            *value = channels(std::array::from_fn(sample));
        }
    }

    /// Writes pixels of a colour sensor.
    fn demosaiced(&self, pattern: [[usize; 2]; 2], y: usize, left: usize, channels: usize, values: &mut [f32]) {
        let sample = |y: usize, x: usize| f32::from(self.bytes[self.at(y, x)]);
        let rows = neighbours(y, self.height);
        for (x, value) in (left..).zip(values.chunks_exact_mut(channels)) {
            let columns = neighbours(x, self.width);
            let (mut sums, mut counts) = ([0.0f32; 3], [0.0f32; 3]);
            let own = pattern[y % 2][x % 2];
            (sums[own], counts[own]) = (sample(y, x), 1.0);
            let beside = [(y, columns[0]), (y, columns[1]), (rows[0], x), (rows[1], x)];
            let across = [(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[0]), (rows[1], columns[1])];
            for (y, x) in beside.into_iter().chain(across) {
                let colour = pattern[y % 2][x % 2];
                if colour != own {
                    sums[colour] += sample(y, x);
                    counts[colour] += 1.0;
                }
            }
            let rgb = std::array::from_fn(|c| sums[c] / counts[c] / 255.0);
            if channels == 1 { value[0] = luma(rgb) } else { value.copy_from_slice(&rgb) }
        }
    }
}

/// The positions before and after one, mirrored at the border.
fn neighbours(at: usize, length: usize) -> [usize; 2] {
    let before = if at == 0 { 1 } else { at - 1 };
    let after = if at + 1 == length { length - 2 } else { at + 1 };
    [before, after]
}
