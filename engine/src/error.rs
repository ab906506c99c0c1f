//! What can go wrong, each in one line that names the file or value and what to do.

use std::path::{Path, PathBuf};

use hotad_kernels::KernelError;

use crate::train::Difference;

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
    /// An image or its file is larger than this process reads.
    #[error("{}: {reason}", shown(path))]
    TooLarge {
        /// File.
        path: PathBuf,
        /// Cause and remedy.
        reason: String,
        /// Limit under which it would be read, where that is known.
        megapixels: Option<u64>,
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
    /// A checkpoint that a run cannot continue from.
    #[error("{}: {reason}", shown(path))]
    Checkpoint {
        /// File.
        path: PathBuf,
        /// Cause and remedy.
        reason: String,
    },
    /// A checkpoint of another run.
    #[error("{}: checkpoint of another run: {difference}; repeat that one or begin afresh", shown(path))]
    OtherRun {
        /// File.
        path: PathBuf,
        /// What the runs differ in.
        difference: Difference,
    },
    /// A model or another file of tensors that cannot be used.
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
    /// A frame in memory that cannot be used, of several that are inspected together.
    #[error("frame {number} of {count}: {reason}")]
    FrameOfBatch {
        /// Its number, from 1.
        number: usize,
        /// Number of frames.
        count: usize,
        /// Cause and remedy.
        reason: String,
    },
    /// What a caller has asked for by name, a field of a job or an argument, cannot be.
    #[error("{name}: {reason}")]
    Argument {
        /// Its name.
        name: &'static str,
        /// Cause and remedy.
        reason: String,
    },
    /// A model that is asked to score in int8 without ranges of inputs.
    #[error(
        "precision int8: the model has no ranges of {0}; calibrate it in f32 on the CPU, if its method has convolutions in int8"
    )]
    Uncalibrated(String),
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
    #[error(
        "{what} not finite: lower the learning rate or look for broken images{}",
        place(checkpoint, "the last good")
    )]
    Diverged {
        /// What is not finite, and since when.
        what: String,
        /// Checkpoint of this run from before.
        checkpoint: Option<PathBuf>,
    },
    /// Ctrl-C.
    #[error("interrupted{}", place(.0, "its"))]
    Interrupted(Option<PathBuf>),
}

/// Where a checkpoint is, if there is one.
fn place(checkpoint: &Option<PathBuf>, which: &str) -> String {
    checkpoint.as_ref().map_or(String::new(), |path| format!("; {which} checkpoint is {}", shown(path)))
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

    /// The same error, about frame `index` of `count` where it is about a frame; the only one needs no number.
    #[must_use]
    pub fn of_frame(self, index: usize, count: usize) -> Self {
        match self {
            Self::Frame(reason) if count > 1 => Self::FrameOfBatch { number: index + 1, count, reason },
            other => other,
        }
    }
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        match error {
            // Kernels are only ever stopped by Ctrl-C.
            KernelError::Stopped => Self::Interrupted(None),
            KernelError::NoRange(layer) => Self::Uncalibrated(format!("the inputs of layer {layer}")),
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
