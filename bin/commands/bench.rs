//! `hotad bench`: latency on this machine.

use std::time::Duration;

use hotad::{Inspector, Options};
use hotad_engine::{Result, atomic_file};

use crate::args::{BenchArgs, Common};
use crate::latency::frames::Source;
use crate::latency::process::{cores, lock_memory};
use crate::latency::{Latencies, Summary, measure};
use crate::{OK, output, report};

/// Measures the latency of a model and prints it.
pub fn run(args: &BenchArgs, common: &Common) -> Result<u8> {
    if let Some(folder) = &args.out {
        output::folder(folder)?;
    }
    if args.lock_memory {
        lock_memory()?;
    }
    let options = options(args, common)?;
    let threads = options.threads;
    let mut inspector = Inspector::open(&args.model, options)?;
    let source = Source::of(args, inspector.info().image)?;
    inspector.warm_up(source.height(), source.width(), source.format())?;
    common.say(&format!("{} frames a second for {} s", args.rate, args.seconds));
    let measured = measure(&mut inspector, &source, args)?;
    let summary = Summary::of(args, threads, &inspector, &source, &measured);
    tell(args, common, &summary, &measured.latencies)?;
    Ok(OK)
}

fn options(args: &BenchArgs, common: &Common) -> Result<Options> {
    let cores = if args.pin { cores()? } else { Vec::new() };
    Ok(Options {
        device: common.device_name().into(),
        precision: common.precision.parse()?,
        threads: common.threads().or_else(|| args.pin.then_some(cores.len())),
        cores,
        awake: args.awake,
        deadline: args.deadline.map(|ms| Duration::from_secs_f64(ms / 1e3)),
        key: args.trust.key()?,
        ..Options::default()
    })
}

/// Prints the summary and writes what `--out` asks for.
fn tell(args: &BenchArgs, common: &Common, summary: &Summary, latencies: &Latencies) -> Result<()> {
    let json = serde_json::to_string(summary).expect("a summary is plain data");
    if args.json {
        output::line(&json)?;
    } else {
        output::line(&summary.title())?;
        for [stage, percentiles @ ..] in summary.percentiles() {
            let percentiles = percentiles.map(|cell| format!("{cell:>10}"));
            output::line(&format!("{stage:12}{}", percentiles.concat()))?;
        }
        summary.counts().iter().try_for_each(|(name, value)| output::line(&format!("{name:28} {value}")))?;
    }
    let Some(folder) = &args.out else { return Ok(()) };
    atomic_file::write(&folder.join("bench.json"), |out| writeln!(out, "{json}"))?;
    let page = report::latency::write(summary, latencies, args.deadline);
    atomic_file::write(&folder.join("bench.html"), |out| out.write_all(page.as_bytes()))?;
    common.say(&format!("pictures: {}", folder.join("bench.html").display()));
    Ok(())
}
