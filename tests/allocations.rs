//! After its warm-up an inspection leaves no memory behind and asks for little, whatever the method.

mod common;
#[path = "common/small_models.rs"]
mod small_models;

use hotad::{Format, Frame, Inspector, MapSize, Options, Verdict};
use hotad_kernels::memory::{Reporting, count_requests, requests};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: Reporting<PeakAlloc> = Reporting { inner: PeakAlloc, end: |_| std::process::abort() };

/// Frames of which each would leave a kilobyte to be noticed.
const FRAMES: usize = 60;

/// Bytes that threads may keep more or less of, as they share work differently.
const KEPT: usize = 60 << 10;

/// Frames after which every thread has met every task and keeps the memory for it, also where a warm-up was too slow for that.
const FIRST: usize = 40;

/// Most requests to the allocator for a frame.
const REQUESTS: u64 = 500;

/// The same of methods that take steps along gradients for each frame, look at many tiles of it, or do the work of two.
const REQUESTS_OF_STEPS: u64 = 2000;
const WITH_STEPS: [&str; 4] = ["anogan", "projection", "i3ad-tiles", "paedid-i3ad"];

#[test]
fn an_inspection_leaves_no_memory_behind_and_asks_for_little() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, model) in small_models::train_all(dir.path()) {
        let options = Options { device: "cpu".into(), map: MapSize::Frame, ..Options::default() };
        let mut inspector = Inspector::open(&model, options).expect("the model opens");
        inspector.warm_up(120, 160, Format::Bgr8).expect("a warm-up");
        let pixels = vec![100; 120 * 160 * 3];
        let frame = Frame::new(&pixels, 120, 160, 3 * 160, Format::Bgr8).expect("a frame");
        let mut verdict = Verdict::default();
        let mut inspect = |count: usize| {
            (0..count).for_each(|_| inspector.inspect(&frame, &mut verdict).expect("a verdict"));
            MEMORY.inner.current_usage()
        };
        let before = inspect(FIRST);
        count_requests(true);
        let asked = requests().count;
        let after = inspect(FRAMES);
        count_requests(false);
        let asked = (requests().count - asked) / FRAMES as u64;
        println!("{name}: {asked} requests for a frame");
        let most = if WITH_STEPS.contains(&name) { REQUESTS_OF_STEPS } else { REQUESTS };
        assert!(asked <= most, "{name}: {asked} requests for a frame");
        assert!(after <= before + KEPT, "{name}: {} bytes a frame stay", (after - before) / FRAMES);
    }
}
