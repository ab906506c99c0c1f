//! Host memory that is used again. A training step makes the same large maps time after time; the system
//! would hand out each with fresh pages and clear them first, which took a quarter of a step. A buffer
//! that is dropped is kept for the next one of its length, its numbers as they are. So an inspection, whose
//! buffers have the lengths of those of the one before, asks the allocator for none. A length that does not come
//! again waits until all buffers together are too many.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::Element;
use super::gpu::mebibytes;
use super::poison;
use crate::error::{KernelError, Result};
use crate::memory::zeros;

/// Elements that are kept at most, all buffers together (2 GiB); beyond, all are given back.
const MOST: usize = 1 << 29;

/// Elements that one thread copies at a time.
const PART: usize = 1 << 16;

/// Buffers that wait to be used again, by length.
#[derive(Default)]
struct Kept {
    free: HashMap<usize, Vec<Vec<f32>>>,
    elements: usize,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

fn kept() -> MutexGuard<'static, Option<Kept>> {
    // A poisoned lock only says that another thread has panicked; the lists are whole.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Zeros in the memory that buffers which wait have had.
fn zeros_instead_of_kept<T: Element>(len: usize) -> Option<Vec<T>> {
    drop(kept().take());
    zeros(len)
}

/// Numbers in host memory.
#[derive(Debug)]
pub struct HostBuffer<T: Element> {
    values: Vec<T>,
    /// Made by [`HostBuffer::uninit`]. Only such are kept: what comes from elsewhere would only add up.
    pooled: bool,
}

impl<T: Element> HostBuffer<T> {
    /// Whether a buffer of this length is kept: the lists are of 32-bit elements.
    fn is_kept(len: usize) -> bool {
        len > 0 && size_of::<T>() == size_of::<f32>()
    }

    /// An uninitialised buffer of `len` numbers: they are what was there before; the program ends where there is no memory for them.
    pub fn uninit(len: usize) -> Self {
        Self::try_uninit(len).unwrap_or_else(|_| vec![T::default(); len].into())
    }

    /// An uninitialised buffer of `len` numbers.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn try_uninit(len: usize) -> Result<Self> {
        let waiting = Self::is_kept(len).then(|| {
            let mut kept = kept();
            let kept = kept.as_mut()?;
            let found = kept.free.get_mut(&len)?.pop()?;
            kept.elements -= len;
            Some(found)
        });
        let again = waiting.flatten().and_then(|v| bytemuck::allocation::try_cast_vec(v).ok());
        match again.or_else(|| zeros(len)).or_else(|| zeros_instead_of_kept(len)) {
            Some(mut values) => {
                if poison::is_on() {
                    poison::fill(&mut values);
                }
                Ok(Self { values, pooled: true })
            }
            None => {
                let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
                Err(KernelError::Memory(format!("cpu: out of memory: {} more could not be had", mebibytes(bytes))))
            }
        }
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

    /// The numbers as a vector.
    pub fn into_vec(mut self) -> Vec<T> {
        std::mem::take(&mut self.values)
    }
}

impl<T: Element> Drop for HostBuffer<T> {
    fn drop(&mut self) {
        let len = self.values.len();
        if !self.pooled || !Self::is_kept(len) {
            return;
        }
        if let Ok(values) = bytemuck::allocation::try_cast_vec::<T, f32>(std::mem::take(&mut self.values)) {
            let mut kept = kept();
            let kept = kept.get_or_insert_default();
            if kept.elements + len > MOST {
                *kept = Kept::default();
            }
            kept.elements += len;
            kept.free.entry(len).or_default().push(values);
        }
    }
}

impl<T: Element> From<Vec<T>> for HostBuffer<T> {
    fn from(values: Vec<T>) -> Self {
        Self { values, pooled: false }
    }
}

impl<T: Element> Clone for HostBuffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::uninit(self.len());
        copy.par_chunks_mut(PART).zip(self.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from));
        copy
    }
}

impl<T: Element> Default for HostBuffer<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Element + PartialEq> PartialEq for HostBuffer<T> {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl<T: Element> Deref for HostBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
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
        &mut self.values
    }
}
