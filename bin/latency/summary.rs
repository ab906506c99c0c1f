//! What was measured, and how it is told.

use std::time::Duration;

use hdrhistogram::Histogram;
use hotad::{Format, ImageSpec, Inspector, Verdict};
use hotad_engine::device::devices;
use hotad_engine::{Error, Result};
use serde::Serialize;

use super::frames::Source;
use super::process::Process;
use crate::args::BenchArgs;

/// Parts that the time of a run is cut into, for the picture.
const SLICES: usize = 240;

/// Longest latency that is told from a longer one, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// Stages of an inspection, in their order, the whole first.
pub const STAGES: [&str; 6] = ["total", "wait", "decode", "preprocess", "score", "verdict"];

/// Latencies of frames that arrived one after the other.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Slice {
    /// Frames.
    pub frames: u64,
    /// Mean of their latencies, in milliseconds.
    pub mean_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Latencies, all together and over time.
pub struct Latencies {
    /// By stage, in nanoseconds.
    pub stages: [Histogram<u64>; STAGES.len()],
    /// In the order of time.
    pub slices: Vec<Slice>,
}

/// What is counted while frames arrive.
pub struct Measured {
    /// Latencies of frames.
    pub latencies: Latencies,
    /// Frames that were inspected too late or not at all.
    pub missed: u64,
    /// Growth of the process's counters.
    pub process: Process,
    frames: u64,
    expected: u64,
}

impl Measured {
    /// Of so many frames.
    pub fn new(expected: u64) -> Result<Self> {
        let histogram = || Histogram::new_with_max(LONGEST, 3).map_err(|e| Error::Config(format!("histogram: {e}")));
        let [a, b, c, d, e, f] = [(); STAGES.len()].map(|()| histogram());
        let latencies = Latencies { stages: [a?, b?, c?, d?, e?, f?], slices: vec![Slice::default(); SLICES] };
        Ok(Self { latencies, missed: 0, process: Process::default(), frames: 0, expected })
    }

    /// Counts a frame.
    pub fn take(&mut self, verdict: &Verdict, decode: Duration) {
        let stages = verdict.stages;
        let total = stages.total() + decode;
        let all = [total, stages.wait, decode, stages.preprocess, stages.score, stages.verdict];
        // A frame whose deadline has passed while it waited has no other stages.
        let had = if verdict.score.is_nan() { 3 } else { all.len() };
        for (histogram, time) in self.latencies.stages.iter_mut().zip(&all[..had]) {
            histogram.saturating_record(time.as_nanos() as u64);
        }
        let slice = (self.frames as u128 * SLICES as u128 / u128::from(self.expected.max(1))) as usize;
        let slice = &mut self.latencies.slices[slice.min(SLICES - 1)];
        let ms = total.as_secs_f64() * 1e3;
        slice.frames += 1;
        slice.mean_ms += (ms - slice.mean_ms) / slice.frames as f64;
        slice.max_ms = slice.max_ms.max(ms);
        self.missed += u64::from(verdict.late);
        self.frames += 1;
    }
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let [p50, p90, p99, p99_9] = [0.5, 0.9, 0.99, 0.999].map(|q| ms(histogram.value_at_quantile(q)));
        Self { p50, p90, p99, p99_9, max: ms(histogram.max()) }
    }

    fn row(&self) -> [f64; 5] {
        [self.p50, self.p90, self.p99, self.p99_9, self.max]
    }
}

/// What a frame is.
#[derive(Debug, Serialize)]
struct FrameSize {
    width: usize,
    height: usize,
    format: &'static str,
}

/// A stage with its percentiles.
#[derive(Debug, Serialize)]
struct Stage {
    stage: &'static str,
    #[serde(flatten)]
    ms: Percentiles,
}

/// All that is told of a run.
#[derive(Debug, Serialize)]
pub struct Summary {
    model: String,
    method: String,
    version: &'static str,
    image: ImageSpec,
    device: String,
    processor: String,
    instruction_set: String,
    /// Threads of the inspector; null where they are as many as cores.
    threads: Option<usize>,
    pinned: bool,
    awake: bool,
    locked: bool,
    frame: FrameSize,
    rate_hz: f64,
    frames: u64,
    deadline_ms: Option<f64>,
    missed: u64,
    latency_ms: Vec<Stage>,
    process: Process,
    over_time: Vec<Slice>,
}

impl Summary {
    /// Of a run.
    pub fn of(
        args: &BenchArgs,
        threads: Option<usize>,
        inspector: &Inspector,
        source: &Source,
        measured: &Measured,
    ) -> Self {
        let info = inspector.info();
        let cpu = devices().into_iter().find(|d| d.device == "cpu");
        let (processor, instruction_set) = cpu.map(|d| (d.name, d.kind)).unwrap_or_default();
        let format: Format = source.format();
        let stages = STAGES.iter().zip(&measured.latencies.stages);
        Self {
            model: args.model.to_string_lossy().into(),
            method: info.method,
            version: info.version,
            image: info.image,
            device: info.device,
            processor: processor.unwrap_or_default(),
            instruction_set: instruction_set.unwrap_or_default(),
            threads,
            pinned: args.pin,
            awake: args.awake,
            locked: args.lock_memory,
            frame: FrameSize { width: source.width(), height: source.height(), format: format.name() },
            rate_hz: args.rate,
            frames: measured.frames,
            deadline_ms: args.deadline,
            missed: measured.missed,
            latency_ms: stages.map(|(stage, histogram)| Stage { stage, ms: Percentiles::of(histogram) }).collect(),
            process: measured.process,
            over_time: measured.latencies.slices.iter().filter(|s| s.frames > 0).copied().collect(),
        }
    }

    /// What was measured, in a line.
    pub fn title(&self) -> String {
        let FrameSize { width, height, format } = self.frame;
        let name = std::path::Path::new(&self.model).file_name().unwrap_or_default().to_string_lossy();
        format!("{name} ({}) on {}: {width} x {height} {format}, {} Hz", self.method, self.device, self.rate_hz)
    }

    /// The table of percentiles, its head first.
    pub fn percentiles(&self) -> Vec<[String; 6]> {
        let head = ["ms", "p50", "p90", "p99", "p99.9", "max"].map(String::from);
        let row = |stage: &Stage| {
            let [a, b, c, d, e] = stage.ms.row().map(|v| format!("{v:.3}"));
            [stage.stage.into(), a, b, c, d, e]
        };
        // Frames from memory are not decoded.
        let stages = self.latency_ms.iter().filter(|stage| stage.stage != "decode" || stage.ms.max > 0.0);
        std::iter::once(head).chain(stages.map(row)).collect()
    }

    /// What was counted.
    pub fn counts(&self) -> Vec<(&'static str, String)> {
        let Process { allocations, allocated_bytes, .. } = self.process;
        let frames = self.frames.max(1) as f64;
        let told = |value: Option<i64>| value.map_or("not told by this system".into(), |v| v.to_string());
        let missed = match self.deadline_ms {
            Some(ms) => format!("{} of {} beyond {ms} ms", self.missed, self.frames),
            None => "no deadline (--deadline)".into(),
        };
        vec![
            ("frames", self.frames.to_string()),
            ("missed deadlines", missed),
            (
                "allocations a frame",
                format!("{:.1} ({:.0} bytes)", allocations as f64 / frames, allocated_bytes as f64 / frames),
            ),
            ("page faults, minor", told(self.process.minor_faults)),
            ("page faults, major", told(self.process.major_faults)),
            ("context switches, waiting", told(self.process.voluntary_switches)),
            ("context switches, forced", told(self.process.involuntary_switches)),
            (
                "growth of resident memory",
                self.process.resident_bytes.map_or("not told by this system".into(), |b| format!("{} KiB", b / 1024)),
            ),
            ("processor", format!("{} ({})", self.processor, self.instruction_set)),
        ]
    }
}
