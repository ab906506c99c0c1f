//! Test time (I3AD, sections 2.3 to 2.5): a first reconstruction under checkerboards, then mask and reconstruction
//! in turn.
//!
//! `a_i = 1 - SSIM(x, x_i)`, `M_i = a_i > u`, `x_(i+1) = G(x, M_i)` where M_i is 1 and x elsewhere; x_0 is the
//! reconstruction under the checkerboards. Everything here is in 0..1, and SSIM's data range is 1: its luminance term is not
//! shift-invariant, so that it means nothing in the generator's -1..1. An image is done when its mask is empty, or when the
//! share of it that has changed is small. All images of a batch go together; those that are done leave it.

use hotad_engine::Result;
use hotad_engine::device::Device;
use hotad_engine::ops::{paste, rows};
use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_kernels::conv::{checkerboard_masks, join_checkerboard};
use hotad_kernels::device::{Buffer, HostBuffer};
use hotad_kernels::elementwise::approach;
use hotad_kernels::gather::gather;
use hotad_kernels::rows::copy_range;
use hotad_kernels::ssim::{SsimOptions, ssim_mask};
use smallvec::SmallVec;

use super::picture::{signed, unit};
use crate::networks::inpainting::{Generator, Inpainting, Ready};

/// Most pixels that the generator paints in one pass, those of 32 images of 256 x 256, so that memory does not grow with the
/// tiles of an image.
const AT_ONCE: usize = 32 * 256 * 256;

/// Inference settings: when the iteration over a test image masks, and when it ends.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Dissimilarity above which a pixel is masked.
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

/// A number for each image of a batch, likewise.
type Numbers = SmallVec<[usize; 32]>;

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

/// The generator with its weights, ready to paint.
pub struct Painter {
    generator: Generator,
    ready: Ready,
    device: Device,
    /// Rows and columns of the images it sees.
    pub side: usize,
}

/// Which images are done.
type Done = SmallVec<[bool; 32]>;

/// Images that are not done.
struct Active {
    images: Numbers,
    known: Tensor,
    now: Tensor,
    mask: Buffer,
    /// Pixels under each mask.
    masked: Numbers,
}

impl Painter {
    /// Lays weights out for a device.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(width: usize, side: usize, state: &State, device: &Device) -> Result<Self> {
        let generator = Generator::new(width);
        let ready = Ready::new(&generator, state, device)?;
        Ok(Self { generator, ready, device: device.clone(), side })
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
        let cell = self.side.div_ceil(patches);
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
        let ([n, h, w, c], side) = (images.nhwc()?, self.side);
        let masks = moved_checkerboard(side, cell, shift)?;
        let values = images.values()?;
        let image = (h * w * c).max(1);
        let (mut four, mut all) = (HostBuffer::try_uninit(4 * values.len())?, HostBuffer::try_uninit(n * masks.len())?);
        let copies = four.chunks_exact_mut(image).zip(values.chunks_exact(image).flat_map(|image| [image; 4]));
        copies.for_each(|(to, image)| to.copy_from_slice(image));
        all.chunks_exact_mut(masks.len()).for_each(|to| to.copy_from_slice(&masks));
        let four = Tensor::from_buffer(Buffer::Host(four), &[4 * n, h, w, c])?.to(&self.device)?;
        let all = Tensor::from_buffer(Buffer::Host(all), &[4 * n, h, w, 1])?.to(&self.device)?;
        let made = self.paint(&four, &all)?;
        let masks = Tensor::from_buffer(Buffer::Host(masks), &[4, h, w, 1])?.to(&self.device)?;
        let mut joined = self.device.alloc(n * h * w * c)?;
        join_checkerboard(made.view(), masks.view(), c, &mut joined)?;
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
        let n = images.shape()[0];
        let pixels = self.side * self.side;
        let mut reached: SmallVec<[Option<Reached>; 32]> = (0..n).map(|_| None).collect();
        let known = images.to(&self.device)?;
        let mask = self.device.zeros(n * pixels)?;
        let mut active = Active { images: (0..n).collect(), known, now: first, mask, masked: Numbers::from_elem(0, n) };
        for iteration in 0..=search.iterations {
            let last = iteration == search.iterations || !until.goes_on(iteration as u32);
            let (dissimilarity, done) = self.look(&mut active, search, iteration == 0, last)?;
            if let Some(watch) = &mut watch {
                let masks = active.mask.to_vec()?;
                watch(&Moment { iteration, images: &active.images, reached: all(&dissimilarity, &active)?, masks })?;
            }
            if done.contains(&true) {
                for (i, state) in all(&dissimilarity, &active)?.into_iter().enumerate().filter(|(i, _)| done[*i]) {
                    let restored = active.masked[i] == 0 && !last;
                    reached[active.images[i]] = Some(if restored { active.restored(i)? } else { state });
                }
                active = active.without(&done)?;
            }
            if active.images.is_empty() {
                break;
            }
            let masks = Tensor::from_buffer(active.mask, &[active.images.len(), self.side, self.side, 1])?;
            active.now = paste(&self.paint(&active.known, &masks)?, &active.known, &masks)?;
            active.mask = masks.into_buffer()?;
        }
        Ok(reached.into_iter().flatten().collect())
    }

    /// Compares, masks, and tells which images are done.
    fn look(&self, active: &mut Active, search: &Search, first: bool, last: bool) -> Result<(Buffer, Done)> {
        let n = active.images.len();
        let pixels = self.side * self.side;
        let (mut dissimilarity, mut changed) = (self.device.alloc(n * pixels)?, self.device.alloc(n)?);
        let opts = SsimOptions::default();
        let (known, now) = (active.known.view(), active.now.view());
        let shape = active.known.nhwc()?;
        ssim_mask(known, now, shape, &opts, search.u, &mut dissimilarity, &mut active.mask, &mut changed)?;
        let count = |m: &[f32]| m.iter().filter(|v| **v != 0.0).count();
        let masked: Numbers = active.mask.values()?.chunks_exact(pixels).map(count).collect();
        let done = |(i, changed): (usize, &u32)| {
            let small = !first && *changed as f32 <= search.stop * active.masked[i] as f32;
            last || small || masked[i] == 0
        };
        let done = changed.values()?.iter().enumerate().map(done).collect();
        active.masked = masked;
        Ok((dissimilarity, done))
    }
}

impl Active {
    /// What follows from an empty mask: the image itself.
    fn restored(&self, i: usize) -> Result<Reached> {
        let (values, pixels) = (self.known.values()?, self.mask.len() / self.images.len());
        let block = values.len() / self.images.len();
        let reconstruction = HostBuffer::copied(&values[i * block..(i + 1) * block]);
        let mut dissimilarity = HostBuffer::try_uninit(pixels)?;
        dissimilarity.fill(0.0);
        Ok(Reached { dissimilarity, reconstruction })
    }

    /// Those that are not done.
    fn without(self, done: &[bool]) -> Result<Self> {
        let left: Numbers = (0..done.len()).filter(|i| !done[*i]).collect();
        let (shape, pixels) = (self.known.nhwc()?, self.mask.len() / done.len());
        let block = shape[1] * shape[2] * shape[3];
        let shape = [left.len(), shape[1], shape[2], shape[3]];
        Ok(Self {
            images: left.iter().map(|i| self.images[*i]).collect(),
            known: Tensor::from_buffer(gather(self.known.view(), block, &left)?, &shape)?,
            now: Tensor::from_buffer(gather(self.now.view(), block, &left)?, &shape)?,
            mask: gather(&self.mask, pixels, &left)?,
            masked: left.iter().map(|i| self.masked[*i]).collect(),
        })
    }
}

/// The four masks `[4, side, side]` of a checkerboard that begins `shift` pixels above and to the left of the image.
fn moved_checkerboard(side: usize, cell: usize, shift: usize) -> Result<HostBuffer<f32>> {
    let larger = side + shift;
    let mut masks = Device::CPU.alloc(4 * larger * larger)?;
    checkerboard_masks(larger, larger, cell, &mut masks)?;
    let masks = masks.into_host()?;
    let rows = masks.chunks_exact(larger).enumerate().filter(|(row, _)| row % larger >= shift);
    let mut moved = HostBuffer::try_uninit(4 * side * side)?;
    moved.chunks_exact_mut(side).zip(rows).for_each(|(to, (_, row))| to.copy_from_slice(&row[shift..]));
    Ok(moved)
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
fn all(dissimilarity: &Buffer, active: &Active) -> Result<ReachedAll> {
    let n = active.images.len();
    let (maps, values) = (dissimilarity.values()?, active.now.values()?);
    let maps = maps.chunks_exact(maps.len() / n);
    let pairs = maps.zip(values.chunks_exact(values.len() / n));
    let copied = |(d, r)| Reached { dissimilarity: HostBuffer::copied(d), reconstruction: HostBuffer::copied(r) };
    Ok(pairs.map(copied).collect())
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
    fn moved_checkerboards_still_cover_every_pixel_once() {
        for (cell, shift) in [(7, 0), (7, 3), (8, 4), (5, 4)] {
            let masks = moved_checkerboard(20, cell, shift).expect("memory");
            assert_eq!(masks.len(), 4 * 400);
            for at in 0..400 {
                assert_eq!((0..4).map(|k| masks[k * 400 + at]).sum::<f32>(), 1.0);
                let (row, column) = ((at / 20 + shift) / cell % 2, (at % 20 + shift) / cell % 2);
                assert_eq!(masks[(2 * row + column) * 400 + at], 1.0, "cells of {cell} moved by {shift}");
            }
        }
    }
}
