//! Thresholds that change while frames are inspected.

use hotad::{Format, Frame, Label, Options, Values, Verdict};

use crate::{noise, shipped};

#[test]
fn the_next_frame_is_judged_by_new_thresholds() {
    let mut inspector = shipped(Options::default());
    let bytes = noise(64, 64, 1);
    let frame = Frame::new(&bytes, 64, 64, 64, Format::Gray8).expect("a frame");
    let (thresholds, mut verdict) = (inspector.thresholds(), Verdict::default());
    let before = thresholds.get();
    assert_eq!(before.image, inspector.info().image_threshold);
    assert_eq!(before.pixel, inspector.info().pixel_threshold);
    inspector.inspect(&frame, &mut verdict).expect("a verdict");
    let score = verdict.score;
    for (image, label) in [(score, Label::Normal), (score - score.abs() * 1e-3, Label::Anomaly)] {
        let after = Values { image, pixel: 2.0 };
        let other = thresholds.clone();
        std::thread::spawn(move || other.set(after, "line 3, shift lead").map(drop))
            .join()
            .expect("a thread")
            .expect("finite");
        inspector.inspect(&frame, &mut verdict).expect("a verdict");
        assert_eq!((verdict.score, verdict.label), (score, label));
        assert_eq!((verdict.image_threshold, verdict.pixel_threshold), (image, 2.0));
        assert!(
            (verdict.calibrated > 0.5) == (label == Label::Anomaly),
            "0.5 at the threshold: {}",
            verdict.calibrated
        );
        assert!((verdict.calibrated - 0.5).abs() < 0.1, "{} near the threshold", verdict.calibrated);
    }
    let changes = thresholds.changes();
    assert_eq!(changes.len(), 2);
    assert_eq!((changes[0].before, changes[0].after.image), (before, score));
    assert_eq!(changes[1].before, changes[0].after);
    assert_eq!(changes[1].by, "line 3, shift lead");
    assert!(changes[0].at <= changes[1].at);
}

#[test]
fn thresholds_that_are_no_numbers_are_refused() {
    let thresholds = shipped(Options::default()).thresholds();
    let before = thresholds.get();
    for (image, pixel, word) in [(f32::NAN, 1.0, "image"), (1.0, f32::INFINITY, "pixel")] {
        let error = thresholds.set(Values { image, pixel }, "the test").expect_err("no number").to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(thresholds.get(), before);
    assert!(thresholds.changes().is_empty());
}
