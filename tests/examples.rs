//! The examples do what they say.

#[path = "../examples/gradient_descent.rs"]
mod gradient_descent;
#[path = "../examples/inspect_frames.rs"]
mod inspect_frames;
#[path = "../examples/train_and_score.rs"]
mod train_and_score;

use hotad::Label;

#[test]
fn a_filter_is_learned_by_gradient_descent() {
    let (learned, wanted) = gradient_descent::run().expect("it learns");
    for (learned, wanted) in learned.iter().zip(wanted) {
        assert!((learned - wanted).abs() < 0.01, "{learned} for {wanted}");
    }
}

#[test]
fn shipped_images_are_inspected() {
    let (model, images) = inspect_frames::shipped();
    let labels = inspect_frames::run(&model, &images).expect("they are inspected");
    assert_eq!(labels, [Label::Normal, Label::Normal, Label::Anomaly]);
}

#[test]
fn an_image_with_a_spot_has_the_larger_score() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, images) = train_and_score::draw(folder.path()).expect("images are drawn");
    let scores = train_and_score::run(&data, &images).expect("a model is trained");
    assert!(scores[1] > 2.0 * scores[0], "{scores:?}");
}
