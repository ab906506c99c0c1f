//! Working memory of a task, which its thread keeps for the next one: after the first tasks the allocator is not asked. A thread keeps
//! at most [`MOST`] buffers and [`LINES`] lines of the cache; a buffer dropped on another thread than made it goes to that thread's list.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

use super::line::{LINE, Lines};
use super::poison;

/// Buffers that a thread keeps at most: those of the decomposition of an image of 512 rows.
const MOST: usize = 512;

/// Lines that a thread keeps at most, all buffers together (32 MiB).
const LINES: usize = 1 << 19;

/// Buffers that wait to be used again.
struct Kept {
    buffers: Vec<Lines>,
    /// Lines of all of them.
    lines: usize,
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { buffers: Vec::new(), lines: 0 }) };
}

impl Kept {
    /// The smallest buffer of at least `count` lines, or the largest.
    fn take(&mut self, count: usize) -> Lines {
        if count == 0 {
            return Lines::default();
        }
        let order = |lines: &Lines| match lines.count() >= count {
            true => (0, lines.count()),
            false => (1, usize::MAX - lines.count()),
        };
        let best = (0..self.buffers.len()).min_by_key(|at| order(&self.buffers[*at]));
        let found = best.map(|at| self.buffers.swap_remove(at)).unwrap_or_default();
        self.lines -= found.count();
        found
    }

    fn keep(&mut self, lines: Lines) {
        if lines.count() > 0 && self.buffers.len() < MOST && self.lines + lines.count() <= LINES {
            self.lines += lines.count();
            self.buffers.push(lines);
        }
    }
}

/// Elements of an alignment of at most eight bytes, from the beginning of a line on; as many as at first, or a list that grows.
#[derive(Debug)]
pub(crate) struct Reused<T: Pod> {
    lines: Lines,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Reused<T> {
    /// `len` uninitialised elements: they are what was there before.
    pub fn uninit(len: usize) -> Self {
        const { assert!(align_of::<T>() <= align_of::<u64>() && size_of::<T>() > 0, "words are aligned for the elements") };
        let count = Lines::for_elements::<T>(len).expect("fewer bytes than memory has");
        let mut lines = KEPT.with_borrow_mut(|kept| kept.take(count));
        if lines.count() < count {
            lines = Lines::zeros_or_end(count);
        }
        let mut made = Self { lines, len, element: PhantomData };
        if poison::is_on() {
            poison::fill_bytes(bytemuck::cast_slice_mut(made.lines.words_mut()));
        }
        made
    }

    /// `len` times `value`.
    pub fn filled(len: usize, value: T) -> Self {
        let mut made = Self::uninit(len);
        made.fill(value);
        made
    }

    /// The elements of an iterator that knows how many there are.
    pub fn collect(elements: impl ExactSizeIterator<Item = T>) -> Self {
        let mut made = Self::uninit(elements.len());
        made.iter_mut().zip(elements).for_each(|(to, from)| *to = from);
        made
    }

    /// An empty list with memory for `len` elements.
    pub fn with_capacity(len: usize) -> Self {
        let mut list = Self::uninit(len);
        list.len = 0;
        list
    }

    /// Makes it `len` elements; what they are is not defined.
    pub fn resize(&mut self, len: usize) {
        if len > self.capacity() {
            *self = Self::uninit(len);
        }
        self.len = len;
    }

    /// Elements that it has memory for.
    fn capacity(&self) -> usize {
        self.lines.count() * LINE / size_of::<T>()
    }

    /// Adds an element.
    pub fn push(&mut self, element: T) {
        if self.len == self.capacity() {
            self.reserve(1);
        }
        self.len += 1;
        let last = self.len - 1;
        self[last] = element;
    }

    /// Takes memory for so many more elements.
    pub fn reserve(&mut self, more: usize) {
        let wanted = self.len + more;
        if wanted > self.capacity() {
            let mut larger = Self::uninit(wanted.max(2 * self.len));
            larger[..self.len].copy_from_slice(self);
            larger.len = self.len;
            *self = larger;
        }
    }

    /// Keeps the elements that `wanted` says yes to, in their order.
    pub fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        let mut kept = 0;
        for at in 0..self.len {
            if wanted(&self[at]) {
                self[kept] = self[at];
                kept += 1;
            }
        }
        self.len = kept;
    }

    /// Forgets all elements; the memory stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl<T: Pod> Default for Reused<T> {
    fn default() -> Self {
        Self::uninit(0)
    }
}

impl<T: Pod> Extend<T> for Reused<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        let elements = elements.into_iter();
        self.reserve(elements.size_hint().0);
        elements.for_each(|element| self.push(element));
    }
}

impl<T: Pod> FromIterator<T> for Reused<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut list = Self::with_capacity(0);
        list.extend(elements);
        list
    }
}

impl<T: Pod> Deref for Reused<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the lines have memory for `len` elements (`uninit`; `reserve` before `push` makes it more), aligned for them, and
        // any bits are an element.
        unsafe { std::slice::from_raw_parts(self.lines.words().as_ptr().cast(), self.len) }
    }
}

impl<T: Pod> DerefMut for Reused<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`; the lines are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.words_mut().as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Pod> Drop for Reused<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // Where the thread ends, its buffers have gone before.
        let _ = KEPT.try_with(|kept| kept.borrow_mut().keep(lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let first = Reused::<f32>::filled(100, 1.0);
        let at = first.as_ptr() as usize;
        drop(first);
        let smaller = Reused::<[u32; 3]>::uninit(30);
        assert_eq!(smaller.as_ptr() as usize, at);
        assert!(smaller.len() == 30 && at.is_multiple_of(LINE));
        let other = Reused::collect([1usize, 2, 3].into_iter());
        assert_ne!(other.as_ptr() as usize, at);
        assert_eq!(other[..], [1, 2, 3]);
    }

    #[test]
    fn no_more_is_kept_than_said() {
        let many: Vec<_> = (0..MOST + 9).map(|i| Reused::<u8>::uninit(1 + i)).collect();
        drop(many);
        drop(Reused::<u64>::uninit(LINES * LINE / 8 + 1));
        KEPT.with_borrow(|kept| {
            // The largest was grown for the one that is too large.
            assert_eq!(kept.buffers.len(), MOST - 1);
            assert_eq!(kept.lines, kept.buffers.iter().map(Lines::count).sum::<usize>());
        });
        let wanting = Reused::<u64>::filled(40, 7);
        assert!(wanting.len() == 40 && wanting.iter().all(|word| *word == 7));
    }

    #[test]
    fn a_list_grows_and_forgets() {
        let mut list: Reused<u32> = (0..3).collect();
        list.extend((3..100).filter(|v| *v != 50));
        list.push(7);
        assert_eq!(list[..], (0..50).chain(51..100).chain([7]).collect::<Vec<u32>>());
        list.retain(|v| v % 10 == 7);
        assert_eq!(list[..], [7, 17, 27, 37, 47, 57, 67, 77, 87, 97, 7]);
        list.clear();
        assert!(list.is_empty());
        let wide: Reused<[f64; 3]> = Reused::with_capacity(5);
        assert!(wide.is_empty() && wide.capacity() >= 5);
    }

    #[test]
    fn a_buffer_may_be_dropped_on_another_thread() {
        let made = Reused::<f32>::filled(10, 1.0);
        std::thread::spawn(move || drop(made)).join().expect("it ends");
        assert_eq!(Reused::<f32>::filled(10, 2.0)[..], [2.0; 10]);
    }
}
