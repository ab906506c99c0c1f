//! What a model gets of a frame: the crop, gray outside, to the bit as naive code has it.

use hotad::{Format, Frame, ImageSpec, Roi};
use hotad_engine::data::picture::Picture;
use hotad_engine::data::preprocess::Preprocessor;
use hotad_engine::random;
use rand::RngCore;

const SIZE: (usize, usize) = (29, 33);

/// The crop of a frame, gray outside, brought to a size.
fn naive(frame: &Frame, roi: &Roi, spec: ImageSpec) -> Vec<f32> {
    let (bounds, inside) = (roi.bounds(), roi.inside_frame(SIZE).expect("it fits"));
    let mut values = Vec::new();
    for y in bounds.top..bounds.top + bounds.height {
        let mut row = vec![0.0; SIZE.1 * spec.channels];
        frame.row(y, 0, spec.channels, &mut row);
        for x in bounds.left..bounds.left + bounds.width {
            let pixel = &row[x * spec.channels..][..spec.channels];
            let gray = vec![0.5; spec.channels];
            values.extend(if inside[y * SIZE.1 + x] { pixel } else { &gray });
        }
    }
    let crop = Picture { height: bounds.height, width: bounds.width, channels: spec.channels, values };
    crop.resized(spec.height, spec.width).expect("sides").values
}

#[test]
fn frames_are_cropped_and_gray_outside() {
    let regions = ["box:3,4,20,17", "box:0,0,33,29", "polygon:2,1,30,5,20,28,4,20", "box:1,2,5,6;box:20,15,9,9"];
    for text in regions {
        let roi: Roi = text.parse().expect("a region");
        for format in [Format::Gray8, Format::Bgr8, Format::Rgba16, Format::Gray16, Format::BayerGrbg8] {
            let mut bytes = vec![0; SIZE.0 * SIZE.1 * format.pixel_bytes()];
            random::stream(1, "frame", 0).fill_bytes(&mut bytes);
            let frame = Frame::new(&bytes, SIZE.0, SIZE.1, SIZE.1 * format.pixel_bytes(), format).expect("a frame");
            let own = (roi.bounds().height, roi.bounds().width);
            for ((height, width), channels) in [((16, 24), 1), ((16, 24), 3), ((40, 17), 3), (own, 1), (own, 3)] {
                let spec = ImageSpec { height, width, channels };
                let mut values = vec![0.0; spec.len()];
                let mut preprocessor = Preprocessor::new(spec).within(Some(roi.clone()));
                for _ in 0..2 {
                    preprocessor.run(&frame, &mut values).expect("preprocessed");
                    assert!(values == naive(&frame, &roi, spec), "{text}, {format}, {spec}");
                }
            }
        }
    }
}

#[test]
fn pictures_are_cut_as_frames_are() {
    let mut bytes = vec![0; SIZE.0 * SIZE.1 * 3];
    random::stream(2, "picture", 0).fill_bytes(&mut bytes);
    let frame = Frame::new(&bytes, SIZE.0, SIZE.1, SIZE.1 * 3, Format::Rgb8).expect("a frame");
    let mut values = vec![0.0; SIZE.0 * SIZE.1 * 3];
    values.chunks_exact_mut(SIZE.1 * 3).enumerate().for_each(|(y, row)| frame.row(y, 0, 3, row));
    let picture = Picture { height: SIZE.0, width: SIZE.1, channels: 3, values };
    let roi: Roi = "polygon:2,1,30,5,20,28,4,20".parse().expect("a region");
    for channels in [1, 3] {
        let spec = ImageSpec { height: 24, width: 20, channels };
        let fitted = picture.clone().fit_within(spec, Some(&roi)).expect("it fits");
        assert!(fitted.values == naive(&frame, &roi, spec), "{channels}");
    }
}
