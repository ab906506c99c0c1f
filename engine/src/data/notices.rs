//! Warnings about images that can be read. An image is read many times during training and scoring, so warnings are collected here;
//! jobs and the program take them and tell each once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::shown;

/// A kind of notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Notice {
    /// An animation or a file of several pages.
    FurtherFrames,
    /// Proportions far from those of the model's image.
    Proportions,
}

impl Notice {
    fn about(self, path: &Path) -> String {
        let path = shown(path);
        match self {
            Self::FurtherFrames => format!("{path}: holds several images, of which the first alone is looked at"),
            Self::Proportions => format!(
                "{path}: is squashed beyond 2:1 to the proportions of the model's image; cut it, or train with others"
            ),
        }
    }
}

/// The state of a kind of warning.
enum Noted {
    /// Not yet printed: the first such image by its path.
    First(PathBuf),
    /// Printed.
    Said,
}

static NOTED: Mutex<BTreeMap<Notice, Noted>> = Mutex::new(BTreeMap::new());

/// Notes something about an image.
pub(super) fn note(notice: Notice, path: &Path) {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    match noted.entry(notice).or_insert_with(|| Noted::First(path.into())) {
        Noted::First(first) if path < first.as_path() => *first = path.into(),
        _ => {}
    }
}

/// Forgets what was noted and said: other work begins.
pub fn forget() {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// What was noted since: one line for each kind, about the first image by its path. A kind is said once, until [`forget`].
pub fn take() -> Vec<String> {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = noted.iter_mut().filter_map(|(notice, noted)| match std::mem::replace(noted, Noted::Said) {
        Noted::First(path) => Some(notice.about(&path)),
        Noted::Said => None,
    });
    lines.collect()
}
