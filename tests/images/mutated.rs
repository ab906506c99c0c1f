//! Image files with broken bytes: each is decoded or refused in one line, without a panic and without taking memory that the
//! limits do not allow. `HOTAD_FUZZ_CASES` sets how many.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotad_engine::random;
use image::ImageFormat;
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::files::{TYPES, animated_png, encoded, pages_tiff, picture, right_checksums, turned_jpeg, turned_png};
use crate::mutation::change;
use crate::peak_memory::{alone, measured};
use crate::{bodies, cases};

/// Most that a case may take, in bytes.
const MOST: usize = 64 << 20;
#[test]
fn broken_images_neither_panic_nor_take_memory() {
    if !alone("mutated::broken_images_neither_panic_nor_take_memory") {
        return;
    }
    let (seeds, all) = (seeds(), cases(20_000));
    let (mut read, mut peak) = (0, 0);
    for case in 0..all {
        let bytes = broken(&seeds, case);
        let (outcome, taken) = measured(|| catch_unwind(AssertUnwindSafe(|| bodies::image::check(&bytes))));
        let good = outcome.unwrap_or_else(|_| panic!("case {case} panics"));
        assert!(taken < MOST, "case {case} ({} bytes) takes {taken} bytes of memory", bytes.len());
        read += u64::from(good);
        peak = peak.max(taken);
    }
    // Some mutations hit what is not read, and some are noticed; otherwise the mutations would test nothing.
    assert!(read > all / 50 && read < all * 4 / 5, "{read} of {all} broken images were read");
    println!("{all} broken images, {read} of them still read, at most {peak} bytes of memory");
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = TYPES.iter().map(|like| encoded(&picture(13, 9, *like), ImageFormat::Png)).collect();
    let (gray, colour, deep) = (picture(20, 11, TYPES[0]), picture(20, 11, TYPES[2]), picture(20, 11, TYPES[6]));
    let alpha = picture(20, 11, TYPES[3]);
    for image in [&gray, &colour] {
        seeds.extend([ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff].map(|f| encoded(image, f)));
        seeds.extend([turned_jpeg(image, 6), turned_png(image, 3), animated_png(image), pages_tiff(image)]);
    }
    seeds.extend([
        encoded(&alpha, ImageFormat::Bmp),
        encoded(&alpha, ImageFormat::Tiff),
        encoded(&deep, ImageFormat::Tiff),
    ]);
    seeds.extend([&include_bytes!("progressive.jpg")[..], include_bytes!("restarts.jpg")].map(<[u8]>::to_vec));
    seeds
}

/// Case number `case`: a file with one to six changes, of a PNG half the time under right checksums.
fn broken(seeds: &[Vec<u8>], case: u64) -> Vec<u8> {
    let rng = &mut random::stream(19, "broken images", case);
    let mut bytes = seeds.choose(rng).expect("some").clone();
    for _ in 0..rng.random_range(1..=6) {
        change(&mut bytes, seeds, rng);
    }
    if rng.random() && bytes.starts_with(b"\x89PNG") {
        right_checksums(&mut bytes);
    }
    bytes
}
