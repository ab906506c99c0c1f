//! What happens when the host has no more memory.
//!
//! The large buffers of kernels are asked for by `zeros`, which says so. Any other request that fails would abort the process,
//! as Rust's collections have no error to return; a program whose allocator is [`Reporting`] ends in its own words instead. It
//! can also tell how many requests were made.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytemuck::Zeroable;

thread_local! {
    /// Whether this thread makes a request that may fail.
    static MAY_FAIL: Cell<bool> = const { Cell::new(false) };
}

/// `len` zeros, or nothing where there is no memory for them.
pub(crate) fn zeros<T: Zeroable>(len: usize) -> Option<Vec<T>> {
    MAY_FAIL.set(true);
    let values = bytemuck::allocation::try_zeroed_vec(len);
    MAY_FAIL.set(false);
    values.ok()
}

/// Whether requests are counted, which costs other threads a little.
static COUNTING: AtomicBool = AtomicBool::new(false);
/// Requests of all threads.
static REQUESTS: AtomicU64 = AtomicU64::new(0);
/// Bytes that they were for.
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Requests for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// How many: allocations, and enlargements of them.
    pub count: u64,
    /// Bytes that they were for.
    pub bytes: u64,
}

/// From now on a [`Reporting`] allocator counts requests, or no longer does.
pub fn count_requests(on: bool) {
    COUNTING.store(on, Ordering::Relaxed);
}

/// Requests that were counted since the process began, of all threads.
pub fn requests() -> Requests {
    Requests { count: REQUESTS.load(Ordering::Relaxed), bytes: BYTES.load(Ordering::Relaxed) }
}

/// An allocator that ends the process when it has no memory.
#[derive(Debug)]
pub struct Reporting<A> {
    /// Where memory comes from.
    pub inner: A,
    /// Ends the process, given the number of bytes that could not be had. It may not count on memory for itself.
    pub end: fn(usize) -> !,
}

impl<A> Reporting<A> {
    fn checked(&self, memory: *mut u8, bytes: usize) -> *mut u8 {
        if COUNTING.load(Ordering::Relaxed) {
            REQUESTS.fetch_add(1, Ordering::Relaxed);
            BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        if memory.is_null() && !MAY_FAIL.replace(true) {
            (self.end)(bytes);
        }
        memory
    }
}

// SAFETY: every request goes to `inner` as it came, and its answer back; `end` does not unwind.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Reporting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        self.checked(unsafe { self.inner.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        self.checked(unsafe { self.inner.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's.
        self.checked(unsafe { self.inner.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { self.inner.dealloc(memory, layout) }
    }
}
