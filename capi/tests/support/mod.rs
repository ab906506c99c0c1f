//! What the tests of the calls share: the shipped model, options, and the words of a failure.

use std::ffi::{CStr, CString};
use std::path::PathBuf;

use hotad::hotad_status::*;
use hotad::*;

pub fn shipped() -> CString {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../weights/plate.safetensors");
    CString::new(path.to_str().expect("text")).expect("no zeros")
}

/// Of this thread's last failure.
pub fn words() -> String {
    // SAFETY: the text ends with a zero and stays until the next call of this thread.
    unsafe { CStr::from_ptr(hotad_last_error()) }.to_str().expect("text").into()
}

/// Those of a caller who asks for nothing, on the CPU.
pub fn options() -> hotad_options {
    let mut options = std::mem::MaybeUninit::uninit();
    // SAFETY: as large as it says.
    assert_eq!(unsafe { hotad_options_init(options.as_mut_ptr(), size_of::<hotad_options>()) }, HOTAD_OK);
    // SAFETY: just written.
    let options = unsafe { options.assume_init() };
    hotad_options { device: c"cpu".as_ptr(), ..options }
}
