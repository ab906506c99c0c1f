//! Options that several commands share, each taken by the commands that it acts on and refused by the others.

use std::path::{Path, PathBuf};

use clap::Args;
use hotad_engine::data::limits::{Limits, MEGAPIXELS, MOST_MEGAPIXELS};
use hotad_engine::device::{Device, DeviceName};
use hotad_engine::observer::Observer;
use hotad_engine::signature::PublicKey;
use hotad_engine::{Error, Result};
use hotad_models::jobs::{MOST_BATCH, SCORE_BATCH, SEED};
use hotad_models::model::Model;
use toml::Table;

use crate::continued::Continued;
use crate::terminal::Terminal;

/// The options of a command, and those that it shares with others.
#[derive(Args)]
pub struct With<A: Args, S: Args> {
    #[command(flatten)]
    pub own: A,
    #[command(flatten)]
    pub shared: S,
}

#[derive(Args)]
pub struct Compute {
    /// Where to compute: auto, cpu, cuda, cuda:N, wgpu or wgpu:N; `hotad devices` lists what there is
    #[arg(long, default_value = "auto")]
    device: String,
    /// Precision of convolutions: f32, or tf32, f16, bf16 on a GPU with tensor cores, or bf16, int8 on the CPU
    #[arg(long, default_value = "f32")]
    precision: String,
    /// Threads; all cores by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024), allow_negative_numbers = true)]
    threads: Option<u16>,
}

/// Of commands that read images.
#[derive(Args)]
pub struct Reading {
    /// Largest image that is read; a small file can declare a size that fills the memory
    #[arg(long, value_name = "N", default_value_t = MEGAPIXELS, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_MEGAPIXELS)), allow_negative_numbers = true)]
    max_megapixels: u32,
}

/// Of commands that read models.
#[derive(Args)]
pub struct Trust {
    /// Read only models that are signed by this key (`hotad sign`; Ed25519, PEM)
    #[arg(long, value_name = "PUBLIC_KEY")]
    verify_key: Option<PathBuf>,
}

impl Trust {
    /// The key that models have to be signed by, if any.
    pub fn key(&self) -> Result<Option<PublicKey>> {
        self.verify_key.as_deref().map(PublicKey::read).transpose()
    }
}

#[derive(Args)]
pub struct Seed {
    /// Seed of every random choice; same seed, same result, whatever the number of threads
    #[arg(long, default_value_t = SEED, allow_negative_numbers = true)]
    seed: u64,
}

#[derive(Args)]
pub struct Quiet {
    /// Say nothing but results, warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Args)]
pub struct Voice {
    #[command(flatten)]
    quiet: Quiet,
    /// Say more about what is done
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

/// Of commands that learn.
#[derive(Args)]
pub struct Learning {
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    seed: Seed,
    /// Images of one training step; refused by methods that have no steps (no `batch` in their settings)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_BATCH)), allow_negative_numbers = true)]
    batch: Option<u16>,
    #[command(flatten)]
    voice: Voice,
}

/// Of commands that score.
#[derive(Args)]
pub struct Scoring {
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    reading: Reading,
    /// Images scored together
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_BATCH)), allow_negative_numbers = true)]
    batch: Option<u16>,
    #[command(flatten)]
    voice: Voice,
}

/// Of the command that measures latency.
#[derive(Args)]
pub struct Timing {
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    quiet: Quiet,
}

/// Of commands that score images which are drawn or changed at random.
#[derive(Args)]
pub struct Evaluating {
    #[command(flatten)]
    scoring: Scoring,
    #[command(flatten)]
    seed: Seed,
}

/// Of commands that draw.
#[derive(Args)]
pub struct Drawing {
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    quiet: Quiet,
}

/// A group of shared options.
pub trait Shared {
    /// Their values; those that the command does not take have their defaults.
    fn values(&self) -> Common;

    /// Their values, checked and in force, for a command that is continued in this way.
    fn common(&self, continued: Continued) -> Result<Common> {
        let mut common = self.values();
        common.terminal.continued = continued;
        common.apply()?;
        Ok(common)
    }
}

impl Shared for Quiet {
    fn values(&self) -> Common {
        Common { terminal: Terminal::new(self.quiet, false), ..Common::default() }
    }
}

impl Shared for Drawing {
    fn values(&self) -> Common {
        Common { seed: self.seed.seed, max_megapixels: self.reading.max_megapixels, ..self.quiet.values() }
    }
}

impl Shared for Scoring {
    fn values(&self) -> Common {
        Common::of(&self.compute, &self.reading, self.batch, &self.voice)
    }
}

impl Shared for Timing {
    fn values(&self) -> Common {
        let voice = Voice { quiet: Quiet { quiet: self.quiet.quiet }, verbose: false };
        Common::of(&self.compute, &self.reading, None, &voice)
    }
}

impl Shared for Evaluating {
    fn values(&self) -> Common {
        Common { seed: self.seed.seed, ..self.scoring.values() }
    }
}

impl Shared for Learning {
    fn values(&self) -> Common {
        Common { seed: self.seed.seed, ..Common::of(&self.compute, &self.reading, self.batch, &self.voice) }
    }
}

/// Values of shared options.
pub struct Common {
    device: String,
    pub precision: String,
    threads: Option<u16>,
    max_megapixels: u32,
    pub seed: u64,
    pub batch: Option<u16>,
    /// What the user is told on.
    pub terminal: Terminal,
}

impl Default for Common {
    fn default() -> Self {
        let (device, precision) = ("auto".into(), "f32".into());
        Self {
            device,
            precision,
            threads: None,
            max_megapixels: MEGAPIXELS,
            seed: SEED,
            batch: None,
            terminal: Terminal::default(),
        }
    }
}

impl Common {
    fn of(compute: &Compute, reading: &Reading, batch: Option<u16>, voice: &Voice) -> Self {
        Self {
            device: compute.device.clone(),
            precision: compute.precision.clone(),
            threads: compute.threads,
            max_megapixels: reading.max_megapixels,
            seed: SEED,
            batch,
            terminal: Terminal::new(voice.quiet.quiet, voice.verbose),
        }
    }

    /// The device, as typed.
    pub fn device_name(&self) -> &str {
        &self.device
    }

    /// Threads, where a number was given.
    pub fn threads(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// Opens the device.
    pub fn device(&self) -> Result<Device> {
        let device = Device::open(&self.device)?.with_precision(self.precision.parse()?)?;
        self.terminal.detail(&format!("computing on {}", device.name()));
        Ok(device)
    }

    /// Reads a model onto the device, if it is signed as it has to be.
    pub fn model(&self, path: &Path, trust: &Trust) -> Result<Model> {
        Model::load_with(path, trust.key()?.as_ref(), &Table::new(), &self.device()?)
    }

    /// Sets the number of threads and the limits on images, and checks the form of the device's name.
    fn apply(&self) -> Result<()> {
        Limits::set_megapixels(self.max_megapixels)?;
        self.device.parse::<DeviceName>()?;
        // Zero stands for as many as there are cores.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(self.threads.map_or(0, usize::from)).build_global();
        threads.map_err(|e| Error::Device(format!("cpu: no more threads can be started: {e}; use fewer --threads")))
    }

    /// Images scored together.
    pub fn score_batch(&self) -> usize {
        self.batch.map_or(SCORE_BATCH, usize::from)
    }

    /// Says a line on stderr, unless quiet.
    pub fn say(&self, line: &str) {
        self.terminal.say(line);
    }
}
