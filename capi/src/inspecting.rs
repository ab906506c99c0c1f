//! Frames and verdicts across the border.

use std::time::{Duration, Instant};

use inspector::{Frame, Label, Verdict};
use smallvec::SmallVec;

use crate::Outcome;
use crate::handles::{self, Opened};
use crate::memory::{sized, write};
use crate::status::Failure;
use crate::types::{self, hotad_frame, hotad_label, hotad_verdict};

/// Inspects frames.
///
/// # Safety
/// As for `hotad_inspect`, of each pointer.
pub unsafe fn inspect(inspector: u64, frames: &[*const hotad_frame], verdicts: &[*mut hotad_verdict]) -> Outcome {
    for verdict in verdicts {
        // SAFETY: the caller's.
        unsafe { undecided(*verdict) }?;
    }
    let open = handles::get(inspector)?;
    open.with(|Opened { inspector, verdicts: own }| {
        own.resize_with(frames.len().max(own.len()), Verdict::default);
        let own = &mut own[..frames.len()];
        let mut longest = Duration::ZERO;
        let numbered = |(i, frame): (usize, &*const hotad_frame)| {
            // SAFETY: the caller's.
            let (frame, waited) = unsafe { frame_of(*frame) }.map_err(|e| e.of_frame(i, frames.len()))?;
            longest = longest.max(waited);
            Ok(frame)
        };
        let given: SmallVec<[Frame; 16]> = frames.iter().enumerate().map(numbered).collect::<Result<_, Failure>>()?;
        inspector.inspect_batch_arrived(&given, arrival(longest)?, own)?;
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
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
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
