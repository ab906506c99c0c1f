//! Deadlines, options and models that are refused.

use std::path::Path;
use std::time::{Duration, Instant};

use hotad::{Error, Format, Frame, Inspector, Label, Options, Verdict};

use crate::{noise, shipped};

#[test]
fn a_late_verdict_is_undecided_and_says_so() {
    let deadline = Some(Duration::from_nanos(1));
    let mut inspector = shipped(Options { deadline, ..Options::default() });
    let bytes = noise(64, 64, 1);
    let frame = Frame::new(&bytes, 64, 64, 64, Format::Gray8).expect("a frame");
    inspector.warm_up(64, 64, Format::Gray8).expect("a warm-up knows no deadline");
    let mut verdict = Verdict::default();
    inspector.inspect(&frame, &mut verdict).expect("a verdict");
    assert!(verdict.late);
    assert_eq!(verdict.label, Label::Undecided);
}

#[test]
fn a_frame_that_has_waited_too_long_is_not_inspected() {
    let mut inspector = shipped(Options { deadline: Some(Duration::from_secs(3600)), ..Options::default() });
    let bytes = noise(64, 64, 1);
    let frame = Frame::new(&bytes, 64, 64, 64, Format::Gray8).expect("a frame");
    let mut verdict = Verdict::default();
    inspector.inspect(&frame, &mut verdict).expect("a verdict");
    assert!(!verdict.late && verdict.label != Label::Undecided && verdict.score.is_finite());
    let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(3601)) else { return };
    inspector.inspect_arrived(&frame, long_ago, &mut verdict).expect("a verdict");
    assert!(verdict.late && verdict.score.is_nan() && verdict.regions.is_empty());
    assert_eq!(verdict.label, Label::Undecided);
    assert!(verdict.stages.wait >= Duration::from_secs(3601));
    assert_eq!(verdict.stages.score, Duration::ZERO);
}

#[test]
fn sizes_and_times_beyond_all_measure_are_no_panic() {
    let bytes = noise(64, 64, 1);
    let frame = Frame::new(&bytes, 64, 64, 64, Format::Gray8).expect("a frame");
    let mut inspector = shipped(Options { deadline: Some(Duration::MAX), regions: usize::MAX, ..Options::default() });
    let mut verdict = Verdict::default();
    inspector.inspect(&frame, &mut verdict).expect("a verdict");
    assert!(!verdict.late && verdict.label != Label::Undecided);
    for (height, width) in [(0, 1), (1 << 20, 1 << 20), (usize::MAX, usize::MAX)] {
        let refused = inspector.warm_up(height, width, Format::Rgba16);
        assert!(matches!(refused, Err(Error::Frame(_))), "{refused:?}");
    }
    inspector.inspect(&frame, &mut verdict).expect("a verdict after what was refused");
}

#[test]
fn threads_of_its_own_give_the_same_bits() {
    let bytes = noise(100, 80, 3);
    let frame = Frame::new(&bytes, 100, 80, 240, Format::Rgb8).expect("a frame");
    let scores = [None, Some(1), Some(3)].map(|threads| {
        let mut verdict = Verdict::default();
        let mut inspector = shipped(Options { threads, ..Options::default() });
        // Opened here, used there.
        std::thread::scope(|scope| {
            scope.spawn(|| inspector.inspect(&frame, &mut verdict)).join().expect("a thread").expect("a verdict");
        });
        verdict.score.to_bits()
    });
    assert!(scores[0] == scores[1] && scores[1] == scores[2], "{scores:?}");
}

#[test]
fn what_cannot_be_is_refused() {
    let open = |path: &str, options: Options| match Inspector::open(Path::new(path), options) {
        Ok(_) => panic!("{path} opens"),
        Err(error) => error.to_string(),
    };
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/plate.safetensors");
    let options = || Options { device: "cpu".into(), ..Options::default() };
    for (what, said) in [
        ("deadline: 0", open(shipped, Options { deadline: Some(Duration::ZERO), ..options() })),
        ("threads: 0", open(shipped, Options { threads: Some(0), ..options() })),
        ("threads: 9999", open(shipped, Options { threads: Some(9999), ..options() })),
        ("tpu", open(shipped, Options { device: "tpu".into(), ..options() })),
        ("nowhere.safetensors", open("nowhere.safetensors", options())),
        ("Cargo.toml", open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), options())),
    ] {
        assert!(said.contains(what) && !said.contains('\n'), "{what}: {said}");
    }
}

#[test]
fn a_verdict_for_each_frame() {
    let mut inspector = crate::shipped(Options::default());
    let bytes = noise(8, 8, 1);
    let frames = [Frame::new(&bytes, 8, 8, 8, Format::Gray8).expect("a frame"); 2];
    let mut verdicts = vec![Verdict::default(); 1];
    match inspector.inspect_batch(&frames, &mut verdicts) {
        Err(Error::Frame(reason)) => assert!(reason.contains("2 frames for 1"), "{reason}"),
        other => panic!("{other:?}"),
    }
    inspector.inspect_batch(&[], &mut []).expect("nothing to do");
}

/// A frame that the region does not lie in: by its number among several, without one alone.
#[test]
fn a_refused_frame_is_named_by_its_number() {
    let roi = Some("box:0,0,30,30".parse().expect("a region"));
    let mut inspector = crate::shipped(Options { roi, ..Options::default() });
    let bytes = noise(32, 32, 1);
    let frame = |width| Frame::new(&bytes, 32, width, 32, Format::Gray8).expect("a frame");
    let mut said = |frames: &[Frame]| {
        let mut verdicts = vec![Verdict { score: 1.0, label: Label::Normal, ..Verdict::default() }; frames.len()];
        let error = inspector.inspect_batch(frames, &mut verdicts).expect_err("it is refused");
        assert!(verdicts.iter().all(|v| v.label == Label::Undecided && v.score.is_nan()), "{verdicts:?}");
        error.to_string()
    };
    let alone = said(&[frame(29)]);
    assert!(alone.starts_with("frame: the frame has 29 x 32 pixels, "), "{alone}");
    let numbered = |number| alone.replacen("frame:", &format!("frame {number} of 3:"), 1);
    assert_eq!(said(&[frame(32), frame(32), frame(29)]), numbered(3));
    assert_eq!(said(&[frame(29), frame(32), frame(28)]), numbered(1), "the first that is refused");
    assert_eq!(said(&[frame(29)]), alone);
}
