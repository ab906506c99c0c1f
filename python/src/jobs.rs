//! Training, calibrating and evaluating: the jobs that the command line runs, with callbacks.

use std::path::PathBuf;

use inspector::jobs::{Begin, CalibrateJob, EvaluateJob, MOST_BATCH, TrainJob};
use inspector::{Calibration, Corrupt, Corruption, Device, OnBroken};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;

use crate::inspecting::Regions;
use crate::running::run;
use crate::{HotadError, key, named, raised};

/// Plain data as Python's own.
fn plain<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let json = serde_json::to_string(value).expect("plain data");
    py.import("json")?.call_method1("loads", (json,))
}

/// A dictionary of settings.
fn table(py: Python<'_>, settings: Option<Py<PyAny>>) -> PyResult<toml::Table> {
    let Some(settings) = settings else { return Ok(toml::Table::new()) };
    let dumps = py.import("json")?.getattr("dumps")?;
    let json: String = dumps.call1((&settings,))?.extract()?;
    serde_json::from_str(&json).map_err(|_| {
        let strict = PyDict::new(py);
        let finite = strict.set_item("allow_nan", false).and_then(|()| dumps.call((&settings,), Some(&strict)));
        HotadError::new_err(match finite {
            Ok(_) => "settings: expected a dictionary of numbers, texts and lists",
            Err(_) => "settings: numbers must be finite",
        })
    })
}

fn device(name: &str, precision: &str) -> PyResult<Device> {
    let precision = precision.parse().map_err(|e| raised(inspector::Error::from(e)))?;
    Device::open(name).and_then(|device| device.with_precision(precision)).map_err(|e| raised(e.into()))
}

/// What to do with a broken image, by its name.
fn on_broken(name: Option<&str>, default: OnBroken) -> PyResult<OnBroken> {
    name.map_or(Ok(default), str::parse).map_err(raised)
}

/// How training begins where a model or a checkpoint is there.
fn begin(resume: bool, force: bool) -> PyResult<Begin> {
    match (resume, force) {
        (true, true) => Err(HotadError::new_err(
            "force: resume is set too; resume continues from the checkpoint, force writes over it, so set one of them",
        )),
        (true, false) => Ok(Begin::Resume),
        (false, true) => Ok(Begin::Over),
        (false, false) => Ok(Begin::Afresh),
    }
}

/// Images scored together.
fn batch(number: Option<usize>, default: usize) -> PyResult<usize> {
    let number = number.unwrap_or(default);
    if (1..=usize::from(MOST_BATCH)).contains(&number) {
        return Ok(number);
    }
    Err(HotadError::new_err(format!("batch: {number} is out of range; use 1 to {MOST_BATCH}")))
}

/// Trains a method on a data set, finds its thresholds and writes the model file; returns the thresholds.
#[pyfunction]
#[pyo3(signature = (method, data, out, *, settings = None, members = None, init = None, roi = None, group = None, holdout = None,
    defective_share = None, false_alarm_rate = None, pixel_false_alarm_rate = None, on_broken = None, seed = None, device = "auto",
    precision = "f32", resume = false, force = false, progress = None, log = None))]
#[allow(clippy::too_many_arguments)] // by name, in Python
pub fn train<'py>(
    py: Python<'py>,
    method: &str,
    data: PathBuf,
    out: PathBuf,
    settings: Option<Py<PyAny>>,
    members: Option<Vec<PathBuf>>,
    init: Option<PathBuf>,
    roi: Option<Regions>,
    group: Option<String>,
    holdout: Option<f64>,
    defective_share: Option<f64>,
    false_alarm_rate: Option<f64>,
    pixel_false_alarm_rate: Option<f64>,
    on_broken: Option<&str>,
    seed: Option<u64>,
    device: &str,
    precision: &str,
    resume: bool,
    force: bool,
    progress: Option<Py<PyAny>>,
    log: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let defaults = TrainJob::new(method, named("data", data)?);
    let members = members.unwrap_or_default().into_iter().map(|member| named("members", member));
    let job = TrainJob {
        settings: table(py, settings)?,
        members: members.collect::<PyResult<_>>()?,
        init: init.map(|init| named("init", init)).transpose()?,
        roi: roi.map(|roi| roi.parse()).transpose()?,
        group: group.unwrap_or(defaults.group.clone()),
        holdout: holdout.unwrap_or(defaults.holdout),
        defective_share,
        false_alarm_rate: false_alarm_rate.unwrap_or(defaults.false_alarm_rate),
        pixel_false_alarm_rate,
        on_broken: self::on_broken(on_broken, defaults.on_broken)?,
        seed: seed.unwrap_or(defaults.seed),
        device: self::device(device, precision)?,
        out: Some(named("out", out)?),
        begin: begin(resume, force)?,
        ..defaults
    };
    job.check().map_err(raised)?;
    let model = run(py, progress, log, |observer| job.run(observer))?;
    plain(py, &model.calibration)
}

/// Finds the thresholds of a model anew, from new normal images or labelled ones, and writes them into its file or another, which is
/// written over on request (`force`); returns them before and after.
#[pyfunction]
#[pyo3(signature = (model, data, out = None, *, force = false, verify_key = None, false_alarm_rate = None, pixel_false_alarm_rate = None,
    f1 = false, group = None, on_broken = None, seed = None, device = "auto", precision = "f32", progress = None, log = None))]
#[allow(clippy::too_many_arguments)] // by name, in Python
pub fn calibrate<'py>(
    py: Python<'py>,
    model: PathBuf,
    data: PathBuf,
    out: Option<PathBuf>,
    force: bool,
    verify_key: Option<PathBuf>,
    false_alarm_rate: Option<f64>,
    pixel_false_alarm_rate: Option<f64>,
    f1: bool,
    group: Option<String>,
    on_broken: Option<&str>,
    seed: Option<u64>,
    device: &str,
    precision: &str,
    progress: Option<Py<PyAny>>,
    log: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if f1 && (false_alarm_rate.is_some() || pixel_false_alarm_rate.is_some()) {
        return Err(HotadError::new_err(
            "f1: thresholds then follow from labels alone; leave out false_alarm_rate and pixel_false_alarm_rate",
        ));
    }
    let defaults = CalibrateJob::new(named("model", model)?, named("data", data)?);
    let job = CalibrateJob {
        key: key(verify_key)?,
        out: out.map(|out| named("out", out)).transpose()?,
        force,
        false_alarm_rate: false_alarm_rate.unwrap_or(defaults.false_alarm_rate),
        pixel_false_alarm_rate,
        f1,
        group: group.unwrap_or(defaults.group.clone()),
        on_broken: self::on_broken(on_broken, defaults.on_broken)?,
        seed: seed.unwrap_or(defaults.seed),
        device: self::device(device, precision)?,
        ..defaults
    };
    job.check().map_err(raised)?;
    let done = run(py, progress, log, |observer| job.run(observer))?;
    let both: (&Calibration, &Calibration) = (&done.before, &done.model.calibration);
    Ok((plain(py, both.0)?, plain(py, both.1)?))
}

/// Metrics of a model on a labelled data set, as `hotad eval --json` prints them.
#[pyfunction]
#[pyo3(signature = (model, data, *, verify_key = None, settings = None, corrupt = None, group = None, on_broken = None, batch = None,
    seed = None, device = "auto", precision = "f32", progress = None, log = None))]
#[allow(clippy::too_many_arguments)] // by name, in Python
pub fn evaluate<'py>(
    py: Python<'py>,
    model: PathBuf,
    data: PathBuf,
    verify_key: Option<PathBuf>,
    settings: Option<Py<PyAny>>,
    corrupt: Option<&str>,
    group: Option<String>,
    on_broken: Option<&str>,
    batch: Option<usize>,
    seed: Option<u64>,
    device: &str,
    precision: &str,
    progress: Option<Py<PyAny>>,
    log: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let defaults = EvaluateJob::new(named("model", model)?, named("data", data)?);
    let seed = seed.unwrap_or(defaults.seed);
    let corruption =
        corrupt.map(|name| name.parse::<Corruption>().map_err(|hint| format!("corrupt: {name:?}; {hint}")));
    let kind = corruption.transpose().map_err(HotadError::new_err)?;
    let job = EvaluateJob {
        key: key(verify_key)?,
        settings: table(py, settings)?,
        corrupt: kind.map(|kind| Corrupt { kind, seed }),
        group: group.unwrap_or(defaults.group.clone()),
        on_broken: self::on_broken(on_broken, defaults.on_broken)?,
        batch: self::batch(batch, defaults.batch)?,
        seed,
        device: self::device(device, precision)?,
        ..defaults
    };
    let evaluation = run(py, progress, log, |observer| job.run(observer))?;
    plain(py, &evaluation.metrics)
}
