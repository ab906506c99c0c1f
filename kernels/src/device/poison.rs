//! For tests: new buffers hold no numbers, so that what is read before it is written shows in the result.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Element;

/// Quiet NaN as f32, far out as an index.
const BYTE: u8 = 0xff;

static ON: AtomicBool = AtomicBool::new(false);

/// Fills every buffer that this process makes from now on with bytes that are not a number as floats.
#[doc(hidden)]
pub fn poison_new_buffers() {
    ON.store(true, Ordering::Relaxed);
}

/// Whether new buffers are filled so.
pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The byte that new buffers of a GPU are filled with.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) fn byte() -> Option<u8> {
    is_on().then_some(BYTE)
}

/// Fills a buffer.
pub(super) fn fill<T: Element>(values: &mut [T]) {
    fill_bytes(bytemuck::cast_slice_mut(values));
}

/// Fills the bytes of a buffer.
pub(super) fn fill_bytes(bytes: &mut [u8]) {
    bytes.fill(BYTE);
}
