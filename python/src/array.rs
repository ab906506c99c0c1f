//! Arrays of Python as frames, in the memory where they are.

use inspector::{Format, Frame, Strides};
use pyo3::buffer::{Element, PyBuffer};
use pyo3::prelude::*;

use crate::HotadError;

/// An array that is looked at; it stays for as long as this does.
pub enum Array {
    /// Of bytes.
    U8(PyBuffer<u8>),
    /// Of 16-bit numbers.
    U16(PyBuffer<u16>),
}

impl Array {
    /// An array of uint8 or uint16.
    pub fn of(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(buffer) = PyBuffer::<u8>::get(array) {
            return Ok(Self::U8(buffer));
        }
        PyBuffer::<u16>::get(array).ok().filter(is_native).map(Self::U16).ok_or_else(|| {
            HotadError::new_err(
                "frame: expected an array of uint8 or uint16 (aligned, in this machine's byte order), such as NumPy's, \
                 [rows, columns] or [rows, columns, samples]",
            )
        })
    }

    /// Its pixels as a frame of a format, by default that of as many samples in the order gray or RGB, alpha.
    pub fn frame(&self, format: Option<Format>) -> PyResult<Frame<'_>> {
        match self {
            Self::U8(buffer) => frame(buffer, format),
            Self::U16(buffer) => frame(buffer, format),
        }
    }
}

/// Whether the numbers of an array are in the byte order of this machine; `PyBuffer` takes either for the other.
fn is_native(buffer: &PyBuffer<u16>) -> bool {
    let foreign: &[u8] = if cfg!(target_endian = "little") { b">!" } else { b"<" };
    buffer.format().to_bytes().first().is_none_or(|order| !foreign.contains(order))
}

/// The format of arrays with so many samples of so many bytes.
fn usual(samples: usize, bytes: usize) -> Option<Format> {
    Some(match (samples, bytes) {
        (1, 1) => Format::Gray8,
        (2, 1) => Format::GrayAlpha8,
        (3, 1) => Format::Rgb8,
        (4, 1) => Format::Rgba8,
        (1, 2) => Format::Gray16,
        (2, 2) => Format::GrayAlpha16,
        (3, 2) => Format::Rgb16,
        (4, 2) => Format::Rgba16,
        _ => return None,
    })
}

fn frame<T: Element>(buffer: &PyBuffer<T>, format: Option<Format>) -> PyResult<Frame<'_>> {
    let refuse = |reason: String| Err(HotadError::new_err(format!("frame: {reason}")));
    let (shape, strides) = (buffer.shape(), buffer.strides());
    if buffer.suboffsets().is_some() {
        return refuse("an array of pointers to rows; copy it into one block of memory".into());
    }
    let (size, samples, strides) = match (shape, strides) {
        (&[h, w], &[row, pixel]) => ((h, w), 1, Strides { row, pixel, sample: 0 }),
        (&[h, w, samples], &[row, pixel, sample]) => ((h, w), samples, Strides { row, pixel, sample }),
        _ => {
            return refuse(format!(
                "an array of shape {shape:?}; expected [rows, columns] or [rows, columns, samples]"
            ));
        }
    };
    let bytes = size_of::<T>();
    let Some(format) = format.or_else(|| usual(samples, bytes)) else {
        return refuse(format!("an array of shape {shape:?}; expected 1 to 4 samples a pixel"));
    };
    if (format.samples(), format.sample_bytes()) != (samples, bytes) {
        let bits = 8 * bytes;
        return refuse(format!("{samples} samples of {bits} bits a pixel are not {format}"));
    }
    if size.0 == 0 || size.1 == 0 {
        return refuse(format!("an array of shape {shape:?} has no pixels"));
    }
    // From the lowest byte of any sample to the highest, seen from the first one.
    let (mut before, mut after) = (0isize, 0isize);
    for (count, stride) in [(size.0, strides.row), (size.1, strides.pixel), (samples, strides.sample)] {
        let reach = (count as isize - 1) * stride;
        if reach < 0 { before -= reach } else { after += reach }
    }
    let (origin, length) = (before as usize, (before + after) as usize + bytes);
    // SAFETY: the array's owner vouches for its shape and strides, so that all these bytes lie within its memory, which the buffer
    // keeps. That nobody writes to it meanwhile is the caller's to keep, as the documentation of `inspect` says.
    let memory = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>().sub(origin), length) };
    Frame::strided(memory, origin, size, strides, format).map_err(crate::raised)
}
