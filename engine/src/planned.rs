//! Device work of scoring, done anew or replayed.
//!
//! A model gives what it does between the upload of images and the download of results as a function of a tensor. The first
//! batch of a shape is done as always, which compiles kernels and uploads tables. The second is recorded where the device can
//! ([`Gpu::record`]); later ones are replayed: one upload, one launch, one download. Results are the same, bit for bit.
//!
//! [`Gpu::record`]: hotad_kernels::device::Gpu::record

use std::sync::{Mutex, PoisonError};

use hotad_kernels::KernelError;
use hotad_kernels::device::{Buffer, Device, Gpu, HostBuffer, Recorded, View};
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::until::Until;

/// Shapes of batches that are kept recorded: a stream's and that of its last batch.
const SHAPES: usize = 2;

/// Most bytes of a device that a recording may keep. Work on larger buffers takes so long that launches do not matter.
pub(crate) const MOST_BYTES: u64 = 256 << 20;

/// What work gives; up to four buffers are on the stack.
pub type Outputs = SmallVec<[Buffer; 4]>;

/// Their values.
pub type Values = SmallVec<[HostBuffer<f32>; 4]>;

/// What is known of batches of one shape.
enum State {
    /// Done once.
    Seen,
    /// Recorded.
    Recorded(Recorded),
    /// Not to be recorded.
    Refused,
}

/// Work of one model on one device, by the shape of its batches.
#[derive(Default)]
pub struct Planned {
    /// The shape used last is the last.
    shapes: Mutex<Vec<(Shape, State)>>,
}

type Shape = SmallVec<[usize; 4]>;

impl Planned {
    /// The values of what `work` makes of `images`, which lie on the host or on `device`. Apart from its weights, which may change
    /// in place, `work` must give the same for the same images each time.
    ///
    /// # Errors
    /// What `work` reports, or what went wrong on the device.
    pub fn run(
        &self,
        images: &Tensor,
        device: &Device,
        work: impl Fn(&Tensor) -> Result<Outputs> + Send + Sync,
    ) -> Result<Values> {
        self.run_until(images, device, &Until::done(), work)
    }

    /// [`Planned::run`] of work in steps, which asks `until` before each. Work that may end at a moment is always done anew; what
    /// is recorded has all its steps, so that a request to stop is heard before or after a replay.
    ///
    /// # Errors
    /// As [`Planned::run`].
    pub fn run_until(
        &self,
        images: &Tensor,
        device: &Device,
        until: &Until,
        work: impl Fn(&Tensor) -> Result<Outputs> + Send + Sync,
    ) -> Result<Values> {
        match (device.gpu(), images.view()) {
            // A thread that kernels share must not wait for the queue's, whose work may need it.
            (Some(gpu), View::Host(values))
                if !until.has_moment() && device.has_thread() && rayon::current_thread_index().is_none() =>
            {
                device.run(|| self.on_gpu(images, (values, gpu), until, &work))
            }
            _ => values(work(&images.to(device)?)?),
        }
    }

    /// On the thread of the queue: whoever holds the lock waits for nobody.
    fn on_gpu(&self, images: &Tensor, (host, gpu): (&[f32], &Gpu), until: &Until, work: &Work) -> Result<Values> {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shapes.iter().position(|(shape, _)| shape.as_slice() == images.shape());
        let state = known.map(|at| shapes.remove(at).1);
        if let Some(State::Recorded(recorded)) = &state
            && let Some(outputs) = recorded.replay(host)?
        {
            shapes.extend(state.map(|state| (images.shape().into(), state)));
            return Ok(outputs.into_iter().map(HostBuffer::from).collect());
        }
        let refused = matches!(state, Some(State::Refused));
        let again = state.is_some() && !refused;
        // What was recorded before gives its memory back.
        drop(state);
        let done = if again { recorded(images, host, gpu, work) } else { Ok((values(work(images)?)?, None)) };
        let (outputs, next) = match done {
            Err(Error::Kernel(KernelError::Memory(_))) if again => {
                shapes.clear();
                return values(work(images)?);
            }
            done => done?,
        };
        // Work that was stopped is not what its next batch is.
        if until.stopped_after().is_some() {
            return Ok(outputs);
        }
        if shapes.len() == SHAPES {
            shapes.remove(0);
        }
        let seen = if refused { State::Refused } else { State::Seen };
        let next = if again { next.map_or(State::Refused, State::Recorded) } else { seen };
        shapes.push((images.shape().into(), next));
        Ok(outputs)
    }
}

type Work<'a> = dyn Fn(&Tensor) -> Result<Outputs> + Send + Sync + 'a;

/// What work gives for images on the host, and its recording if it has one that is not too large.
fn recorded(images: &Tensor, host: &[f32], gpu: &Gpu, work: &Work) -> Result<(Values, Option<Recorded>)> {
    let input = gpu.upload(host)?;
    let on_device = Tensor::from_buffer(Buffer::Gpu(input.clone()), images.shape())?;
    let (outputs, recorded) = gpu.record(&input, || work(&on_device).map(Outputs::into_vec))?;
    // What has failed on the way shows here.
    Ok((values(outputs.into())?, recorded.filter(|r| r.bytes() <= MOST_BYTES)))
}

fn values(outputs: Outputs) -> Result<Values> {
    outputs.into_iter().map(|b| Ok(b.into_host()?)).collect()
}
