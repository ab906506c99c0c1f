//! After its warm-up an inspection leaves no memory behind, whatever the method.

mod common;
#[path = "common/small_models.rs"]
mod small_models;

use hotad::{Format, Frame, Inspector, MapSize, Options, Verdict};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Frames of which each would leave a kilobyte to be noticed.
const FRAMES: usize = 60;

/// Bytes that threads may keep more or less of, as they share work differently.
const KEPT: usize = 60 << 10;

#[test]
fn an_inspection_leaves_no_memory_behind() {
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
            MEMORY.current_usage()
        };
        let before = inspect(10);
        let after = inspect(FRAMES);
        assert!(after <= before + KEPT, "{name}: {} bytes a frame stay", (after - before) / FRAMES);
    }
}
