//! What can go wrong, each in one line that names the file or value and what to do.

use std::path::{Path, PathBuf};

use hotad_kernels::KernelError;

/// An error of the engine or of a method.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel refused its shapes.
    #[error(transparent)]
    Kernel(KernelError),
    /// Reading or writing failed.
    #[error("{}: {source}", shown(path))]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// An image that cannot be used.
    #[error("{}: {reason}", shown(path))]
    Image {
        /// File.
        path: PathBuf,
        /// Cause and remedy.
        reason: String,
    },
    /// A data set that cannot be used.
    #[error("{}: {reason}", shown(path))]
    Data {
        /// Folder.
        path: PathBuf,
        /// Cause and remedy.
        reason: String,
    },
    /// A model or checkpoint file that cannot be used.
    #[error("{}: {reason}", shown(path))]
    Model {
        /// File.
        path: PathBuf,
        /// Cause and remedy.
        reason: String,
    },
    /// A frame in memory that cannot be used.
    #[error("frame: {0}")]
    Frame(String),
    /// A setting out of range or unknown.
    #[error("{0}")]
    Config(String),
    /// A device that is not there.
    #[error("{0}")]
    Device(String),
    /// Shapes that do not fit an operation.
    #[error("{op}: {detail}")]
    Shape {
        /// Operation.
        op: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// Training diverged.
    #[error("loss is not finite at step {step}: lower the learning rate (--set lr=...) or look for broken images{}", .checkpoint.as_ref().map(|p| format!("; the last good checkpoint is {}", p.display())).unwrap_or_default())]
    NotFinite {
        /// Step, counted from 1.
        step: u64,
        /// Checkpoint of this run from before.
        checkpoint: Option<PathBuf>,
    },
    /// Ctrl-C.
    #[error("interrupted{}", .0.as_ref().map(|p| format!("; continue with --resume (checkpoint {})", p.display())).unwrap_or_default())]
    Interrupted(Option<PathBuf>),
}

impl Error {
    /// The same error, about a file where it is about a frame.
    #[must_use]
    pub fn of_file(self, path: &Path) -> Self {
        match self {
            Self::Frame(reason) => Self::Image { path: path.to_path_buf(), reason },
            other => other,
        }
    }
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        match error {
            // Kernels are only ever stopped by Ctrl-C.
            KernelError::Stopped => Self::Interrupted(None),
            other => Self::Kernel(other),
        }
    }
}

/// A path in one line of text, whatever bytes it is made of.
pub fn shown(path: &Path) -> String {
    crate::data::names::text(path.as_os_str())
}

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// Attaches a path to an I/O error.
pub trait AtPath<T> {
    /// Names the file that the operation was about.
    ///
    /// # Errors
    /// The same error, with the path.
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.to_path_buf(), source })
    }
}
