//! Test time (I3AD, sections 2.3 to 2.5): a first reconstruction under checkerboards, then mask and reconstruction
//! in turn.
//!
//! `a_i = 1 - SSIM(x, x_i)`, `M_i = a_i >= u`, `x_(i+1) = G(x, M_i)` where M_i is 1 and x elsewhere; x_0 is the
//! reconstruction under the checkerboards. Everything here is in 0..1, and SSIM's data range is 1: its luminance term is not
//! shift-invariant, so that it means nothing in the generator's -1..1. An image is done when its mask is empty, or when the
//! share of it that has changed is small. All images of a batch go together; those that are done leave it. What the host looks
//! at in an iteration are two counts of each image; where images have got to is copied to it once, at the end. As long as none has
//! left, the device repeats an iteration by one launch, where it can.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hotad_engine::Result;
use hotad_engine::device::Device;
use hotad_engine::ops::rows;
use hotad_engine::params::State;
use hotad_engine::repeated::Repeated;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_kernels::concat::concat_channels;
use hotad_kernels::conv::{checkerboard_masks, join_checkerboard};
use hotad_kernels::device::{Buffer, HostBuffer};
use hotad_kernels::elementwise::approach;
use hotad_kernels::rows::copy_range;
use smallvec::SmallVec;

use super::active::Active;
use super::picture::{signed, unit};
use crate::networks::inpainting::{Generator, Inpainting, Ready};

/// Most pixels that the generator paints in one pass, those of 32 images of 256 x 256, so that memory does not grow with the
/// tiles of an image.
const AT_ONCE: usize = 32 * 256 * 256;

/// Inference settings: when the iteration over a test image masks, and when it ends.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Dissimilarity from which on a pixel is masked.
    pub u: f32,
    /// Most reconstructions after the one under the checkerboards.
    pub iterations: usize,
    /// Share of a mask whose change ends the search.
    pub stop: f32,
}

/// Where an image has got to.
#[derive(Clone, Debug)]
pub struct Reached {
    /// 1 - SSIM, averaged over channels.
    pub dissimilarity: HostBuffer<f32>,
    /// In 0..1.
    pub reconstruction: HostBuffer<f32>,
}

/// Those of a batch; up to 32 are on the stack.
pub type ReachedAll = SmallVec<[Reached; 32]>;

/// One iteration, for those who watch.
pub struct Moment<'a> {
    /// Reconstructions after the one under the checkerboards, which is number 0.
    pub iteration: usize,
    /// Numbers of the images that are still in the batch.
    pub images: &'a [usize],
    /// Of each of them.
    pub reached: ReachedAll,
    /// The mask that follows, 1 = to be painted, all of one image after the other.
    pub masks: Vec<f32>,
}

/// Sees every iteration.
pub type Watch<'a> = &'a mut dyn FnMut(&Moment) -> Result<()>;

/// Most bytes of a batch's buffers that stay on a device for the next one. Larger batches take so long that launches do not matter.
const MOST_KEPT: usize = 64 << 20;

/// A batch in buffers that serve the next one of its shape, with the iteration that is recorded over the whole of it.
struct Kept {
    batch: Active,
    /// What it is masked by.
    u: f32,
    iteration: Repeated,
}

/// The generator with its weights, ready to paint.
pub struct Painter {
    generator: Generator,
    ready: Ready,
    kept: Mutex<Option<Kept>>,
    /// Where it paints.
    pub device: Device,
    /// Rows and columns of the images it sees.
    pub side: usize,
}

impl Painter {
    /// Lays weights out for a device.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(width: usize, side: usize, state: &State, device: &Device) -> Result<Self> {
        let generator = Generator::new(width);
        let ready = Ready::new(&generator, state, device)?;
        Ok(Self { generator, ready, kept: Mutex::default(), device: device.clone(), side })
    }

    /// Images `[n, side, side, 3]` in 0..1, painted under masks `[n, side, side, 1]`, whole.
    fn paint(&self, images: &Tensor, masks: &Tensor) -> Result<Tensor> {
        in_passes(images.shape(), self.at_once(1), |first, count| {
            let (images, masks) = (some(images, first, count)?, some(masks, first, count)?);
            unit(&self.generator.run(&Inpainting::Ready(&self.ready), &signed(&images)?, &masks)?.fine)
        })
    }

    /// Images of a pass in which each is painted some times.
    fn at_once(&self, times: usize) -> usize {
        (AT_ONCE / (times * self.side * self.side)).max(1)
    }

    /// Feature maps of images `[n, side, side, 3]` in 0..1, at a quarter of the size.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        self.generator.features(&Inpainting::Ready(&self.ready), &signed(&images.to(&self.device)?)?)
    }

    /// Whole reconstructions of images `[n, side, side, 3]` in 0..1 under the four checkerboards of
    /// `patches` x `patches` cells; of several `shifts` the mean, the cells of each moved up and to
    /// the left by a further part of their side.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn first(&self, images: &Tensor, patches: usize, shifts: usize) -> Result<Tensor> {
        let (cell, images) = (self.side.div_ceil(patches), &images.to(&self.device)?);
        let moved = |pixels| {
            let make = |first, count| self.checkered(&some(images, first, count)?, cell, pixels);
            in_passes(images.shape(), self.at_once(4), make)
        };
        let mut mean = moved(0)?.into_buffer()?;
        for shift in 1..shifts {
            approach(&mut mean, moved(shift * cell / shifts)?.view(), 1.0 / (shift + 1) as f32)?;
        }
        Tensor::from_buffer(mean, images.shape())
    }

    /// Whole reconstructions under the four masks of a checkerboard, moved up and to the left by some pixels.
    fn checkered(&self, images: &Tensor, cell: usize, shift: usize) -> Result<Tensor> {
        let [n, h, w, c] = images.nhwc()?;
        let (mut masks, mut joined) = (self.device.alloc(4 * n * h * w)?, self.device.alloc(images.len())?);
        checkerboard_masks(h, w, cell, shift, &mut masks)?;
        let masks = Tensor::from_buffer(masks, &[4 * n, h, w, 1])?;
        let made = self.paint(&twice(&twice(images)?)?, &masks)?;
        join_checkerboard(made.view(), some(&masks, 0, 4)?.view(), c, &mut joined)?;
        Tensor::from_buffer(joined, images.shape())
    }

    /// Iterates from the first reconstructions, until a moment at most; `watch` sees every iteration when it is given.
    ///
    /// # Errors
    /// When the batch has another shape, or what `watch` reports.
    pub fn iterate(
        &self,
        images: &Tensor,
        first: Tensor,
        search: &Search,
        until: &Until,
        mut watch: Option<Watch>,
    ) -> Result<ReachedAll> {
        let known = images.to(&self.device)?;
        let mut ends = Ends::new(&known)?;
        let keeps = self.keeps(&known);
        let Kept { batch: mut whole, mut iteration, .. } = self.begin(known, first, search.u)?;
        let mut left = None;
        for number in 0..=search.iterations {
            match &mut left {
                _ if number == 0 => whole.compare(search.u)?,
                Some(active) => self.iteration(active, search.u)?,
                None if keeps => iteration.run(&self.device, || self.iteration(&mut whole, search.u))?,
                None => self.iteration(&mut whole, search.u)?,
            }
            let active = left.as_mut().unwrap_or(&mut whole);
            let last = number == search.iterations || !until.goes_on(number as u32);
            let is_small = |changed, masked| number > 0 && changed as f32 <= search.stop * masked as f32;
            let done: SmallVec<[bool; 32]> = active.settled(is_small)?.iter().map(|settled| last || *settled).collect();
            if let Some(watch) = &mut watch {
                let (reached, masks) = (all(active)?, active.mask.to_vec()?);
                watch(&Moment { iteration: number, images: &active.images, reached, masks })?;
            }
            for i in (0..done.len()).filter(|i| done[*i]) {
                ends.keep(active, i, last || active.has_mask(i))?;
            }
            if !done.contains(&false) {
                break;
            }
            if done.contains(&true) {
                left = Some(active.without(&done)?);
            }
        }
        if keeps {
            *self.lock() = Some(Kept { batch: whole, u: search.u, iteration });
        }
        ends.reached()
    }

    /// `x_(i+1)` and the mask that follows.
    fn iteration(&self, active: &mut Active, u: f32) -> Result<()> {
        active.paint(|known, masks| self.paint(known, masks))?;
        active.compare(u)
    }

    /// Whether the buffers of a batch stay on the device, and an iteration over it is recorded.
    fn keeps(&self, known: &Tensor) -> bool {
        // As given and painted, and a mask and a dissimilarity of one channel each.
        let values = 2 * known.len() + 2 * (known.len() / 3);
        self.device.has_thread() && values * size_of::<f32>() <= MOST_KEPT
    }

    /// A batch with its first reconstructions, in the buffers of the one before if they are for it.
    fn begin(&self, known: Tensor, first: Tensor, u: f32) -> Result<Kept> {
        let before = self.lock().take().filter(|b| b.batch.known.shape() == known.shape());
        if let Some(Kept { batch, u: earlier, iteration }) = before {
            let iteration = if earlier == u { iteration } else { Repeated::default() };
            return Ok(Kept { batch: batch.restarted(&known, &first)?, u, iteration });
        }
        let shape = known.nhwc()?;
        // What the next batch is written to must be nobody else's.
        let known = if self.keeps(&known) { Tensor::from_buffer(known.into_buffer()?, &shape)? } else { known };
        Ok(Kept { batch: Active::new(known, first)?, u, iteration: Repeated::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the images of a batch got to before they left it, on the device.
struct Ends {
    /// All dissimilarities, zeros at first, then all reconstructions.
    values: Buffer,
    images: usize,
    pixels: usize,
}

impl Ends {
    fn new(known: &Tensor) -> Result<Self> {
        let [images, h, w, c] = known.nhwc()?;
        Ok(Self { values: known.device().zeros(images * h * w * (1 + c))?, images, pixels: h * w })
    }

    /// Keeps the `i`-th of some images; one whose mask is empty is, unless it is `painted` all the same, the image itself.
    fn keep(&mut self, active: &Active, i: usize, painted: bool) -> Result<()> {
        let Self { values, images, pixels } = self;
        let (block, number) = (active.known.len() / active.images.len(), active.images[i]);
        if painted {
            copy_range(&active.dissimilarity, i * *pixels, &mut *values, number * *pixels, *pixels)?;
        }
        let made = if painted { active.now.view() } else { active.known.view() };
        copy_range(made, i * block, values, *images * *pixels + number * block, block)?;
        Ok(())
    }

    fn reached(self) -> Result<ReachedAll> {
        let values = self.values.into_host()?;
        let (maps, made) = values.split_at(self.images * self.pixels);
        Ok(apart(self.pixels, maps, made))
    }
}

/// Each image of a batch twice, one behind the other.
fn twice(images: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = images.nhwc()?;
    let (image, mut both) = (h * w * c, images.device().alloc(2 * images.len())?);
    concat_channels(images.view(), images.view(), [image, image], &mut both)?;
    Tensor::from_buffer(both, &[2 * n, h, w, c])
}

/// A batch of a shape, of which `make` makes some images from a first one on, `most` at a time.
fn in_passes(shape: &[usize], most: usize, make: impl Fn(usize, usize) -> Result<Tensor>) -> Result<Tensor> {
    let (n, len) = (shape[0], shape[1..].iter().product::<usize>());
    let first = make(0, n.min(most))?;
    if n <= most {
        return Ok(first);
    }
    let mut all = first.device().alloc(n * len)?;
    copy_range(first.view(), 0, &mut all, 0, first.len())?;
    for start in (most..n).step_by(most) {
        let made = make(start, most.min(n - start))?;
        copy_range(made.view(), 0, &mut all, start * len, made.len())?;
    }
    Tensor::from_buffer(all, shape)
}

/// Images `first` to `first + count` of a batch.
fn some(batch: &Tensor, first: usize, count: usize) -> Result<Tensor> {
    if count == batch.shape()[0] { Ok(batch.clone()) } else { rows(batch, first, count) }
}

/// Where all images of a batch are.
fn all(active: &Active) -> Result<ReachedAll> {
    let pixels = active.dissimilarity.len() / active.images.len();
    Ok(apart(pixels, &active.dissimilarity.values()?, &active.now.values()?))
}

/// Of each image its part of maps and reconstructions.
fn apart(pixels: usize, maps: &[f32], made: &[f32]) -> ReachedAll {
    let pairs = maps.chunks_exact(pixels).zip(made.chunks_exact(3 * pixels));
    let copied = |(d, r)| Reached { dissimilarity: HostBuffer::copied(d), reconstruction: HostBuffer::copied(r) };
    pairs.map(copied).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_make_the_whole_batch_in_order() {
        let batch = Tensor::new((0..42).map(|v| v as f32).collect(), &[7, 2, 1, 3]).expect("fits");
        for most in [1, 2, 3, 7, 9] {
            let calls = std::cell::Cell::new(0);
            let make = |first, count| {
                calls.set(calls.get() + 1);
                assert!(count <= most);
                some(&batch, first, count)
            };
            let whole = in_passes(batch.shape(), most, make).expect("memory");
            assert_eq!(whole.shape(), batch.shape());
            assert_eq!(whole.values().expect("host"), batch.values().expect("host"), "{most} at a time");
            assert_eq!(calls.get(), 7_usize.div_ceil(most));
        }
    }

    #[test]
    fn every_image_of_a_batch_is_there_twice() {
        let batch = Tensor::new((0..6).map(|v| v as f32).collect(), &[2, 1, 1, 3]).expect("fits");
        let both = twice(&batch).expect("memory");
        assert_eq!(both.shape(), [4, 1, 1, 3]);
        assert_eq!(both.values().expect("host")[..], [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0]);
    }
}
