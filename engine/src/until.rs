//! When work in steps stops before its end, with the result that it has: at a deadline, or when its process is asked to stop.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::error::Result;
use crate::interrupt;

/// Stands for work that was not stopped.
const WHOLE: u32 = u32::MAX;

/// What stops work, and after how many steps it did.
#[derive(Debug)]
pub struct Until {
    moment: Option<Instant>,
    /// Whether a request to stop counts, which is one to all work of the process that listens.
    interruptible: bool,
    stopped_after: AtomicU32,
}

impl Until {
    /// The work is done whole.
    pub fn done() -> Self {
        Self { moment: None, interruptible: false, stopped_after: AtomicU32::new(WHOLE) }
    }

    /// What `work` gives, which ends at the first step that would begin after a [request](interrupt::request) to stop: a part of a job.
    ///
    /// # Errors
    /// Those of the work, and [`crate::Error::Interrupted`] where there was a request.
    pub fn interruptible<T>(work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let result = work(&Self { interruptible: true, ..Self::done() })?;
        interrupt::check()?;
        Ok(result)
    }

    /// The work ends at the first step that would begin after a moment.
    pub fn moment(moment: Instant) -> Self {
        Self { moment: Some(moment), ..Self::done() }
    }

    /// Whether the work may end at a moment.
    pub fn has_moment(&self) -> bool {
        self.moment.is_some()
    }

    /// Whether a step may begin, after `taken` of them. Once one may not, none after it may.
    pub fn goes_on(&self, taken: u32) -> bool {
        let stopped = self.interruptible && interrupt::requested();
        if !stopped && self.moment.is_none_or(|moment| Instant::now() < moment) {
            return true;
        }
        self.stopped_after.fetch_min(taken, Ordering::Relaxed);
        false
    }

    /// Steps that were taken, where the work was stopped.
    pub fn stopped_after(&self) -> Option<u32> {
        Some(self.stopped_after.load(Ordering::Relaxed)).filter(|steps| *steps != WHOLE)
    }
}
