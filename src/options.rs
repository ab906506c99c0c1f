//! How an inspector works.

use std::num::NonZero;
use std::time::Duration;

use hotad_engine::data::roi::Roi;
use hotad_engine::device::Precision;
use hotad_engine::signature::PublicKey;
use hotad_engine::threads::Pool;
use hotad_engine::{Error, Result};

/// Which map a verdict holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapSize {
    /// None.
    #[default]
    None,
    /// One of the model's size.
    Model,
    /// One of the frame's size (bilinear).
    Frame,
}

/// How frames are inspected.
#[derive(Clone, Debug)]
pub struct Options {
    /// `auto`, `cpu`, `cuda:N` or `wgpu:N`.
    pub device: String,
    /// Of convolutions: f32, or on a GPU with tensor cores tf32, f16, bf16.
    pub precision: Precision,
    /// Threads of this inspector's own; without a number, and unless `awake`, it shares those of the process, one for each core.
    pub threads: Option<usize>,
    /// Thread `i` of its own stays on the core `cores[i]`, if there is one (Linux).
    pub cores: Vec<usize>,
    /// Threads of its own spin: they look for work all the time, so that none has to be woken for a frame, and take the whole time of
    /// their cores. A second after the last frame they begin to look every millisecond only. Without a number of threads there
    /// is one for each core. Of no use on a GPU.
    pub awake: bool,
    /// Time from the arrival of a frame to its verdict; a later verdict is undecided.
    pub deadline: Option<Duration>,
    /// Which map verdicts hold.
    pub map: MapSize,
    /// Most regions of a verdict.
    pub regions: usize,
    /// The region of frames that is looked at, instead of that of the model file.
    pub roi: Option<Roi>,
    /// The key that the model file has to be signed by.
    pub key: Option<PublicKey>,
}

/// Most regions by default.
const REGIONS: usize = 32;

/// Most threads of an inspector.
const THREADS: usize = 1024;

impl Default for Options {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            precision: Precision::F32,
            threads: None,
            cores: Vec::new(),
            awake: false,
            deadline: None,
            map: MapSize::None,
            regions: REGIONS,
            roi: None,
            key: None,
        }
    }
}

impl Options {
    /// The threads of an inspector's own, if it is to have any.
    pub(crate) fn pool(&self) -> Result<Option<Pool>> {
        let one_each = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let Some(threads) = self.threads.or_else(|| self.awake.then(one_each)) else { return Ok(None) };
        let pool = Pool::new(threads, &self.cores)?;
        Ok(Some(if self.awake { pool.awake() } else { pool }))
    }

    /// Fails for values out of range.
    pub(crate) fn check(&self) -> Result<()> {
        if self.deadline == Some(Duration::ZERO) {
            return Err(Error::Config("deadline: 0 leaves no time to inspect anything".into()));
        }
        match self.threads {
            Some(n) if !(1..=THREADS).contains(&n) => {
                Err(Error::Config(format!("threads: {n} is out of range; use 1 to {THREADS}")))
            }
            _ => Ok(()),
        }
    }
}
