//! Reference counts that are used again: what a step of a network makes and drops, buffers of tensors and places on the tape, asks
//! the allocator for nothing after the first steps. (Memory of the buffers themselves is used again by
//! [`HostBuffer`](hotad_kernels::device::HostBuffer).)

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::LocalKey;

use hotad_kernels::device::Buffer;

/// Reference counts with an empty value that a thread keeps at most, of each type.
const MOST: usize = 1024;

/// Reference counts that a thread keeps.
pub(crate) type Kept<T> = RefCell<Vec<Arc<T>>>;

/// What is shared through reference counts that are used again; the default is what a kept one holds.
pub(crate) trait Pooled: Default + 'static {
    /// Reference counts that this thread keeps.
    fn kept() -> &'static LocalKey<Kept<Self>>;
}

/// A shared value; cloning it shares it once more.
pub(crate) struct Shared<T: Pooled>(Option<Arc<T>>);

/// A buffer that tensors and backward rules share.
pub(crate) type SharedBuffer = Shared<Buffer>;

impl Pooled for Buffer {
    fn kept() -> &'static LocalKey<Kept<Self>> {
        thread_local! {
            static KEPT: Kept<Buffer> = const { RefCell::new(Vec::new()) };
        }
        &KEPT
    }
}

/// Why there is a value.
const HELD: &str = "it is taken out only as the owner is dropped or unwrapped";

impl<T: Pooled> Shared<T> {
    /// A value that nobody else has.
    pub fn new(value: T) -> Self {
        let kept = T::kept().try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
        let mut shared: Arc<T> = kept.unwrap_or_default();
        *Arc::get_mut(&mut shared).expect("nobody has what is kept") = value;
        Self(Some(shared))
    }

    /// The value itself where nobody else has it.
    ///
    /// # Errors
    /// Gives back what others have too.
    pub fn try_unwrap(mut self) -> Result<T, Self> {
        match self.0.as_mut().and_then(Arc::get_mut) {
            Some(value) => Ok(std::mem::take(value)),
            None => Err(self),
        }
    }
}

impl<T: Pooled> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Pooled> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect(HELD)
    }
}

impl<T: Pooled> Drop for Shared<T> {
    fn drop(&mut self) {
        let Some(mut shared) = self.0.take() else { return };
        let Some(value) = Arc::get_mut(&mut shared) else { return };
        drop(std::mem::take(value));
        // Where the thread ends, its list has gone before.
        let _ = T::kept().try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < MOST {
                kept.push(shared);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(value: f32) -> Buffer {
        Buffer::Host(vec![value; 3].into())
    }

    #[test]
    fn the_last_owner_gives_the_buffer_back_and_the_arc_is_used_again() {
        let first = SharedBuffer::new(numbers(1.0));
        let at = std::ptr::from_ref::<Buffer>(&first) as usize;
        let second = first.clone();
        let Err(first) = first.try_unwrap() else { panic!("two have it") };
        assert_eq!(first.to_vec().expect("on the host"), [1.0; 3]);
        drop(second);
        assert_eq!(first.try_unwrap().ok().expect("one has it").to_vec().expect("on the host"), [1.0; 3]);
        let next = SharedBuffer::new(numbers(2.0));
        assert_eq!(std::ptr::from_ref::<Buffer>(&next) as usize, at);
        assert_eq!(next.to_vec().expect("on the host"), [2.0; 3]);
    }

    #[test]
    fn a_buffer_may_be_dropped_on_another_thread() {
        let shared = SharedBuffer::new(numbers(1.0));
        let other = shared.clone();
        std::thread::spawn(move || drop(other)).join().expect("it ends");
        assert_eq!(shared.try_unwrap().ok().expect("one has it").len(), 3);
    }
}
