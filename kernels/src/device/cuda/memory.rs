//! Memory of a device, kept for the next buffer of its size class.
//!
//! All work is in one stream and buffers are taken and dropped by those who queue it, so a block that was
//! dropped can be handed out at once: whatever still waits in the queue comes before its next use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{Address, Driver, Failure, Result};

/// Bytes of the smallest class.
const LEAST: u64 = 512;

/// Classes between two powers of two; at most an eighth of a block is not used.
const STEPS: u64 = 8;

#[derive(Debug, Default)]
struct State {
    /// Blocks that wait, by the bytes of their class.
    waiting: BTreeMap<u64, Vec<Address>>,
    /// Blocks on their way back to the driver.
    leaving: Vec<Address>,
    in_use: u64,
    reserved: u64,
}

/// The memory that hotad holds of one device.
#[derive(Debug)]
pub struct Arena {
    driver: Arc<dyn Driver>,
    state: Mutex<State>,
}

/// Memory of one buffer; dropped, it waits for the next of its class.
#[derive(Debug)]
pub struct Block {
    arena: Arc<Arena>,
    address: Address,
    class: u64,
}

impl Block {
    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut state = self.arena.state();
        state.in_use -= self.class;
        state.waiting.entry(self.class).or_default().push(self.address);
    }
}

/// The bytes of the class that a buffer belongs to.
fn class(bytes: u64) -> u64 {
    let bytes = bytes.max(LEAST);
    let step = (bytes.next_power_of_two() / 2 / STEPS).max(LEAST);
    bytes.next_multiple_of(step)
}

impl Arena {
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        Self { driver, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock only says that another thread has panicked; the lists are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for a buffer.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Result<Block> {
        let class = class(bytes);
        let mut state = self.state();
        let address = match state.waiting.get_mut(&class).and_then(Vec::pop) {
            Some(address) => address,
            None => {
                let address = self.driver.allocate(class).map_err(|e| match e {
                    Failure::Memory { free, .. } => Failure::Memory { asked: bytes, free },
                    other => other,
                })?;
                state.reserved += class;
                address
            }
        };
        state.in_use += class;
        Ok(Block { arena: self.clone(), address, class })
    }

    /// Takes all blocks that wait out of use. Whoever has queued work on them has done so before, so that
    /// [`Arena::release`], queued after this, finds it done. Returns whether there are any.
    pub fn retire(&self) -> bool {
        let mut state = self.state();
        let waiting = std::mem::take(&mut state.waiting);
        for (class, addresses) in waiting {
            state.reserved -= class * addresses.len() as u64;
            state.leaving.extend(addresses);
        }
        !state.leaving.is_empty()
    }

    /// Gives what [`Arena::retire`] has collected back to the driver.
    pub fn release(&self) -> Result<()> {
        self.driver.synchronize()?;
        let leaving = std::mem::take(&mut self.state().leaving);
        for address in leaving {
            // SAFETY: it came from `allocate`, is in no list any more, and all queued work is done.
            unsafe { self.driver.release(address)? };
        }
        Ok(())
    }

    /// Bytes in use, and bytes held.
    pub fn usage(&self) -> (u64, u64) {
        let state = self.state();
        (state.in_use, state.reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn a_class_wastes_at_most_an_eighth() {
        for bytes in (1..200_000).step_by(7).chain([1 << 30, (1 << 30) + 1, 3 << 33]) {
            let class = class(bytes);
            assert!(class >= bytes && class % 512 == 0, "{bytes}: {class}");
            assert!(class - bytes < (bytes / 8).max(512), "{bytes}: {class}");
        }
    }
}
