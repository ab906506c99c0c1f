//! Recorded work: what was launched, to be launched again as one.
//!
//! While a thread records, its launches are queued as always and listed, and its buffers come from a [`Pool`] of their own. The
//! list is the work as long as nothing in it depends on values: a copy to or from the host on the way is an obstacle, and the
//! work is not repeated. Tables that are uploaded once and kept ([`aside`]) are none.

use std::cell::RefCell;
use std::sync::Arc;

use super::driver::{Address, Launch, Listed, Source};
use super::memory::Pool;

/// What a thread has recorded so far.
#[derive(Debug)]
pub struct Recording {
    /// Where its buffers come from.
    pub pool: Arc<Pool>,
    /// What it has launched.
    pub launches: Vec<Listed>,
    /// Whether it has copied to or from the host.
    copies: bool,
}

thread_local! {
    static CURRENT: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// Ends the recording of this thread when work panics.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        CURRENT.take();
    }
}

/// Runs work and records it; none where it copies to or from the host. A recording within another is a copy to the outer one.
pub fn record<R>(pool: Arc<Pool>, work: impl FnOnce() -> R) -> (R, Option<Recording>) {
    copied();
    let outer = CURRENT.replace(Some(Recording { pool, launches: Vec::new(), copies: false }));
    let ends = Ends;
    let result = work();
    let recorded = CURRENT.replace(outer);
    std::mem::forget(ends);
    (result, recorded.filter(|r| !r.copies))
}

/// Runs work of this thread that is not recorded.
pub fn aside<R>(work: impl FnOnce() -> R) -> R {
    let recording = CURRENT.take();
    let result = work();
    CURRENT.set(recording);
    result
}

/// Where buffers of this thread come from, while it records.
pub fn pool() -> Option<Arc<Pool>> {
    CURRENT.with_borrow(|c| c.as_ref().map(|r| r.pool.clone()))
}

/// Notes a copy to or from the host.
pub fn copied() {
    CURRENT.with_borrow_mut(|c| c.iter_mut().for_each(|r| r.copies = true));
}

/// Notes a launch.
pub fn launched(launch: &Launch<'_>, source: &Arc<Source>) {
    let listed = || Listed {
        function: launch.function,
        source: source.clone(),
        grid: launch.grid,
        buffers: launch.buffers.to_vec(),
        info: launch.info.to_vec(),
    };
    CURRENT.with_borrow_mut(|c| c.iter_mut().for_each(|r| r.launches.push(listed())));
}

impl Recording {
    /// Where buffers begin that it uses and that are not its own.
    pub fn borrowed(&self) -> Vec<Address> {
        let all = self.launches.iter().flat_map(|l| &l.buffers).map(|b| b.address);
        let mut borrowed: Vec<Address> = all.filter(|a| !self.pool.has(*a)).collect();
        borrowed.sort_unstable();
        borrowed.dedup();
        borrowed
    }
}
