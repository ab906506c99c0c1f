//! Work that a GPU does for one input after the other, queued as one.
//!
//! Scoring launches the same kernels for each image, and for small images giving them to the driver takes longer than running
//! them. On hotad's CUDA devices work is recorded once, with its buffers kept, and replayed: one copy to the device, one launch
//! (of a CUDA graph), one copy back, one wait. Results are those of the work itself, bit for bit: the same kernels with the same
//! arguments.

use super::{Buffer, Gpu, GpuBuffer};
use crate::error::{Result, check_len};

/// A recorded step of work that goes on from what the step before has left.
pub struct RecordedStep {
    #[cfg(feature = "cuda")]
    gpu: Gpu,
    #[cfg(feature = "cuda")]
    replay: super::cuda::Replay,
}

impl RecordedStep {
    /// Queues the step once more; false, and nothing done, where a buffer that it uses was dropped since it was recorded.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn repeat(&self) -> Result<bool> {
        #[cfg(feature = "cuda")]
        if let Some(queue) = self.gpu.cuda() {
            return queue.repeat(&self.replay).map_err(|e| self.gpu.failure(e));
        }
        Ok(false)
    }

    /// Bytes of memory of the device that it keeps beside the buffers that stay.
    pub fn bytes(&self) -> u64 {
        #[cfg(feature = "cuda")]
        return self.replay.bytes();
        #[cfg(not(feature = "cuda"))]
        0
    }
}

/// Recorded work of a GPU from an input to outputs.
pub struct Recorded {
    #[cfg(feature = "cuda")]
    gpu: Gpu,
    #[cfg(feature = "cuda")]
    replay: super::cuda::Replay,
    input: GpuBuffer,
    #[cfg(feature = "cuda")]
    outputs: Vec<GpuBuffer>,
}

impl Gpu {
    /// Runs `work` on `input`, and records it where it can be repeated: on a CUDA device, as long as it copies nothing to or
    /// from the host, and takes and gives no more than fits into pinned memory (16 MiB each way). What it does must depend on
    /// the values of `input` by its kernels alone.
    ///
    /// # Errors
    /// What `work` reports, or when the device is lost.
    pub fn record<E: Send>(
        &self,
        input: &GpuBuffer,
        work: impl FnOnce() -> std::result::Result<Vec<Buffer>, E> + Send,
    ) -> std::result::Result<(Vec<Buffer>, Option<Recorded>), E> {
        #[cfg(feature = "cuda")]
        if let Some(queue) = self.cuda() {
            let (outputs, recording) = queue.record(work);
            let outputs = outputs?;
            let Some(recording) = recording else { return Ok((outputs, None)) };
            let own: Vec<GpuBuffer> = outputs.iter().filter_map(|b| Self::own(b, self)).collect();
            let copied = |buffers: &[GpuBuffer]| buffers.iter().map(|b| b.len() * size_of::<f32>()).sum::<usize>();
            let fits = copied(&own).max(input.len() * size_of::<f32>()) <= super::cuda::MOST_COPIED;
            if own.len() < outputs.len() || !fits {
                return Ok((outputs, None));
            }
            // A driver that makes no graph of it, or a device that was lost, says so at the next copy if it matters.
            let recorded = queue.ready(recording).ok().map(|replay| Recorded {
                gpu: self.clone(),
                replay,
                input: input.clone(),
                outputs: own,
            });
            return Ok((outputs, recorded));
        }
        let _ = input;
        Ok((work()?, None))
    }

    /// Runs `work` and records it where it can be repeated, as [`Gpu::record`]. It reads and writes buffers that stay where they
    /// are, and what it does must depend on their values by its kernels alone.
    ///
    /// # Errors
    /// What `work` reports.
    pub fn record_step<E: Send>(
        &self,
        work: impl FnOnce() -> std::result::Result<(), E> + Send,
    ) -> std::result::Result<Option<RecordedStep>, E> {
        #[cfg(feature = "cuda")]
        if let Some(queue) = self.cuda() {
            let (done, recording) = queue.record(work);
            done?;
            let replay = recording.and_then(|recording| queue.ready(recording).ok());
            return Ok(replay.map(|replay| RecordedStep { gpu: self.clone(), replay }));
        }
        work()?;
        Ok(None)
    }

    /// A buffer of this GPU.
    #[cfg(feature = "cuda")]
    fn own(buffer: &Buffer, gpu: &Self) -> Option<GpuBuffer> {
        match buffer {
            Buffer::Gpu(b) if b.gpu().is(gpu) => Some(b.clone()),
            _ => None,
        }
    }
}

impl Recorded {
    /// The outputs for another input, which takes the place of the first; none where a buffer that the work reads was dropped
    /// since it was recorded.
    ///
    /// # Errors
    /// When the length of the input differs, or what went wrong on the device.
    pub fn replay(&self, input: &[f32]) -> Result<Option<Vec<Vec<f32>>>> {
        check_len("replay", "input", input.len(), self.input.len())?;
        #[cfg(feature = "cuda")]
        if let Some(queue) = self.gpu.cuda() {
            let mut values: Vec<Vec<f32>> = self.outputs.iter().map(|b| vec![0.0; b.len()]).collect();
            let to = values.iter_mut().map(|v| bytemuck::cast_slice_mut(v));
            let mut outputs: Vec<_> = self.outputs.iter().map(GpuBuffer::handle).zip(to).collect();
            let input = (self.input.handle(), bytemuck::cast_slice(input));
            let done = queue.replay(&self.replay, input, &mut outputs).map_err(|e| self.gpu.failure(e))?;
            return Ok(done.then_some(values));
        }
        Ok(None)
    }

    /// Bytes of memory of the device that it keeps beside input and outputs.
    pub fn bytes(&self) -> u64 {
        #[cfg(feature = "cuda")]
        return self.replay.bytes();
        #[cfg(not(feature = "cuda"))]
        0
    }
}
