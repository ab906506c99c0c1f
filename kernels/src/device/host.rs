//! Host memory that is used again. A training step makes the same large maps time after time; the system
//! would hand out each with fresh pages and clear them first, which took a quarter of a step. A buffer
//! that is dropped is kept for the next one of as many lines of the cache, its numbers as they are. So an inspection, whose
//! buffers have the lengths of those of the one before, asks the allocator for none. A length that does not come
//! again waits until all buffers together are too many. The memory begins with a line of the cache.

use std::collections::HashMap;
use std::fmt::{Debug, Formatter};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::Element;
use super::gpu::mebibytes;
use super::line::{LINE, Lines};
use super::poison;
use crate::error::{KernelError, Result};
use crate::memory::zeros;

/// Lines that are kept at most, all buffers together (2 GiB); beyond, all are given back.
const MOST: usize = (2 << 30) / LINE;

/// Elements that one thread copies at a time.
const PART: usize = 1 << 16;

/// Buffers that wait to be used again, by lines.
#[derive(Default)]
struct Kept {
    free: HashMap<usize, Vec<Lines>>,
    lines: usize,
}

impl Kept {
    fn take(&mut self, count: usize) -> Option<Lines> {
        let found = self.free.get_mut(&count)?.pop()?;
        self.lines -= count;
        Some(found)
    }

    fn keep(&mut self, lines: Lines) {
        if self.lines + lines.count() > MOST {
            *self = Self::default();
        }
        self.lines += lines.count();
        self.free.entry(lines.count()).or_default().push(lines);
    }
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

fn kept() -> MutexGuard<'static, Option<Kept>> {
    // A poisoned lock only says that another thread has panicked; the lists are whole.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Some lines that wait, or zeros; in the memory of all that wait where there is no other.
fn lines(count: usize) -> Option<Lines> {
    if count == 0 {
        return Some(Lines::default());
    }
    let waiting = kept().as_mut().and_then(|kept| kept.take(count));
    waiting.or_else(|| Lines::zeros(count)).or_else(|| {
        drop(kept().take());
        Lines::zeros(count)
    })
}

fn out_of_memory<T>(len: usize) -> KernelError {
    let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
    KernelError::Memory(format!("cpu: out of memory: {} more could not be had", mebibytes(bytes)))
}

/// Numbers in host memory.
pub struct HostBuffer<T: Element> {
    memory: Memory<T>,
}

enum Memory<T> {
    /// So many elements, which wait for the next buffer afterwards.
    Kept(Lines, usize),
    /// What comes from elsewhere would only add up.
    Given(Vec<T>),
}

impl<T: Element> HostBuffer<T> {
    /// An uninitialised buffer of `len` numbers: they are what was there before; the program ends where there is no memory for them.
    pub fn uninit(len: usize) -> Self {
        Self::try_uninit(len).unwrap_or_else(|_| vec![T::default(); len].into())
    }

    /// An uninitialised buffer of `len` numbers.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn try_uninit(len: usize) -> Result<Self> {
        const { assert!(LINE.is_multiple_of(size_of::<T>()), "elements fill lines") };
        let Some(lines) = Lines::for_elements::<T>(len).and_then(lines) else {
            return Err(out_of_memory::<T>(len));
        };
        let mut made = Self { memory: Memory::Kept(lines, len) };
        if poison::is_on() {
            poison::fill(&mut made);
        }
        Ok(made)
    }

    /// A copy of some numbers.
    pub fn copied(values: &[T]) -> Self {
        let mut copy = Self::uninit(values.len());
        copy.copy_from_slice(values);
        copy
    }

    /// The numbers of an iterator that knows how many there are.
    pub fn collect(values: impl ExactSizeIterator<Item = T>) -> Self {
        let mut made = Self::uninit(values.len());
        made.iter_mut().zip(values).for_each(|(to, from)| *to = from);
        made
    }

    /// The numbers as a vector: a copy, where they are in memory that is used again; the program ends where there is no memory for it.
    pub fn into_vec(mut self) -> Vec<T> {
        match &mut self.memory {
            Memory::Kept(..) => self.to_vec(),
            Memory::Given(values) => std::mem::take(values),
        }
    }

    /// The same.
    ///
    /// # Errors
    /// When there is no memory for a copy.
    pub(super) fn try_into_vec(self) -> Result<Vec<T>> {
        if let Memory::Kept(..) = &self.memory {
            let mut copy = zeros(self.len()).ok_or_else(|| out_of_memory::<T>(self.len()))?;
            copy.copy_from_slice(&self);
            return Ok(copy);
        }
        Ok(self.into_vec())
    }
}

impl<T: Element> Drop for HostBuffer<T> {
    fn drop(&mut self) {
        if let Memory::Kept(lines, _) = &mut self.memory
            && lines.count() > 0
        {
            kept().get_or_insert_default().keep(std::mem::take(lines));
        }
    }
}

impl<T: Element> From<Vec<T>> for HostBuffer<T> {
    fn from(values: Vec<T>) -> Self {
        Self { memory: Memory::Given(values) }
    }
}

impl<T: Element> Clone for HostBuffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::uninit(self.len());
        copy.par_chunks_mut(PART).zip(self.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from));
        copy
    }
}

impl<T: Element + Debug> Debug for HostBuffer<T> {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        self[..].fmt(f)
    }
}

impl<T: Element> Default for HostBuffer<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Element + PartialEq> PartialEq for HostBuffer<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Element> Deref for HostBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Kept(lines, len) => &bytemuck::cast_slice(lines.words())[..*len],
            Memory::Given(values) => values,
        }
    }
}

impl<'a, T: Element> IntoIterator for &'a HostBuffer<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Element> DerefMut for HostBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Kept(lines, len) => &mut bytemuck::cast_slice_mut(lines.words_mut())[..*len],
            Memory::Given(values) => values,
        }
    }
}
