//! The hot paths, timed by criterion, then side by side with PyTorch in the same run.
//!
//! `cargo bench` needs nothing but this crate. With PyTorch installed for `$HOTAD_PYTHON` (`python3`
//! by default) it prints both times and their ratio; rounds of the two alternate, and the ratio is
//! the median over rounds, so that it holds on a noisy machine. Shares are of a peak measured on the
//! spot: copy bandwidth for what is memory-bound, multiply-adds for what is not.
//!
//! `HOTAD_BENCH_DEVICE` (cpu) and `HOTAD_BENCH_PRECISION` (f32, tf32, f16, bf16) say where; on CUDA,
//! PyTorch is timed eagerly and as a replayed graph. `HOTAD_ISA` binds the peers too, but for ONNX Runtime. `HOTAD_BENCH_TABLE=1` prints the table alone;
//! `HOTAD_BENCH_ISA=all` instead a table of all instruction sets of the CPU (sets.rs).

mod backbones;
mod baseline;
#[path = "../../tests/cases/mod.rs"]
mod cases;
mod networks;
mod operations;
mod patches;
mod sets;
mod work;

use std::time::{Duration, Instant};

use baseline::Baseline;
use criterion::Criterion;
use hotad_engine::device::{Device, Precision};
use hotad_engine::threads::on;
use hotad_kernels::peak::{Arithmetic, copy_bandwidth, cpu_operations, peak_flops};
use hotad_kernels::simd;
use work::Work;

/// The allocator of the `hotad` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of hotad and PyTorch in turn.
const ROUNDS: usize = 5;

/// Calls that a GPU is given before it is waited for, where latency is not what is asked.
const QUEUED: usize = 10;

/// After which no call is repeated for the sake of a median.
const LONG: Duration = Duration::from_secs(5);

fn setting(key: &str, default: &str) -> String {
    std::env::var(key).unwrap_or_else(|_| default.into())
}

fn open() -> Result<Device, String> {
    let device = Device::open(&setting("HOTAD_BENCH_DEVICE", "cpu")).map_err(|e| e.to_string())?;
    let precision: Precision = setting("HOTAD_BENCH_PRECISION", "f32").parse().map_err(|e| format!("{e}"))?;
    device.with_precision(precision).map_err(|e| e.to_string())
}

fn wait(device: &Device) {
    if let Some(gpu) = device.gpu() {
        gpu.synchronize().expect("the device has done its work");
    }
}

/// How long a call is repeated for the sake of a median. A GPU's clock is steadier, and its time dearer.
fn repeated(device: &Device) -> Duration {
    if device.gpu().is_some() { Duration::from_millis(200) } else { Duration::from_secs(1) }
}

/// Median seconds of a call that is [`repeated`], of one call where it takes longer than [`LONG`].
fn median(work: &mut Work, device: &Device) -> f64 {
    let calls = if work.latency || device.gpu().is_none() { 1 } else { QUEUED };
    let mut round = || {
        let before = Instant::now();
        on(device, || {
            (0..calls).for_each(|_| (work.run)());
            wait(device);
        });
        before.elapsed().as_secs_f64() / calls as f64
    };
    round();
    let mut times = Vec::new();
    let start = Instant::now();
    while (times.len() < 5 && start.elapsed() < LONG) || (start.elapsed() < repeated(device) && times.len() < 1000) {
        times.push(round());
    }
    middle(&mut times)
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Best share of a peak that the work is bound by.
fn share(work: &Work, seconds: f64, (flops, bandwidth): (f64, f64)) -> String {
    let (compute, memory) = (work.flops / seconds, work.bytes / seconds);
    if compute + memory == 0.0 {
        "-".into()
    } else if compute / flops >= memory / bandwidth {
        format!("{:.0} GFLOP/s, {:.0} %", compute / 1e9, 100.0 * compute / flops)
    } else {
        format!("{:.1} GB/s, {:.0} %", memory / 1e9, 100.0 * memory / bandwidth)
    }
}

/// Times of PyTorch, or of another peer, and their ratios to ours, one for each round.
#[derive(Default)]
struct Other {
    times: Vec<f64>,
    ratios: Vec<f64>,
}

impl Other {
    /// The script times one step of the decomposition where a call here does `units` of them.
    fn round(&mut self, baseline: Option<&mut Baseline>, work: &Work, how: &str, own: f64) {
        if let Some(seconds) = baseline.and_then(|b| b.measure(work.name, how)) {
            self.times.push(seconds);
            self.ratios.push(seconds * work.units / own);
        }
    }

    fn cells(&mut self) -> String {
        if self.times.is_empty() {
            return "- | -".into();
        }
        format!("{:.3} ms | {:.1}x", 1e3 * middle(&mut self.times), middle(&mut self.ratios))
    }
}

/// Operations per second that shares in a precision are of, and what they are counted in.
fn peak(device: &Device, precision: &str) -> (f64, &'static str) {
    let of_cpu = || {
        let arithmetic = Arithmetic::ALL.into_iter().find(|a| device.gpu().is_none() && a.name() == precision)?;
        Some((cpu_operations(arithmetic)?, arithmetic.name()))
    };
    of_cpu().unwrap_or_else(|| (peak_flops(device).expect("a kernel runs"), Arithmetic::F32.name()))
}

fn compare(works: &mut [Work], device: &Device) {
    let precision = setting("HOTAD_BENCH_PRECISION", "f32");
    let (operations, counted_in) = peak(device, &precision);
    let peaks = (operations, copy_bandwidth(device).expect("memory to copy"));
    let cpu = || format!("cpu, instruction set {}", simd::isa().name());
    println!(
        "\n{}, {precision}",
        device.gpu().map_or_else(cpu, |g| format!("{}: {}", g.name(), g.facts().description))
    );
    println!("peaks measured now: {:.0} GFLOP/s in {counted_in}, {:.1} GB/s copied", peaks.0 / 1e9, peaks.1 / 1e9);
    let mut baseline = Baseline::start(device.name(), &precision);
    match &baseline {
        Some(b) => println!("PyTorch: {}", b.version),
        None => println!("PyTorch not found (HOTAD_PYTHON names its python): hotad alone"),
    }
    let graphs = device.name().starts_with("cuda");
    let more = if graphs { (" graph | ratio |", "---|---|") } else { ("", "") };
    println!(
        "| work | hotad | of the peak | PyTorch, or what the row names | ratio |{} goal |\n|---|---|---|---|---|{}---|",
        more.0, more.1
    );
    for work in works {
        let (mut own, mut eager, mut graph) = (Vec::new(), Other::default(), Other::default());
        for _ in 0..ROUNDS {
            let seconds = median(work, device);
            own.push(seconds);
            eager.round(baseline.as_mut(), work, "eager", seconds);
            if graphs {
                graph.round(baseline.as_mut(), work, "graph", seconds);
            }
        }
        let seconds = middle(&mut own);
        let ms = 1e3 * seconds / work.units;
        let goal = match if device.gpu().is_some() { work.goal.1 } else { work.goal.0 } {
            0.0 => "-".into(),
            goal => format!("{goal:.1}x"),
        };
        let (peak, eager) = (share(work, seconds, peaks), eager.cells());
        let graph = if graphs { format!(" {} |", graph.cells()) } else { String::new() };
        println!("| {} | {ms:.3} ms | {peak} | {eager} |{graph} {goal} |", work.title);
    }
}

fn main() {
    let device = match open() {
        Ok(device) => device,
        Err(why) => {
            eprintln!("{why}");
            std::process::exit(2);
        }
    };
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let make = || {
        let all = work::all(&device).into_iter().chain(operations::all(&device));
        all.filter(|work| work.name.contains(&filter)).collect::<Vec<_>>()
    };
    if device.gpu().is_none() && setting("HOTAD_BENCH_ISA", "") == "all" {
        sets::compare(make, &device);
        return;
    }
    let mut works = make();
    if setting("HOTAD_BENCH_TABLE", "0") != "1" {
        let mut criterion = Criterion::default().configure_from_args().sample_size(10);
        for work in &mut works {
            criterion.bench_function(work.name, |b| {
                b.iter(|| {
                    on(&device, || {
                        (work.run)();
                        wait(&device);
                    });
                });
            });
        }
        criterion.final_summary();
    }
    // `cargo test --benches` only wants to know that the benches run.
    if std::env::args().all(|a| a != "--test") {
        compare(&mut works, &device);
    }
}
