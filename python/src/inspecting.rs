//! The inspector and its verdicts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use inspector::{Format, MapSize, Options, Roi, Thresholds, Values};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::array::Array;
use crate::{HotadError, key, named, of_frame, raised};

/// Longest deadline in milliseconds: about what a `Duration` holds.
const MOST_DEADLINE: f64 = 1e22;

/// A trained model that inspects frames. One thread at a time may use it; open one for each.
#[pyclass(module = "hotad", frozen)]
pub struct Inspector {
    inspector: Mutex<inspector::Inspector>,
    thresholds: Thresholds,
}

/// A connected component of the map's pixels above the pixel threshold, in pixels of the frame.
#[pyclass(module = "hotad", frozen, get_all)]
#[derive(Clone)]
pub struct Region {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    area: f32,
    center_x: f32,
    center_y: f32,
    peak: f32,
    peak_x: u32,
    peak_y: u32,
}

#[pymethods]
impl Region {
    fn __repr__(&self) -> String {
        let Self { left, top, width, height, peak, .. } = self;
        format!("Region(left={left}, top={top}, width={width}, height={height}, peak={peak})")
    }
}

/// What an inspection says.
#[pyclass(module = "hotad", frozen)]
pub struct Verdict(inspector::Verdict);

#[pymethods]
impl Verdict {
    #[getter]
    fn score(&self) -> f32 {
        self.0.score
    }

    #[getter]
    fn calibrated(&self) -> f32 {
        self.0.calibrated
    }

    #[getter]
    fn label(&self) -> String {
        self.0.label.to_string()
    }

    #[getter]
    fn image_threshold(&self) -> f32 {
        self.0.image_threshold
    }

    #[getter]
    fn pixel_threshold(&self) -> f32 {
        self.0.pixel_threshold
    }

    #[getter]
    fn late(&self) -> bool {
        self.0.late
    }

    #[getter]
    fn stopped_after(&self) -> Option<u32> {
        self.0.stopped_after
    }

    #[getter]
    fn regions(&self) -> Vec<Region> {
        let region = |r: &inspector::Region| Region {
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
        };
        self.0.regions.iter().map(region).collect()
    }

    /// Milliseconds of each stage.
    #[getter]
    fn stages(&self) -> BTreeMap<&'static str, f64> {
        let stages = &self.0.stages;
        let all = [
            ("wait", stages.wait),
            ("preprocess", stages.preprocess),
            ("score", stages.score),
            ("verdict", stages.verdict),
        ];
        all.map(|(name, time)| (name, time.as_secs_f64() * 1e3)).into()
    }

    /// The anomaly map as a read-only array of float32 [rows, columns]; None where none was asked for, and where the deadline had
    /// passed before the frame was inspected.
    #[getter]
    fn map<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (values, (rows, columns)) = (&self.0.map, self.0.map_size);
        if values.is_empty() {
            return Ok(None);
        }
        let bytes = PyBytes::new_with(py, 4 * values.len(), |bytes| {
            let parts = bytes.as_chunks_mut::<4>().0;
            parts.iter_mut().zip(values).for_each(|(to, value)| *to = value.to_ne_bytes());
            Ok(())
        })?;
        let array = py.import("numpy")?.call_method1("frombuffer", (bytes, "float32"))?;
        array.call_method1("reshape", (rows, columns)).map(Some)
    }

    fn __repr__(&self) -> String {
        format!("Verdict(label={:?}, score={})", self.0.label.to_string(), self.0.score)
    }
}

/// A region of interest as text, or several that unite.
#[derive(FromPyObject)]
pub enum Regions {
    One(String),
    Several(Vec<String>),
}

impl Regions {
    pub fn parse(&self) -> PyResult<Roi> {
        let roi = match self {
            Self::One(text) => Roi::parse(&[text]),
            Self::Several(texts) => Roi::parse(texts),
        };
        roi.map_err(raised)?.ok_or_else(|| {
            HotadError::new_err("roi: an empty list; name at least one box, polygon or mask, or give None")
        })
    }
}

/// When a frame arrived that has waited so many milliseconds.
fn arrival(waited_ms: f64) -> PyResult<Instant> {
    let waited = Duration::try_from_secs_f64(waited_ms / 1e3).ok();
    let arrived = waited.and_then(|waited| Instant::now().checked_sub(waited));
    arrived.ok_or_else(|| {
        HotadError::new_err(format!("waited_ms: {waited_ms}; expected a number not below 0 that a clock can go back"))
    })
}

/// A deadline of so many milliseconds.
fn deadline(ms: f64) -> PyResult<Duration> {
    let within = (0.0..=MOST_DEADLINE).contains(&ms).then(|| Duration::from_secs_f64(ms / 1e3));
    within.filter(|deadline| !deadline.is_zero()).ok_or_else(|| {
        HotadError::new_err(format!("deadline_ms: {ms}; expected a finite number above 0, {MOST_DEADLINE:e} at most"))
    })
}

fn format(name: Option<&str>) -> PyResult<Option<Format>> {
    name.map(str::parse).transpose().map_err(raised)
}

impl Inspector {
    /// The inspector, if no other thread uses it.
    fn lock(&self) -> PyResult<MutexGuard<'_, inspector::Inspector>> {
        self.inspector.try_lock().map_err(|error| {
            HotadError::new_err(match error {
                TryLockError::WouldBlock => "another thread uses this inspector; open one for each thread",
                TryLockError::Poisoned(_) => "an earlier call has failed inside; open the model again",
            })
        })
    }
}

#[pymethods]
impl Inspector {
    #[new]
    #[pyo3(signature = (path, *, device = "auto", precision = "f32", threads = None, awake = false, deadline_ms = None, map = "none", regions = None, roi = None, verify_key = None))]
    #[allow(clippy::too_many_arguments)] // by name, in Python
    fn open(
        py: Python<'_>,
        path: PathBuf,
        device: &str,
        precision: &str,
        threads: Option<usize>,
        awake: bool,
        deadline_ms: Option<f64>,
        map: &str,
        regions: Option<usize>,
        roi: Option<Regions>,
        verify_key: Option<PathBuf>,
    ) -> PyResult<Self> {
        let (path, defaults) = (named("path", path)?, Options::default());
        let options = Options {
            device: device.into(),
            precision: precision.parse().map_err(|e| raised(inspector::Error::from(e)))?,
            threads,
            awake,
            deadline: deadline_ms.map(deadline).transpose()?,
            map: match map {
                "none" => MapSize::None,
                "model" => MapSize::Model,
                "frame" => MapSize::Frame,
                other => return Err(HotadError::new_err(format!("map: {other:?}; use none, model or frame"))),
            },
            regions: regions.unwrap_or(defaults.regions),
            roi: roi.map(|roi| roi.parse()).transpose()?,
            key: key(verify_key)?,
            ..defaults
        };
        let inspector = py.detach(|| inspector::Inspector::open(&path, options)).map_err(raised)?;
        Ok(Self { thresholds: inspector.thresholds(), inspector: Mutex::new(inspector) })
    }

    /// Inspects blank frames until all memory is taken and all kernels are compiled that frames of this size need.
    #[pyo3(signature = (height, width, format = "rgb8"))]
    fn warm_up(&self, py: Python<'_>, height: usize, width: usize, format: &str) -> PyResult<()> {
        let format = format.parse().map_err(raised)?;
        py.detach(|| self.lock()?.warm_up(height, width, format).map_err(raised))
    }

    /// Inspects a frame: an array of uint8 or uint16, [rows, columns] or [rows, columns, samples], with any strides. It is read
    /// where it is, without the interpreter's lock; nothing may write to it until the verdict is there. Its deadline counts from
    /// `waited_ms` milliseconds ago.
    #[pyo3(signature = (frame, format = None, *, waited_ms = 0.0))]
    fn inspect(
        &self,
        py: Python<'_>,
        frame: &Bound<'_, PyAny>,
        format: Option<&str>,
        waited_ms: f64,
    ) -> PyResult<Verdict> {
        let arrived = arrival(waited_ms)?;
        let (array, format) = (Array::of(frame)?, self::format(format)?);
        let frame = array.frame(format)?;
        let mut verdict = inspector::Verdict::default();
        py.detach(|| self.lock()?.inspect_arrived(&frame, arrived, &mut verdict).map_err(raised))?;
        Ok(Verdict(verdict))
    }

    /// Inspects frames together; each verdict is the one that its frame alone would get. Their deadline counts from `waited_ms`
    /// milliseconds ago, when the first of them arrived.
    #[pyo3(signature = (frames, format = None, *, waited_ms = 0.0))]
    fn inspect_batch(
        &self,
        py: Python<'_>,
        frames: Vec<Bound<'_, PyAny>>,
        format: Option<&str>,
        waited_ms: f64,
    ) -> PyResult<Vec<Verdict>> {
        let arrived = arrival(waited_ms)?;
        let format = self::format(format)?;
        let count = frames.len();
        let numbered = |index| move |error| of_frame(py, error, index, count);
        let arrays = frames.iter().enumerate().map(|(i, frame)| Array::of(frame).map_err(numbered(i)));
        let arrays = arrays.collect::<PyResult<Vec<_>>>()?;
        let frames = arrays.iter().enumerate().map(|(i, array)| array.frame(format).map_err(numbered(i)));
        let frames = frames.collect::<PyResult<Vec<_>>>()?;
        let mut verdicts = vec![inspector::Verdict::default(); frames.len()];
        py.detach(|| self.lock()?.inspect_batch_arrived(&frames, arrived, &mut verdicts).map_err(raised))?;
        Ok(verdicts.into_iter().map(Verdict).collect())
    }

    /// The image and the pixel threshold that the next frame is judged by.
    #[getter]
    fn thresholds(&self) -> (f32, f32) {
        let Values { image, pixel } = self.thresholds.get();
        (image, pixel)
    }

    /// Changes thresholds; `by` says who does. One that is not given stays.
    #[pyo3(signature = (*, image = None, pixel = None, by))]
    fn set_thresholds(&self, image: Option<f32>, pixel: Option<f32>, by: &str) -> PyResult<()> {
        let now = self.thresholds.get();
        let after = Values { image: image.unwrap_or(now.image), pixel: pixel.unwrap_or(now.pixel) };
        self.thresholds.set(after, by).map(drop).map_err(raised)
    }

    /// All changes of thresholds: seconds since 1970, who, before, after.
    #[allow(clippy::type_complexity)] // a tuple, in Python
    fn threshold_changes(&self) -> Vec<(f64, String, (f32, f32), (f32, f32))> {
        let seconds = |at: std::time::SystemTime| {
            at.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
        };
        let pair = |values: Values| (values.image, values.pixel);
        self.thresholds.changes().into_iter().map(|c| (seconds(c.at), c.by, pair(c.before), pair(c.after))).collect()
    }

    /// What it is of: method, image, device, thresholds, promised false-alarm rate, origin.
    #[getter]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let json = serde_json::to_string(&self.lock()?.info()).expect("plain data");
        py.import("json")?.call_method1("loads", (json,))
    }
}
