//! Memory of a task that begins with a line of the cache.

use std::marker::PhantomData;

use bytemuck::Pod;

use crate::device::HostBuffer;

/// Bytes of a line: the widest registers, and tiles all the more, read a row that lies in two more slowly.
const LINE: usize = 64;

/// Elements of at most four bytes. Their memory is kept as f32 from one call to the next.
pub(super) struct Aligned<E> {
    words: HostBuffer<f32>,
    /// The first word of a line, and how many words follow.
    first: usize,
    len: usize,
    element: PhantomData<E>,
}

impl<E> Default for Aligned<E> {
    fn default() -> Self {
        Self { words: HostBuffer::uninit(0), first: 0, len: 0, element: PhantomData }
    }
}

impl<E: Pod> Aligned<E> {
    /// Makes it hold `bytes` bytes, and at most three more; what they are is not defined.
    pub fn resize(&mut self, bytes: usize) {
        self.len = bytes.div_ceil(size_of::<f32>());
        let words = self.len + LINE / size_of::<f32>();
        if self.words.len() != words {
            self.words = HostBuffer::uninit(words);
            self.first = self.words.as_ptr().align_offset(LINE);
        }
    }

    /// To read.
    pub fn elements(&self) -> &[E] {
        bytemuck::cast_slice(&self.words[self.first..self.first + self.len])
    }

    /// To write.
    pub fn elements_mut(&mut self) -> &mut [E] {
        bytemuck::cast_slice_mut(&mut self.words[self.first..self.first + self.len])
    }
}
