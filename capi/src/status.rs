//! How a call ended, and the words for it.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use inspector::Error;

/// How a call ended. What it says in words: `hotad_last_error`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum hotad_status {
    /// Done.
    HOTAD_OK = 0,
    /// An argument or option is null, out of range, unknown, too small, of another version, or names a file that cannot be used.
    HOTAD_ERROR_ARGUMENT = 1,
    /// A frame whose pixels do not lie in its buffer, that has too many of them, or that cannot be scored.
    HOTAD_ERROR_FRAME = 2,
    /// No model: missing, damaged, of a newer format, not signed as it has to be.
    HOTAD_ERROR_MODEL = 3,
    /// A device that is not there, does not have the precision, is out of memory or lost.
    HOTAD_ERROR_DEVICE = 4,
    /// The inspector was closed, or never opened.
    HOTAD_ERROR_CLOSED = 5,
    /// Another thread uses the inspector.
    HOTAD_ERROR_BUSY = 6,
    /// An error of this library.
    HOTAD_ERROR_INTERNAL = 7,
}

use hotad_status::{
    HOTAD_ERROR_ARGUMENT, HOTAD_ERROR_DEVICE, HOTAD_ERROR_FRAME, HOTAD_ERROR_INTERNAL, HOTAD_ERROR_MODEL, HOTAD_OK,
};

/// A call that failed: its status and words.
pub struct Failure(pub hotad_status, pub String);

impl Failure {
    /// An argument that cannot be.
    pub fn argument(reason: impl Into<String>) -> Self {
        Self(HOTAD_ERROR_ARGUMENT, reason.into())
    }

    /// An argument or option that was refused for a reason.
    pub fn of(name: &str, reason: impl Display) -> Self {
        Self::argument(format!("{name}: {reason}"))
    }

    /// The same, with the number of the frame that it is about; the only one of a batch needs no number.
    pub fn of_frame(self, index: usize, count: usize) -> Self {
        if count == 1 {
            return self;
        }
        let Self(status, words) = self;
        let reason = words.strip_prefix("frame: ").unwrap_or(&words).into();
        Self(status, Error::FrameOfBatch { number: index + 1, count, reason }.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Frame(_) | Error::FrameOfBatch { .. } | Error::Image { .. } | Error::TooLarge { .. } => {
                HOTAD_ERROR_FRAME
            }
            Error::Model { .. } | Error::Io { .. } | Error::Uncalibrated(_) => HOTAD_ERROR_MODEL,
            Error::Kernel(_) | Error::Device(_) => HOTAD_ERROR_DEVICE,
            Error::Config(_) | Error::Argument { .. } => HOTAD_ERROR_ARGUMENT,
            _ => HOTAD_ERROR_INTERNAL,
        };
        Self(status, error.to_string())
    }
}

thread_local! {
    /// What the last failed call of this thread says.
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs a call: no panic leaves it, and its words are kept for [`last_error`].
pub fn call(work: impl FnOnce() -> Result<(), Failure>) -> hotad_status {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let Failure(status, words) = match outcome {
        Ok(Ok(())) => return HOTAD_OK,
        Ok(Err(failure)) => failure,
        Err(_) => Failure(HOTAD_ERROR_INTERNAL, "an error of hotad itself; please report it".into()),
    };
    let words = words.replace(|c: char| c.is_control(), " ");
    // Control characters, zeros among them, are gone.
    // A thread that ends has none to keep.
    let _ = LAST.try_with(|last| *last.borrow_mut() = CString::new(words).unwrap_or_default());
    status
}

/// The words of the last call of this thread that failed; they stay until the next one fails.
pub fn last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
