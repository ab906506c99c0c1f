//! hotad for Python: the inspector over NumPy arrays without a copy, and the jobs of the command line; the interpreter's lock is
//! released meanwhile.

mod array;
mod inspecting;
mod jobs;
mod running;

use std::path::PathBuf;

use inspector::{Limits, PublicKey};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(hotad, HotadError, PyException, "What hotad refuses or cannot do, in one line.");

/// An error of the library as an exception.
fn raised(error: inspector::Error) -> PyErr {
    HotadError::new_err(error.to_string())
}

/// A path that a caller has given as the argument `name`.
fn named(name: &str, path: PathBuf) -> PyResult<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(HotadError::new_err(format!("{name}: the path is empty; name a file or folder")));
    }
    Ok(path)
}

/// The key of the file `verify_key`.
fn key(path: Option<PathBuf>) -> PyResult<Option<PublicKey>> {
    path.map(|path| PublicKey::read(&named("verify_key", path)?).map_err(raised)).transpose()
}

/// Sets the most megapixels of a frame, an image or a mask, for the whole process and from now on; 100 unless it is called.
#[pyfunction]
fn set_max_megapixels(megapixels: u32) -> PyResult<()> {
    Limits::set_megapixels(megapixels).map_err(raised)
}

/// An exception about a frame of a batch, with the number of the frame; the only one needs none.
fn of_frame(py: Python<'_>, exception: PyErr, index: usize, count: usize) -> PyErr {
    if count == 1 || !exception.is_instance_of::<HotadError>(py) {
        return exception;
    }
    let words = exception.value(py).to_string();
    let reason = words.strip_prefix("frame: ").unwrap_or(&words).into();
    raised(inspector::Error::FrameOfBatch { number: index + 1, count, reason })
}

#[pymodule]
fn _hotad(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("HotadError", module.py().get_type::<HotadError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<inspecting::Inspector>()?;
    module.add_class::<inspecting::Verdict>()?;
    module.add_class::<inspecting::Region>()?;
    module.add_function(wrap_pyfunction!(set_max_megapixels, module)?)?;
    module.add_function(wrap_pyfunction!(jobs::train, module)?)?;
    module.add_function(wrap_pyfunction!(jobs::calibrate, module)?)?;
    module.add_function(wrap_pyfunction!(jobs::evaluate, module)?)
}
