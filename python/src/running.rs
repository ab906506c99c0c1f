//! Runs a job on a thread of its own, while the calling thread runs Python's callbacks and signal handlers.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, TryLockError};
use std::thread;
use std::time::Duration;

use inspector::observer::{Observer, Progress};
use inspector::{Error, Result, interrupt};
use pyo3::prelude::*;

use crate::{HotadError, raised};

/// Longest time between two looks for a signal such as Ctrl-C.
const POLL: Duration = Duration::from_millis(100);

/// Stack of a job's thread in bytes: as large as a main thread usually has.
const STACK: usize = 8 << 20;

/// What a job tells.
enum Event {
    Line(String),
    Progress { task: String, done: u64, total: u64 },
}

/// The observer on the job's thread: sends events to the calling thread and waits until each has been handled.
struct Reporter {
    events: Sender<Event>,
    handled: Receiver<()>,
    log: bool,
    progress: bool,
}

impl Reporter {
    fn report(&self, event: Event) {
        // Neither fails while the job runs, unless the calling thread has panicked.
        if self.events.send(event).is_ok() {
            let _ = self.handled.recv();
        }
    }
}

impl Observer for Reporter {
    fn say(&self, line: &str) {
        if self.log {
            self.report(Event::Line(line.into()));
        }
    }

    fn warn(&self, warning: &str) {
        self.say(&format!("warning: {warning}"));
    }

    fn progress(&self, progress: &Progress) {
        if self.progress {
            let &Progress { task, done, total, .. } = progress;
            self.report(Event::Progress { task: task.into(), done, total });
        }
    }
}

/// Python's callbacks, which run on the calling thread.
struct Callbacks {
    /// Called with task, units done and units in all; an answer of `False` stops the job.
    progress: Option<Py<PyAny>>,
    /// Called with a line.
    log: Option<Py<PyAny>>,
    /// The first exception of a callback or signal handler.
    raised: Option<PyErr>,
}

/// Asks the job to stop where the calling thread does not listen to its end.
struct StopOnPanic;

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            interrupt::request();
        }
    }
}

impl Callbacks {
    /// Handles events, and signals between them, until the job has ended.
    fn listen(&mut self, events: Receiver<Event>, handled: Sender<()>) {
        let _stop = StopOnPanic;
        loop {
            match events.recv_timeout(POLL) {
                Ok(event) => {
                    self.handle(Some(event));
                    // The job may have panicked meanwhile.
                    let _ = handled.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.handle(None),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Runs signal handlers and the callback of an event; an exception, or a progress callback's `False`, stops the job.
    fn handle(&mut self, event: Option<Event>) {
        let outcome = Python::attach(|py| {
            py.check_signals()?;
            event.map_or(Ok(true), |event| self.call(py, event))
        });
        match outcome {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                self.raised.get_or_insert(error);
            }
        }
        interrupt::request();
    }

    /// Calls the callback of an event; returns whether the job is to go on.
    fn call(&self, py: Python<'_>, event: Event) -> PyResult<bool> {
        match (event, &self.log, &self.progress) {
            (Event::Line(line), Some(log), _) => log.call1(py, (line,)).map(|_| true),
            (Event::Progress { task, done, total }, _, Some(progress)) => {
                let answer = progress.call1(py, (task, done, total))?;
                Ok(answer.bind(py).is_none() || answer.is_truthy(py)?)
            }
            _ => Ok(true),
        }
    }
}

/// Runs a job without the interpreter's lock. An exception of a callback or signal handler comes before the error that it has led
/// to.
pub fn run<R: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    log: Option<Py<PyAny>>,
    job: impl FnOnce(&dyn Observer) -> Result<R> + Send,
) -> PyResult<R> {
    // A request to stop is of the whole process.
    static RUNNING: Mutex<()> = Mutex::new(());
    let _running = match RUNNING.try_lock() {
        Err(TryLockError::WouldBlock) => {
            return Err(HotadError::new_err("another job runs in this process; wait for its end"));
        }
        running => running,
    };
    let mut callbacks = Callbacks { progress, log, raised: None };
    let outcome = py.detach(|| {
        interrupt::withdraw();
        let outcome = on_thread(&mut callbacks, job);
        interrupt::withdraw();
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    });
    match callbacks.raised {
        Some(error) => Err(error),
        None => outcome.map_err(raised),
    }
}

/// Runs a job on a thread of its own, and callbacks on this one; the outer error is a panic of the job.
fn on_thread<R: Send>(
    callbacks: &mut Callbacks,
    job: impl FnOnce(&dyn Observer) -> Result<R> + Send,
) -> thread::Result<Result<R>> {
    let (sender, events) = channel();
    let (done, handled) = channel();
    let (log, progress) = (callbacks.log.is_some(), callbacks.progress.is_some());
    let reporter = Reporter { events: sender, handled, log, progress };
    thread::scope(move |scope| {
        let builder = thread::Builder::new().name("hotad job".into()).stack_size(STACK);
        match builder.spawn_scoped(scope, move || job(&reporter)) {
            Ok(worker) => {
                callbacks.listen(events, done);
                worker.join()
            }
            Err(error) => Ok(Err(Error::Device(format!("cpu: no more threads can be started: {error}")))),
        }
    })
}
