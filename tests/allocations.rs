//! After its warm-up an inspection asks for no memory and leaves none behind, whatever the method.

mod common;
#[path = "common/formula.rs"]
mod formula;
#[path = "common/small_models.rs"]
mod small_models;

use std::path::Path;

use formula::{hashed, state_dict};
use hotad::{Format, Frame, Inspector, MapSize, Options, Roi, Verdict};
use hotad_engine::tensor::Tensor;
use hotad_kernels::cosine_nn::BankData;
use hotad_kernels::device::{Device, Precision};
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::memory::{Reporting, count_requests, requests};
use hotad_models::features::Extractor;
use hotad_models::features::backbone::{Backbone, Network};
use hotad_models::networks::import::from_torchvision;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: Reporting<PeakAlloc> = Reporting { inner: PeakAlloc, end: |_| std::process::abort() };

/// Frames of a round, and as many more as fill its last batch. The queue of a thread pool takes its next block of memory for one
/// call of 63, and gives the last one back.
const ROUND: usize = 20;
const OF_QUEUE: u64 = 1;

/// Bytes that threads may keep more or less of, as they share work differently.
const KEPT: usize = 60 << 10;

/// Rounds within which two in a row have to be as they should: several threads share the work as it comes, and each takes memory for
/// what it has not had before; on a busy machine a thread that was asleep takes some too.
const ROUNDS: usize = 20;

/// Rows and columns of the frames.
const SIZE: (usize, usize) = (120, 160);

/// Frames of which none is like another: even, noise, and stripes with and without a square.
fn frames() -> Vec<Vec<u8>> {
    let (height, width) = SIZE;
    let pixel = |kind: usize, y: usize, x: usize, c: usize| match kind {
        0 => 100,
        1 => ((y * 7919 + x * 104_729 + c * 31) % 251) as u8,
        2 => (60 + 10 * (x / 8 % 4) + 5 * c) as u8,
        _ if (40..80).contains(&y) && (50..90).contains(&x) => 255,
        _ => (60 + 10 * (x / 8 % 4) + 5 * c) as u8,
    };
    let bytes = |kind| (0..height * width * 3).map(|i| pixel(kind, i / 3 / width, i / 3 % width, i % 3)).collect();
    (0..4).map(bytes).collect()
}

/// Models that are looked at in other precisions and in a region of interest, too.
const CLOSELY: [&str; 3] = ["patchcore", "paedid", "lea-net"];

/// The model that asks for lists of its tiles in batches.
const TILES: &str = "i3ad-tiles";

/// How frames are inspected.
#[derive(Clone, Debug)]
struct Way {
    /// None: all.
    threads: Option<usize>,
    awake: bool,
    precision: Precision,
    /// Frames that are inspected together.
    batch: usize,
    /// Whether only a part of each is looked at, which is no rectangle.
    region: bool,
}

const ALONE: Way = Way { threads: Some(1), awake: false, precision: Precision::F32, batch: 1, region: false };

impl Way {
    /// All ways to look at a model of this name.
    fn of(model: &str) -> Vec<Self> {
        let mut ways = vec![ALONE, Self { threads: None, ..ALONE }];
        if model != TILES {
            ways.push(Self { batch: 16, ..ALONE });
        }
        if CLOSELY.contains(&model) || model == "rasl" {
            ways.push(Self { batch: 4, threads: None, ..ALONE });
        }
        if CLOSELY.contains(&model) {
            ways.extend([
                Self { precision: Precision::Bf16, ..ALONE },
                Self { precision: Precision::Int8, ..ALONE },
                Self { region: true, ..ALONE },
                Self { threads: Some(2), awake: true, ..ALONE },
            ]);
        }
        ways
    }

    fn options(&self) -> Options {
        let corners = [[20.0, 10.0], [140.0, 30.0], [120.0, 110.0], [30.0, 100.0]];
        let roi = self.region.then(|| Roi::polygon(&corners).expect("an area"));
        let Self { threads, awake, precision, .. } = *self;
        Options { device: "cpu".into(), map: MapSize::Frame, threads, awake, precision, roi, ..Options::default() }
    }
}

/// Whether an inspection comes to no more than `most` requests in a round and leaves nothing behind; says what it has asked for on
/// the way.
fn comes_to(most: u64, model: &Path, way: &Way) -> bool {
    let mut inspector = Inspector::open(model, way.options()).expect("the model opens");
    let ((height, width), frames) = (SIZE, frames());
    let mut verdicts = vec![Verdict::default(); way.batch];
    inspector.warm_up_with(height, width, Format::Bgr8, &mut verdicts[0]).expect("a warm-up");
    let frames: Vec<Frame> = frames
        .iter()
        .cycle()
        .take(ROUND.div_ceil(way.batch) * way.batch)
        .map(|pixels| Frame::new(pixels, height, width, 3 * width, Format::Bgr8).expect("a frame"))
        .collect();
    let mut inspect = || {
        for batch in frames.chunks_exact(way.batch) {
            inspector.inspect_batch(batch, &mut verdicts).expect("verdicts");
        }
        MEMORY.inner.current_usage()
    };
    let (mut before, mut good) = (MEMORY.inner.current_usage(), 0);
    for _ in 0..ROUNDS {
        count_requests(true);
        let known = requests().count;
        let after = inspect();
        count_requests(false);
        let (asked, left) = (requests().count - known, after.saturating_sub(before));
        print!(" {asked} ({left} bytes left)");
        before = after;
        good = if asked <= most && left <= KEPT { good + 1 } else { 0 };
        if good == 2 {
            return true;
        }
    }
    false
}

#[test]
fn an_inspection_leaves_no_memory_behind_and_asks_for_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut too_many = Vec::new();
    for (name, model) in small_models::train_all(dir.path()) {
        for way in Way::of(name) {
            print!("{name}, {way:?}: requests in rounds:");
            if !comes_to(OF_QUEUE, &model, &way) {
                too_many.push((name, way));
            }
            println!();
        }
    }
    assert!(too_many.is_empty(), "{too_many:?} ask for memory, or keep more in each round");
    a_large_bank_is_searched_without_requests();
    backbones_run_without_requests();
}

/// A bank that is searched in few directions first, which those of the small models are not.
fn a_large_bank_is_searched_without_requests() {
    let (vectors, queries, d) = (4096, 196, 64);
    let value = |i: usize| ((i * 7919) % 251) as f32 / 250.0;
    // Most of the variance is in four directions.
    let of = |n: usize| {
        (0..n * d).map(|i| value(i / d * 4 + i % 4) * (1 + i % d) as f32 + 0.01 * value(i)).collect::<Vec<f32>>()
    };
    let bank = FlatBank::new(BankData::F32(of(vectors)), d, &Device::CPU).expect("a bank");
    let (query, mut index, mut distance) = (of(queries), vec![0; queries], vec![0.0; queries]);
    repeated(&format!("a search of a bank of {vectors}"), || {
        bank.nearest(&query, 1, &mut index, &mut distance).expect("found");
    });
}

/// Networks of each kind of block that backbones are of.
fn backbones_run_without_requests() {
    for name in ["efficientnet-lite0", "mobilenet_v2", "mobilenet_v3_small", "resnet18"] {
        let network = Network::named(name).expect("a network that is known");
        let trunk = network.trunk();
        let layers = trunk.layers(trunk.len());
        let state = from_torchvision(Path::new(name), &state_dict(&layers), &layers).expect("all tensors");
        let backbone = Backbone::new(network, 64, state, trunk.len(), &Device::CPU).expect("all tensors");
        let image = hashed(3 * 64 * 64, "image").into_iter().map(|v| v as f32).collect();
        let image = Tensor::new(image, &[1, 64, 64, 3]).expect("fits");
        let cuts = [trunk.len() / 2, trunk.len() - 1];
        repeated(&format!("a {name}"), || drop(backbone.maps(&image, &cuts).expect("shapes fit")));
    }
}

/// Asks for nothing, twenty times on one thread, after three times. The threads of a pool that is gone end when they come to it, and
/// ask for memory as they do: two rounds of ten, one after the other, have to be without.
fn repeated(what: &str, mut work: impl FnMut() + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        (0..3).for_each(|_| work());
        let mut asked = || {
            count_requests(true);
            let known = requests().count;
            (0..10).for_each(|_| work());
            count_requests(false);
            requests().count - known
        };
        let mut rounds = vec![asked()];
        while rounds.len() < ROUNDS && !rounds.ends_with(&[0, 0]) {
            rounds.push(asked());
        }
        println!("{what}: requests in rounds: {rounds:?}");
        assert!(rounds.ends_with(&[0, 0]), "{what} asks for memory");
    });
}
