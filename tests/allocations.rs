//! What an inspection asks memory for after its warm-up, method by method.

mod common;
#[path = "common/small_models.rs"]
mod small_models;

use std::alloc::System;

use hotad::{Format, Frame, Inspector, Options, Verdict};
use hotad_kernels::memory::{Reporting, count_requests, requests};

fn out_of_memory(_: usize) -> ! {
    std::process::abort()
}

#[global_allocator]
static MEMORY: Reporting<System> = Reporting { inner: System, end: out_of_memory };

#[test]
fn print() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut models = small_models::train_all(dir.path());
    models.push(("shipped", "weights/plate.safetensors".into()));
    for (name, model) in models {
        let options = Options { device: "cpu".into(), ..Options::default() };
        let mut inspector = Inspector::open(&model, options).expect("the model opens");
        inspector.warm_up(480, 640, Format::Bgr8).expect("a warm-up");
        let pixels = vec![100; 480 * 640 * 3];
        let frame = Frame::new(&pixels, 480, 640, 3 * 640, Format::Bgr8).expect("a frame");
        let mut verdict = Verdict::default();
        inspector.inspect(&frame, &mut verdict).expect("a verdict");
        count_requests(true);
        let before = requests();
        for _ in 0..10 {
            inspector.inspect(&frame, &mut verdict).expect("a verdict");
        }
        let after = requests();
        count_requests(false);
        println!(
            "{name:20} {} requests, {} bytes a frame",
            (after.count - before.count) as f64 / 10.0,
            (after.bytes - before.bytes) / 10
        );
    }
}
