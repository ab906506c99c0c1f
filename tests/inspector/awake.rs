//! Threads that are kept awake.

use std::time::{Duration, Instant};

use hotad::{Format, Frame, Inspector, Options, Verdict};

use crate::{noise, shipped};

/// Threads of inspectors that this process has.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the process has threads");
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("hotad-")).count()
}

fn score(inspector: &mut Inspector, pixels: &[u8]) -> f32 {
    let mut verdict = Verdict::default();
    let frame = Frame::new(pixels, 60, 80, 3 * 80, Format::Rgb8).expect("a frame");
    inspector.inspect(&frame, &mut verdict).expect("a verdict");
    verdict.score
}

/// Verdicts are the same, also of a frame that comes after a pause; and threads end with their inspector.
#[test]
fn threads_that_are_kept_awake_give_the_same_verdicts_and_end() {
    let pixels = noise(60, 80, 3);
    let want = score(&mut shipped(Options::default()), &pixels);
    for threads in [None, Some(1), Some(3)] {
        let mut inspector = shipped(Options { threads, awake: true, ..Options::default() });
        (0..3).for_each(|_| assert_eq!(score(&mut inspector, &pixels), want, "{threads:?}"));
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(score(&mut inspector, &pixels), want, "{threads:?}, after a pause");
    }
    #[cfg(target_os = "linux")]
    {
        let started = Instant::now();
        // Other tests of this process have none that stay.
        while threads() > 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "{} threads have not ended", threads());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
