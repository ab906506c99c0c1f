//! Memory that begins with a line of the cache.
//!
//! A register of AVX-512 is a line: a row that lies in two takes twice as long to read and to write, and every row of 16 values does
//! that begins elsewhere. Memory is asked for as zeros of no alignment, with a line to spare, which the system has without clearing it.

use crate::memory::zeros;

/// Bytes of a line.
pub(super) const LINE: usize = 64;

/// Words of a line.
const WORDS: usize = LINE / size_of::<u64>();

/// Lines of the cache, one after the other.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Of all lines, and of one more.
    words: Vec<u64>,
    /// The first word of the first line.
    first: usize,
    count: usize,
}

impl Lines {
    /// How many have memory for `len` elements; nothing where these are more bytes than memory has.
    pub fn for_elements<T>(len: usize) -> Option<usize> {
        len.checked_mul(size_of::<T>()).map(|bytes| bytes.div_ceil(LINE))
    }

    fn of(words: Vec<u64>, count: usize) -> Self {
        let first = words.as_ptr().align_offset(LINE).min(WORDS);
        Self { words, first, count }
    }

    /// So many lines of zeros, or nothing where there is no memory for them.
    pub fn zeros(count: usize) -> Option<Self> {
        Some(Self::of(zeros(count.checked_add(1)?.checked_mul(WORDS)?)?, count))
    }

    /// The same; the program ends where there is no memory for them.
    pub fn zeros_or_end(count: usize) -> Self {
        Self::of(vec![0; (count + 1) * WORDS], count)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Their words.
    pub fn words(&self) -> &[u64] {
        &self.words[self.first..self.first + self.count * WORDS]
    }

    /// To write.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words[self.first..self.first + self.count * WORDS]
    }
}
