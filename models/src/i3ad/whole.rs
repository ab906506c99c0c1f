//! Whole images during the iterations over their tiles.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_kernels::device::HostBuffer;

use super::iteration::{Moment, Reached, ReachedAll};
use super::tiles::Tiles;

/// Images of a batch from what each of their tiles has reached.
pub fn stitched(tiles: &Tiles, reached: &[Reached]) -> ReachedAll {
    let whole = |tiles_of: &[Reached]| Reached {
        dissimilarity: tiles.stitch(tiles_of.iter().map(|r| &r.dissimilarity[..]), 1),
        reconstruction: tiles.stitch(tiles_of.iter().map(|r| &r.reconstruction[..]), 3),
    };
    reached.chunks_exact(tiles.count()).map(whole).collect()
}

/// Follows the tiles of a batch, those that are done as well.
pub struct Following {
    tiles: Tiles,
    /// All tiles, image by image.
    known: Tensor,
    reached: Vec<Reached>,
    /// The mask after each.
    masks: Vec<Vec<f32>>,
}

impl Following {
    /// Before the first iteration over `known`, all tiles of a batch, on the host.
    pub fn new(tiles: Tiles, known: Tensor) -> Self {
        let n = known.shape()[0];
        let nothing = Reached { dissimilarity: HostBuffer::default(), reconstruction: HostBuffer::default() };
        Self { tiles, known, reached: vec![nothing; n], masks: vec![vec![1.0]; n] }
    }

    /// A moment of tiles as one of images: of those that have a tile which is not done.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn whole(&mut self, moment: &Moment, see: impl FnOnce(&Moment) -> Result<()>) -> Result<()> {
        self.restore()?;
        let pixels = moment.masks.len() / moment.images.len();
        let now = moment.images.iter().zip(&moment.reached).zip(moment.masks.chunks_exact(pixels));
        for ((tile, reached), mask) in now {
            (self.reached[*tile], self.masks[*tile]) = (reached.clone(), mask.to_vec());
        }
        let count = self.tiles.count();
        let mut images: Vec<usize> = moment.images.iter().map(|tile| tile / count).collect();
        images.dedup();
        let of = |image: &usize| image * count..(image + 1) * count;
        let reached = images.iter().flat_map(|i| stitched(&self.tiles, &self.reached[of(i)])).collect();
        let masks = images.iter().map(|i| self.tiles.stitch(self.masks[of(i)].iter().map(|m| &m[..]), 1));
        let masks = masks.flat_map(HostBuffer::into_vec).collect();
        see(&Moment { iteration: moment.iteration, images: &images, reached, masks })
    }

    /// Tiles whose mask has become empty have reached the image itself.
    fn restore(&mut self) -> Result<()> {
        let values = self.known.values()?;
        let len = values.len() / self.masks.len();
        for (i, (reached, mask)) in self.reached.iter_mut().zip(&self.masks).enumerate() {
            if mask.iter().all(|v| *v == 0.0) {
                reached.dissimilarity.fill(0.0);
                reached.reconstruction.copy_from_slice(&values[i * len..(i + 1) * len]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(value: f32) -> Reached {
        Reached { dissimilarity: vec![value; 16].into(), reconstruction: vec![value; 48].into() }
    }

    /// Of four tiles, one is done as it is, and one as its mask has become empty, which makes it the image itself.
    #[test]
    fn tiles_that_are_done_stay_in_the_picture() {
        let tiles = Tiles::new(6, 4);
        let known = Tensor::new((0..4 * 48).map(|v| v as f32).collect(), &[4, 4, 4, 3]).expect("fits");
        let mut following = Following::new(tiles.clone(), known.clone());
        let mut at = |iteration, images: &[usize], values: &[f32], masks: &[f32]| {
            let moment = Moment {
                iteration,
                images,
                reached: values.iter().map(|v| reached(*v)).collect(),
                masks: masks.iter().flat_map(|v| [*v; 16]).collect(),
            };
            let mut seen = None;
            let see = |whole: &Moment| {
                assert_eq!((whole.iteration, whole.images), (iteration, &[0][..]), "one image");
                seen = Some((whole.reached[0].clone(), whole.masks.clone()));
                Ok(())
            };
            following.whole(&moment, see).expect("on the host");
            seen.expect("it is seen")
        };
        at(0, &[0, 1, 2, 3], &[1.0, 2.0, 3.0, 4.0], &[1.0, 0.0, 1.0, 1.0]);
        let (now, masks) = at(1, &[0, 3], &[5.0, 6.0], &[1.0, 1.0]);
        let image = known.values().expect("host")[48..96].to_vec();
        let restored = Reached { dissimilarity: vec![0.0; 16].into(), reconstruction: image.into() };
        let want = stitched(&tiles, &[reached(5.0), restored, reached(3.0), reached(6.0)]).remove(0);
        assert_eq!(now.dissimilarity, want.dissimilarity);
        assert_eq!(now.reconstruction, want.reconstruction);
        let want = [1.0, 0.0, 1.0, 1.0].map(|v| vec![v; 16]);
        assert_eq!(masks[..], tiles.stitch(want.iter().map(|m| &m[..]), 1)[..]);
    }
}
