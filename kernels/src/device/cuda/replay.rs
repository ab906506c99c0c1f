//! Queueing recorded work as one.

use std::sync::Arc;

use cubecl::server::Handle;

use super::Queue;
use super::driver::{Result, Sequence};
use super::memory::{Pool, Watch};
use super::queue::address;
use super::recording::{self, Recording};
use super::staging;

/// Most bytes of an input, and of outputs together: what goes through pinned memory in one piece.
pub const MOST_COPIED: usize = staging::BYTES;

/// Recorded work, ready to be queued again.
#[derive(Debug)]
pub struct Replay {
    sequence: Box<dyn Sequence>,
    /// Keeps the memory that the work writes to.
    pool: Arc<Pool>,
    /// Sees when memory is dropped that is not the work's own, such as weights.
    watch: Watch,
}

impl Replay {
    /// Bytes of memory that it keeps beside its outputs.
    pub fn bytes(&self) -> u64 {
        self.pool.bytes()
    }
}

impl Queue {
    /// Makes a recording ready.
    pub fn ready(&self, recording: Recording) -> Result<Replay> {
        let core = self.core();
        let Recording { pool, launches, watch, .. } = recording;
        let mut sequence = None;
        self.in_order(|| {
            // SAFETY: this driver's server has queued these launches; `replay` sees to their memory.
            sequence = Some(unsafe { core.driver().sequence(launches)? });
            Ok(())
        })?;
        Ok(Replay { sequence: sequence.expect("the task has run"), pool, watch })
    }

    /// Runs the work once more on what its buffers hold; false, and nothing done, where memory that it uses was dropped.
    pub fn repeat(&self, replay: &Replay) -> Result<bool> {
        recording::end();
        let core = self.core();
        let mut is_current = true;
        let done = self.in_order(|| {
            is_current = !replay.watch.has_seen();
            // SAFETY: the pool keeps the work's own memory. What else it reads or writes was watched since its launch and not dropped; a
            // block that is dropped now is released, or used by others, by tasks of this thread that come later.
            if is_current { unsafe { replay.sequence.queue(core.driver()) } } else { Ok(()) }
        });
        core.outcome(done).map(|()| is_current)
    }

    /// Runs the work for another input and copies its outputs, with one wait; false, and nothing done, where memory that it
    /// reads was dropped. At most [`MOST_COPIED`] bytes each way.
    pub fn replay(
        &self,
        replay: &Replay,
        (input, values): (&Handle, &[u8]),
        outputs: &mut [(&Handle, &mut [u8])],
    ) -> Result<bool> {
        recording::end();
        let core = self.core();
        let mut outputs: Vec<_> = outputs.iter_mut().map(|(from, to)| (address(from), &mut **to)).collect();
        let mut is_current = true;
        let done = self.in_order(|| {
            is_current = !replay.watch.has_seen();
            if !is_current {
                return Ok(());
            }
            core.upload(address(input), values)?;
            // SAFETY: the pool keeps the work's own memory. What else it reads or writes was watched since its launch and not
            // dropped; a block that is dropped now is released, or written by others, by tasks of this thread that come later.
            unsafe { replay.sequence.queue(core.driver())? };
            core.download(&mut outputs)
        });
        core.outcome(done).map(|()| is_current)
    }
}
