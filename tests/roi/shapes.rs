//! Which pixels are inside.

use hotad::Roi;
use hotad_engine::data::picture::Mask;
use hotad_engine::random;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

const SIZE: (usize, usize) = (37, 41);

/// A box or a polygon, as text and as a question about the centre of a pixel.
type Shape = (String, Box<dyn Fn(f64, f64) -> bool>);

fn random_box(rng: &mut ChaCha8Rng) -> Shape {
    let (left, top) = (rng.random_range(0..40), rng.random_range(0..36));
    let (width, height) = (rng.random_range(1..=41 - left), rng.random_range(1..=37 - top));
    let inside = move |x: f64, y: f64| {
        x > f64::from(left) && x < f64::from(left + width) && y > f64::from(top) && y < f64::from(top + height)
    };
    (format!("box:{left},{top},{width},{height}"), Box::new(inside))
}

fn random_polygon(rng: &mut ChaCha8Rng) -> Shape {
    let corners: Vec<(f64, f64)> = (0..rng.random_range(3..9))
        .map(|_| {
            let (x, y) = (rng.random_range(0.0..41.0), rng.random_range(0.0..37.0));
            // Some on the centres of pixels, some on their borders.
            let to = |v: f64, half: bool| if half { (2.0 * v).floor() / 2.0 } else { v };
            let half = rng.random_bool(0.5);
            (to(x, half), to(y, half))
        })
        .collect();
    let text: Vec<String> = corners.iter().map(|(x, y)| format!("{x},{y}")).collect();
    let inside = move |x: f64, y: f64| {
        let mut odd = false;
        for (i, &(x1, y1)) in corners.iter().enumerate() {
            let (x0, y0) = corners[(i + corners.len() - 1) % corners.len()];
            if (y1 > y) != (y0 > y) && x < (x0 - x1) * (y - y1) / (y0 - y1) + x1 {
                odd = !odd;
            }
        }
        odd
    };
    (format!("polygon:{}", text.join(",")), Box::new(inside))
}

/// Compares a region with what a naive one says of every pixel.
fn compare(roi: &Roi, naive: &[bool]) {
    let (height, width) = SIZE;
    assert!(roi.inside_frame(SIZE).expect("it fits") == naive, "{roi}");
    let hit: Vec<(usize, usize)> = (0..naive.len()).filter(|i| naive[*i]).map(|i| (i % width, i / width)).collect();
    let bounds = roi.bounds();
    let (left, top) = (hit.iter().map(|p| p.0).min().unwrap(), hit.iter().map(|p| p.1).min().unwrap());
    let (right, bottom) = (hit.iter().map(|p| p.0).max().unwrap(), hit.iter().map(|p| p.1).max().unwrap());
    assert_eq!((bounds.left, bounds.top), (left, top));
    assert_eq!((bounds.width, bounds.height), (right - left + 1, bottom - top + 1));
    assert_eq!(roi.pixels(), hit.len());
    assert_eq!(roi.is_rectangle(), hit.len() == bounds.width * bounds.height);
    let within: Vec<bool> =
        (top..=bottom).flat_map(|y| (left..=right).map(move |x| (x, y))).map(|(x, y)| naive[y * width + x]).collect();
    assert!(roi.inside((bounds.height, bounds.width)) == within);
    // At another size, what the pixel under the centre is.
    let (h, w) = (19, 64);
    let under = |i: usize| {
        let x = (i % w) as f64 + 0.5;
        let y = (i / w) as f64 + 0.5;
        let at = |v: f64, of: usize, all: usize| (v * of as f64 / all as f64) as usize;
        within[at(y, bounds.height, h) * bounds.width + at(x, bounds.width, w)]
    };
    assert!(roi.inside((h, w)) == (0..h * w).map(under).collect::<Vec<_>>());
    assert!(roi.check(height, width).is_ok());
    let json = serde_json::to_string(roi).expect("JSON");
    assert_eq!(&serde_json::from_str::<Roi>(&json).expect("read"), roi);
}

#[test]
fn unions_of_boxes_and_polygons_are_what_naive_code_says() {
    let mut compared = 0;
    for case in 0..400 {
        let mut rng = random::stream(5, "shapes", case);
        let shapes: Vec<Shape> = (0..rng.random_range(1..5))
            .map(|_| if rng.random_bool(0.4) { random_box(&mut rng) } else { random_polygon(&mut rng) })
            .collect();
        let texts: Vec<&str> = shapes.iter().map(|s| s.0.as_str()).collect();
        let naive: Vec<bool> = (0..SIZE.0 * SIZE.1)
            .map(|i| ((i % SIZE.1) as f64 + 0.5, (i / SIZE.1) as f64 + 0.5))
            .map(|(x, y)| shapes.iter().any(|s| (s.1)(x, y)))
            .collect();
        match Roi::parse(&texts) {
            Ok(roi) => {
                let roi = roi.expect("some text");
                compare(&roi, &naive);
                assert_eq!(roi.to_string().parse::<Roi>().expect("its own text"), roi);
                compared += 1;
            }
            Err(e) => assert!(!naive.contains(&true), "{texts:?}: {e}"),
        }
    }
    assert!(compared > 350, "{compared}");
}

#[test]
fn masks_are_what_their_pixels_say() {
    for case in 0..50 {
        let mut rng = random::stream(6, "masks", case);
        let share = [0.001, 0.3, 0.999, 1.0][case as usize % 4];
        let mut defect: Vec<bool> = (0..SIZE.0 * SIZE.1).map(|_| rng.random_bool(share)).collect();
        defect[rng.random_range(0..SIZE.0 * SIZE.1)] = true;
        let roi = Roi::of_mask(&Mask { height: SIZE.0, width: SIZE.1, defect: defect.clone() }).expect("a region");
        compare(&roi, &defect);
        assert!(roi.check(SIZE.0 + 1, SIZE.1).is_err() && roi.check(SIZE.0, SIZE.1 + 1).is_err());
    }
}
