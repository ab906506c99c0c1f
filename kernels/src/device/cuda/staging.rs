//! Pinned host memory that copies go through.

use super::driver::{Address, Driver, Pinned, Result};

/// Bytes pinned for each direction; larger copies go piece by piece.
pub const BYTES: usize = 16 << 20;

/// Bytes of a piece of an upload: the next piece is filled while the last one is copied.
const PIECE: usize = 4 << 20;

/// Where the bytes of a piece begin, for the widest host loads.
const ALIGNMENT: usize = 64;

/// Uploads: filled from the front; what is behind `used` is free.
#[derive(Debug, Default)]
pub struct Upload {
    pinned: Option<Pinned>,
    used: usize,
    /// Pieces so far.
    pieces: u64,
}

/// Downloads, one piece at a time.
#[derive(Debug, Default)]
pub struct Download {
    pinned: Option<Pinned>,
}

/// Pins the memory when it is first needed.
fn pinned<'a>(slot: &'a mut Option<Pinned>, driver: &dyn Driver) -> Result<&'a mut Pinned> {
    match slot {
        Some(pinned) => Ok(pinned),
        None => Ok(slot.insert(driver.pin(BYTES)?)),
    }
}

impl Upload {
    /// Queues the copy of all bytes; returns once they need not be kept.
    pub fn copy(&mut self, driver: &dyn Driver, to: Address, from: &[u8]) -> Result<()> {
        for (i, piece) in from.chunks(PIECE).enumerate() {
            if self.used + piece.len() > BYTES {
                driver.synchronize()?;
                self.used = 0;
            }
            let part = &mut pinned(&mut self.pinned, driver)?.as_mut()[self.used..self.used + piece.len()];
            part.copy_from_slice(piece);
            // SAFETY: the caller's buffer holds all bytes; `part` is not written again before the stream
            // has been waited for.
            unsafe { driver.upload(to + (i * PIECE) as u64, part)? };
            self.used = (self.used + piece.len()).next_multiple_of(ALIGNMENT);
            self.pieces += 1;
        }
        Ok(())
    }

    /// Pieces that were queued so far, to be asked before a wait.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// Starts again from the front where no piece was queued since there were so many: the stream has been
    /// waited for.
    pub fn waited_for(&mut self, pieces: u64) {
        if self.pieces == pieces {
            self.used = 0;
        }
    }
}

impl Download {
    /// Room for one piece; its bytes are those of the last copy.
    pub fn piece(&mut self, driver: &dyn Driver, bytes: usize) -> Result<&mut [u8]> {
        Ok(&mut pinned(&mut self.pinned, driver)?.as_mut()[..bytes])
    }
}
