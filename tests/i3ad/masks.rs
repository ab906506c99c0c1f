//! Masks of I3AD: checkerboards, free forms, dissimilarity.

use hotad_engine::device::Device;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_models::detector::Detector;
use hotad_models::explanation::Explainable;
use hotad_models::i3ad::{Config, I3ad, free_form};
use hotad_models::residual::Residual;
use rand::Rng;

use crate::common::bars;
use crate::devices;

/// 1 - SSIM of images `[size, size, 3]` in 0..1, averaged over channels, from its definition in f64: Gaussian window 11 of sigma
/// 1.5, edge pixels mirrored, data range 1 (Wang et al. 2004, equation 13).
fn dissimilarity(x: &[f32], y: &[f32], size: usize) -> Vec<f64> {
    let weight = |i: i64| (-(i * i) as f64 / (2.0 * 1.5 * 1.5)).exp();
    let total: f64 = (-5..=5).flat_map(|i| (-5..=5).map(move |j| weight(i) * weight(j))).sum();
    let mirrored = |i: i64| (if i < 0 { -1 - i } else { i.min(2 * size as i64 - 1 - i) }) as usize;
    let at = |image: &[f32], row: i64, column: i64, c: usize| {
        f64::from(image[(mirrored(row) * size + mirrored(column)) * 3 + c])
    };
    let ssim = |row: i64, column: i64, c: usize| {
        let mut m = [0.0; 5];
        for (i, j) in (-5..=5).flat_map(|i| (-5..=5).map(move |j| (i, j))) {
            let (a, b) = (at(x, row + i, column + j, c), at(y, row + i, column + j, c));
            let w = weight(i) * weight(j) / total;
            m.iter_mut().zip([a, b, a * a, b * b, a * b]).for_each(|(m, v)| *m += w * v);
        }
        let [mx, my, xx, yy, xy] = m;
        let (c1, c2) = (1e-4, 9e-4);
        (2.0 * mx * my + c1) * (2.0 * (xy - mx * my) + c2)
            / ((mx * mx + my * my + c1) * (xx - mx * mx + yy - my * my + c2))
    };
    let pixels = (0..size * size).map(|p| ((p / size) as i64, (p % size) as i64));
    pixels.map(|(row, column)| 1.0 - (0..3).map(|c| ssim(row, column, c)).sum::<f64>() / 3.0).collect()
}

/// In the generator's -1..1 mid-gray is 0, where SSIM's luminance term breaks down: an offset of 0.02 would cost 0.8.
#[test]
fn dissimilarity_is_that_of_images_from_0_to_1() {
    const SIZE: usize = 64;
    let mut rng = random::stream(5, "gray", 0);
    let values: Vec<f32> = (0..SIZE * SIZE * 3).map(|_| 0.52 + rng.random_range(-0.01..0.01f32)).collect();
    let images = Tensor::new(values.clone(), &[1, SIZE, SIZE, 3]).expect("lengths fit");
    let config = Config { image_size: SIZE, width: 8, test_iterations: 0, ..Config::default() };
    for device in devices::under_test() {
        let model = I3ad::untrained(config.clone(), 0.5, 3, &device).expect("memory");
        let shown = model.explain(&images).expect("explained").remove(0);
        let picture = |row: &str| {
            let found = shown.iter().find(|i| i.row == row && i.column == "iteration 0");
            found.expect("the first iteration is shown").picture.values.clone()
        };
        let want = dissimilarity(&values, &picture("reconstruction"), SIZE);
        assert!(want.iter().any(|v| *v > 1e-3), "the reconstruction differs");
        let score = model.score(&images).expect("scored").remove(0);
        for map in [picture("1 - SSIM"), score.map.values.into_vec()] {
            let worst = map.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-3, "{worst} on {}", device.name());
        }
        let l2 = I3ad::untrained(Config { residual: Residual::L2, ..config.clone() }, 0.5, 3, &device).expect("memory");
        let l2 = l2.score(&images).expect("scored").remove(0).map.values;
        let made = picture("reconstruction");
        for (pixel, got) in l2.iter().enumerate() {
            let want = (0..3).map(|c| (values[3 * pixel + c] - made[3 * pixel + c]).powi(2)).sum::<f32>() / 3.0;
            assert!((got - want).abs() < 1e-6, "{got} for {want} on {}", device.name());
        }
    }
}

/// Section 2.3: `M_i = 1` where `a_i >= u`.
#[test]
fn a_pixel_at_the_threshold_is_masked() {
    let images = Tensor::new(bars(64, 1).with_channels(3).values, &[1, 64, 64, 3]).expect("lengths fit");
    let config = Config { image_size: 64, width: 8, test_iterations: 0, ..Config::default() };
    for device in devices::under_test() {
        let shown = |u: f32, row: &str| {
            let model = I3ad::untrained(config.clone(), u, 3, &device).expect("memory");
            let all = model.explain(&images).expect("explained").remove(0);
            all.into_iter().find(|i| i.row == row && i.column == "iteration 0").expect("shown").picture.values
        };
        let map = shown(0.5, "1 - SSIM");
        let (pixel, u) = map.iter().copied().enumerate().find(|(_, a)| *a > 0.01).expect("the reconstruction differs");
        assert_eq!(shown(u, "next mask")[pixel], 1.0, "{}", device.name());
        assert_eq!(shown(u.next_up(), "next mask")[pixel], 0.0, "{}", device.name());
    }
}

/// `test_iterations` counts what follows the reconstruction under the checkerboards (section 2.5).
#[test]
fn the_checkerboards_are_no_iteration() {
    let images = Tensor::new(bars(66, 1).with_channels(3).values, &[1, 66, 66, 3]).expect("lengths fit");
    let model = |test_iterations| {
        let config = Config { image_size: 66, width: 8, test_iterations, stop: 0.0, ..Config::default() };
        I3ad::untrained(config, 1e-4, 3, &Device::CPU).expect("memory")
    };
    let sweeps = model(1).sweeps(&images).expect("scored").remove(0);
    assert_eq!(sweeps[0].x, [0.0, 1.0]);
    for (i, value) in sweeps[0].scores.iter().enumerate() {
        assert_eq!(*value, model(i).score(&images).expect("scored")[0].value, "after {i}");
    }
    assert!(sweeps[0].scores[1] != sweeps[0].scores[0]);
}

#[test]
fn free_form_masks_hide_a_good_part_and_never_all() {
    let mut shares = Vec::new();
    for index in 0..200 {
        let mask = free_form(128, &mut random::stream(1, "mask test", index));
        assert!(mask.iter().all(|v| *v == 0.0 || *v == 1.0));
        let share = mask.iter().sum::<f32>() / mask.len() as f32;
        // The box alone is 48 to 64 pixels a side.
        assert!((48.0 * 48.0 / 16384.0..1.0).contains(&share), "{share}");
        shares.push(share);
    }
    let mean = shares.iter().sum::<f32>() / 200.0;
    assert!((0.2..0.6).contains(&mean), "{mean}");
}
