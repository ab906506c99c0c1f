//! The calls of the header, from Rust: what they say, what they refuse, and that nothing is written past what they are given.

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::ptr;

use hotad::hotad_status::*;
use hotad::*;
use support::{options, shipped, words};

mod support;

/// A public key that has signed nothing (the first test vector of RFC 8032, section 7.1).
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

fn open(options: &hotad_options) -> hotad_inspector {
    let mut inspector = 0;
    // SAFETY: texts end with zeros, structures are as large as they say.
    let status = unsafe { hotad_open(shipped().as_ptr(), options, &mut inspector) };
    assert_eq!(status, HOTAD_OK, "{}", words());
    inspector
}

fn frame(pixels: &[u8], width: usize, height: usize) -> hotad_frame {
    hotad_frame {
        size: size_of::<hotad_frame>(),
        data: pixels.as_ptr(),
        data_size: pixels.len(),
        width,
        height,
        stride: width,
        format: hotad_format::HOTAD_GRAY8 as u32,
        waited_ns: 0,
    }
}

fn verdict() -> hotad_verdict {
    hotad_verdict { size: size_of::<hotad_verdict>(), ..hotad_verdict::default() }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn a_verdict_is_that_of_the_library() {
    let pixels = noise(90 * 70);
    let mut own = inspector::Inspector::open(
        shipped().to_str().expect("text").as_ref(),
        inspector::Options { device: "cpu".into(), map: inspector::MapSize::Frame, ..Default::default() },
    )
    .expect("it opens");
    let same = inspector::Frame::new(&pixels, 70, 90, 90, inspector::Format::Gray8).expect("a frame");
    let mut expected = inspector::Verdict::default();
    own.inspect(&same, &mut expected).expect("a verdict");

    let c = open(&hotad_options { map: hotad_map::HOTAD_MAP_FRAME as u32, ..options() });
    assert_eq!(hotad_warm_up(c, 70, 90, 0), HOTAD_OK);
    let (mut map, mut regions) = (vec![-1.0; 90 * 70 + 8], vec![hotad_region::default(); 40]);
    let mut told = hotad_verdict {
        regions: regions.as_mut_ptr(),
        region_capacity: regions.len(),
        map: map.as_mut_ptr(),
        map_capacity: 90 * 70,
        ..verdict()
    };
    // SAFETY: as large as they say.
    assert_eq!(unsafe { hotad_inspect(c, &frame(&pixels, 90, 70), &mut told) }, HOTAD_OK, "{}", words());
    assert_eq!(told.score.to_bits(), expected.score.to_bits());
    assert_eq!(told.calibrated.to_bits(), expected.calibrated.to_bits());
    assert_eq!((told.map_width, told.map_height), (90, 70));
    assert!(map[..90 * 70] == expected.map[..]);
    assert!(map[90 * 70..].iter().all(|v| *v == -1.0), "written past the map");
    assert_eq!(told.region_count, expected.regions.len());
    for (region, expected) in regions.iter().zip(&expected.regions) {
        assert_eq!(*region, (*expected).into());
    }
    let mut info = std::mem::MaybeUninit::<hotad_info>::zeroed();
    // SAFETY: zeros are a structure without pointers.
    let info = unsafe { info.assume_init_mut() };
    info.size = size_of::<hotad_info>();
    // SAFETY: as large as it says.
    assert_eq!(unsafe { hotad_get_info(c, info) }, HOTAD_OK);
    // SAFETY: ends with a zero.
    assert_eq!(unsafe { CStr::from_ptr(info.method.as_ptr()) }, c"paedid");
    assert_eq!((info.height, info.width), (own.info().image.height, own.info().image.width));
    assert_eq!(hotad_close(c), HOTAD_OK);
}

#[test]
fn batches_are_their_frames() {
    let c = open(&options());
    let pixels = [noise(64 * 64), noise(80 * 60).into_iter().rev().collect()];
    let frames = [frame(&pixels[0], 64, 64), frame(&pixels[1], 80, 60)];
    let mut alone = [verdict(); 2];
    let mut together = [verdict(); 2];
    for (frame, verdict) in frames.iter().zip(&mut alone) {
        // SAFETY: as large as they say.
        assert_eq!(unsafe { hotad_inspect(c, frame, verdict) }, HOTAD_OK);
    }
    let (f, v) = (frames.each_ref().map(ptr::from_ref), together.each_mut().map(ptr::from_mut));
    // SAFETY: two pointers each, to structures as large as they say.
    assert_eq!(unsafe { hotad_inspect_batch(c, f.as_ptr(), v.as_ptr(), 2) }, HOTAD_OK, "{}", words());
    assert_eq!(alone.map(|v| v.score.to_bits()), together.map(|v| v.score.to_bits()));
    // SAFETY: no pointers are read.
    assert_eq!(unsafe { hotad_inspect_batch(c, ptr::null(), ptr::null(), 0) }, HOTAD_OK);
    hotad_close(c);
}

/// The words are those for the frame alone, with its number.
#[test]
fn a_refused_frame_of_a_batch_is_named_by_its_number() {
    let roi = CString::new("box:0,0,60,60").expect("no zeros");
    let c = open(&hotad_options { roi: roi.as_ptr(), ..options() });
    let pixels = noise(64 * 64);
    let good = frame(&pixels, 64, 64);
    for (frame, status) in [
        (hotad_frame { data: ptr::null(), ..good }, HOTAD_ERROR_ARGUMENT),
        (hotad_frame { format: 99, ..good }, HOTAD_ERROR_ARGUMENT),
        (hotad_frame { stride: 63, ..good }, HOTAD_ERROR_FRAME),
        (hotad_frame { width: 59, ..good }, HOTAD_ERROR_FRAME),
    ] {
        let mut told = [verdict(); 3];
        // SAFETY: as large as they say.
        assert_eq!(unsafe { hotad_inspect(c, &frame, &mut told[0]) }, status);
        let alone = words();
        let frames = [ptr::from_ref(&good), &good, &frame];
        let to = told.each_mut().map(ptr::from_mut);
        // SAFETY: three pointers each, to structures as large as they say.
        assert_eq!(unsafe { hotad_inspect_batch(c, frames.as_ptr(), to.as_ptr(), 3) }, status);
        assert_eq!(words(), format!("frame 3 of 3: {}", alone.strip_prefix("frame: ").unwrap_or(&alone)));
        assert!(told.iter().all(|told| told.label == hotad_label::HOTAD_UNDECIDED as u32 && told.score.is_nan()));
    }
    hotad_close(c);
}

#[test]
fn thresholds_change_and_are_read_back() {
    let c = open(&options());
    let (mut image, mut pixel) = (0.0, 0.0);
    // SAFETY: texts end with zeros, numbers may be written.
    unsafe {
        assert_eq!(hotad_set_thresholds(c, 1.5, 2.5, c"the test".as_ptr()), HOTAD_OK);
        assert_eq!(hotad_get_thresholds(c, &mut image, &mut pixel), HOTAD_OK);
        assert_eq!((image, pixel), (1.5, 2.5));
        assert_eq!(hotad_set_thresholds(c, f32::NAN, 2.5, c"the test".as_ptr()), HOTAD_ERROR_ARGUMENT);
        assert!(words().contains("image threshold"), "{}", words());
        assert_eq!(hotad_set_thresholds(c, 1.0, 1.0, ptr::null()), HOTAD_ERROR_ARGUMENT);
        assert_eq!(hotad_get_thresholds(c, ptr::null_mut(), &mut pixel), HOTAD_ERROR_ARGUMENT);
    }
    hotad_close(c);
}

#[test]
fn changes_of_thresholds_are_told_with_who_made_them() {
    let c = open(&options());
    // SAFETY: zeros are a structure.
    let mut changes: [hotad_threshold_change; 3] = unsafe { std::mem::zeroed() };
    let mut count = 9;
    // SAFETY: texts end with zeros, there is memory for three changes, the number may be written.
    unsafe {
        assert_eq!(hotad_threshold_changes(c, 0, ptr::null_mut(), 0, &mut count), HOTAD_OK);
        assert_eq!(count, 0);
        assert_eq!(hotad_set_thresholds(c, 1.5, 2.5, c"first shift".as_ptr()), HOTAD_OK);
        let long = CString::new("é".repeat(40)).expect("no zeros");
        assert_eq!(hotad_set_thresholds(c, 3.5, 2.5, long.as_ptr()), HOTAD_OK);
        assert_eq!(hotad_threshold_changes(c, 0, changes.as_mut_ptr(), 1, &mut count), HOTAD_OK);
        assert_eq!((count, changes[1].at_ns), (2, 0));
        assert_eq!(hotad_threshold_changes(c, 0, changes.as_mut_ptr(), 3, &mut count), HOTAD_OK);
        assert_eq!(CStr::from_ptr(changes[0].by.as_ptr()), c"first shift");
        // Cut at a whole character.
        assert_eq!(CStr::from_ptr(changes[1].by.as_ptr()).to_str(), Ok(&*"é".repeat(31)));
        assert_eq!(hotad_threshold_changes(c, 1, &mut changes[2], 1, &mut count), HOTAD_OK);
        assert_eq!((count, changes[2].at_ns), (2, changes[1].at_ns));
        assert_eq!(hotad_threshold_changes(c, 7, changes.as_mut_ptr(), 3, &mut count), HOTAD_OK);
        assert_eq!(count, 2);
        assert_eq!(hotad_threshold_changes(c, 0, changes.as_mut_ptr(), 3, ptr::null_mut()), HOTAD_ERROR_ARGUMENT);
    }
    assert_eq!((changes[1].image_before, changes[1].image_after), (1.5, 3.5));
    assert_eq!((changes[1].pixel_before, changes[1].pixel_after), (2.5, 2.5));
    assert!(changes[0].at_ns > 0 && changes[0].at_ns <= changes[1].at_ns);
    hotad_close(c);
}

#[test]
fn a_deadline_counts_from_the_arrival() {
    let hour = 3_600_000_000_000;
    let c = open(&hotad_options { deadline_ns: hour, awake: 1, ..options() });
    let pixels = noise(64 * 64);
    let (fresh, stale) = (frame(&pixels, 64, 64), hotad_frame { waited_ns: hour, ..frame(&pixels, 64, 64) });
    for (frames, late) in [(vec![fresh], 0), (vec![stale], 1), (vec![fresh, fresh], 0), (vec![fresh, stale], 1)] {
        let mut told = vec![verdict(); frames.len()];
        let frames: Vec<_> = frames.iter().map(ptr::from_ref).collect();
        let to: Vec<_> = told.iter_mut().map(ptr::from_mut).collect();
        // SAFETY: pointers to structures as large as they say.
        assert_eq!(unsafe { hotad_inspect_batch(c, frames.as_ptr(), to.as_ptr(), to.len()) }, HOTAD_OK, "{}", words());
        for told in told {
            assert_eq!((told.late, told.label == hotad_label::HOTAD_UNDECIDED as u32), (late, late == 1));
            assert_eq!(told.wait_ns >= hour, late == 1);
        }
    }
    hotad_close(c);
}

#[test]
fn a_key_is_asked_for() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (good, bad) = (folder.join("calls.pub"), folder.join("calls.txt"));
    std::fs::write(&good, KEY).expect("written");
    std::fs::write(&bad, "no key").expect("written");
    for (path, said) in [(&good, "not signed"), (&bad, "calls.txt"), (&folder.join("nowhere.pub"), "nowhere.pub")] {
        let path = CString::new(path.to_str().expect("text")).expect("no zeros");
        let mut inspector = 7;
        // SAFETY: texts end with zeros, structures are as large as they say.
        let status = unsafe {
            hotad_open(shipped().as_ptr(), &hotad_options { verify_key: path.as_ptr(), ..options() }, &mut inspector)
        };
        assert!(status != HOTAD_OK && inspector == 0 && words().contains(said), "{}", words());
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let c = open(&options());
    let pixels = noise(64 * 64);
    let good = frame(&pixels, 64, 64);
    let mut told = verdict();
    let frames = [
        ("null", hotad_frame { data: ptr::null(), ..good }, HOTAD_ERROR_ARGUMENT),
        ("need bytes", hotad_frame { data_size: 64 * 64 - 1, ..good }, HOTAD_ERROR_FRAME),
        ("stride", hotad_frame { stride: 63, ..good }, HOTAD_ERROR_FRAME),
        ("nothing", hotad_frame { width: 0, ..good }, HOTAD_ERROR_FRAME),
        ("nothing", hotad_frame { height: 0, ..good }, HOTAD_ERROR_FRAME),
        ("format: 99", hotad_frame { format: 99, ..good }, HOTAD_ERROR_ARGUMENT),
        ("frame.size is 8", hotad_frame { size: 8, ..good }, HOTAD_ERROR_ARGUMENT),
        ("more than memory", hotad_frame { data_size: usize::MAX, ..good }, HOTAD_ERROR_ARGUMENT),
        ("more than 100 megapixels", hotad_frame { height: usize::MAX, ..good }, HOTAD_ERROR_FRAME),
    ];
    // SAFETY: structures are as large as they say, or say less than is looked at.
    unsafe {
        for (said, frame, status) in frames {
            assert_eq!(hotad_inspect(c, &frame, &mut told), status, "{said}");
            assert!(words().contains(said), "{said}: {}", words());
            assert_eq!(told.label, hotad_label::HOTAD_UNDECIDED as u32);
            assert!(told.score.is_nan());
        }
        assert_eq!(hotad_inspect(c, ptr::null(), &mut told), HOTAD_ERROR_ARGUMENT);
        assert_eq!(hotad_inspect(c, &good, ptr::null_mut()), HOTAD_ERROR_ARGUMENT);
        let mut small = hotad_verdict { size: 4, ..verdict() };
        assert_eq!(hotad_inspect(c, &good, &mut small), HOTAD_ERROR_ARGUMENT);
        assert_eq!(hotad_inspect(0, &good, &mut told), HOTAD_ERROR_CLOSED);
        let mut none = 7;
        assert_eq!(hotad_open(ptr::null(), ptr::null(), &mut none), HOTAD_ERROR_ARGUMENT);
        assert_eq!(none, 0);
        assert_eq!(hotad_open(c"nowhere".as_ptr(), &options(), &mut none), HOTAD_ERROR_MODEL);
        assert!(words().contains("nowhere"), "{}", words());
        for (options, said) in [
            (hotad_options { map: 9, ..options() }, "options.map"),
            (hotad_options { size: 1, ..options() }, "options.size"),
            (hotad_options { device: c"tpu".as_ptr(), ..options() }, "tpu"),
            (hotad_options { precision: c"f8".as_ptr(), ..options() }, "f8"),
            (hotad_options { device: c"\xff".as_ptr(), ..options() }, "UTF-8"),
            (hotad_options { threads: 100_000, ..options() }, "threads"),
        ] {
            let status = hotad_open(shipped().as_ptr(), &options, &mut none);
            assert!(status != HOTAD_OK && words().contains(said), "{said}: {}", words());
        }
        assert_eq!(hotad_warm_up(c, 64, 64, 77), HOTAD_ERROR_ARGUMENT);
        assert_eq!(hotad_warm_up(c, 0, 64, 0), HOTAD_ERROR_FRAME);
        for (height, width) in [(1 << 20, 1 << 20), (usize::MAX, 2), (usize::MAX, usize::MAX)] {
            assert_eq!(hotad_warm_up(c, height, width, 0), HOTAD_ERROR_FRAME);
            assert!(words().contains("megapixels"), "{}", words());
        }
        let mut many = 0;
        assert_eq!(
            hotad_open(shipped().as_ptr(), &hotad_options { regions: u32::MAX, ..options() }, &mut many),
            HOTAD_OK
        );
        assert_eq!(hotad_inspect(many, &good, &mut told), HOTAD_OK);
        assert_eq!(hotad_close(many), HOTAD_OK);
    }
    assert_eq!(hotad_close(c), HOTAD_OK);
    assert_eq!(hotad_close(c), HOTAD_ERROR_CLOSED);
    // SAFETY: the handle is closed, which is looked at first.
    assert_eq!(unsafe { hotad_inspect(c, &good, &mut told) }, HOTAD_ERROR_CLOSED);
    assert_eq!(hotad_warm_up(c, 64, 64, 0), HOTAD_ERROR_CLOSED);
}

#[test]
fn a_map_that_does_not_fit_is_not_written() {
    let c = open(&hotad_options { map: hotad_map::HOTAD_MAP_FRAME as u32, ..options() });
    let pixels = noise(64 * 48);
    let mut map = vec![-1.0; 64 * 48];
    let mut told = hotad_verdict { map: map.as_mut_ptr(), map_capacity: 64 * 48 - 1, ..verdict() };
    // SAFETY: as large as they say.
    assert_eq!(unsafe { hotad_inspect(c, &frame(&pixels, 64, 48), &mut told) }, HOTAD_ERROR_ARGUMENT);
    assert!(words().contains("3072 values does not fit into 3071"), "{}", words());
    assert!(map.iter().all(|v| *v == -1.0));
    assert_eq!((told.map_width, told.map_height), (64, 48), "so that the next one fits");
    assert!(told.score.is_finite());
    hotad_close(c);
}

#[test]
fn two_threads_on_one_inspector_are_told_apart() {
    let c = open(&options());
    let pixels = noise(1000 * 1000);
    let statuses: Vec<hotad_status> = std::thread::scope(|scope| {
        let inspect = || {
            let (frame, mut told) = (frame(&pixels, 1000, 1000), verdict());
            // SAFETY: as large as they say.
            (0..40).map(|_| unsafe { hotad_inspect(c, &frame, &mut told) }).collect::<Vec<_>>()
        };
        let others = [scope.spawn(inspect), scope.spawn(inspect)];
        others.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    assert!(statuses.iter().all(|status| [HOTAD_OK, HOTAD_ERROR_BUSY].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&HOTAD_ERROR_BUSY) && statuses.contains(&HOTAD_OK), "{statuses:?}");
    hotad_close(c);
}

/// Random structures over a small buffer: whatever they say, a status comes back and nothing around the memory is changed.
#[test]
fn random_calls_end_with_a_status() {
    let cases: u64 = std::env::var("HOTAD_FUZZ_CASES").map_or(400, |v| v.parse().expect("a number"));
    let mut state = 0x1234_5678_9abc_def0u64;
    let mut random = move |below: u64| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let maps = [0, 1, 2].map(|map| open(&hotad_options { map, regions: 5, ..options() }));
    let pixels = noise(4096);
    for case in 0..cases {
        let pick = |random: &mut dyn FnMut(u64) -> u64, usual: usize| match random(6) {
            0 => random(200) as usize,
            1 => usize::MAX - random(4) as usize,
            _ => usual,
        };
        let (width, height) = (pick(&mut random, 32), pick(&mut random, 16));
        let data_size = random(4097) as usize;
        let frame = hotad_frame {
            size: pick(&mut random, size_of::<hotad_frame>()),
            data: if random(20) == 0 { ptr::null() } else { pixels.as_ptr() },
            data_size,
            width,
            height,
            stride: pick(&mut random, 128),
            waited_ns: if random(4) == 0 { u64::MAX - random(9) } else { random(1 << 40) },
            format: random(13) as u32,
        };
        const GUARD: usize = 64;
        let (map_capacity, region_capacity) = (random(1024) as usize, random(4) as usize);
        let mut map = vec![7.25f32; map_capacity + GUARD];
        let guard = hotad_region { left: 77, ..hotad_region::default() };
        let mut regions = vec![guard; region_capacity + GUARD];
        let mut told = hotad_verdict {
            size: pick(&mut random, size_of::<hotad_verdict>()),
            map: if random(3) == 0 { ptr::null_mut() } else { map.as_mut_ptr() },
            map_capacity,
            regions: if random(3) == 0 { ptr::null_mut() } else { regions.as_mut_ptr() },
            region_capacity,
            ..verdict()
        };
        if case % 16 == 0 {
            let status = hotad_warm_up(maps[0], pick(&mut random, 40), pick(&mut random, 60), random(13) as u32);
            assert_ne!(status, HOTAD_ERROR_INTERNAL, "{}", words());
        }
        let c = maps[random(3) as usize] + if random(30) == 0 { 1000 } else { 0 };
        // SAFETY: memory is as large as the structures say, or they say less than is looked at; the sizes of the structures
        // themselves are never larger than they are, but for those of `pick`, of which only the known part is read.
        let status = unsafe { hotad_inspect(c, &frame, &mut told) };
        assert_ne!(status, HOTAD_ERROR_INTERNAL, "{}", words());
        assert!(status != HOTAD_OK || told.wait_ns >= frame.waited_ns, "{} of {}", told.wait_ns, frame.waited_ns);
        assert!(map[map_capacity..].iter().all(|v| *v == 7.25), "written past the map");
        assert!(regions[region_capacity..].iter().all(|r| *r == guard), "written past the regions");
    }
    maps.iter().for_each(|c| assert_eq!(hotad_close(*c), HOTAD_OK));
}
