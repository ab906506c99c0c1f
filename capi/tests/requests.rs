//! After its warm-up, and a first batch of its size, a call from C asks the allocator for nothing, with a map and regions.

use std::alloc::System;

use hotad::hotad_status::*;
use hotad::*;
use hotad_kernels::memory::{Reporting, count_requests, requests};
use support::{options, shipped, words};

mod support;

#[global_allocator]
static MEMORY: Reporting<System> = Reporting { inner: System, end: |_| std::process::abort() };

const SIZE: (usize, usize) = (120, 160);
const CALLS: usize = 20;
/// The queue of the inspector's threads takes its next block of memory for one call of 63.
const OF_QUEUE: u64 = 1;
/// The most frames for which it holds.
const BATCH: usize = 16;

/// An inspector of the shipped model on one thread, with maps of the frame's size.
fn open() -> hotad_inspector {
    let (map, mut inspector) = (hotad_map::HOTAD_MAP_FRAME as u32, 0);
    let options = hotad_options { threads: 1, map, ..options() };
    // SAFETY: texts end with zeros, structures are as large as they say.
    let status = unsafe { hotad_open(shipped().as_ptr(), &options, &mut inspector) };
    assert_eq!(status, HOTAD_OK, "{}", words());
    inspector
}

/// A frame of stripes, in which a square is missing.
fn pixels() -> Vec<u8> {
    let (height, width) = SIZE;
    let hole = |y, x| (40..80).contains(&y) && (50..90).contains(&x);
    (0..height * width).map(|i| if hole(i / width, i % width) { 255 } else { (60 + 10 * (i / 8 % 4)) as u8 }).collect()
}

#[test]
fn an_inspection_from_c_asks_for_no_memory() {
    let ((height, width), pixels, inspector) = (SIZE, pixels(), open());
    assert_eq!(hotad_warm_up(inspector, height, width, hotad_format::HOTAD_GRAY8 as u32), HOTAD_OK);
    let frame = hotad_frame {
        size: size_of::<hotad_frame>(),
        data: pixels.as_ptr(),
        data_size: pixels.len(),
        width,
        height,
        stride: width,
        format: hotad_format::HOTAD_GRAY8 as u32,
        waited_ns: 0,
    };
    let mut maps = vec![0.0; BATCH * height * width];
    let mut regions = vec![hotad_region::default(); BATCH * 32];
    let mut verdicts: Vec<hotad_verdict> = maps
        .chunks_exact_mut(height * width)
        .zip(regions.chunks_exact_mut(32))
        .map(|(map, regions)| hotad_verdict {
            size: size_of::<hotad_verdict>(),
            regions: regions.as_mut_ptr(),
            region_capacity: regions.len(),
            map: map.as_mut_ptr(),
            map_capacity: map.len(),
            ..hotad_verdict::default()
        })
        .collect();
    let told: Vec<*mut hotad_verdict> = verdicts.iter_mut().map(std::ptr::from_mut).collect();
    for count in [1, BATCH] {
        let frames = vec![std::ptr::from_ref(&frame); count];
        let inspect = || {
            // SAFETY: so many pointers to structures that are as large as they say.
            let status = unsafe { hotad_inspect_batch(inspector, frames.as_ptr(), told.as_ptr(), count) };
            assert_eq!(status, HOTAD_OK);
        };
        (0..5).for_each(|_| inspect());
        count_requests(true);
        let known = requests().count;
        (0..CALLS).for_each(|_| inspect());
        count_requests(false);
        let asked = requests().count - known;
        assert!(asked <= OF_QUEUE, "{asked} requests in {CALLS} calls with {count} frames");
    }
    // SAFETY: one pointer each.
    assert_eq!(unsafe { hotad_inspect(inspector, &frame, told[0]) }, HOTAD_OK);
    assert!(verdicts[0].map_width == width && verdicts[0].region_count > 0, "{:?}", verdicts[0]);
    assert_eq!(hotad_close(inspector), HOTAD_OK);
}
