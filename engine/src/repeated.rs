//! A step of device work that goes on from what the step before has left.
//!
//! The first time it is done as always, which compiles kernels; the second time it is recorded where the device can
//! ([`Gpu::record_step`]); from then on one launch repeats it. Between two steps the host may look at what a step has left, and
//! end. Results are the same, bit for bit.
//!
//! [`Gpu::record_step`]: hotad_kernels::device::Gpu::record_step

use hotad_kernels::KernelError;
use hotad_kernels::device::{Device, Gpu, RecordedStep};

use crate::error::{Error, Result};
use crate::planned::MOST_BYTES;

/// A step on buffers that stay where they are.
#[derive(Default)]
pub struct Repeated(Progress);

/// What is known of a step.
#[derive(Default)]
enum Progress {
    #[default]
    New,
    /// Done once.
    Seen,
    Recorded(RecordedStep),
    /// Not to be recorded.
    Refused,
}

impl Repeated {
    /// Does the step: `work`, which must use the same buffers and do the same with what they hold each time, and which can be
    /// done again after it has failed for lack of memory. Where a buffer was dropped since, or memory runs out, it is done anew.
    ///
    /// # Errors
    /// What `work` reports, or what went wrong on the device.
    pub fn run(&mut self, device: &Device, mut work: impl FnMut() -> Result<()> + Send) -> Result<()> {
        // A thread that kernels share must not wait for the queue's, whose work may need it.
        let can_wait = device.has_thread() && rayon::current_thread_index().is_none();
        let gpu = device.gpu().filter(|_| can_wait);
        match (&self.0, gpu) {
            (Progress::Seen, Some(gpu)) => self.record(gpu, work),
            (Progress::Recorded(step), Some(_)) if step.repeat()? => Ok(()),
            (Progress::Refused, _) | (_, None) => work(),
            _ => {
                work()?;
                self.0 = Progress::Seen;
                Ok(())
            }
        }
    }

    fn record(&mut self, gpu: &Gpu, mut work: impl FnMut() -> Result<()> + Send) -> Result<()> {
        self.0 = Progress::Refused;
        match gpu.record_step(&mut work) {
            Err(Error::Kernel(KernelError::Memory(_))) => work(),
            Err(error) => Err(error),
            Ok(step) => {
                let small = step.filter(|step| step.bytes() <= MOST_BYTES);
                self.0 = small.map_or(Progress::Refused, Progress::Recorded);
                Ok(())
            }
        }
    }
}
