//! What a file says is what is seen: whole, the right way up, every sample.

use std::path::{Path, PathBuf};

use hotad_engine::data::decode::decode;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::limits::Limits;
use hotad_engine::data::loader::{BatchFile, Images, for_all};
use hotad_engine::data::picture::{ImageSpec, Picture};
use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat};

use crate::common::{hotad, ok, real_data, refused, small_data, text, train_small};
use crate::files::{
    COLOUR, GRAY, TYPES, animated_png, changed_tiff, encoded, pages_tiff, picture, turned_jpeg, turned_png,
};

/// A progressive JPEG with subsampled colours and one with restart markers, by Pillow.
const JPEGS: [&[u8]; 2] = [include_bytes!("progressive.jpg"), include_bytes!("restarts.jpg")];

const LIMITS: Limits = Limits { pixels: 1_000_000, bytes: 1 << 24 };

fn values(bytes: &[u8]) -> Vec<f32> {
    decode(bytes, &LIMITS).expect("it decodes").picture().values
}

/// What the library makes of pixels.
fn expected(image: &DynamicImage) -> Vec<f32> {
    match image.color().has_color() {
        true => image.to_rgb32f().into_raw(),
        false => image.to_luma32f().into_raw(),
    }
}

#[test]
fn samples_become_floats_as_the_library_does_it() {
    for like in TYPES {
        let image = picture(23, 17, like);
        assert!(values(&encoded(&image, ImageFormat::Png)) == expected(&image), "{:?}", image.color());
    }
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let gray = image::ImageBuffer::from_raw(256, 256, all).map(DynamicImage::ImageLuma16).expect("all values");
    assert!(values(&encoded(&gray, ImageFormat::Png)) == expected(&gray));
}

#[test]
fn fitting_by_rows_is_fitting_of_the_whole() {
    for like in TYPES {
        for channels in [1, 3] {
            for (height, width) in [(17, 23), (5, 9), (40, 11), (1, 1)] {
                let spec = ImageSpec { height, width, channels };
                let raster = decode(&encoded(&picture(23, 17, like), ImageFormat::Png), &LIMITS).expect("it decodes");
                let (rows, whole) = (raster.fit(spec, None).expect("fits"), raster.picture().fit(spec).expect("fits"));
                assert!(rows.values == whole.values, "{spec:?}");
                assert_eq!((rows.height, rows.width, rows.channels), (height, width, channels));
            }
        }
    }
}

#[test]
fn jpegs_decode_as_before() {
    let made = [picture(40, 33, COLOUR), picture(40, 33, GRAY)].map(|i| encoded(&i, ImageFormat::Jpeg));
    let made = made.iter().map(Vec::as_slice);
    for bytes in made.chain(JPEGS) {
        let lenient = image::load_from_memory(bytes).expect("a JPEG");
        assert!(values(bytes) == expected(&lenient));
    }
}

#[test]
fn real_jpegs_decode_as_before() {
    let Some(folder) = real_data("magnetic_tile") else { return };
    let images = hotad_engine::data::collect::collect_images(&[folder]).expect("images").images;
    let jpegs: Vec<_> =
        images.iter().map(|(path, _)| path).filter(|p| p.extension().is_some_and(|e| e == "jpg")).collect();
    assert!(jpegs.len() > 100, "{} JPEGs", jpegs.len());
    for path in jpegs {
        let bytes = std::fs::read(path).expect("bytes");
        assert!(values(&bytes) == expected(&image::load_from_memory(&bytes).expect("a JPEG")), "{}", path.display());
    }
}

#[test]
fn cut_jpegs_are_refused() {
    let made = encoded(&picture(40, 33, COLOUR), ImageFormat::Jpeg);
    for whole in [made.as_slice(), JPEGS[0], JPEGS[1]] {
        for end in 0..whole.len() {
            assert!(decode(&whole[..end], &LIMITS).is_err(), "{end} of {} bytes", whole.len());
        }
        // What follows the end is none of ours.
        assert!(values(&[whole, b"more"].concat()) == values(whole));
    }
}

#[test]
fn a_thumbnail_does_not_stand_for_the_end() {
    let whole = encoded(&picture(40, 33, COLOUR), ImageFormat::Jpeg);
    let thumbnail = encoded(&picture(8, 8, GRAY), ImageFormat::Jpeg);
    let length = (thumbnail.len() as u16 + 2).to_be_bytes();
    let segment = [&[0xff, 0xe5], &length[..], &thumbnail].concat();
    let with = [&whole[..2], &segment, &whole[2..]].concat();
    assert!(values(&with) == values(&whole));
    assert!(decode(&with[..with.len() - 2], &LIMITS).is_err());
}

#[test]
fn damaged_jpegs_are_refused() {
    // A code of ones alone is no Huffman code.
    let mut bytes = encoded(&picture(64, 64, COLOUR), ImageFormat::Jpeg);
    let at = bytes.len() / 2;
    bytes.splice(at..at + 40, [0xff, 0].repeat(20));
    assert!(decode(&bytes, &LIMITS).is_err());
}

#[test]
fn a_cut_jpeg_is_neither_scored_nor_trained_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "1"]);
    let whole = encoded(&picture(40, 40, GRAY), ImageFormat::Jpeg);
    let cut = data.join("train/good/cut.jpg");
    std::fs::write(&cut, &whole[..whole.len() * 2 / 3]).expect("written");
    refused(&["score", "--model", text(&model), text(&cut)], &["cut.jpg", "cut off"]);
    let out = text(&dir.path().join("x")).to_string();
    refused(&["train", "paedid", "--data", text(&data), "--out", &out], &["cut.jpg", "cut off"]);
}

#[test]
fn orientation_is_honoured() {
    let image = picture(30, 20, COLOUR);
    for number in 1..=8 {
        let orientation = Orientation::from_exif(number).expect("1 to 8");
        let mut upright = image.clone();
        upright.apply_orientation(orientation);
        let (width, height) = (upright.width() as usize, upright.height() as usize);
        // The entry of the resolution's unit makes place for that of the orientation.
        let tiff = changed_tiff(&image, 296, 274, number.into());
        for bytes in [turned_png(&image, number), tiff] {
            let raster = decode(&bytes, &LIMITS).expect("it decodes");
            assert_eq!((raster.height(), raster.width()), (height, width), "{number}");
            assert!(raster.picture().values == expected(&upright), "{number}");
        }
        let bytes = turned_jpeg(&image, number);
        let mut upright = image::load_from_memory(&bytes).expect("a JPEG");
        upright.apply_orientation(orientation);
        assert!(values(&bytes) == expected(&upright), "{number}");
    }
}

/// Lines of warnings that scoring writes.
fn warnings(model: &Path, images: &[&Path]) -> Vec<String> {
    let mut args = vec!["score", "--model", text(model)];
    args.extend(images.iter().map(|p| text(p)));
    let output = hotad(&args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr.lines().filter(|l| l.starts_with("hotad: warning: ")).map(String::from).collect()
}

#[test]
fn further_frames_and_far_proportions_are_said_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "1"]);
    let write = |name: &str, bytes: Vec<u8>| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let image = picture(40, 40, GRAY);
    let plain = write("plain.tif", encoded(&image, ImageFormat::Tiff));
    let (animated, pages) = (write("b.png", animated_png(&image)), write("c.tif", pages_tiff(&image)));
    let long = write("long.png", encoded(&picture(100, 40, GRAY), ImageFormat::Png));
    let twice = write("twice.png", encoded(&picture(80, 40, GRAY), ImageFormat::Png));
    assert!(warnings(&model, &[&plain, &twice]).is_empty(), "2:1 is not beyond 2:1");
    let said = warnings(&model, &[&pages, &plain, &animated, &pages]);
    assert!(said.len() == 1 && said[0].contains("b.png") && said[0].contains("several images"), "{said:?}");
    let said = warnings(&model, &[&pages, &long, &long]);
    assert!(said.len() == 2 && said[0].contains("c.tif") && said[1].contains("long.png: is squashed"), "{said:?}");
    std::fs::copy(&pages, data.join("train/good/pages.tif")).expect("copied");
    let out = text(&dir.path().join("x")).to_string();
    let mut args = vec!["train", "paedid", "--data", text(&data), "--out", &out, "--epochs", "1"];
    args.extend(crate::common::QUICK);
    let output = hotad(&args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.matches("several images").count(), 1, "{stderr}");
}

#[test]
fn leaving_out_broken_images_does_not_swallow_what_else_is_to_be_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "1"]);
    std::fs::write(data.join("test/good/pages.tif"), pages_tiff(&picture(40, 40, GRAY))).expect("written");
    std::fs::write(data.join("test/good/broken.png"), "no image").expect("written");
    let output = hotad(&["eval", "--model", text(&model), "--data", text(&data), "--on-broken", "skip"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for said in ["skipped", "several images"] {
        assert_eq!(stderr.matches(said).count(), 1, "{said}: {stderr}");
    }
}

#[test]
fn floats_are_refused() {
    for image in [DynamicImage::from(picture(9, 7, COLOUR).to_rgb32f()), picture(9, 7, COLOUR).to_rgba32f().into()] {
        let reason = decode(&encoded(&image, ImageFormat::Tiff), &LIMITS).map(drop).expect_err("floats").to_string();
        assert!(reason.contains("floats") && reason.contains("8 or 16 bits"), "{reason}");
    }
}

#[test]
fn other_formats_are_named() {
    let reason =
        decode(b"GIF89a and so on, for more than sixteen bytes", &LIMITS).map(drop).expect_err("not read").to_string();
    assert!(reason.contains("Gif") && reason.contains("convert it to PNG"), "{reason}");
    let reason = decode(b"", &LIMITS).map(drop).expect_err("nothing").to_string();
    assert!(reason.contains("empty"), "{reason}");
    // The name does not count.
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 40);
    train_small(&data, &model, &["--epochs", "1"]);
    let path = dir.path().join("jpeg.tif");
    std::fs::write(&path, encoded(&picture(40, 40, GRAY), ImageFormat::Jpeg)).expect("written");
    ok(&["score", "--model", text(&model), text(&path)]);
}

#[test]
fn a_batch_carries_its_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = (0..3).map(|i| dir.path().join(format!("{i}.png"))).collect();
    for (width, path) in (20..).zip(&paths) {
        picture(width, 13, COLOUR).save(path).expect("a picture");
    }
    let spec = ImageSpec { height: 8, width: 8, channels: 3 };
    for originals in [true, false] {
        let images = Images::new(ImageFiles::whole(&paths), spec).with_originals(originals);
        let mut next = 0;
        let mut check = |file: BatchFile| {
            assert_eq!((file.index, &file.path, file.size), (next, &paths[next], (13, 20 + next)));
            assert_eq!(file.original.is_some(), originals);
            let picture = file.into_original().expect("it decodes").picture();
            assert!(picture.values == Picture::read(&paths[next]).expect("a picture").values);
            next += 1;
        };
        for_all(&images, 2, |batch| {
            batch.files.into_iter().for_each(&mut check);
            Ok(())
        })
        .expect("all are read");
        assert_eq!(next, 3);
    }
}
