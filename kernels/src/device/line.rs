//! Memory that begins with a line of the cache.

use bytemuck::{Pod, Zeroable};

/// Bytes of a line. A register of AVX-512 is one: a row that lies in two takes twice as long to read and to write, and is
/// where every row of 16 values lies that begins elsewhere.
pub(crate) const LINE: usize = 64;

/// A line of the cache.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; LINE]);

impl Line {
    /// A line of zeros.
    pub const ZERO: Self = Self([0; LINE]);

    /// Lines that have memory for `len` elements; nothing where these are more bytes than memory has.
    pub fn for_elements<T>(len: usize) -> Option<usize> {
        len.checked_mul(size_of::<T>()).map(|bytes| bytes.div_ceil(LINE))
    }
}
