//! The hot paths, timed by criterion, then side by side with PyTorch in the same run.
//!
//! `cargo bench` needs nothing but this crate. With PyTorch installed for `$HOTAD_PYTHON` (`python3`
//! by default) it prints both times and their ratio; rounds of the two alternate, and the ratio is
//! the median over rounds, so that it holds on a noisy machine. Shares are of a peak measured on the
//! spot: copy bandwidth for what is memory-bound, multiply-adds for what is not.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::Criterion;
use half::f16;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::Learner;
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::ciede2000::ciede2000_rgb;
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::knn::l2_knn;
use hotad_kernels::probe::{copy_bandwidth, peak_flops};
use hotad_kernels::ssim::{SsimOptions, ssim_map_with_gradient};
use hotad_models::autoencoder::{PatchAutoencoder, VGG};
use hotad_models::detector::Training;

/// The allocator of the `hotad` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of hotad and PyTorch in turn.
const ROUNDS: usize = 5;

/// One row of the table.
struct Work {
    /// What the table calls it.
    title: &'static str,
    /// What the baseline script calls it.
    name: &'static str,
    /// Floating-point operations of a call.
    flops: f64,
    /// Bytes a call must move at least.
    bytes: f64,
    /// Units of work in a call; times are given per unit.
    units: f64,
    /// Goal of the ratio to PyTorch.
    goal: f64,
    run: Box<dyn FnMut()>,
}

/// Values in 0..1 from a fixed sequence.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| next()).collect()
}

fn decomposition() -> Work {
    const STEPS: u32 = 50;
    let shape = [1, 128, 128, 3];
    let (x, prior) = (noise(128 * 128 * 3, 1), noise(128 * 128 * 3, 2));
    let mut l = vec![0.0; x.len()];
    let opts = DecomposeOptions {
        lambda: 1e-5,
        steps: STEPS,
        adam: AdamOptions { lr: 0.01, ..AdamOptions::default() },
        ssim: SsimOptions::default(),
    };
    let elements = x.len() as f64 * f64::from(STEPS);
    Work {
        title: "SSIM+L1 Adam decomposition, 128x128x3, per step",
        name: "decompose",
        flops: elements * (26.0 * 11.0 + 60.0),
        bytes: elements * 44.0,
        units: f64::from(STEPS),
        goal: 20.0,
        run: Box::new(move || drop(black_box(decompose(&x, &prior, shape, &opts, &mut l).expect("shapes fit")))),
    }
}

fn ssim_gradient() -> Work {
    let shape = [8, 256, 256, 3];
    let n = shape.iter().product();
    let (x, y, grad) = (noise(n, 3), noise(n, 4), noise(n, 5));
    let (mut map, mut dx) = (vec![0.0; n], vec![0.0; n]);
    let opts = SsimOptions::default();
    Work {
        title: "SSIM map + gradient, 256x256x3, batch 8",
        name: "ssim_gradient",
        flops: n as f64 * (32.0 * 11.0 + 60.0),
        bytes: n as f64 * 56.0,
        units: 1.0,
        goal: 8.0,
        run: Box::new(move || {
            ssim_map_with_gradient(&x, &y, shape, &opts, &grad, &mut map, &mut dx, None).expect("shapes fit");
        }),
    }
}

fn ciede2000() -> Work {
    let pixels = 16 * 256 * 256;
    let bytes = |seed| noise(3 * pixels, seed).iter().map(|v| (v * 255.0) as u8).collect::<Vec<u8>>();
    let (p, q) = (bytes(6), bytes(7));
    let mut out = vec![0.0; pixels];
    Work {
        title: "CIEDE2000 from u8 RGB, 256x256, batch 16",
        name: "ciede2000",
        flops: pixels as f64 * 400.0,
        bytes: pixels as f64 * 10.0,
        units: 1.0,
        goal: 8.0,
        run: Box::new(move || ciede2000_rgb(&p, &q, &mut out).expect("lengths fit")),
    }
}

fn cosine_nn() -> Work {
    let (locations, entries, d) = (1024, 800, 128);
    let data = noise(locations * entries * d, 8).into_iter().map(f16::from_f32).collect();
    let bank = LocationBank::new(locations, entries, d, BankData::F16(data)).expect("shapes fit");
    let query = noise(locations * d, 9);
    let elements = (locations * entries * d) as f64;
    Work {
        title: "cosine NN, 1024 locations x 800 vectors x 128, f16 bank",
        name: "cosine_nn",
        flops: 2.0 * elements,
        bytes: 2.0 * elements,
        units: 1.0,
        goal: 2.0,
        run: Box::new(move || drop(black_box(bank.nearest(&query).expect("shapes fit")))),
    }
}

fn knn() -> Work {
    let (q, m, d) = (784, 16_385, 1024);
    let (query, bank) = (noise(q * d, 10), noise(m * d, 11));
    Work {
        title: "flat nearest neighbour, 784 x 16,385 x 1024",
        name: "knn",
        flops: 2.0 * (q * m * d) as f64,
        bytes: 4.0 * ((q + m) * d) as f64,
        units: 1.0,
        goal: 1.3,
        run: Box::new(move || drop(black_box(l2_knn(&query, &bank, d, 1).expect("shapes fit")))),
    }
}

const IMAGE: ImageSpec = ImageSpec { height: 128, width: 128, channels: 3 };

/// Multiply-adds of a forward pass as PyTorch does it, twice: 3-64-128-64-3 channels.
const FORWARD_FLOPS: f64 = 2.0 * 9.0 * 2.0 * (128.0 * 128.0 * 3.0 * 64.0 + 64.0 * 64.0 * 64.0 * 128.0);

fn images(n: usize) -> Tensor {
    Tensor::new(noise(n * IMAGE.len(), 12), &[n, 128, 128, 3]).expect("lengths fit")
}

fn train_step() -> Work {
    let network = PatchAutoencoder::new(&VGG, IMAGE);
    let mut learner = Training {
        params: network.init(0),
        adam: AdamOptions::default(),
        loss: move |params: &_, images: &_, tracked| network.reconstruction_loss(params, images, tracked),
    };
    let batch = images(16);
    Work {
        title: "patch autoencoder vgg, training step, batch 16, 128x128",
        name: "train_step",
        flops: 16.0 * 3.0 * FORWARD_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: 1.0,
        run: Box::new(move || {
            black_box(learner.step(&batch).expect("shapes fit"));
        }),
    }
}

fn forward() -> Work {
    let network = PatchAutoencoder::new(&VGG, IMAGE);
    let params = network.init(0);
    let image = images(1);
    Work {
        title: "patch autoencoder vgg, forward, batch 1, 128x128",
        name: "forward",
        flops: FORWARD_FLOPS,
        bytes: 0.0,
        units: 1.0,
        goal: 1.5,
        run: Box::new(move || {
            let latent = network.encode(&params, &image, false).expect("shapes fit");
            black_box(network.decode(&params, &latent, false).expect("shapes fit"));
        }),
    }
}

fn all() -> Vec<Work> {
    vec![decomposition(), ssim_gradient(), ciede2000(), cosine_nn(), knn(), train_step(), forward()]
}

/// Median seconds of a call within about a second.
fn median(run: &mut dyn FnMut()) -> f64 {
    run();
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 5 || (start.elapsed() < Duration::from_secs(1) && times.len() < 1000) {
        let before = Instant::now();
        run();
        times.push(before.elapsed().as_secs_f64());
    }
    middle(&mut times)
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The baseline script, answering names with times.
struct Baseline {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Baseline {
    fn start() -> Option<Self> {
        let python = std::env::var("HOTAD_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baselines/torch_ops.py");
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (ask, mut answers) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut version = String::new();
        answers.read_line(&mut version).ok()?;
        version.contains("torch").then_some(Self { child, ask, answers, version: version.trim().into() })
    }

    fn measure(&mut self, name: &str) -> Option<f64> {
        writeln!(self.ask, "{name}").ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        serde_json::from_str::<serde_json::Value>(&answer).ok()?["seconds"].as_f64()
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

/// Best share of a peak that the work is bound by.
fn share(work: &Work, seconds: f64, (flops, bandwidth): (f64, f64)) -> String {
    let (compute, memory) = (work.flops / seconds, work.bytes / seconds);
    if compute / flops >= memory / bandwidth {
        format!("{:.0} GFLOP/s, {:.0} %", compute / 1e9, 100.0 * compute / flops)
    } else {
        format!("{:.1} GB/s, {:.0} %", memory / 1e9, 100.0 * memory / bandwidth)
    }
}

fn compare(works: &mut [Work]) {
    let peaks = (peak_flops(), copy_bandwidth());
    println!("\npeaks measured now: {:.0} GFLOP/s, {:.1} GB/s copied", peaks.0 / 1e9, peaks.1 / 1e9);
    let mut baseline = Baseline::start();
    match &baseline {
        Some(b) => println!("PyTorch: {}", b.version),
        None => println!("PyTorch not found (HOTAD_PYTHON names its python): hotad alone"),
    }
    println!("| work | hotad | of the peak | PyTorch | ratio | goal |\n|---|---|---|---|---|---|");
    for work in works {
        let (mut own, mut other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let seconds = median(&mut work.run);
            own.push(seconds);
            if let Some(theirs) = baseline.as_mut().and_then(|b| b.measure(work.name)) {
                // The script times one step of the decomposition, a call here does `units` of them.
                other.push(theirs);
                ratios.push(theirs * work.units / seconds);
            }
        }
        let seconds = middle(&mut own);
        let (theirs, ratio) = if ratios.is_empty() {
            ("-".to_string(), "-".to_string())
        } else {
            (format!("{:.3} ms", 1e3 * middle(&mut other)), format!("{:.1}x", middle(&mut ratios)))
        };
        let (title, ms) = (work.title, 1e3 * seconds / work.units);
        println!("| {title} | {ms:.3} ms | {} | {theirs} | {ratio} | {:.1}x |", share(work, seconds, peaks), work.goal);
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let mut works = all();
    works.retain(|w| w.name.contains(&filter));
    for work in &mut works {
        criterion.bench_function(work.name, |b| b.iter(|| (work.run)()));
    }
    criterion.final_summary();
    // `cargo test --benches` only wants to know that the benches run.
    if std::env::args().all(|a| a != "--test") {
        compare(&mut works);
    }
}
