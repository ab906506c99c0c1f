//! Views of training images that are as normal as they are: what the generator sees of them.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::picture::{Part, padded, parts};

/// How training images are varied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// Not at all.
    #[default]
    None,
    /// Mirrored and turned by multiples of 90 degrees.
    Turn,
}

/// What the generator sees of images `[n, size, size, c]`: each whole, padded to its side, or a random tile of each.
///
/// # Errors
/// When the batch is no map.
pub fn seen(config: &Config, images: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let (n, side) = (images.nhwc()?[0], config.side());
    if config.tile == 0 {
        return padded(images, side);
    }
    let mut start = || rng.random_range(0..=config.image_size - side);
    let random: Vec<Part> = (0..n).map(|image| Part { image, top: start(), left: start() }).collect();
    parts(images, side, random.into_iter())
}

/// Images `[n, side, side, c]`, each mirrored or not and turned by a multiple of 90 degrees.
///
/// # Errors
/// When the batch is no map.
pub fn turned(images: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let [n, side, _, c] = images.nhwc()?;
    let values = images.values()?;
    let mut out = Vec::with_capacity(values.len());
    for image in values.chunks_exact((side * side * c).max(1)) {
        let (mirrored, quarters) = (rng.random::<bool>(), rng.random_range(0..4));
        for at in 0..side * side {
            let (mut y, mut x) = (at / side, at % side);
            for _ in 0..quarters {
                (y, x) = (x, side - 1 - y);
            }
            let x = if mirrored { side - 1 - x } else { x };
            out.extend_from_slice(&image[(y * side + x) * c..][..c]);
        }
    }
    Tensor::new(out, &[n, side, side, c])
}

#[cfg(test)]
mod tests {
    use hotad_engine::random;

    use super::*;

    /// Each pixel of a picture tells where it lies.
    #[test]
    fn a_tile_is_a_random_part_at_the_resolution_of_the_image() {
        let config = Config { image_size: 100, tile: 64, ..Config::default() };
        let image = Tensor::new((0..10_000).map(|v| v as f32).collect(), &[1, 100, 100, 1]).expect("fits");
        let (mut rng, mut starts) = (random::stream(1, "tiles", 0), std::collections::BTreeSet::new());
        for _ in 0..200 {
            let tile = seen(&config, &image, &mut rng).expect("a map");
            let values = tile.values().expect("host");
            let first = values[0] as usize;
            assert!((0..64 * 64).all(|i| values[i] as usize == first + i / 64 * 100 + i % 64));
            starts.insert(first);
        }
        let last = starts.last().expect("some");
        assert!(starts.len() > 150 && starts.iter().all(|at| at % 100 <= 36 && at / 100 <= 36), "{last}");
        let whole = Config { tile: 0, ..config };
        assert_eq!(
            seen(&whole, &image, &mut rng).expect("a map").values().expect("host"),
            image.values().expect("host")
        );
    }

    #[test]
    fn all_eight_views_come_up_and_keep_the_pixels() {
        let image = Tensor::new((0..9).map(|v| v as f32).collect(), &[1, 3, 3, 1]).expect("fits");
        let mut seen = std::collections::BTreeSet::new();
        let mut rng = random::stream(1, "turns", 0);
        for _ in 0..200 {
            let view = turned(&image, &mut rng).expect("a map").values().expect("host").into_owned();
            assert_eq!(view[4], 4.0, "the centre stays");
            let mut sorted = view.clone();
            sorted.sort_by(f32::total_cmp);
            assert_eq!(sorted, (0..9).map(|v| v as f32).collect::<Vec<_>>());
            // Neighbours stay neighbours: opposite corners add up to 8.
            assert_eq!((view[0] + view[8], view[2] + view[6]), (8.0, 8.0));
            seen.insert(view.iter().map(|v| *v as u8).collect::<Vec<_>>());
        }
        assert_eq!(seen.len(), 8);
    }
}
