//! How much memory something takes. Tests that measure it run in a process of their own, as others would be counted with them.

#[path = "alone.rs"]
mod alone;

use peak_alloc::PeakAlloc;

pub use alone::alone;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs something; returns what it gives and how much more memory than before it took, in bytes.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let outcome = work();
    (outcome, MEMORY.peak_usage().saturating_sub(before))
}
