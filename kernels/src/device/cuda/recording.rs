//! Recorded work: what was launched, to be launched again as one.
//!
//! While a thread records, its launches are queued as always and listed, and its buffers come from a [`Pool`] of their own. The
//! list is the work as long as nothing in it depends on values: with a copy to or from the host on the way, or a launch that has
//! failed, the work is not repeated, nor where it launches too often ([`MOST_LAUNCHES`]). Tables that are uploaded once and kept ([`aside`]) are no part of it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::driver::{Address, Launch, Listed, Source};
use super::memory::{Pool, Watch};

/// Most launches of a recording. A graph takes time to instantiate and memory of the driver for each node, by estimate some microseconds and
/// a KiB: for so many some tenths of a second, once, and 64 MiB. One image of AnoGAN has 39,600 in its 500 steps.
pub const MOST_LAUNCHES: usize = 1 << 16;

/// What a thread has recorded so far.
#[derive(Debug)]
pub struct Recording {
    /// Where its buffers come from.
    pub pool: Arc<Pool>,
    /// What it has launched.
    pub launches: Vec<Listed>,
    /// Sees when a buffer that is not its own is dropped.
    pub watch: Watch,
    /// Where those that are watched begin.
    borrowed: HashSet<Address>,
    /// Whether it has copied to or from the host, a launch has failed, or there are too many.
    ends: bool,
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

/// Runs work and records it; none where it cannot be repeated. A recording within another ends the outer one.
pub fn record<R>(pool: Arc<Pool>, work: impl FnOnce() -> R) -> (R, Option<Recording>) {
    end();
    let fresh =
        Recording { pool, launches: Vec::new(), watch: Watch::default(), borrowed: HashSet::new(), ends: false };
    let outer = CURRENT.replace(Some(fresh));
    let ends = Ends;
    let result = work();
    let recorded = CURRENT.replace(outer);
    std::mem::forget(ends);
    (result, recorded.filter(|r| !r.ends))
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

/// Notes what cannot be repeated: a copy to or from the host, a launch that has failed.
pub fn end() {
    CURRENT.with_borrow_mut(|c| c.iter_mut().for_each(|r| r.ends = true));
}

/// Notes a launch, whose buffers the caller holds.
pub fn launched(launch: &Launch<'_>, source: &Arc<Source>) {
    let listed = || Listed {
        function: launch.function,
        source: source.clone(),
        grid: launch.grid,
        buffers: launch.buffers.to_vec(),
        info: launch.info.to_vec(),
    };
    CURRENT.with_borrow_mut(|c| c.iter_mut().filter(|r| !r.ends).for_each(|r| r.push(listed())));
}

impl Recording {
    /// Adds a launch; buffers of others are watched from here on.
    fn push(&mut self, listed: Listed) {
        if self.launches.len() == MOST_LAUNCHES {
            (self.launches, self.ends) = (Vec::new(), true);
            return;
        }
        for address in listed.buffers.iter().map(|b| b.address).filter(|a| !self.pool.has(*a)) {
            if self.borrowed.insert(address) {
                self.pool.watch(address, &self.watch);
            }
        }
        self.launches.push(listed);
    }
}
