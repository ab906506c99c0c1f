//! Thresholds that can change while frames are inspected, with who changed them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hotad_engine::{Error, Result};

/// An image threshold and a pixel threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    /// Scores above this are anomalies.
    pub image: f32,
    /// Pixels of the map above this are in a region.
    pub pixel: f32,
}

impl Values {
    fn packed(self) -> u64 {
        u64::from(self.image.to_bits()) << 32 | u64::from(self.pixel.to_bits())
    }

    fn unpacked(bits: u64) -> Self {
        Self { image: f32::from_bits((bits >> 32) as u32), pixel: f32::from_bits(bits as u32) }
    }
}

/// A change of thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When.
    pub at: SystemTime,
    /// Who, in the caller's words.
    pub by: String,
    /// What they were.
    pub before: Values,
    /// What they are since.
    pub after: Values,
}

#[derive(Debug)]
struct Shared {
    /// Both at once, so that no frame sees one old and one new.
    values: AtomicU64,
    changes: Mutex<Vec<Change>>,
}

/// The thresholds of an [`Inspector`](crate::Inspector). Clones are the same thresholds; any thread may change them, and the
/// next frame is judged by what they are then.
#[derive(Clone, Debug)]
pub struct Thresholds(Arc<Shared>);

impl Thresholds {
    pub(crate) fn new(values: Values) -> Self {
        Self(Arc::new(Shared { values: AtomicU64::new(values.packed()), changes: Mutex::new(Vec::new()) }))
    }

    /// What they are.
    pub fn get(&self) -> Values {
        Values::unpacked(self.0.values.load(Ordering::Acquire))
    }

    /// Changes them; `by` says who does, for [`Thresholds::changes`]. Returns what they were.
    ///
    /// # Errors
    /// When one is not finite.
    pub fn set(&self, after: Values, by: &str) -> Result<Values> {
        for (name, value) in [("image", after.image), ("pixel", after.pixel)] {
            if !value.is_finite() {
                return Err(Error::Config(format!("{name} threshold {value}: expected a finite number")));
            }
        }
        let mut changes = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Values::unpacked(self.0.values.swap(after.packed(), Ordering::AcqRel));
        changes.push(Change { at: SystemTime::now(), by: by.into(), before, after });
        Ok(before)
    }

    /// All changes since the inspector was opened, oldest first. They are kept until it is closed, about 100 bytes each.
    pub fn changes(&self) -> Vec<Change> {
        self.changes_from(0, usize::MAX).0
    }

    /// At most `count` changes from number `first` on, the oldest being 0, and how many there are in all.
    pub fn changes_from(&self, first: usize, count: usize) -> (Vec<Change>, usize) {
        let changes = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner);
        (changes.iter().skip(first).take(count).cloned().collect(), changes.len())
    }
}
