//! Latency of frames that arrive at even times.

mod arrivals;
pub mod frames;
pub mod process;
mod summary;

use std::time::Instant;

use hotad::{Inspector, Verdict};
use hotad_engine::{Error, Result, interrupt};
use hotad_kernels::memory::count_requests;

use crate::args::BenchArgs;
use arrivals::{Arrivals, wait_until};
use frames::Source;
use process::Process;
use summary::Measured;
pub use summary::{Latencies, Summary};

/// Inspects frames as they arrive. What is needed for counting is there before the first.
pub fn measure(inspector: &mut Inspector, source: &Source, args: &BenchArgs) -> Result<Measured> {
    let mut verdict = Verdict::default();
    // The first use of a verdict takes the memory for its regions.
    source.inspect(inspector, Instant::now(), &mut verdict)?;
    let arrivals = Arrivals::new(args.rate, args.seconds);
    let mut measured = Measured::new(arrivals.expected())?;
    let before = Process::now();
    count_requests(true);
    for due in arrivals {
        interrupt::check()?;
        wait_until(due);
        let decode = source.inspect(inspector, due, &mut verdict)?;
        measured.take(&verdict, decode);
    }
    count_requests(false);
    measured.process = Process::now().since(&before);
    Ok(measured)
}

/// The error of an option that the system does not follow.
fn refused(option: &str, reason: impl std::fmt::Display) -> Error {
    Error::Config(format!("{option}: {reason}"))
}
