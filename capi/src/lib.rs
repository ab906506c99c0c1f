//! The inspector for C and C++: handles, versioned structures, a status from every call. No panic leaves this library.
//!
//! Every function checks what it is given as far as memory can tell: null pointers, sizes, enumerations, handles that are closed
//! or in use. That a pointer which is not null has as many bytes behind it as its structure says is the caller's to keep.

#![allow(non_camel_case_types)] // names as C has them

mod handles;
mod inspecting;
mod memory;
mod status;
mod types;

use std::ffi::{CStr, c_char};
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use handles::Opened;
use inspecting::inspect;
use inspector::{DeviceName, Inspector, Limits, MapSize, Options, Precision, PublicKey, Values, Verdict};
use memory::{array, check_size, name, sized, text, write};

pub use status::hotad_status;
use status::{Failure, call};
pub use types::*;

/// An inspector that is open. Any thread may use it, but no two at once: the second gets `HOTAD_ERROR_BUSY`.
pub type hotad_inspector = u64;

type Outcome = Result<(), Failure>;

/// The version of this library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn hotad_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The words of the last call of this thread that failed; they stay until the next one fails. Empty where none has.
#[unsafe(no_mangle)]
pub extern "C" fn hotad_last_error() -> *const c_char {
    status::last_error()
}

/// Sets the most megapixels of a frame or mask, for the whole process and from now on: 1 to 1,000,000, and 100 unless it is called.
#[unsafe(no_mangle)]
pub extern "C" fn hotad_set_max_megapixels(megapixels: u32) -> hotad_status {
    call(|| Ok(Limits::set_megapixels(megapixels)?))
}

/// Sets the options to their defaults. `size` is `sizeof(hotad_options)`.
///
/// # Safety
/// `options` is null or points to `size` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_options_init(options: *mut hotad_options, size: usize) -> hotad_status {
    call(|| {
        let defaults = Options::default();
        let all = hotad_options {
            size,
            device: std::ptr::null(),
            precision: std::ptr::null(),
            threads: 0,
            regions: defaults.regions as u32,
            deadline_ns: 0,
            map: hotad_map::HOTAD_MAP_NONE as u32,
            roi: std::ptr::null(),
            verify_key: std::ptr::null(),
            awake: 0,
            reserved: 0,
        };
        check_size("options", size, size_of::<hotad_options>())?;
        // SAFETY: the caller's; the size was checked.
        unsafe { write(options, "options", all) }
    })
}

/// Reads a model file. `options` may be null for the defaults. On success `*inspector` is to be closed with `hotad_close`.
///
/// # Safety
/// `path` is null or ends with a zero, `options` is null or as its size says with texts that end with a zero, `inspector` is null
/// or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_open(
    path: *const c_char,
    options: *const hotad_options,
    inspector: *mut hotad_inspector,
) -> hotad_status {
    call(|| {
        // SAFETY: the caller's.
        unsafe { write(inspector, "inspector", 0) }?;
        // SAFETY: the caller's.
        let path = unsafe { text(path, "path") }?.ok_or_else(|| Failure::argument("path is null"))?;
        let options = if options.is_null() {
            Options::default()
        } else {
            // SAFETY: the caller's.
            unsafe { options_of(options) }?
        };
        let opened = Inspector::open(named(path, "path")?, options)?;
        // SAFETY: the caller's.
        unsafe { write(inspector, "inspector", handles::insert(opened)) }
    })
}

/// Closes an inspector, after a call that another thread is in the middle of. A second time, and for 0, it returns
/// `HOTAD_ERROR_CLOSED` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn hotad_close(inspector: hotad_inspector) -> hotad_status {
    call(|| handles::remove(inspector))
}

/// Inspects blank frames until all memory is taken and all kernels are compiled that frames of this size need.
#[unsafe(no_mangle)]
pub extern "C" fn hotad_warm_up(inspector: hotad_inspector, height: usize, width: usize, format: u32) -> hotad_status {
    call(|| {
        let format = types::format(format)?;
        handles::get(inspector)?.with(|Opened { inspector, verdicts }| {
            verdicts.resize_with(verdicts.len().max(1), Verdict::default);
            Ok(inspector.warm_up_with(height, width, format, &mut verdicts[0])?)
        })
    })
}

/// Inspects a frame.
///
/// # Safety
/// `frame` is null or as its size says, with `data_size` bytes at `data` that nobody writes during the call; `verdict` is null or
/// as its size says, with memory for `region_capacity` regions and `map_capacity` values. Both are aligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_inspect(
    inspector: hotad_inspector,
    frame: *const hotad_frame,
    verdict: *mut hotad_verdict,
) -> hotad_status {
    // SAFETY: the caller's, of arrays of one pointer.
    call(|| unsafe { inspect(inspector, &[frame], &[verdict]) })
}

/// Inspects frames together, of any sizes and formats. Each verdict is the one that its frame alone would get; times are of the
/// whole batch, which counts as arrived with the frame that has waited longest. Where a frame is refused all verdicts are undecided
/// and the words name its number; where a map does not fit, those after it are.
///
/// # Safety
/// `frames` and `verdicts` are null or point to `count` pointers, each as for `hotad_inspect`; no two verdicts are the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_inspect_batch(
    inspector: hotad_inspector,
    frames: *const *const hotad_frame,
    verdicts: *const *mut hotad_verdict,
    count: usize,
) -> hotad_status {
    call(|| {
        // SAFETY: the caller's.
        let frames = unsafe { array(frames, count, "frames") }?;
        // SAFETY: the caller's.
        let verdicts = unsafe { array(verdicts, count, "verdicts") }?;
        // SAFETY: the caller's.
        unsafe { inspect(inspector, frames, verdicts) }
    })
}

/// Changes the thresholds of an inspector, at any time, from any thread; the next frame is judged by them. `by` says who does.
///
/// # Safety
/// `by` is null or ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_set_thresholds(
    inspector: hotad_inspector,
    image: f32,
    pixel: f32,
    by: *const c_char,
) -> hotad_status {
    call(|| {
        let open = handles::get(inspector)?;
        // SAFETY: the caller's.
        let by =
            unsafe { text(by, "by") }?.ok_or_else(|| Failure::argument("by is null; say who changes thresholds"))?;
        open.thresholds.set(Values { image, pixel }, by)?;
        Ok(())
    })
}

/// The thresholds that the next frame is judged by.
///
/// # Safety
/// `image` and `pixel` are null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_get_thresholds(
    inspector: hotad_inspector,
    image: *mut f32,
    pixel: *mut f32,
) -> hotad_status {
    call(|| {
        let values = handles::get(inspector)?.thresholds.get();
        // SAFETY: the caller's.
        unsafe {
            write(image, "image", values.image)?;
            write(pixel, "pixel", values.pixel)
        }
    })
}

/// The changes of thresholds since an inspector was opened, oldest first, from number `first` on: writes as many as fit into
/// `changes`, which may be null, and the number of all changes to `count`.
///
/// # Safety
/// `changes` is null or has memory for `capacity` of them, `count` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_threshold_changes(
    inspector: hotad_inspector,
    first: usize,
    changes: *mut hotad_threshold_change,
    capacity: usize,
    count: *mut usize,
) -> hotad_status {
    call(|| {
        let capacity = if changes.is_null() { 0 } else { capacity };
        let (known, all) = handles::get(inspector)?.thresholds.changes_from(first, capacity);
        // SAFETY: the caller's.
        unsafe { write(count, "count", all) }?;
        for (i, change) in known.iter().enumerate() {
            // SAFETY: the caller's: there is memory for `capacity` of them.
            unsafe { changes.add(i).write(change.into()) };
        }
        Ok(())
    })
}

/// What an inspector is of. The caller sets `size`.
///
/// # Safety
/// `info` is null or as its size says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_get_info(inspector: hotad_inspector, info: *mut hotad_info) -> hotad_status {
    call(|| {
        // SAFETY: the caller's.
        let size = unsafe { sized(info, "info") }?;
        let told = handles::get(inspector)?.with(|opened| Ok(opened.inspector.info()))?;
        let all = hotad_info {
            size,
            width: told.image.width,
            height: told.image.height,
            channels: told.image.channels,
            image_threshold: told.image_threshold,
            pixel_threshold: told.pixel_threshold,
            false_alarm_rate: told.false_alarm_rate,
            promised_false_alarm_rate: told.promised_false_alarm_rate,
            method: name(&told.method),
            device: name(&told.device),
        };
        // SAFETY: the caller's; the size was checked.
        unsafe { write(info, "info", all) }
    })
}

/// The options of a structure.
///
/// # Safety
/// `options` points to as many bytes as its size says, with texts that end with a zero.
unsafe fn options_of(options: *const hotad_options) -> Result<Options, Failure> {
    // SAFETY: the caller's.
    unsafe { sized(options.cast_mut(), "options") }?;
    // SAFETY: the size was checked.
    let given = unsafe { *options };
    let defaults = Options::default();
    // SAFETY: the caller's.
    let device = unsafe { text(given.device, "options.device") }?;
    // SAFETY: the caller's.
    let precision = unsafe { text(given.precision, "options.precision") }?;
    // SAFETY: the caller's.
    let roi = unsafe { text(given.roi, "options.roi") }?;
    // SAFETY: the caller's.
    let key = unsafe { text(given.verify_key, "options.verify_key") }?;
    let map = match given.map {
        0 => MapSize::None,
        1 => MapSize::Model,
        2 => MapSize::Frame,
        other => return Err(Failure::argument(format!("options.map: {other} is none of hotad_map"))),
    };
    parsed::<DeviceName>(device, "options.device")?;
    Ok(Options {
        device: device.map_or(defaults.device, Into::into),
        precision: parsed::<Precision>(precision, "options.precision")?.unwrap_or(defaults.precision),
        threads: (given.threads > 0).then_some(given.threads as usize),
        regions: given.regions as usize,
        awake: given.awake != 0,
        deadline: (given.deadline_ns > 0).then(|| Duration::from_nanos(given.deadline_ns)),
        map,
        roi: parsed(roi, "options.roi")?,
        key: key.map(|path| key_of(path, "options.verify_key")).transpose()?,
        ..Options::default()
    })
}

/// The value of an option as text, where it is given.
fn parsed<T: FromStr<Err: Display>>(text: Option<&str>, what: &str) -> Result<Option<T>, Failure> {
    text.map(str::parse).transpose().map_err(|e| Failure::of(what, e))
}

/// A path that is not empty.
fn named<'a>(path: &'a str, what: &str) -> Result<&'a Path, Failure> {
    if path.is_empty() { Err(Failure::of(what, "the path is empty; name a file")) } else { Ok(Path::new(path)) }
}

/// The public key that a file holds.
fn key_of(path: &str, what: &str) -> Result<PublicKey, Failure> {
    PublicKey::read(named(path, what)?).map_err(|e| Failure::of(what, e))
}
