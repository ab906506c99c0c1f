//! Memory of a device, kept for the next buffer of its size class.
//!
//! All work is in one stream and buffers are taken and dropped by those who queue it, so a block that was
//! dropped can be handed out at once: whatever still waits in the queue comes before its next use.
//!
//! Recorded work ([`super::recording`]) runs again at the same addresses. What it makes comes from a [`Pool`], which hands
//! its blocks to that work alone; weights, banks, tables, counters and what a step goes on from are others', and a [`Watch`] tells when one was dropped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
    /// Who is told when the block at an address is dropped.
    watched: HashMap<Address, Vec<Weak<AtomicBool>>>,
}

impl State {
    /// Tells those who watch a block that it was dropped.
    fn dropped(&mut self, address: Address) {
        if self.watched.is_empty() {
            return;
        }
        let told = self.watched.remove(&address).unwrap_or_default();
        told.iter().filter_map(Weak::upgrade).for_each(|flag| flag.store(true, Ordering::Release));
    }
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
        state.dropped(self.address);
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

    /// Watches a block, by where it begins.
    fn watch(&self, address: Address, watch: &Watch) {
        let mut state = self.state();
        let watches = state.watched.entry(address).or_default();
        watches.retain(|w| w.strong_count() > 0);
        watches.push(Arc::downgrade(&watch.0));
    }

    /// Bytes in use, and bytes held.
    pub fn usage(&self) -> (u64, u64) {
        let state = self.state();
        (state.in_use, state.reserved)
    }
}

/// Whether one of some blocks was dropped since they were watched.
#[derive(Debug, Default)]
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    pub fn has_seen(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Memory of recorded work.
#[derive(Debug)]
pub struct Pool {
    arena: Arc<Arena>,
    /// Blocks that the work has given back, by the bytes of their class.
    waiting: Mutex<BTreeMap<u64, Vec<Block>>>,
    /// Where its blocks begin.
    own: Mutex<HashSet<Address>>,
}

/// Memory of one buffer of recorded work; dropped, it waits for the next of its class in that work.
#[derive(Debug)]
pub struct Pooled {
    pool: Arc<Pool>,
    /// There until it is dropped.
    block: Option<Block>,
}

impl Pool {
    pub fn new(arena: Arc<Arena>) -> Self {
        Self { arena, waiting: Mutex::default(), own: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Block>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, HashSet<Address>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its blocks are of this arena.
    pub fn is_of(&self, arena: &Arc<Arena>) -> bool {
        Arc::ptr_eq(&self.arena, arena)
    }

    /// Memory for a buffer.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Result<Pooled> {
        let waiting = self.waiting().get_mut(&class(bytes)).and_then(Vec::pop);
        let block = match waiting {
            Some(block) => block,
            None => self.arena.take(bytes)?,
        };
        self.own().insert(block.address);
        Ok(Pooled { pool: self.clone(), block: Some(block) })
    }

    /// Watches a block of the arena that is not its own and that the caller holds.
    pub fn watch(&self, address: Address, watch: &Watch) {
        self.arena.watch(address, watch);
    }

    /// Whether a buffer that begins there is one of its own.
    pub fn has(&self, address: Address) -> bool {
        self.own().contains(&address)
    }

    /// Bytes that it holds and nobody uses.
    pub fn bytes(&self) -> u64 {
        self.waiting().iter().map(|(class, blocks)| class * blocks.len() as u64).sum()
    }
}

impl Pooled {
    /// Where it begins.
    pub fn address(&self) -> Address {
        self.block.as_ref().map_or(0, Block::address)
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.pool.waiting().entry(block.class).or_default().push(block);
        }
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
