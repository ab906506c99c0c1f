//! Many images scored in one process: its memory stays what it is after the first. `HOTAD_SOAK_IMAGES` sets how many.

#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use common::{bars, binary, text, trained};

/// Images without `HOTAD_SOAK_IMAGES`.
const IMAGES: usize = 2_000;

/// Images after which memory has come to its level.
const WARM: usize = 1_000;

/// Most that memory may grow from then on, in KiB.
const GROWTH: u64 = 4 << 10;

/// Resident memory of a process in KiB; `None` once it has ended.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// A folder of images, links to a few files.
fn images(folder: &Path, count: usize) {
    std::fs::create_dir(folder).expect("a folder");
    let file = |i: usize| folder.join(format!("{i:07}.png"));
    for i in 0..count {
        match i {
            0..16 => bars(40, 100 + i as u64).write_png(&file(i)).expect("a picture"),
            _ => std::fs::hard_link(file(i % 16), file(i)).expect("a link"),
        }
    }
}

#[test]
fn memory_stays_level() {
    let count =
        std::env::var("HOTAD_SOAK_IMAGES").ok().map_or(IMAGES, |v| v.parse().expect("HOTAD_SOAK_IMAGES is a number"));
    let dir = tempfile::tempdir().expect("a folder");
    let (_, model) = trained(dir.path(), &[]);
    let folder = dir.path().join("many");
    images(&folder, count);
    let mut child = binary()
        .args(["score", "--device", "cpu", "--model", text(&model), text(&folder)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let (mut lines, mut warm, mut most) = (0, 0, 0);
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        assert!(line.expect("text").contains("\"score\""), "every line is a result");
        lines += 1;
        if lines % 100 == 0
            && let Some(now) = resident(child.id())
        {
            if lines == WARM {
                warm = now;
            }
            most = now.max(most);
        }
    }
    assert!(child.wait().expect("it ends").success());
    assert_eq!(lines, count);
    println!("{count} images: {warm} KiB after {WARM}, at most {most} KiB");
    assert!(count < 2 * WARM || most <= warm + GROWTH, "{warm} KiB after {WARM} images, at most {most} KiB");
}
