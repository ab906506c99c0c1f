//! What a kernel refuses.

/// A call whose buffers, shapes or options do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A buffer does not hold what its shape says.
    #[error("{op}: {what} has {got} elements, {want} expected")]
    Length {
        /// Operation.
        op: &'static str,
        /// Which argument.
        what: &'static str,
        /// Elements found.
        got: usize,
        /// Elements expected.
        want: usize,
    },
    /// Shapes or options that contradict each other.
    #[error("{op}: {detail}")]
    Shape {
        /// Operation.
        op: &'static str,
        /// What is wrong, with the figures.
        detail: String,
    },
    /// A device that is not there, was lost, or whose compiler refused a kernel.
    #[error("{0}")]
    Device(String),
    /// A device that has not the memory which was asked for.
    #[error("{0}; use a smaller batch or smaller images")]
    Memory(String),
    /// The inputs of this layer have no known range, which int8 needs.
    #[error("int8: there is no range of the inputs of layer {0}")]
    NoRange(String),
    /// Whoever watched a long operation broke it off.
    #[error("stopped before the end")]
    Stopped,
}

/// Result of a kernel call.
pub type Result<T> = std::result::Result<T, KernelError>;

/// Checks the length of one buffer.
pub(crate) fn check_len(op: &'static str, what: &'static str, got: usize, want: usize) -> Result<()> {
    if got == want { Ok(()) } else { Err(KernelError::Length { op, what, got, want }) }
}

/// Builds a [`KernelError::Shape`].
pub(crate) fn shape_error<T>(op: &'static str, detail: impl Into<String>) -> Result<T> {
    Err(KernelError::Shape { op, detail: detail.into() })
}

/// Builds a [`KernelError::Device`].
pub(crate) fn device_error<T>(detail: impl Into<String>) -> Result<T> {
    Err(KernelError::Device(detail.into()))
}
