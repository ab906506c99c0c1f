//! Held-out normal images with synthetic defects: cracks, which settings are chosen on, and every kind of defect, which pixel
//! thresholds and image scores are chosen on.
//!
//! PAEDID's paper chooses lambda and the threshold by cross-validation on such images (section 3.1); no test image is ever looked
//! at. What thresholds are chosen on is drawn apart from what settings are chosen on.

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::data::synth::{Kind, draw, draw_faint};
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, random};
use rand::Rng;

/// Most images that cracks are drawn on.
const LIMIT: usize = 32;

/// Images with a defect of each kind that pixel thresholds are chosen on.
const OF_EACH_KIND: usize = 12;

/// Range of the share of a defect's contrast that is to be seen.
const OPACITY: std::ops::RangeInclusive<f32> = 0.3..=1.0;

/// Images with a crack each, at model size, and their masks.
pub struct Cracks {
    /// `[n, h, w, c]`.
    pub images: Tensor,
    /// `[n][h * w]`.
    pub masks: Vec<bool>,
}

/// Draws one crack on each of up to 32 held-out images, drawn by the seed.
///
/// # Errors
/// When an image cannot be read.
pub fn cracks(holdout: ImageFiles, spec: ImageSpec, seed: u64) -> Result<Cracks> {
    let (mut values, mut masks) = (Vec::new(), Vec::new());
    let order = random::shuffled(holdout.len(), seed, "images of validation cracks", 0);
    for (i, at) in order.iter().take(LIMIT).enumerate() {
        let normal = holdout.read(*at, spec)?;
        let mut rng = random::stream(seed, "validation crack", i as u64);
        let (mut cracked, mut mask) = draw(Kind::Crack, &normal, &mut rng);
        holdout.undraw_outside(&mut cracked, &mut mask);
        values.extend(cracked.values);
        masks.extend(mask.defect);
    }
    let n = holdout.len().min(LIMIT);
    Ok(Cracks { images: Tensor::new(values, &[n, spec.height, spec.width, spec.channels])?, masks })
}

impl Cracks {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.shape()[0]
    }

    /// Whether there was no held-out image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest Dice that any threshold reaches on anomaly maps of these images, and the threshold.
    pub fn best_dice(&self, maps: &[f32]) -> Option<(f64, f32)> {
        Ranking::new(maps.iter().copied().zip(self.masks.iter().copied())).f1_max()
    }
}

/// Images of one kind of defect, and their masks.
pub struct Defects {
    /// `[n, h, w, c]`.
    pub images: Tensor,
    /// `[n][h * w]`, each with a defective pixel.
    pub masks: Vec<Vec<bool>>,
}

/// What is chosen on defects of every kind; for each they are drawn apart.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Thresholds.
    Thresholds,
    /// Settings.
    Settings,
}

impl Purpose {
    /// Names of its random streams: of the order of images and of the defects.
    fn streams(self) -> (&'static str, &'static str) {
        match self {
            Self::Thresholds => ("images of validation defects", "validation defect"),
            Self::Settings => ("images of defects for settings", "defect for settings"),
        }
    }
}

/// Draws defects of every kind, each kind on up to 12 images, faint and strong, on held-out images in an order drawn by the
/// seed. A kind that shows on none of them is left out.
///
/// # Errors
/// When an image cannot be read.
pub fn defects(holdout: ImageFiles, spec: ImageSpec, seed: u64, purpose: Purpose) -> Result<Vec<Defects>> {
    let (order, drawing) = purpose.streams();
    if holdout.is_empty() {
        return Ok(Vec::new());
    }
    let order = random::shuffled(holdout.len(), seed, order, 0);
    let chosen = order.iter().take(OF_EACH_KIND * Kind::ALL.len()).map(|i| holdout.read(*i, spec));
    let pictures: Vec<Picture> = chosen.collect::<Result<_>>()?;
    let mut all = Vec::new();
    for (k, (kind, _)) in Kind::ALL.into_iter().enumerate() {
        let (mut values, mut masks) = (Vec::new(), Vec::new());
        for i in 0..OF_EACH_KIND {
            // Kinds share images only where there are too few.
            let number = k * OF_EACH_KIND + i;
            let mut rng = random::stream(seed, drawing, number as u64);
            let opacity = rng.random_range(OPACITY);
            let (mut picture, mut mask) = draw_faint(kind, &pictures[number % pictures.len()], opacity, &mut rng);
            holdout.undraw_outside(&mut picture, &mut mask);
            if mask.defect.contains(&true) {
                values.extend(picture.values);
                masks.push(mask.defect);
            }
        }
        if !masks.is_empty() {
            let images = Tensor::new(values, &[masks.len(), spec.height, spec.width, spec.channels])?;
            all.push(Defects { images, masks });
        }
    }
    Ok(all)
}
