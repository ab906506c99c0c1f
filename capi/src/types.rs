//! What crosses the border. Each structure that is passed alone begins with its size, which says its version: fields are only added at
//! its end, a larger structure of a newer header is taken, a smaller one is refused. Elements of arrays (`hotad_region`,
//! `hotad_threshold_change`) have no size and stay as they are.

use std::ffi::c_char;
use std::time::UNIX_EPOCH;

use inspector::{Change, Format, Region};

use crate::memory::name;
use crate::status::Failure;

/// How the samples of a frame lie in memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum hotad_format {
    /// One 8-bit sample a pixel.
    HOTAD_GRAY8 = 0,
    /// One 16-bit sample a pixel, in the byte order of this machine.
    HOTAD_GRAY16 = 1,
    /// Red, green, blue, 8 bits each.
    HOTAD_RGB8 = 2,
    /// Blue, green, red, 8 bits each.
    HOTAD_BGR8 = 3,
    /// Red, green, blue, alpha, 8 bits each.
    HOTAD_RGBA8 = 4,
    /// Blue, green, red, alpha, 8 bits each.
    HOTAD_BGRA8 = 5,
    /// Red, green, blue, 16 bits each.
    HOTAD_RGB16 = 6,
    /// A colour sensor of 8 bits: first row red, green; second green, blue.
    HOTAD_BAYER_RGGB8 = 7,
    /// First row blue, green; second green, red.
    HOTAD_BAYER_BGGR8 = 8,
    /// First row green, red; second blue, green.
    HOTAD_BAYER_GRBG8 = 9,
    /// First row green, blue; second red, green.
    HOTAD_BAYER_GBRG8 = 10,
}

/// The formats by their numbers.
const FORMATS: [Format; 11] = [
    Format::Gray8,
    Format::Gray16,
    Format::Rgb8,
    Format::Bgr8,
    Format::Rgba8,
    Format::Bgra8,
    Format::Rgb16,
    Format::BayerRggb8,
    Format::BayerBggr8,
    Format::BayerGrbg8,
    Format::BayerGbrg8,
];

/// A format by its number.
pub fn format(number: u32) -> Result<Format, Failure> {
    let known = FORMATS.get(number as usize).copied();
    known.ok_or_else(|| Failure::argument(format!("format: {number} is none of hotad_format")))
}

/// What is decided of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum hotad_label {
    /// The score is not above the image threshold.
    HOTAD_NORMAL = 0,
    /// It is.
    HOTAD_ANOMALY = 1,
    /// Not inspected, or not before the deadline.
    HOTAD_UNDECIDED = 2,
}

/// Which map a verdict holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum hotad_map {
    /// None.
    HOTAD_MAP_NONE = 0,
    /// One of the model's size.
    HOTAD_MAP_MODEL = 1,
    /// One of the frame's size.
    HOTAD_MAP_FRAME = 2,
}

/// How frames are inspected. Set it up with `hotad_options_init`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hotad_options {
    /// `sizeof(hotad_options)`.
    pub size: usize,
    /// "auto", "cpu", "cuda:N" or "wgpu:N"; null for "auto".
    pub device: *const c_char,
    /// "f32", "tf32", "f16", "bf16" or "int8"; null for "f32".
    pub precision: *const c_char,
    /// Threads of this inspector's own; 0 to share those of the process, one for each core.
    pub threads: u32,
    /// Most regions of a verdict.
    pub regions: u32,
    /// Most nanoseconds from the call to its verdict, later ones are undecided; 0 for no deadline.
    pub deadline_ns: u64,
    /// Which map verdicts hold: a `hotad_map`.
    pub map: u32,
    /// The region of frames that is looked at, "box:LEFT,TOP,WIDTH,HEIGHT", "polygon:X,Y,X,Y,..." or several with ";" between
    /// them, or "mask:FILE"; null for that of the model file.
    pub roi: *const c_char,
    /// File with the public key (PEM) that the model file has to be signed by; null where none is asked for.
    pub verify_key: *const c_char,
    /// 1 to have the inspector's threads spin: they look for work all the time, so that none has to be woken for a frame, and take the
    /// whole time of their cores; a second after the last frame they begin to look every millisecond only. Without a number of threads
    /// there is one for each core. 0 not to.
    pub awake: u32,
    /// 0.
    pub reserved: u32,
}

/// An image in memory of the caller's, who keeps it unchanged during the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hotad_frame {
    /// `sizeof(hotad_frame)`.
    pub size: usize,
    /// The first pixel of the first row.
    pub data: *const u8,
    /// Bytes that may be read from there on.
    pub data_size: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes from a row to the next.
    pub stride: usize,
    /// A `hotad_format`.
    pub format: u32,
    /// Nanoseconds since the frame arrived, from which its deadline counts; 0 for one that arrives with the call.
    pub waited_ns: u64,
}

/// A connected component of the map's pixels above the pixel threshold, in pixels of the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct hotad_region {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Pixels.
    pub area: f32,
    /// Column of the centre of its pixels, the middle of the first column being 0.5.
    pub center_x: f32,
    /// Row of it.
    pub center_y: f32,
    /// Largest value of the map within.
    pub peak: f32,
    /// Column of that value.
    pub peak_x: u32,
    /// Row of it.
    pub peak_y: u32,
}

impl From<Region> for hotad_region {
    fn from(r: Region) -> Self {
        Self {
            left: r.left,
            top: r.top,
            width: r.width,
            height: r.height,
            area: r.area,
            center_x: r.center_x,
            center_y: r.center_y,
            peak: r.peak,
            peak_x: r.peak_x,
            peak_y: r.peak_y,
        }
    }
}

/// What an inspection says. The caller sets the first five fields and keeps the memory that they point to; the library fills the
/// rest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hotad_verdict {
    /// `sizeof(hotad_verdict)`.
    pub size: usize,
    /// Memory for regions; null where none are wanted.
    pub regions: *mut hotad_region,
    /// Regions that fit there.
    pub region_capacity: usize,
    /// Memory for the map, row by row; null where none is wanted. Unchanged where there is no map.
    pub map: *mut f32,
    /// Values that fit there.
    pub map_capacity: usize,
    /// Larger is more anomalous; NaN where the frame was not inspected.
    pub score: f32,
    /// The score on a scale from 0 to 1 that is 0.5 at the threshold; NaN where the frame was not inspected.
    pub calibrated: f32,
    /// The image threshold that the score was compared with.
    pub image_threshold: f32,
    /// The pixel threshold that the regions lie above.
    pub pixel_threshold: f32,
    /// A `hotad_label`.
    pub label: u32,
    /// For a method that goes on in steps and was stopped by the deadline: steps done; else -1.
    pub stopped_after: i64,
    /// 1 where the verdict came after the deadline, or the frame could not be inspected before it; else 0.
    pub late: u32,
    /// Regions that were written, those with the highest peaks first.
    pub region_count: usize,
    /// Columns of the map, also of one that did not fit; 0 for none: where the options ask for none, or the deadline had passed before
    /// the frame was inspected.
    pub map_width: usize,
    /// Rows of it.
    pub map_height: usize,
    /// Nanoseconds that the frame waited to be inspected.
    pub wait_ns: u64,
    /// Nanoseconds of bringing it to the model's format and size.
    pub preprocess_ns: u64,
    /// Nanoseconds of the model.
    pub score_ns: u64,
    /// Nanoseconds of label, regions and map.
    pub verdict_ns: u64,
}

/// A change of thresholds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hotad_threshold_change {
    /// When: nanoseconds since the beginning of 1970 (UTC).
    pub at_ns: u64,
    /// The image threshold before.
    pub image_before: f32,
    /// The pixel threshold before.
    pub pixel_before: f32,
    /// The image threshold since.
    pub image_after: f32,
    /// The pixel threshold since.
    pub pixel_after: f32,
    /// Who, as `hotad_set_thresholds` was told, ended by a zero; cut where it is longer.
    pub by: [c_char; 64],
}

impl From<&Change> for hotad_threshold_change {
    fn from(change: &Change) -> Self {
        let since = change.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            at_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            image_before: change.before.image,
            pixel_before: change.before.pixel,
            image_after: change.after.image,
            pixel_after: change.after.pixel,
            by: name(&change.by),
        }
    }
}

/// What an inspector is of.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hotad_info {
    /// `sizeof(hotad_info)`.
    pub size: usize,
    /// Columns of the images that the model takes; frames are brought to it.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (gray) or 3 (colour).
    pub channels: usize,
    /// The image threshold of the model file.
    pub image_threshold: f32,
    /// The pixel threshold of the model file.
    pub pixel_threshold: f32,
    /// Share of normal images that the image threshold may call anomalies.
    pub false_alarm_rate: f64,
    /// Share that the images it comes from can promise; 0 where that is not known.
    pub promised_false_alarm_rate: f64,
    /// Name of the method, ended by a zero.
    pub method: [c_char; 32],
    /// Name of the device, ended by a zero.
    pub device: [c_char; 32],
}
