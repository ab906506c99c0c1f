//! Frames of all formats and strides against plain loops over their samples in f64.

use hotad::{Error, Format, Frame, Strides};

use crate::noise;

/// RGB, or gray three times, of a pixel, in 0..1: written without a look at the library.
fn naive(bytes: &[u8], format: Format, width: usize, y: usize, x: usize) -> [f64; 3] {
    let word = |i: usize| f64::from(u16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]])) / 65535.0;
    let byte = |i: usize| f64::from(bytes[i]) / 255.0;
    let at = |samples: usize| (y * width + x) * samples;
    match format {
        Format::Gray8 => [byte(at(1)); 3],
        Format::GrayAlpha8 => [byte(at(2)); 3],
        Format::Gray16 => [word(at(1)); 3],
        Format::GrayAlpha16 => [word(at(2)); 3],
        Format::Rgb8 => [0, 1, 2].map(|k| byte(at(3) + k)),
        Format::Bgr8 => [2, 1, 0].map(|k| byte(at(3) + k)),
        Format::Rgba8 => [0, 1, 2].map(|k| byte(at(4) + k)),
        Format::Bgra8 => [2, 1, 0].map(|k| byte(at(4) + k)),
        Format::Rgb16 => [0, 1, 2].map(|k| word(at(3) + k)),
        Format::Rgba16 => [0, 1, 2].map(|k| word(at(4) + k)),
        _ => unreachable!("sensors have a test of their own"),
    }
}

fn is_sensor(format: Format) -> bool {
    format.name().starts_with("bayer")
}

#[test]
fn rows_are_those_of_plain_loops() {
    let (height, width) = (5, 7);
    for format in Format::all().filter(|f| !is_sensor(*f)) {
        // Rows are three bytes longer than their pixels.
        let row = width * format.pixel_bytes();
        let packed = noise(height, row, 1);
        let mut padded = vec![0xaa; height * (row + 3)];
        packed.chunks(row).zip(padded.chunks_mut(row + 3)).for_each(|(from, to)| to[..row].copy_from_slice(from));
        let frame = Frame::new(&padded, height, width, row + 3, format).expect("a frame");
        assert_eq!(frame.channels(), if format.samples() > 2 { 3 } else { 1 });
        for y in 0..height {
            let (mut rgb, mut gray) = (vec![0.0; 3 * (width - 2)], vec![0.0; width]);
            frame.row(y, 2, 3, &mut rgb);
            frame.row(y, 0, 1, &mut gray);
            for x in 0..width {
                let [r, g, b] = naive(&packed, format, width, y, x);
                let luma = if format.samples() > 2 { 0.2126 * r + 0.7152 * g + 0.0722 * b } else { r };
                assert!((f64::from(gray[x]) - luma).abs() < 1e-6, "{format} {y} {x}");
                if x >= 2 {
                    let own = &rgb[3 * (x - 2)..][..3];
                    own.iter().zip([r, g, b]).for_each(|(v, e)| assert!((f64::from(*v) - e).abs() < 1e-7, "{format}"));
                }
            }
        }
    }
}

#[test]
fn any_strides_show_the_same_pixels() {
    let (height, width) = (6, 9);
    let bytes = noise(height, width, 3);
    let packed = Frame::new(&bytes, height, width, 3 * width, Format::Bgr8).expect("a frame");
    // The same pixels as RGB, from the last sample of each backwards.
    let strides = Strides { row: 27, pixel: 3, sample: -1 };
    let reversed = Frame::strided(&bytes, 2, (height, width), strides, Format::Rgb8).expect("a frame");
    // Upside down, every other column.
    let strides = Strides { row: -27, pixel: 6, sample: 1 };
    let flipped = Frame::strided(&bytes, 27 * (height - 1), (height, 5), strides, Format::Bgr8).expect("a frame");
    let row = |frame: &Frame, y: usize| {
        let mut values = vec![0.0; 3 * frame.width()];
        frame.row(y, 0, 3, &mut values);
        values
    };
    for y in 0..height {
        let expected = row(&packed, y);
        assert_eq!(row(&reversed, y), expected);
        let every_other: Vec<f32> = expected.chunks(3).step_by(2).flatten().copied().collect();
        assert_eq!(row(&flipped, height - 1 - y), every_other);
    }
}

/// The mean of the nearest samples of each colour, by distance, over a frame that is mirrored at its border.
fn naive_demosaic(bytes: &[u8], pattern: &[u8; 4], (height, width): (i32, i32), y: i32, x: i32) -> [f64; 3] {
    let mirror = |at: i32, n: i32| {
        if at < 0 {
            -at
        } else if at >= n {
            2 * n - 2 - at
        } else {
            at
        }
    };
    [b'r', b'g', b'b'].map(|color| {
        let samples = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx))).filter_map(|(dy, dx): (i32, i32)| {
            let is = pattern[(2 * (y + dy).rem_euclid(2) + (x + dx).rem_euclid(2)) as usize] == color;
            let at = mirror(y + dy, height) * width + mirror(x + dx, width);
            is.then(|| (dy * dy + dx * dx, f64::from(bytes[at as usize])))
        });
        let samples: Vec<(i32, f64)> = samples.collect();
        let nearest = samples.iter().map(|s| s.0).min().expect("every colour is near");
        let near: Vec<f64> = samples.iter().filter(|s| s.0 == nearest).map(|s| s.1).collect();
        near.iter().sum::<f64>() / near.len() as f64 / 255.0
    })
}

#[test]
fn sensors_are_demosaiced_bilinearly() {
    for (format, pattern) in [
        (Format::BayerRggb8, b"rggb"),
        (Format::BayerBggr8, b"bggr"),
        (Format::BayerGrbg8, b"grbg"),
        (Format::BayerGbrg8, b"gbrg"),
    ] {
        for (height, width) in [(2, 2), (5, 8), (8, 5)] {
            let bytes = noise(height, width, 1);
            let frame = Frame::new(&bytes, height, width, width, format).expect("a frame");
            assert_eq!(frame.channels(), 3);
            for y in 0..height {
                let mut row = vec![0.0; 3 * width];
                frame.row(y, 0, 3, &mut row);
                for x in 0..width {
                    let size = (height as i32, width as i32);
                    let expected = naive_demosaic(&bytes, pattern, size, y as i32, x as i32);
                    let own = &row[3 * x..3 * x + 3];
                    let near = own.iter().zip(expected).all(|(v, e)| (f64::from(*v) - e).abs() < 1e-6);
                    assert!(near, "{format} {height}x{width} at {y} {x}: {own:?} for {expected:?}");
                }
            }
        }
    }
}

#[test]
fn formats_have_names() {
    for format in Format::all() {
        assert_eq!(format.name().parse::<Format>().expect("its own name"), format);
    }
    let error = "yuv422".parse::<Format>().expect_err("none").to_string();
    assert!(error.contains("yuv422") && error.contains("bayer-rggb8"), "{error}");
}

#[test]
fn frames_that_cannot_be_are_refused() {
    let bytes = [0; 60];
    let strided = |origin, size, row, pixel, sample, format| {
        Frame::strided(&bytes, origin, size, Strides { row, pixel, sample }, format)
    };
    for (what, frame) in [
        ("nothing to inspect", Frame::new(&bytes, 0, 4, 12, Format::Rgb8)),
        ("nothing to inspect", Frame::new(&bytes, 4, 0, 12, Format::Rgb8)),
        ("stride of 11", Frame::new(&bytes, 4, 4, 11, Format::Rgb8)),
        ("need bytes 0 to 72", Frame::new(&bytes, 6, 4, 12, Format::Rgb8)),
        ("stride of", Frame::new(&bytes, 2, usize::MAX / 2, 12, Format::Rgba16)),
        ("megapixels", strided(0, (1 << 20, 1 << 20), 0, 0, 0, Format::Gray8)),
        ("megapixels", Frame::new(&bytes, usize::MAX, 4, 12, Format::Rgb8)),
        ("need bytes", Frame::new(&bytes, 1 << 20, 4, 12, Format::Rgb8)),
        ("two rows", Frame::new(&bytes, 1, 4, 12, Format::BayerRggb8)),
        ("need bytes -12", strided(0, (2, 4), -12, 3, 1, Format::Rgb8)),
        ("need bytes", strided(58, (2, 4), -12, 3, 1, Format::Rgb8)),
        ("need bytes", strided(usize::MAX, (2, 4), 12, 3, 1, Format::Rgb8)),
        ("need bytes", strided(0, (2, 2), isize::MAX, isize::MAX, isize::MAX, Format::Rgb8)),
        ("need bytes", strided(0, (2, 2), isize::MIN, isize::MIN, isize::MIN, Format::Rgb8)),
    ] {
        match frame {
            Err(Error::Frame(reason)) => assert!(reason.contains(what), "{what}: {reason}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    // The last row needs no padding after it.
    assert!(Frame::new(&bytes[..59], 5, 3, 12, Format::Rgb8).is_ok());
}
