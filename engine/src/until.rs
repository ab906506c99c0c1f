//! A deadline for work in steps: it stops there with the result that it has.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Stands for work that was not stopped.
const WHOLE: u32 = u32::MAX;

/// A moment, and after how many steps work was stopped by it.
#[derive(Debug)]
pub struct Until {
    moment: Option<Instant>,
    stopped_after: AtomicU32,
}

impl Until {
    /// The work is done whole.
    pub fn done() -> Self {
        Self { moment: None, stopped_after: AtomicU32::new(WHOLE) }
    }

    /// The work ends at the first step that would begin after a moment.
    pub fn moment(moment: Instant) -> Self {
        Self { moment: Some(moment), ..Self::done() }
    }

    /// Whether a step may begin, after `taken` of them. Once one may not, none after it may.
    pub fn goes_on(&self, taken: u32) -> bool {
        if self.moment.is_none_or(|moment| Instant::now() < moment) {
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
