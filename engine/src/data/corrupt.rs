//! Changes of images that an inspection line knows: light, focus, noise of the camera, a part that lies askew.
//!
//! Each is drawn by a seed and the number of the image: for test images at a fixed strength, so that results can be compared,
//! for training images up to it.

use std::str::FromStr;

use hotad_kernels::blur::gaussian_blur;
use hotad_kernels::window::Border;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::picture::{Mask, Picture};
use crate::error::Result;
use crate::random;

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Corruption {
    /// Values times 0.8 to 1.2.
    Brightness,
    /// Gaussian blur of 0.5 % of the longer side, at least 1 pixel.
    Blur,
    /// Normal noise of deviation 0.05 on each value.
    Noise,
    /// Turned by up to 5 degrees around the middle, the border repeated; masks turn with it.
    Rotation,
}

impl Corruption {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Brightness, Self::Blur, Self::Noise, Self::Rotation];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brightness => "brightness",
            Self::Blur => "blur",
            Self::Noise => "noise",
            Self::Rotation => "rotation",
        }
    }
}

impl FromStr for Corruption {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|c| c.name() == name).ok_or_else(|| format!("use one of {}", names()))
    }
}

/// One kind of change for all images, at full strength.
#[derive(Clone, Copy, Debug)]
pub struct Corrupt {
    /// The change.
    pub kind: Corruption,
    /// Seed of what is drawn.
    pub seed: u64,
}

/// One of some kinds of change for each image, drawn at random; blur and noise of 0 to 1 times their strength.
#[derive(Clone, Debug)]
pub struct RandomChange {
    kinds: Vec<Corruption>,
    seed: u64,
}

impl RandomChange {
    /// Of the kinds, drawn by a seed; none without kinds.
    pub fn new(kinds: &[Corruption], seed: u64) -> Option<Self> {
        (!kinds.is_empty()).then(|| Self { kinds: kinds.to_vec(), seed })
    }

    /// Image number `index`, changed.
    ///
    /// # Errors
    /// When the picture is empty.
    pub fn apply(&self, picture: Picture, index: usize) -> Result<Picture> {
        let mut rng = random::stream(self.seed, "augmentation", index as u64);
        let kind = self.kinds[rng.random_range(0..self.kinds.len())];
        changed(picture, kind, rng.random(), &mut rng)
    }
}

/// How images are changed when they are read.
#[derive(Clone, Debug)]
pub enum Change {
    /// As test images are.
    Corrupt(Corrupt),
    /// As training images are.
    Random(RandomChange),
}

impl Change {
    /// Image number `index`, changed.
    ///
    /// # Errors
    /// When the picture is empty.
    pub fn apply(&self, picture: Picture, index: usize) -> Result<Picture> {
        match self {
            Self::Corrupt(corrupt) => corrupt.apply(picture, index),
            Self::Random(change) => change.apply(picture, index),
        }
    }
}

/// A picture under one change. What is random in itself, light and angle, is so whatever the strength.
fn changed(mut picture: Picture, kind: Corruption, strength: f32, rng: &mut ChaCha8Rng) -> Result<Picture> {
    match kind {
        Corruption::Brightness => {
            let factor = 0.8 + 0.4 * rng.random::<f32>();
            picture.values.iter_mut().for_each(|v| *v = (*v * factor).clamp(0.0, 1.0));
        }
        Corruption::Noise => {
            let deviation = 0.05 * strength;
            picture.values.iter_mut().for_each(|v| *v = (*v + deviation * random::normal(rng)).clamp(0.0, 1.0));
        }
        Corruption::Blur => {
            let sigma = strength * (picture.height.max(picture.width) as f32 * 0.005).max(1.0);
            if sigma < LEAST_BLUR {
                return Ok(picture);
            }
            let sharp = picture.values.clone();
            let shape = [1, picture.height, picture.width, picture.channels];
            let radius = (3.0 * sigma).ceil() as usize;
            gaussian_blur(&sharp, shape, sigma, radius, Border::Symmetric, &mut picture.values)?;
        }
        Corruption::Rotation => return Ok(turned(&picture, angle(rng))),
    }
    Ok(picture)
}

/// Deviation in pixels below which a blur changes no 8-bit value: a neighbour's weight is below exp(-50).
const LEAST_BLUR: f32 = 0.1;

impl Corrupt {
    /// Image number `index`, changed.
    ///
    /// # Errors
    /// When the picture is empty.
    pub fn apply(&self, picture: Picture, index: usize) -> Result<Picture> {
        changed(picture, self.kind, 1.0, &mut random::stream(self.seed, self.kind.name(), index as u64))
    }

    /// Where the pixels of a mask of image number `index` are after the change.
    pub fn mask(&self, mask: Mask, index: usize) -> Mask {
        if self.kind != Corruption::Rotation {
            return mask;
        }
        let angle = angle(&mut random::stream(self.seed, self.kind.name(), index as u64));
        let from = Turn::new(mask.height, mask.width, angle);
        let place = |i: usize| {
            let (y, x) = from.source(i / mask.width, i % mask.width);
            // The nearest pixel; what comes from outside is no defect.
            let inside = |v: f32, n: usize| (v > -0.5 && v < n as f32 - 0.5).then(|| v.round() as usize);
            inside(y, mask.height).zip(inside(x, mask.width)).is_some_and(|(y, x)| mask.defect[y * mask.width + x])
        };
        let defect = (0..mask.defect.len()).map(place).collect();
        Mask { defect, ..mask }
    }
}

/// An angle in radians, up to 5 degrees either way.
fn angle(rng: &mut ChaCha8Rng) -> f32 {
    (10.0 * rng.random::<f32>() - 5.0).to_radians()
}

/// A rotation around the middle of a picture.
struct Turn {
    middle: (f32, f32),
    sin: f32,
    cos: f32,
}

impl Turn {
    fn new(height: usize, width: usize, angle: f32) -> Self {
        let middle = ((height as f32 - 1.0) / 2.0, (width as f32 - 1.0) / 2.0);
        Self { middle, sin: angle.sin(), cos: angle.cos() }
    }

    /// Where a pixel of the turned picture comes from.
    fn source(&self, y: usize, x: usize) -> (f32, f32) {
        let (dy, dx) = (y as f32 - self.middle.0, x as f32 - self.middle.1);
        (self.middle.0 + self.cos * dy - self.sin * dx, self.middle.1 + self.sin * dy + self.cos * dx)
    }
}

/// A picture turned, bilinear.
fn turned(picture: &Picture, angle: f32) -> Picture {
    let (h, w, c) = (picture.height, picture.width, picture.channels);
    let turn = Turn::new(h, w, angle);
    let mut values = Vec::with_capacity(picture.values.len());
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        let (sy, sx) = turn.source(y, x);
        let (sy, sx) = (sy.clamp(0.0, (h - 1) as f32), sx.clamp(0.0, (w - 1) as f32));
        let (y0, x0) = (sy as usize, sx as usize);
        let (y1, x1) = ((y0 + 1).min(h - 1), (x0 + 1).min(w - 1));
        let (fy, fx) = (sy - y0 as f32, sx - x0 as f32);
        for k in 0..c {
            let at = |y: usize, x: usize| picture.values[(y * w + x) * c + k];
            let upper = at(y0, x0) * (1.0 - fx) + at(y0, x1) * fx;
            let lower = at(y1, x0) * (1.0 - fx) + at(y1, x1) * fx;
            values.push(upper * (1.0 - fy) + lower * fy);
        }
    }
    Picture { height: h, width: w, channels: c, values }
}
