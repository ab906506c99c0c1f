//! The images of a batch that are still painted, and an iteration over them.

use hotad_engine::Result;
use hotad_engine::tensor::Tensor;
use hotad_kernels::conv::paste;
use hotad_kernels::device::Buffer;
use hotad_kernels::gather::gather;
use hotad_kernels::rows::copy_range;
use hotad_kernels::ssim::{SsimOptions, ssim_mask};
use smallvec::SmallVec;

/// A number for each image of a batch; up to 32 are on the stack.
pub type Numbers = SmallVec<[usize; 32]>;

/// Images that are not done. An iteration reads and writes these buffers where they are.
pub struct Active {
    /// Their numbers in the batch.
    pub images: Numbers,
    /// As they were given, `[n, h, w, c]` in 0..1.
    pub known: Tensor,
    /// As they are painted by now.
    pub now: Buffer,
    /// 1 = to be painted, `[n, h, w, 1]`.
    pub mask: Buffer,
    /// 1 - SSIM of the two, averaged over channels, `[n, h, w]`.
    pub dissimilarity: Buffer,
    /// Of each image how many pixels of its mask the last comparison has changed, and how many are masked.
    counts: Buffer<u32>,
    /// How many were masked before.
    masked: Numbers,
}

impl Active {
    /// A whole batch with its first reconstructions; nothing is masked.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(known: Tensor, first: Tensor) -> Result<Self> {
        let ([n, h, w, _], device) = (known.nhwc()?, known.device());
        Ok(Self {
            images: (0..n).collect(),
            known,
            now: first.into_buffer()?,
            mask: device.zeros(n * h * w)?,
            dissimilarity: device.alloc(n * h * w)?,
            counts: device.alloc(2 * n)?,
            masked: Numbers::from_elem(0, n),
        })
    }

    /// Another batch of the same shape, in the same buffers.
    ///
    /// # Errors
    /// When devices or lengths differ.
    pub fn restarted(self, known: &Tensor, first: &Tensor) -> Result<Self> {
        let (n, mut images, mut now, mut mask) = (self.images.len(), self.known.into_buffer()?, self.now, self.mask);
        copy_range(known.view(), 0, &mut images, 0, known.len())?;
        copy_range(first.view(), 0, &mut now, 0, first.len())?;
        let nothing = known.device().zeros(mask.len())?;
        copy_range(&nothing, 0, &mut mask, 0, nothing.len())?;
        let known = Tensor::from_buffer(images, known.shape())?;
        Ok(Self { images: (0..n).collect(), known, now, mask, masked: Numbers::from_elem(0, n), ..self })
    }

    /// The masks, `[n, h, w, 1]`, while `work` reads them.
    fn with_masks<R>(&mut self, work: impl FnOnce(&Self, &Tensor) -> Result<R>) -> Result<R> {
        let [n, h, w, _] = self.known.nhwc()?;
        let masks = Tensor::from_buffer(std::mem::take(&mut self.mask), &[n, h, w, 1])?;
        let done = work(self, &masks);
        self.mask = masks.into_buffer()?;
        done
    }

    /// `x_(i+1) = G(x, M_i)` where M_i is 1 and x elsewhere; `paint` gives `G(x, M_i)`, whole.
    ///
    /// # Errors
    /// What `paint` reports, or lengths that do not fit.
    pub fn paint(&mut self, paint: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>) -> Result<()> {
        // Whatever goes wrong, the buffers stay, so that it can be done again.
        let mut now = std::mem::take(&mut self.now);
        let done = self.with_masks(|active, masks| {
            let made = paint(&active.known, masks)?;
            Ok(paste(made.view(), active.known.view(), masks.view(), &mut now)?)
        });
        self.now = now;
        done
    }

    /// `a_i = 1 - SSIM(x, x_i)` and `M_i = a_i >= u`.
    ///
    /// # Errors
    /// When the window does not fit.
    pub fn compare(&mut self, u: f32) -> Result<()> {
        let (shape, opts) = (self.known.nhwc()?, SsimOptions::default());
        let Self { known, now, mask, dissimilarity, counts, .. } = self;
        // The kernel masks what lies above a threshold, the paper also what lies at it.
        Ok(ssim_mask(known.view(), &*now, shape, &opts, u.next_down(), dissimilarity, mask, counts)?)
    }

    /// Of each image whether `is_small` says of the pixels changed and those masked before that little has changed, or nothing is
    /// masked. This waits for the device.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn settled(&mut self, is_small: impl Fn(usize, usize) -> bool) -> Result<SmallVec<[bool; 32]>> {
        let counts = self.counts.values()?;
        let settled = |(counts, masked): (&[u32], &mut usize)| {
            let small = is_small(counts[0] as usize, *masked);
            *masked = counts[1] as usize;
            small || *masked == 0
        };
        Ok(counts.chunks_exact(2).zip(&mut self.masked).map(settled).collect())
    }

    /// Whether something of image `i` is masked.
    pub fn has_mask(&self, i: usize) -> bool {
        self.masked[i] > 0
    }

    /// A copy of those that are not done.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn without(&self, done: &[bool]) -> Result<Self> {
        let left: Numbers = (0..done.len()).filter(|i| !done[*i]).collect();
        let ([_, h, w, c], n, device) = (self.known.nhwc()?, left.len(), self.known.device());
        let some = |of: &Buffer, block| gather(of, block, &left);
        Ok(Self {
            images: left.iter().map(|i| self.images[*i]).collect(),
            known: Tensor::from_buffer(gather(self.known.view(), h * w * c, &left)?, &[n, h, w, c])?,
            now: some(&self.now, h * w * c)?,
            mask: some(&self.mask, h * w)?,
            dissimilarity: device.alloc(n * h * w)?,
            counts: device.alloc(2 * n)?,
            masked: left.iter().map(|i| self.masked[*i]).collect(),
        })
    }
}
