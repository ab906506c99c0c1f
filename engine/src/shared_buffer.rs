//! A buffer that tensors and backward rules share.
//!
//! The `Arc` around it is used again, like the memory of the buffers themselves
//! ([`HostBuffer`](hotad_kernels::device::HostBuffer)): each operation makes one.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use hotad_kernels::device::Buffer;

/// `Arc`s of an empty buffer that a thread keeps at most.
const MOST: usize = 1024;

thread_local! {
    static KEPT: RefCell<Vec<Arc<Buffer>>> = const { RefCell::new(Vec::new()) };
}

/// A shared buffer; cloning it shares it once more.
#[derive(Clone)]
pub(crate) struct SharedBuffer(Option<Arc<Buffer>>);

/// Why there is a buffer.
const HELD: &str = "it is taken out only as the owner is dropped or unwrapped";

impl SharedBuffer {
    /// A buffer that nobody else has.
    pub fn new(buffer: Buffer) -> Self {
        let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
        let mut shared: Arc<Buffer> = kept.unwrap_or_default();
        *Arc::get_mut(&mut shared).expect("nobody has what is kept") = buffer;
        Self(Some(shared))
    }

    /// The buffer itself where nobody else has it.
    ///
    /// # Errors
    /// Gives back what others have too.
    pub fn try_unwrap(mut self) -> Result<Buffer, Self> {
        match self.0.as_mut().and_then(Arc::get_mut) {
            Some(buffer) => Ok(std::mem::take(buffer)),
            None => Err(self),
        }
    }
}

impl Deref for SharedBuffer {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        self.0.as_deref().expect(HELD)
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        let Some(mut shared) = self.0.take() else { return };
        let Some(buffer) = Arc::get_mut(&mut shared) else { return };
        drop(std::mem::take(buffer));
        // Where the thread ends, its list has gone before.
        let _ = KEPT.try_with(|kept| {
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
