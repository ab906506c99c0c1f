//! A trained model that inspects frames.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotad_engine::data::frame::{Format, Frame};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::data::preprocess::Preprocessor;
use hotad_engine::data::roi::{Bounds, Roi};
use hotad_engine::device::Device;
use hotad_engine::model_file::{ModelFile, Provenance};
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::{Pool, check_process, pooled};
use hotad_engine::until::Until;
use hotad_engine::{Error, Result};
use hotad_kernels::device::{Buffer, HostBuffer};
use hotad_models::detector::{Score, Scores};
use hotad_models::model::Model;
use serde::Serialize;

use crate::enlarger::Enlarger;
use crate::options::{MapSize, Options};
use crate::regions::{Placement, Regions};
use crate::thresholds::{Thresholds, Values};
use crate::verdict::{Label, Verdict};

/// What an inspector is of.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Version of this library.
    pub version: &'static str,
    /// The method that the model was trained with.
    pub method: String,
    /// Rows, columns and channels of the images that the model takes; frames are brought to it.
    pub image: ImageSpec,
    /// The region of frames that is looked at; none where all of them is.
    pub roi: Option<Roi>,
    /// Where it computes.
    pub device: String,
    /// The image threshold of the model file.
    pub image_threshold: f32,
    /// The pixel threshold of the model file.
    pub pixel_threshold: f32,
    /// Share of normal images that the image threshold may call anomalies.
    pub false_alarm_rate: f64,
    /// Share that the images it comes from can promise; 0 where that is not known.
    pub promised_false_alarm_rate: f64,
    /// Origin of the model.
    pub provenance: Provenance,
}

/// A trained model that inspects frames: opened once, used by one thread at a time. Another thread may change the
/// [`Thresholds`] meanwhile; to inspect on several threads at once, open an inspector on each.
pub struct Inspector {
    model: Model,
    options: Options,
    pool: Option<Arc<Pool>>,
    thresholds: Thresholds,
    preprocessor: Preprocessor,
    regions: Regions,
    enlarger: Enlarger,
}

impl Inspector {
    /// Reads a model file.
    ///
    /// # Errors
    /// Options out of range, a device that is not there, a file that is no model, damaged, of a newer format or not signed as
    /// it has to be.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        options.check()?;
        let device = Device::open(&options.device)?.with_precision(options.precision)?;
        let file = match &options.key {
            Some(key) => ModelFile::load_signed(path, key)?,
            None => ModelFile::load(path)?,
        };
        let pool = options.pool()?.map(Arc::new);
        check_process(pool.as_deref())?;
        let model = on_threads(pool.as_deref(), || Model::of_file(&file, &device));
        let model = model.map_err(|e| Error::Model { path: path.into(), reason: e.to_string() })?;
        Ok(Self::of_model(model, options, pool))
    }

    fn of_model(mut model: Model, options: Options, pool: Option<Arc<Pool>>) -> Self {
        model.roi = options.roi.clone().or(model.roi);
        let spec = model.detector.image();
        let (image, pixel) = (model.calibration.image_threshold, model.calibration.pixel_threshold);
        let mut regions = Regions::default();
        regions.reserve(spec.width, spec.height);
        Self {
            preprocessor: Preprocessor::new(spec).within(model.roi.clone()),
            model,
            options,
            pool,
            thresholds: Thresholds::new(Values { image, pixel }),
            regions,
            enlarger: Enlarger::default(),
        }
    }

    /// What it is of.
    pub fn info(&self) -> Info {
        let calibration = &self.model.calibration;
        Info {
            version: env!("CARGO_PKG_VERSION"),
            method: self.model.method.into(),
            image: self.model.detector.image(),
            roi: self.model.roi.clone(),
            device: self.model.device.name().into(),
            image_threshold: calibration.image_threshold,
            pixel_threshold: calibration.pixel_threshold,
            false_alarm_rate: calibration.image_false_alarm_rate,
            promised_false_alarm_rate: calibration.promised_false_alarm_rate,
            provenance: self.model.provenance.clone(),
        }
    }

    /// The thresholds that frames are judged by: those of the model file until they are changed.
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds.clone()
    }

    /// Inspects blank frames until all kernels are compiled and memory is taken that frames of this size need: three, and up to 40
    /// within half a second, so that every thread has had every part of the work.
    ///
    /// # Errors
    /// As [`Inspector::inspect`].
    pub fn warm_up(&mut self, height: usize, width: usize, format: Format) -> Result<()> {
        self.warm_up_with(height, width, format, &mut Verdict::default())
    }

    /// [`Inspector::warm_up`] with a verdict that is used for frames afterwards, so that its memory is taken too.
    ///
    /// # Errors
    /// As [`Inspector::inspect`].
    pub fn warm_up_with(&mut self, height: usize, width: usize, format: Format, verdict: &mut Verdict) -> Result<()> {
        Frame::check_size(height, width)?;
        let stride = width * format.pixel_bytes();
        let mut blank = Vec::new();
        reserve(&mut blank, stride * height)?;
        blank.resize(stride * height, 0x80);
        let frame = Frame::new(&blank, height, width, stride, format)?;
        let whenever = Timing { arrived: Instant::now(), deadline: None };
        let begun = Instant::now();
        (0..MOST_WARM_UPS)
            .take_while(|done| *done < WARM_UPS || begun.elapsed() < WARM_UP)
            .try_for_each(|_| self.inspect_all(std::slice::from_ref(&frame), whenever, std::slice::from_mut(verdict)))
    }

    /// Inspects a frame that arrives now.
    ///
    /// # Errors
    /// When the model scores it with numbers that are not finite, or what went wrong on the device; the verdict is then
    /// undecided.
    pub fn inspect(&mut self, frame: &Frame, verdict: &mut Verdict) -> Result<()> {
        self.inspect_arrived(frame, Instant::now(), verdict)
    }

    /// Inspects a frame that arrived at some time; one whose deadline has passed is not inspected, but undecided at once.
    ///
    /// # Errors
    /// As [`Inspector::inspect`].
    pub fn inspect_arrived(&mut self, frame: &Frame, arrived: Instant, verdict: &mut Verdict) -> Result<()> {
        self.inspect_batch_arrived(std::slice::from_ref(frame), arrived, std::slice::from_mut(verdict))
    }

    /// Inspects frames together, of any sizes and formats, that arrive now. Each verdict is the one that its frame alone would
    /// get; times are of the whole batch.
    ///
    /// # Errors
    /// When there are not as many verdicts as frames, and as [`Inspector::inspect`], with the number of the frame; all verdicts
    /// are then undecided.
    pub fn inspect_batch(&mut self, frames: &[Frame], verdicts: &mut [Verdict]) -> Result<()> {
        self.inspect_batch_arrived(frames, Instant::now(), verdicts)
    }

    /// [`Inspector::inspect_batch`] of frames of which the first arrived at some time; where its deadline has passed, none is
    /// inspected and all are undecided at once.
    ///
    /// # Errors
    /// As [`Inspector::inspect_batch`].
    pub fn inspect_batch_arrived(
        &mut self,
        frames: &[Frame],
        arrived: Instant,
        verdicts: &mut [Verdict],
    ) -> Result<()> {
        let timing = Timing { arrived, deadline: self.options.deadline };
        self.inspect_all(frames, timing, verdicts)
    }

    fn inspect_all(&mut self, frames: &[Frame], timing: Timing, verdicts: &mut [Verdict]) -> Result<()> {
        verdicts.iter_mut().for_each(Verdict::clear);
        if frames.len() != verdicts.len() {
            return Err(Error::Frame(format!("{} frames for {} verdicts", frames.len(), verdicts.len())));
        }
        if frames.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let wait = started.saturating_duration_since(timing.arrived);
        if timing.deadline.is_some_and(|deadline| wait >= deadline) {
            for verdict in verdicts {
                (verdict.late, verdict.stages.wait) = (true, wait);
            }
            return Ok(());
        }
        let pool = self.pool.clone();
        check_process(pool.as_deref())?;
        on_threads(pool.as_deref(), || self.inspect_now(frames, timing, started, verdicts))
    }

    /// Inspects frames that are started with now.
    fn inspect_now(
        &mut self,
        frames: &[Frame],
        timing: Timing,
        started: Instant,
        verdicts: &mut [Verdict],
    ) -> Result<()> {
        let images = self.preprocessed(frames)?;
        let preprocessed = Instant::now();
        let until = timing.until();
        let scores = self.scores(&images, &until)?;
        let scored = Instant::now();
        for ((frame, score), verdict) in frames.iter().zip(scores).zip(verdicts.iter_mut()) {
            self.judge(frame, score, verdict)?;
            verdict.stopped_after = until.stopped_after();
        }
        let end = Instant::now();
        for verdict in verdicts {
            let stages = &mut verdict.stages;
            stages.wait = started.saturating_duration_since(timing.arrived);
            stages.preprocess = preprocessed - started;
            (stages.score, stages.verdict) = (scored - preprocessed, end - scored);
            if timing.deadline.is_some_and(|deadline| stages.total() > deadline) {
                (verdict.late, verdict.label) = (true, Label::Undecided);
            }
        }
        Ok(())
    }

    /// Frames as the model takes them: `[n, height, width, channels]`.
    fn preprocessed(&mut self, frames: &[Frame]) -> Result<Tensor> {
        let spec = self.model.detector.image();
        let mut values = HostBuffer::try_uninit(frames.len() * spec.len())?;
        for (i, (frame, values)) in frames.iter().zip(values.chunks_exact_mut(spec.len())).enumerate() {
            self.preprocessor.run(frame, values).map_err(|e| e.of_frame(i, frames.len()))?;
        }
        Tensor::from_buffer(Buffer::Host(values), &[frames.len(), spec.height, spec.width, spec.channels])
    }

    fn scores(&self, images: &Tensor, until: &Until) -> Result<Scores> {
        let scores = self.model.score_until(images, until)?;
        let Some(index) = scores.iter().position(|score| !score.is_finite()) else { return Ok(scores) };
        let reason = "the model scores it with numbers that are not finite; train the model again";
        Err(Error::Frame(reason.into()).of_frame(index, scores.len()))
    }

    /// Fills a verdict but for its times.
    fn judge(&mut self, frame: &Frame, mut score: Score, verdict: &mut Verdict) -> Result<()> {
        let Values { image, pixel } = self.thresholds.get();
        let spec = self.model.detector.image();
        verdict.score = score.value;
        verdict.calibrated = self.model.calibration.calibrated_at(score.value, image);
        verdict.label = if score.value > image { Label::Anomaly } else { Label::Normal };
        (verdict.image_threshold, verdict.pixel_threshold) = (image, pixel);
        let normal = self.model.calibration.normal_pixel;
        if self.options.map == MapSize::Frame {
            verdict.map_size = (frame.height(), frame.width());
            let roi = self.model.roi.as_ref().map(|roi| (roi, normal));
            self.enlarger.run(
                &score.map.values,
                (score.map.height, score.map.width),
                roi,
                verdict.map_size,
                &mut verdict.map,
            )?;
        }
        let outside = |map: &mut [f32], value: f32| {
            if let Some(roi) = &self.model.roi {
                roi.for_each_outside((spec.height, spec.width), |at| map[at] = value);
            }
        };
        // No region lies outside, whatever the threshold.
        outside(&mut score.map.values, f32::NEG_INFINITY);
        let (place, most) = (self.placement(frame), self.options.regions.min(Regions::most(spec.width, spec.height)));
        verdict.regions.reserve(most);
        self.regions.find(&score.map.values, spec.width, pixel, place, most, &mut verdict.regions);
        if self.options.map == MapSize::Model {
            outside(&mut score.map.values, normal);
            verdict.map.extend_from_slice(&score.map.values);
            verdict.map_size = (spec.height, spec.width);
        }
        Ok(())
    }

    /// Where maps of the model lie in a frame.
    fn placement(&self, frame: &Frame) -> Placement {
        match &self.model.roi {
            None => Placement { origin: (0, 0), covers: (frame.width(), frame.height()) },
            Some(roi) => {
                let Bounds { left, top, width, height } = roi.bounds();
                Placement { origin: (left, top), covers: (width, height) }
            }
        }
    }
}

/// When frames arrived, and how long their verdicts may take from then on.
#[derive(Clone, Copy)]
struct Timing {
    arrived: Instant,
    deadline: Option<Duration>,
}

impl Timing {
    /// The moment of the deadline; one that no clock reaches is none.
    fn until(&self) -> Until {
        let moment = self.deadline.and_then(|deadline| self.arrived.checked_add(deadline));
        moment.map_or_else(Until::done, Until::moment)
    }
}

/// Frames of a warm-up at least: the second finds the memory of the first.
const WARM_UPS: usize = 3;

/// Frames of a warm-up at most: threads share the work as it comes, and each keeps memory for what it has had.
const MOST_WARM_UPS: usize = 40;

/// Time after which a warm-up ends that has inspected enough.
const WARM_UP: Duration = Duration::from_millis(500);

/// Runs work on threads of its own, or else on those that the process shares.
fn on_threads<R: Send>(pool: Option<&Pool>, work: impl FnOnce() -> R + Send) -> R {
    match pool {
        Some(pool) => pool.run(work),
        None => pooled(work),
    }
}

/// Takes memory for so many more values.
///
/// # Errors
/// When there is none.
pub(crate) fn reserve<T>(values: &mut Vec<T>, more: usize) -> Result<()> {
    let bytes = more.saturating_mul(size_of::<T>()) >> 20;
    values
        .try_reserve(more)
        .map_err(|_| Error::Device(format!("cpu: out of memory: {bytes} MiB more could not be had")))
}
