//! Memory of the caller's, by pointer: looked at as far as that can be done, then trusted as the header says.

use std::ffi::{CStr, c_char};

use crate::Outcome;
use crate::status::Failure;

/// The size that a structure says it has, if that is enough.
///
/// # Safety
/// `structure` is null or points to a structure that begins with its size.
pub unsafe fn sized<T>(structure: *mut T, what: &str) -> Result<usize, Failure> {
    if structure.is_null() {
        return Err(Failure::argument(format!("{what} is null")));
    }
    // SAFETY: the caller's: it begins with its size.
    let size = unsafe { structure.cast::<usize>().read() };
    check_size(what, size, size_of::<T>())?;
    Ok(size)
}

/// Fails for a structure that says it is smaller than it has to be.
pub fn check_size(what: &str, size: usize, needed: usize) -> Outcome {
    if size >= needed {
        return Ok(());
    }
    Err(Failure::argument(format!("{what}.size is {size}, not sizeof(hotad_{what}), which is {needed}")))
}

/// Writes a value.
///
/// # Safety
/// `to` is null or may be written.
pub unsafe fn write<T>(to: *mut T, what: &str, value: T) -> Outcome {
    if to.is_null() {
        return Err(Failure::argument(format!("{what} is null")));
    }
    // SAFETY: the caller's.
    unsafe { to.write(value) };
    Ok(())
}

/// `count` elements.
///
/// # Safety
/// `first` is null or points to so many that stay as they are while the result is used.
pub unsafe fn array<'a, T>(first: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(Failure::argument(format!("{what} is null")));
    }
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::argument(format!("{count} {what} are more than memory has")));
    }
    // SAFETY: the caller's; the number fits a slice.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

/// A text, if it is not null.
///
/// # Safety
/// `from` is null or ends with a zero, and stays as it is while the result is used.
pub unsafe fn text<'a>(from: *const c_char, what: &str) -> Result<Option<&'a str>, Failure> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(from) }.to_str();
    text.map(Some).map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// A text as an array that ends with a zero, cut where it is longer.
pub fn name<const N: usize>(text: &str) -> [c_char; N] {
    let mut all = [0; N];
    let end = text.floor_char_boundary(N - 1);
    all.iter_mut().zip(text[..end].bytes()).for_each(|(to, byte)| *to = byte as c_char);
    all
}
