//! The inspector for C and C++: handles, versioned structures, a status from every call. No panic leaves this library.
//!
//! Every function checks what it is given as far as memory can tell: null pointers, sizes, enumerations, handles that are closed
//! or in use. That a pointer which is not null has as many bytes behind it as its structure says is the caller's to keep.

#![allow(non_camel_case_types)] // names as C has them

mod handles;
mod memory;
mod status;
mod types;

use std::ffi::{CStr, c_char};
use std::path::Path;
use std::time::{Duration, Instant};

use handles::Opened;
use inspector::{Frame, Inspector, Label, MapSize, Options, PublicKey, Values, Verdict};
use memory::{array, check_size, name, sized, text, write};

use status::{Failure, call};
pub use status::{hotad_last_error, hotad_status};
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
        let opened = Inspector::open(Path::new(path), options)?;
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
/// whole batch, which counts as arrived with the frame that has waited longest. Where a frame is refused all verdicts are undecided; where a map does not fit, those after it are.
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

/// The changes of thresholds since an inspector was opened, oldest first: writes as many as fit into `changes`, which may be null,
/// and their number in all to `count`.
///
/// # Safety
/// `changes` is null or has memory for `capacity` of them, `count` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotad_threshold_changes(
    inspector: hotad_inspector,
    changes: *mut hotad_threshold_change,
    capacity: usize,
    count: *mut usize,
) -> hotad_status {
    call(|| {
        let known = handles::get(inspector)?.thresholds.changes();
        let room = if changes.is_null() { 0 } else { capacity };
        for (i, change) in known.iter().take(room).enumerate() {
            // SAFETY: the caller's: there is memory for `capacity` of them.
            unsafe { changes.add(i).write(change.into()) };
        }
        // SAFETY: the caller's.
        unsafe { write(count, "count", known.len()) }
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

/// Inspects frames.
///
/// # Safety
/// As for `hotad_inspect`, of each pointer.
unsafe fn inspect(inspector: u64, frames: &[*const hotad_frame], verdicts: &[*mut hotad_verdict]) -> Outcome {
    for verdict in verdicts {
        // SAFETY: the caller's.
        unsafe { undecided(*verdict) }?;
    }
    let open = handles::get(inspector)?;
    open.with(|Opened { inspector, verdicts: own }| {
        own.resize_with(frames.len().max(own.len()), Verdict::default);
        let own = &mut own[..frames.len()];
        if let [frame] = frames {
            // SAFETY: the caller's.
            let (frame, waited) = unsafe { frame_of(*frame) }?;
            inspector.inspect_batch_arrived(&[frame], arrival(waited)?, own)?;
        } else {
            // SAFETY: the caller's.
            let given = frames.iter().map(|f| unsafe { frame_of(*f) }).collect::<Result<Vec<_>, _>>()?;
            let (frames, waited): (Vec<_>, Vec<_>) = given.into_iter().unzip();
            let longest = waited.into_iter().max().unwrap_or_default();
            inspector.inspect_batch_arrived(&frames, arrival(longest)?, own)?;
        }
        // SAFETY: the caller's; `undecided` has looked at each.
        own.iter().zip(verdicts).try_for_each(|(own, verdict)| unsafe { told(own, *verdict) })
    })
}

/// When a frame arrived that has waited so long.
fn arrival(waited: Duration) -> Result<Instant, Failure> {
    let arrived = Instant::now().checked_sub(waited);
    arrived.ok_or_else(|| Failure::argument(format!("frame.waited_ns: {waited:?} is longer than this machine runs")))
}

/// The frame of a structure, and how long it has waited.
///
/// # Safety
/// `frame` is null or as its size says, and its bytes stay for as long as the result is used.
unsafe fn frame_of<'a>(frame: *const hotad_frame) -> Result<(Frame<'a>, Duration), Failure> {
    // SAFETY: the caller's.
    unsafe { sized(frame.cast_mut(), "frame") }?;
    // SAFETY: the size was checked.
    let hotad_frame { data, data_size, width, height, stride, format, waited_ns, .. } = unsafe { *frame };
    if data.is_null() {
        return Err(Failure::argument("frame.data is null"));
    }
    if isize::try_from(data_size).is_err() {
        return Err(Failure::argument(format!("frame.data_size: {data_size} bytes are more than memory has")));
    }
    let format = types::format(format)?;
    // SAFETY: the caller's: so many bytes may be read and stay as they are; the number fits a slice.
    let bytes = unsafe { std::slice::from_raw_parts(data, data_size) };
    Ok((Frame::new(bytes, height, width, stride, format)?, Duration::from_nanos(waited_ns)))
}

/// Sets the fields that the library fills to those of a frame that was not inspected.
///
/// # Safety
/// `verdict` is null or as its size says.
unsafe fn undecided(verdict: *mut hotad_verdict) -> Outcome {
    // SAFETY: the caller's.
    let size = unsafe { sized(verdict, "verdict") }?;
    // SAFETY: the size was checked.
    let given = unsafe { *verdict };
    let blank = hotad_verdict {
        size,
        score: f32::NAN,
        calibrated: f32::NAN,
        image_threshold: f32::NAN,
        pixel_threshold: f32::NAN,
        label: hotad_label::HOTAD_UNDECIDED as u32,
        stopped_after: -1,
        late: 0,
        region_count: 0,
        map_width: 0,
        map_height: 0,
        wait_ns: 0,
        preprocess_ns: 0,
        score_ns: 0,
        verdict_ns: 0,
        ..given
    };
    // SAFETY: as above.
    unsafe { write(verdict, "verdict", blank) }
}

/// Writes a verdict, its regions as far as they fit, and its map if it fits.
///
/// # Safety
/// `verdict` points to a structure with memory for as many regions and values as it says.
unsafe fn told(own: &Verdict, verdict: *mut hotad_verdict) -> Outcome {
    // SAFETY: the caller's.
    let mut all = unsafe { *verdict };
    all.score = own.score;
    all.calibrated = own.calibrated;
    (all.image_threshold, all.pixel_threshold) = (own.image_threshold, own.pixel_threshold);
    all.label = match own.label {
        Label::Normal => hotad_label::HOTAD_NORMAL,
        Label::Anomaly => hotad_label::HOTAD_ANOMALY,
        Label::Undecided => hotad_label::HOTAD_UNDECIDED,
    } as u32;
    all.stopped_after = own.stopped_after.map_or(-1, i64::from);
    all.late = u32::from(own.late);
    let nanoseconds = |time: Duration| time.as_nanos() as u64;
    all.wait_ns = nanoseconds(own.stages.wait);
    all.preprocess_ns = nanoseconds(own.stages.preprocess);
    all.score_ns = nanoseconds(own.stages.score);
    all.verdict_ns = nanoseconds(own.stages.verdict);
    if !all.regions.is_null() {
        all.region_count = own.regions.len().min(all.region_capacity);
        for (i, region) in own.regions.iter().take(all.region_count).enumerate() {
            // SAFETY: the caller's: there is memory for `region_capacity` of them.
            unsafe { all.regions.add(i).write((*region).into()) };
        }
    }
    let wanted = !all.map.is_null();
    let fits = own.map.len() <= all.map_capacity;
    if wanted {
        (all.map_height, all.map_width) = own.map_size;
    }
    if wanted && fits {
        // SAFETY: the caller's: there is memory for `map_capacity` values; they are not the library's own.
        unsafe { std::ptr::copy_nonoverlapping(own.map.as_ptr(), all.map, own.map.len()) };
    }
    // SAFETY: the caller's.
    unsafe { verdict.write(all) };
    if wanted && !fits {
        let (needed, there) = (own.map.len(), all.map_capacity);
        return Err(Failure::argument(format!(
            "verdict.map_capacity: a map of {needed} values does not fit into {there}"
        )));
    }
    Ok(())
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
    let device = unsafe { text(given.device, "options.device") }?.map_or(defaults.device, Into::into);
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
    Ok(Options {
        device,
        precision: precision.map_or(Ok(defaults.precision), str::parse).map_err(inspector::Error::from)?,
        threads: (given.threads > 0).then_some(given.threads as usize),
        regions: given.regions as usize,
        deadline: (given.deadline_ns > 0).then(|| Duration::from_nanos(given.deadline_ns)),
        map,
        roi: roi.map(str::parse).transpose()?,
        key: key.map(|path| PublicKey::read(Path::new(path))).transpose()?,
        ..Options::default()
    })
}
