//! What long work tells its caller while it runs: lines of text and progress. The library never writes to the terminal.

use std::path::Path;

use crate::error::{Error, shown};

/// Is told what is being done. A method that is not implemented does nothing, unless it says otherwise; `()` is told everything and
/// says nothing.
///
/// All calls come from the thread that the work was started on. A call stops the work at its next step with
/// [`interrupt::request`](crate::interrupt::request).
pub trait Observer {
    /// A line about what is being done.
    fn say(&self, _line: &str) {}

    /// A line about something that may make the result worse, such as a file that is left out.
    fn warn(&self, _warning: &str) {}

    /// A line about what was assumed, and the name of the argument that says otherwise.
    fn assume(&self, line: &str, argument: &str) {
        self.say(&format!("{line} ({argument} says otherwise)"));
    }

    /// A file is left out because of an error. A warning unless it is implemented.
    fn skipped(&self, error: &Error) {
        self.warn(&format!("skipped {error}"));
    }

    /// A line that is of interest to few, such as the path of each held-out image.
    fn detail(&self, _line: &str) {}

    /// An error has ended a training; it continues from this checkpoint. A line unless it is implemented.
    fn kept(&self, checkpoint: &Path) {
        self.say(&format!("what was learned is in {}", shown(checkpoint)));
    }

    /// How far a task is. Within a task, `done` never falls.
    fn progress(&self, _progress: &Progress) {}

    /// The task whose progress was told last has ended: complete, stopped early, or with an error.
    fn ended(&self) {}
}

impl Observer for () {}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is done, such as `training`.
    pub task: &'a str,
    /// Units that are done.
    pub done: u64,
    /// Units of the whole task; early stopping ends it before.
    pub total: u64,
    /// What is counted, in the plural: `steps`, `patches`, `images`.
    pub unit: &'a str,
    /// The state of the task in a few words, such as epoch and loss; `None` for a task that has none.
    pub state: Option<&'a str>,
}

/// A task that tells an observer its progress, and when dropped that it has ended. One is under way at a time.
pub struct Task<'a> {
    observer: &'a dyn Observer,
    name: &'a str,
    total: u64,
    unit: &'a str,
    state: Option<String>,
}

impl<'a> Task<'a> {
    /// A task of `total` units, such as `images`; nothing is told yet.
    pub fn new(observer: &'a dyn Observer, name: &'a str, total: u64, unit: &'a str) -> Self {
        Self { observer, name, total, unit, state: None }
    }

    /// Sets the state that is told with the progress from now on.
    pub fn set_state(&mut self, state: String) {
        self.state = Some(state);
    }

    /// Tells that so many units are done.
    pub fn at(&self, done: u64) {
        let Self { observer, name: task, total, unit, state } = self;
        observer.progress(&Progress { task, done, total: *total, unit, state: state.as_deref() });
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.observer.ended();
    }
}
