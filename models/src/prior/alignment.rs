//! Affine alignment of images to those of the bank that are most like them.
//!
//! The bank has no pixels: the latent vectors of the most similar images are decoded. A motion is looked for under which the image,
//! in gray and of norm 1, is a sum over these beside as little as possible: `minimise |e|_1`, as RASL aligns an image to
//! its basis (rasl/), linearised in the motion and repeated.

use faer::Mat;
use hotad_engine::data::picture::{ImageSpec, convert_channels};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, interrupt};
use rayon::prelude::*;

use super::PatchPrior;
use crate::rasl::{Against, Frame, Motion, basis};

/// Most rounds of alignment.
const ROUNDS: usize = 10;

/// What a side is divided by for the margin: what lies in it is not compared, and no corner moves farther than it is wide.
const MARGINS: usize = 8;

/// Images under motions.
pub struct Aligned {
    /// The moved images, `[n, h, w, c]`, on the host.
    pub images: Tensor,
    /// Their motions.
    motions: Vec<Motion>,
}

impl Aligned {
    /// Brings maps over the moved images, `[image][pixel]`, back to where the pixels were; 0 for pixels that were moved out.
    pub fn restore(&self, maps: &mut [f32]) {
        let (pixels, frame) = (maps.len() / self.motions.len(), whole(self.images.shape()[1]));
        maps.par_chunks_exact_mut(pixels).zip(&self.motions).for_each(|(map, motion)| {
            let moved: Vec<f64> = map.iter().copied().map(f64::from).collect();
            frame.restored(&moved, motion, map);
        });
    }
}

impl PatchPrior {
    /// Square images aligned to as many of the most similar images and views of the bank as [`PatchPrior::align`] says. `among`,
    /// `[image][vector]`, names with a number other than 0 those that an image may be aligned to; one without any stays as it is.
    ///
    /// # Errors
    /// When the batch has another shape, what goes wrong on the device, or an interruption.
    pub fn aligned(&self, images: &Tensor, among: Option<&[u32]>) -> Result<Aligned> {
        let (image, count) = (self.autoencoder.network.image(), self.bank.shape().1);
        let latent = self.autoencoder.encode(images)?;
        let mut means = vec![0.0; images.shape()[0] * count];
        self.bank.mean_cosines(&*latent.values()?, &mut means)?;
        if let Some(among) = among {
            let left_out = means.iter_mut().zip(among).filter(|(_, among)| **among == 0);
            left_out.for_each(|(mean, _)| *mean = f32::NEG_INFINITY);
        }
        let bases =
            means.chunks_exact(count).map(|means| self.most_similar(means, image)).collect::<Result<Vec<_>>>()?;
        let mut moved = images.values()?.into_owned();
        let each = moved.par_chunks_exact_mut(image.len()).zip(&bases);
        let motions = each.map(|(values, basis)| align(values, basis.as_ref(), image)).collect();
        Ok(Aligned { motions, images: Tensor::new(moved, images.shape())? })
    }

    /// A basis of the images with the largest means, decoded; none where there are no images.
    fn most_similar(&self, means: &[f32], image: ImageSpec) -> Result<Option<Mat<f64>>> {
        interrupt::check()?;
        let (locations, count, d) = self.bank.shape();
        let mut order: Vec<usize> = (0..count).filter(|at| means[*at].is_finite()).collect();
        order.sort_by(|a, b| means[*b].total_cmp(&means[*a]));
        order.truncate(self.align);
        if order.is_empty() {
            return Ok(None);
        }
        let index: Vec<u32> =
            order.iter().flat_map(|at| (0..locations).map(move |l| (l * count + at) as u32)).collect();
        let (mut vectors, latent) = (vec![0.0; index.len() * d], self.autoencoder.network.latent());
        self.bank.gather(&index, &mut vectors)?;
        let vectors = Tensor::new(vectors, &[order.len(), latent.rows, latent.columns, d])?;
        let decoded = self.autoencoder.decode(&vectors.to(self.autoencoder.params.device())?)?;
        let frame = compared(image);
        let columns: Vec<Vec<f64>> = decoded
            .values()?
            .chunks_exact(image.len())
            .map(|values| {
                let mut column = vec![0.0; frame.pixels()];
                frame.warped(&gray(values, image), &Motion::default(), &mut column);
                column
            })
            .collect();
        basis(&Mat::from_fn(frame.pixels(), columns.len(), |i, j| columns[j][i])).map(Some)
    }
}

/// All of an image.
fn whole(size: usize) -> Frame {
    Frame { size, inset: 0 }
}

/// What is compared of an image.
fn compared(image: ImageSpec) -> Frame {
    Frame { size: image.height, inset: image.height / MARGINS }
}

fn gray(values: &[f32], image: ImageSpec) -> Vec<f64> {
    let mut gray = vec![0.0; image.height * image.width];
    convert_channels((values, image.channels), (&mut gray, 1));
    gray.into_iter().map(f64::from).collect()
}

/// Moves an image so that a sum over the basis leaves little of it; returns the motion.
fn align(values: &mut [f32], basis: Option<&Mat<f64>>, image: ImageSpec) -> Motion {
    let (frame, compared) = (whole(image.height), compared(image));
    let motion = basis.map_or(Motion::default(), |basis| motion_to(basis, &gray(values, image), compared));
    let is_small = motion.iter().all(|v| v.is_finite()) && frame.farthest(&motion) <= compared.inset as f64;
    if motion == Motion::default() || !is_small {
        return Motion::default();
    }
    let mut moved = vec![0.0; frame.pixels()];
    for channel in 0..image.channels {
        let plane: Vec<f64> = values.iter().skip(channel).step_by(image.channels).copied().map(f64::from).collect();
        frame.warped(&plane, &motion, &mut moved);
        let to = values.iter_mut().skip(channel).step_by(image.channels);
        to.zip(&moved).for_each(|(to, v)| *to = *v as f32);
    }
    motion
}

/// The motion of an image to a basis; that of an image which does not change with motions is none.
fn motion_to(basis: &Mat<f64>, image: &[f64], frame: Frame) -> Motion {
    let (mut against, mut motion, mut last) = (Against::new(basis), Motion::default(), f64::INFINITY);
    for _ in 0..ROUNDS {
        if against.solve(basis, &frame, image, &motion).is_err() {
            break;
        }
        let left: f64 = against.rest().iter().map(|v| v.abs()).sum();
        if last - left < 1e-3 * left {
            break;
        }
        last = left;
        motion.iter_mut().zip(against.change()).for_each(|(m, change)| *m += change);
    }
    motion
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: ImageSpec = ImageSpec { height: 48, width: 48, channels: 3 };

    /// A smooth picture in colours whose content lies `dx` pixels to the left.
    fn picture(dx: f32) -> Vec<f32> {
        let wave = |x: f32, y: f32| 0.5 + 0.2 * (x / 5.0).sin() + 0.2 * (y / 7.0).cos();
        let pixel = |i: usize| [1.0, 0.8, 0.4].map(|colour| colour * wave((i % 48) as f32 + dx, (i / 48) as f32));
        (0..48 * 48).flat_map(pixel).collect()
    }

    fn basis_of(values: &[f32]) -> Mat<f64> {
        let frame = compared(IMAGE);
        let mut column = vec![0.0; frame.pixels()];
        frame.warped(&gray(values, IMAGE), &Motion::default(), &mut column);
        basis(&Mat::from_fn(frame.pixels(), 1, |i, _| column[i])).expect("a column")
    }

    #[test]
    fn an_image_is_moved_to_another_and_its_map_back() {
        let (normal, mut moved) = (picture(0.0), picture(2.0));
        moved[(20 * 48 + 24) * 3..][..3].fill(1.0);
        let (before, basis) = (moved.clone(), basis_of(&normal));
        let motion = align(&mut moved, Some(&basis), IMAGE);
        assert!((motion[0] + 2.0).abs() < 0.1, "{motion:?}");
        let at = |values: &[f32], y: usize, x: usize| values[(y * 48 + x) * 3];
        for (y, x) in [(8, 16), (30, 33), (41, 30)] {
            let [is, was, want] = [&moved, &before, &normal].map(|values| at(values, y, x));
            assert!((is - want).abs() < 0.02 && (was - want).abs() > 0.04, "({y}, {x}): {is} and {was} for {want}");
        }
        let images = Tensor::new(moved.clone(), &[1, 48, 48, 3]).expect("fits");
        let mut map: Vec<f32> =
            moved.chunks_exact(3).zip(normal.chunks_exact(3)).map(|(m, n)| (m[0] - n[0]).abs()).collect();
        Aligned { images, motions: vec![motion] }.restore(&mut map);
        let largest = (0..map.len()).max_by(|a, b| map[*a].total_cmp(&map[*b]));
        assert_eq!(largest, Some(20 * 48 + 24), "where the defect is");
    }

    #[test]
    fn what_cannot_be_aligned_stays_as_it_is() {
        let (blank, far, basis) = (vec![0.5; IMAGE.len()], picture(12.0), basis_of(&picture(0.0)));
        for (values, basis) in [(&blank, Some(&basis)), (&far, None)] {
            let mut moved = values.clone();
            assert_eq!(align(&mut moved, basis, IMAGE), Motion::default());
            assert!(moved == *values);
        }
    }
}
