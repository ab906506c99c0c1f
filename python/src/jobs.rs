//! Training, calibrating and evaluating: the jobs that the command line runs, with callbacks.

use std::path::PathBuf;
use std::sync::{Mutex, TryLockError};

use inspector::jobs::{Begin, CalibrateJob, EvaluateJob, TrainJob};
use inspector::observer::{Observer, Progress};
use inspector::{Calibration, Corrupt, Corruption, Device, OnBroken, PublicKey, Result, interrupt};
use pyo3::prelude::*;
use serde::Serialize;

use crate::inspecting::Regions;
use crate::{HotadError, raised};

/// What Python is told while a job runs.
struct Callbacks {
    /// Called with task, units done and units in all; an answer of `False` stops the job.
    progress: Option<Py<PyAny>>,
    /// Called with a line.
    log: Option<Py<PyAny>>,
    /// What a callback, or a signal such as Ctrl-C, has raised.
    raised: Mutex<Option<PyErr>>,
}

impl Callbacks {
    /// Calls into Python; an exception stops the job and is kept.
    fn call(&self, work: impl FnOnce(Python<'_>) -> PyResult<bool>) {
        let outcome = Python::attach(|py| py.check_signals().and_then(|()| work(py)));
        if matches!(outcome, Ok(true)) {
            return;
        }
        interrupt::request();
        if let (Err(error), Ok(mut kept)) = (outcome, self.raised.lock()) {
            kept.get_or_insert(error);
        }
    }

    fn line(&self, line: &str) {
        self.call(|py| self.log.as_ref().map_or(Ok(()), |log| log.call1(py, (line,)).map(drop)).map(|()| true));
    }
}

impl Observer for Callbacks {
    fn say(&self, line: &str) {
        self.line(line);
    }

    fn warn(&self, warning: &str) {
        self.line(&format!("warning: {warning}"));
    }

    fn progress(&self, progress: &Progress) {
        self.call(|py| {
            let Some(callback) = &self.progress else { return Ok(true) };
            let answer = callback.call1(py, (progress.task, progress.done, progress.total))?;
            Ok(answer.bind(py).is_none() || answer.is_truthy(py)?)
        });
    }
}

/// Runs a job without the interpreter's lock. An exception of a callback comes before the error that it has led to.
fn run<R: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    log: Option<Py<PyAny>>,
    job: impl FnOnce(&dyn Observer) -> Result<R> + Send,
) -> PyResult<R> {
    // A stop is a flag of the whole process.
    static RUNNING: Mutex<()> = Mutex::new(());
    let _running = match RUNNING.try_lock() {
        Err(TryLockError::WouldBlock) => {
            return Err(HotadError::new_err("another job runs in this process; wait for its end"));
        }
        running => running,
    };
    let callbacks = Callbacks { progress, log, raised: Mutex::new(None) };
    let outcome = py.detach(|| {
        interrupt::withdraw();
        let outcome = job(&callbacks);
        interrupt::withdraw();
        outcome
    });
    match callbacks.raised.into_inner().ok().flatten() {
        Some(error) => Err(error),
        None => outcome.map_err(raised),
    }
}

/// Plain data as Python's own.
fn plain<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let json = serde_json::to_string(value).expect("plain data");
    py.import("json")?.call_method1("loads", (json,))
}

/// A dictionary of settings.
fn table(py: Python<'_>, settings: Option<Py<PyAny>>) -> PyResult<toml::Table> {
    let Some(settings) = settings else { return Ok(toml::Table::new()) };
    let json: String = py.import("json")?.call_method1("dumps", (settings,))?.extract()?;
    serde_json::from_str(&json)
        .map_err(|_| HotadError::new_err("settings: expected a dictionary of numbers, texts and lists"))
}

fn device(name: &str, precision: &str) -> PyResult<Device> {
    let precision = precision.parse().map_err(|e| raised(inspector::Error::from(e)))?;
    Device::open(name).and_then(|device| device.with_precision(precision)).map_err(|e| raised(e.into()))
}

/// What to do with a broken image, by its name.
fn on_broken(name: Option<&str>, default: OnBroken) -> PyResult<OnBroken> {
    name.map_or(Ok(default), str::parse).map_err(raised)
}

/// The key of a file.
fn key(path: Option<PathBuf>) -> PyResult<Option<PublicKey>> {
    path.map(|path| PublicKey::read(&path)).transpose().map_err(raised)
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
    let defaults = TrainJob::new(method, data);
    let job = TrainJob {
        settings: table(py, settings)?,
        members: members.unwrap_or_default(),
        init,
        roi: roi.map_or(Ok(None), |roi| roi.parse()).map_err(raised)?,
        group: group.unwrap_or(defaults.group.clone()),
        holdout: holdout.unwrap_or(defaults.holdout),
        defective_share: defective_share.unwrap_or(defaults.defective_share),
        false_alarm_rate: false_alarm_rate.unwrap_or(defaults.false_alarm_rate),
        pixel_false_alarm_rate,
        on_broken: self::on_broken(on_broken, defaults.on_broken)?,
        seed: seed.unwrap_or(defaults.seed),
        device: self::device(device, precision)?,
        out: Some(out),
        begin: match (resume, force) {
            (true, _) => Begin::Resume,
            (false, true) => Begin::Over,
            (false, false) => Begin::Afresh,
        },
        ..defaults
    };
    job.check().map_err(raised)?;
    let model = run(py, progress, log, |observer| job.run(observer))?;
    plain(py, &model.calibration)
}

/// Finds the thresholds of a model anew, from new normal images or labelled ones, and writes them into its file or another;
/// returns them before and after.
#[pyfunction]
#[pyo3(signature = (model, data, out = None, *, verify_key = None, false_alarm_rate = None, pixel_false_alarm_rate = None, f1 = false,
    group = None, on_broken = None, seed = None, device = "auto", precision = "f32", progress = None, log = None))]
#[allow(clippy::too_many_arguments)] // by name, in Python
pub fn calibrate<'py>(
    py: Python<'py>,
    model: PathBuf,
    data: PathBuf,
    out: Option<PathBuf>,
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
    let defaults = CalibrateJob::new(model, data);
    let job = CalibrateJob {
        key: key(verify_key)?,
        out,
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
    let defaults = EvaluateJob::new(model, data);
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
        batch: batch.unwrap_or(defaults.batch),
        seed,
        device: self::device(device, precision)?,
        ..defaults
    };
    let evaluation = run(py, progress, log, |observer| job.run(observer))?;
    plain(py, &evaluation.metrics)
}
