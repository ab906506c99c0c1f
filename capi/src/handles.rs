//! Inspectors by number. A number that was closed is never used again, so that a call after `hotad_close` is refused instead of
//! reading memory that is no longer there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use inspector::{Inspector, Thresholds, Verdict};

use crate::status::{Failure, hotad_status::*};

/// An inspector that is open.
pub struct Open {
    /// Used by one thread at a time.
    pub inspector: Mutex<Opened>,
    /// Used by any.
    pub thresholds: Thresholds,
    number: u64,
    /// Set before [`remove`] waits for the lock, for calls that have got this but not the lock yet.
    closed: AtomicBool,
}

/// An inspector and the verdicts that it writes to.
pub struct Opened {
    /// The inspector.
    pub inspector: Inspector,
    /// One for each frame of the largest batch so far.
    pub verdicts: Vec<Verdict>,
}

static OPEN: RwLock<Option<HashMap<u64, Arc<Open>>>> = RwLock::new(None);

/// The number of the next inspector. 0 is none.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Keeps an inspector; returns its number.
pub fn insert(inspector: Inspector) -> u64 {
    let thresholds = inspector.thresholds();
    let opened = Mutex::new(Opened { inspector, verdicts: Vec::new() });
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // A poisoned lock only says that another thread has panicked; the map is whole. The same holds below.
    let mut open = OPEN.write().unwrap_or_else(PoisonError::into_inner);
    open.get_or_insert_default()
        .insert(number, Arc::new(Open { inspector: opened, thresholds, number, closed: false.into() }));
    number
}

/// The inspector of a number.
pub fn get(number: u64) -> Result<Arc<Open>, Failure> {
    let open = OPEN.read().unwrap_or_else(PoisonError::into_inner);
    let found = open.as_ref().and_then(|open| open.get(&number)).cloned();
    found.ok_or_else(|| closed(number))
}

fn closed(number: u64) -> Failure {
    Failure(HOTAD_ERROR_CLOSED, format!("inspector {number} is closed or was never opened"))
}

/// Closes an inspector, after a call that uses it at this moment.
pub fn remove(number: u64) -> Result<(), Failure> {
    let mut open = OPEN.write().unwrap_or_else(PoisonError::into_inner);
    let found = open.as_mut().and_then(|open| open.remove(&number)).ok_or_else(|| closed(number))?;
    found.closed.store(true, Ordering::SeqCst);
    // Others are not kept waiting.
    drop(open);
    drop(found.inspector.lock());
    Ok(())
}

impl Open {
    /// Runs work with the inspector, if no other thread does.
    pub fn with<R>(&self, work: impl FnOnce(&mut Opened) -> Result<R, Failure>) -> Result<R, Failure> {
        let inspector = self.inspector.try_lock();
        // Asked for only now: `remove` may have had the lock meanwhile, or have it.
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed(self.number));
        }
        match inspector {
            Ok(mut opened) => work(&mut opened),
            Err(TryLockError::WouldBlock) => {
                Err(Failure(HOTAD_ERROR_BUSY, "another thread uses this inspector; open one for each thread".into()))
            }
            Err(TryLockError::Poisoned(_)) => {
                Err(Failure(HOTAD_ERROR_INTERNAL, "an earlier call has failed inside; close the inspector".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::status::hotad_status;

    fn opened() -> (u64, Arc<Open>) {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights/plate.safetensors");
        let options = inspector::Options { device: "cpu".into(), ..Default::default() };
        let number = insert(Inspector::open(&model, options).expect("it opens"));
        (number, get(number).ok().expect("it is open"))
    }

    fn status(open: &Open) -> hotad_status {
        open.with(|_| Ok(())).map_or_else(|Failure(status, _)| status, |()| HOTAD_OK)
    }

    #[test]
    fn a_call_that_has_got_an_inspector_before_it_was_closed_is_refused() {
        let (number, open) = opened();
        assert_eq!(status(&open), HOTAD_OK);
        assert!(remove(number).is_ok());
        assert_eq!(status(&open), HOTAD_ERROR_CLOSED);
    }

    #[test]
    fn a_call_is_told_closed_and_not_busy_while_close_waits_for_another() {
        let (number, open) = opened();
        let call = open.inspector.lock().expect("free");
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| remove(number).is_ok());
            let begun = Instant::now();
            while status(&open) == HOTAD_ERROR_BUSY && begun.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
            assert_eq!(status(&open), HOTAD_ERROR_CLOSED);
            assert!(!closing.is_finished(), "it waits for the call");
            drop(call);
            assert!(closing.join().expect("a thread"));
        });
    }
}
