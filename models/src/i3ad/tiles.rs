//! Images larger than what the generator sees: overlapping tiles, and a whole of what is found in them.
//!
//! Neighbouring tiles share a quarter of their side or more, so that no pixel is looked at near a tile's edge alone, where
//! little is known around it; only along the edges of an image there is no other tile. What tiles say of a pixel is averaged,
//! weighted by its distance from the nearest edge of each, row times column: a map has no seams.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::HostBuffer;
use smallvec::SmallVec;

use super::picture::{Part, parts};

/// Least share of a tile's side that neighbours have in common.
const OVERLAP: f64 = 0.25;

/// Where the tiles of square images lie.
#[derive(Clone, Debug)]
pub struct Tiles {
    /// Rows and columns of an image.
    size: usize,
    /// Rows and columns of a tile; one that is larger than the image is the image, its last row and column repeated.
    side: usize,
    /// First rows, and first columns, of the tiles.
    starts: SmallVec<[usize; 16]>,
}

impl Tiles {
    /// Tiles of `side` pixels a side, as few as cover images of `size` pixels a side, evenly spread.
    pub fn new(size: usize, side: usize) -> Self {
        let beyond = size.saturating_sub(side);
        let steps = (beyond as f64 / ((1.0 - OVERLAP) * side as f64)).ceil() as usize;
        let starts = (0..=steps).map(|i| (i * beyond).checked_div(steps).unwrap_or(0)).collect();
        Self { size, side, starts }
    }

    /// Tiles of an image.
    pub fn count(&self) -> usize {
        self.starts.len() * self.starts.len()
    }

    /// First row and column of each tile of an image.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + Clone {
        self.starts.iter().flat_map(|top| self.starts.iter().map(|left| (*top, *left)))
    }

    /// All tiles of images `[n, size, size, c]`, image by image: `[n * count, side, side, c]`.
    ///
    /// # Errors
    /// When the batch is no map.
    pub fn cut(&self, images: &Tensor) -> Result<Tensor> {
        let n = images.nhwc()?[0];
        let all = (0..n).flat_map(|image| self.places().map(move |(top, left)| Part { image, top, left }));
        parts(images, self.side, all)
    }

    /// The map `[size, size, c]` of an image from those of its tiles, `[side, side, c]` each.
    pub fn stitch<'a>(&self, mut maps: impl Iterator<Item = &'a [f32]>, c: usize) -> HostBuffer<f32> {
        let Self { size, side, .. } = *self;
        if self.count() == 1 {
            let mut whole = HostBuffer::uninit(size * size * c);
            let rows = maps.next().into_iter().flat_map(|map| map.chunks_exact(side * c));
            let pairs = whole.chunks_exact_mut(size * c).zip(rows);
            pairs.for_each(|(to, row)| to.copy_from_slice(&row[..size * c]));
            return whole;
        }
        let (mut sum, mut weights) = (HostBuffer::uninit(size * size * c), HostBuffer::uninit(size * size));
        sum.fill(0.0);
        weights.fill(0.0);
        let near = |at: usize| (at + 1).min(side - at) as f32;
        for ((top, left), map) in self.places().zip(maps) {
            for (i, seen) in map.chunks_exact(c).enumerate() {
                let (y, x) = (i / side, i % side);
                let (at, weight) = ((top + y) * size + left + x, near(y) * near(x));
                weights[at] += weight;
                sum[at * c..][..c].iter_mut().zip(seen).for_each(|(sum, v)| *sum += weight * v);
            }
        }
        for (pixel, weight) in sum.chunks_exact_mut(c).zip(&weights) {
            pixel.iter_mut().for_each(|v| *v /= weight);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_an_image_and_overlap_by_a_quarter() {
        for (size, side) in [(256, 64), (100, 64), (64, 64), (129, 128), (1024, 256)] {
            let Tiles { starts, .. } = Tiles::new(size, side);
            assert_eq!((starts[0], starts[starts.len() - 1]), (0, size - side), "{size} by {side}");
            assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= side * 3 / 4), "{starts:?}");
        }
        assert_eq!(Tiles::new(256, 64).starts[..], [0, 48, 96, 144, 192]);
        assert_eq!(Tiles::new(66, 68).starts[..], [0], "an image that is padded");
    }

    /// Cut and stitched, an image is itself; where tiles disagree it goes from one to the other without a step.
    #[test]
    fn what_is_stitched_has_no_seams() {
        let (size, side) = (100, 64);
        let tiles = Tiles::new(size, side);
        let values: Vec<f32> = (0..size * size * 3).map(|v| (v % 97) as f32).collect();
        let image = Tensor::new(values.clone(), &[1, size, size, 3]).expect("fits");
        let cut = tiles.cut(&image).expect("a map");
        assert_eq!(cut.shape(), [4, side, side, 3]);
        let whole = tiles.stitch(cut.values().expect("host").chunks_exact(side * side * 3), 3);
        assert!(whole.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-4));
        let apart: Vec<Vec<f32>> = [0.0, 1.0, 0.0, 1.0].map(|v| vec![v; side * side]).to_vec();
        let whole = tiles.stitch(apart.iter().map(Vec::as_slice), 1);
        let row = &whole[50 * size..51 * size];
        assert!(row[35] == 0.0 && row[64] == 1.0, "{row:?}");
        assert!(row.windows(2).all(|pair| pair[1] >= pair[0] && pair[1] - pair[0] < 0.1), "{row:?}");
    }

    #[test]
    fn one_tile_is_the_image_to_the_bit() {
        let tiles = Tiles::new(3, 4);
        let image = Tensor::new((0..9).map(|v| v as f32 / 7.0).collect(), &[1, 3, 3, 1]).expect("fits");
        let cut = tiles.cut(&image).expect("a map");
        let cut = cut.values().expect("host");
        assert_eq!((cut[3], cut[15]), (cut[2], 8.0 / 7.0), "the last column and row are repeated");
        assert_eq!(tiles.stitch(std::iter::once(&cut[..]), 1)[..], *image.values().expect("host"));
    }
}
