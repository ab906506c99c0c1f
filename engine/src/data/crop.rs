//! Random views of an image for training: a square of it at a random scale, mirrored, in other light.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::picture::{Picture, luma};
use super::raster::Raster;
use crate::error::Result;
use crate::random;

/// Largest side of the square that is cut out, in sides of the view; scales between are equally likely on a logarithmic axis.
const ZOOM: f32 = 2.5;

/// Contrast is multiplied by a factor between the reciprocal of this and this.
const CONTRAST: f32 = 1.3;

/// Largest change of brightness, as a share of the range.
const BRIGHTNESS: f32 = 0.15;

/// Share of the views without colour.
const GRAY: f32 = 0.15;

/// Random square views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Rows and columns of a view.
    pub size: usize,
    /// Seed of all choices.
    pub seed: u64,
}

/// A decoded image in 8 bits: RGB, row by row.
pub struct Pixels {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `height * width * 3` values.
    pub values: Vec<u8>,
}

impl From<Raster> for Pixels {
    fn from(raster: Raster) -> Self {
        let (height, width) = (raster.height(), raster.width());
        let mut values = Vec::with_capacity(3 * height * width);
        let (frame, mut row) = (raster.frame(), vec![0.0; 3 * width]);
        for y in 0..height {
            frame.row(y, 0, 3, &mut row);
            values.extend(row.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8));
        }
        Self { height, width, values }
    }
}

impl Crop {
    /// View `number` of an image: `size x size x 3` values in 0..1. The whole of a smaller image is enlarged.
    ///
    /// # Errors
    /// When the image has no pixels.
    pub fn view(&self, image: &Pixels, number: u64) -> Result<Vec<f32>> {
        let mut rng = random::stream(self.seed, "crop", number);
        let shorter = image.height.min(image.width);
        let side = ((self.size as f32 * ZOOM.powf(rng.random())) as usize).clamp(1, shorter.max(1));
        let top = rng.random_range(0..=image.height.saturating_sub(side));
        let left = rng.random_range(0..=image.width.saturating_sub(side));
        let part = cut(image, (top, left), side, [rng.random(), rng.random()]);
        let mut view = part.resized(self.size, self.size)?.values;
        relight(&mut view, &mut rng);
        Ok(view)
    }
}

/// A square of an image, mirrored upside down and left to right where asked for.
fn cut(image: &Pixels, (top, left): (usize, usize), side: usize, [down, across]: [bool; 2]) -> Picture {
    let mut values = Vec::with_capacity(3 * side * side);
    for y in 0..side {
        let row = top + if down { side - 1 - y } else { y };
        let row = &image.values[3 * (row * image.width + left)..][..3 * side];
        let unit = |v: &u8| f32::from(*v) / 255.0;
        match across {
            false => values.extend(row.iter().map(unit)),
            true => values.extend(row.chunks_exact(3).rev().flatten().map(unit)),
        }
    }
    Picture { height: side, width: side, channels: 3, values }
}

/// Changes contrast around the view's mean and brightness; takes the colour from some.
fn relight(view: &mut [f32], rng: &mut ChaCha8Rng) {
    let contrast = CONTRAST.powf(rng.random_range(-1.0..=1.0));
    let brightness = rng.random_range(-BRIGHTNESS..=BRIGHTNESS);
    if rng.random::<f32>() < GRAY {
        for pixel in view.chunks_exact_mut(3) {
            pixel.fill(luma([pixel[0], pixel[1], pixel[2]]));
        }
    }
    let mean = view.iter().map(|v| f64::from(*v)).sum::<f64>() / view.len().max(1) as f64;
    let offset = mean as f32 * (1.0 - contrast) + brightness;
    view.iter_mut().for_each(|v| *v = (*v * contrast + offset).clamp(0.0, 1.0));
}
