//! Sizes are checked before memory is taken.

use hotad_engine::data::decode::decode;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::limits::Limits;
use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::{ImageSpec, Mask, Picture};
use hotad_engine::data::prepare::file_sha256;
use image::ImageFormat;

use crate::common::{bars, ok, refused, small_data, text, train_small};
use crate::files::{COLOUR, GRAY, declaring_png, encoded, picture};
use crate::peak_memory::{alone, measured};

#[test]
fn declared_sizes_are_refused_before_memory_is_taken() {
    if !alone("limits::declared_sizes_are_refused_before_memory_is_taken") {
        return;
    }
    let bytes = declaring_png(22_000, 22_000);
    let (outcome, taken) = measured(|| decode(&bytes, &Limits::default()).map(drop));
    let reason = outcome.expect_err("too large").to_string();
    for word in ["22000 x 22000", "484 megapixels", "limit is 100", "to 484 megapixels"] {
        assert!(reason.contains(word), "{word:?} is not in: {reason}");
    }
    // The pixels would be 484 MB.
    assert!(taken < 64 << 20, "{taken} bytes");
}

#[test]
fn every_format_is_limited() {
    let image = picture(40, 30, COLOUR);
    let (enough, less) = (Limits { pixels: 1200, bytes: 1 << 20 }, Limits { pixels: 1199, bytes: 1 << 20 });
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff] {
        let bytes = encoded(&image, format);
        assert!(decode(&bytes, &enough).is_ok(), "{format:?}");
        let reason = decode(&bytes, &less).map(drop).expect_err("too large").to_string();
        assert!(reason.contains("40 x 30"), "{format:?}: {reason}");
    }
}

#[test]
fn the_limit_is_an_option_for_images_and_masks() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "1"]);
    let large = dir.path().join("large.png");
    bars(1010, 0).write_png(&large).expect("a picture");
    let score = ["score", "--model", text(&model), text(&large), "--max-megapixels"];
    refused(&[&score[..], &["1"]].concat(), &["large.png", "1010 x 1010", "--max-megapixels 2"]);
    ok(&[&score[..], &["2"]].concat());
    // A file of a size that no image may have, which takes no room on the disk.
    let long = dir.path().join("long.png");
    std::fs::File::create(&long).and_then(|f| f.set_len(600_000_000)).expect("a sparse file");
    refused(&["score", "--model", text(&model), text(&long)], &["long.png", "600 MB", "--max-megapixels 118"]);
    std::fs::write(data.join("ground_truth/crack/000_mask.png"), declaring_png(12_000, 12_000)).expect("written");
    let eval = ["eval", "--model", text(&model), "--data", text(&data)];
    refused(&eval, &["000_mask.png", "12000 x 12000", "limit is 100"]);
}

#[test]
fn a_file_is_hashed_in_little_memory() {
    if !alone("limits::a_file_is_hashed_in_little_memory") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let long = dir.path().join("long.png");
    std::fs::File::create(&long).and_then(|f| f.set_len(150_000_000)).expect("a sparse file");
    let (hash, taken) = measured(|| file_sha256(&long));
    assert_eq!(hash.expect("it is read").len(), 64);
    assert!(taken < 64 << 20, "{taken} bytes");
}

#[test]
fn a_large_image_becomes_small_without_floats_of_the_whole() {
    if !alone("limits::a_large_image_becomes_small_without_floats_of_the_whole") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let paths = [dir.path().join("large.bmp")];
    picture(3000, 2000, GRAY).save(&paths[0]).expect("a picture");
    let spec = ImageSpec { height: 64, width: 48, channels: 3 };
    let mut loaded = Vec::new();
    let (outcome, taken) = measured(|| {
        for_each_batch(&Images::new(ImageFiles::whole(&paths), spec), &[0], 1, |batch| {
            loaded = batch.images.values()?.into_owned();
            Ok(())
        })
    });
    outcome.expect("it is read");
    // 6 MB of file and of pixels; as floats of three channels they would be 72 MB.
    assert!(taken < 30 << 20, "{taken} bytes");
    let whole = Picture::read(&paths[0]).expect("a picture").fit(spec).expect("fits").values;
    assert!(loaded == whole, "the same to the bit");
}

#[test]
fn masks_are_read_in_every_type() {
    let dir = tempfile::tempdir().expect("a folder");
    for (i, like) in crate::files::TYPES.iter().enumerate() {
        let path = dir.path().join(format!("{i}.png"));
        let mut image = picture(9, 7, COLOUR).to_rgb8();
        image.fill(0);
        image.put_pixel(4, 5, image::Rgb([0, 0, 90]));
        like(image.into()).save(&path).expect("a picture");
        let mask = Mask::read(&path).expect("a mask");
        let defects: Vec<usize> = (0..63).filter(|i| mask.defect[*i]).collect();
        assert_eq!((mask.height, mask.width, defects), (7, 9, vec![5 * 9 + 4]), "type {i}");
    }
}
