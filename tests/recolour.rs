//! Colour taken apart, put together and compared, against the operations that golden vectors check.

use hotad_kernels::ciede2000::ciede2000;
use hotad_kernels::colour::srgb_to_lab;
use hotad_kernels::recolour::{recolour, recolour_difference, split_colour};

/// Bytes that cover colours unevenly.
fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * i * 7 + i * 31) as u8).collect()
}

#[test]
fn difference_is_ciede2000_to_the_same_lightness_under_another_colour() {
    let pixels = 301;
    let rgb = bytes(3 * pixels);
    let floats: Vec<f32> = rgb.iter().map(|v| f32::from(*v) / 255.0).collect();
    let colour: Vec<f32> = (0..2 * pixels).map(|i| 0.3 + 0.4 * ((i * 37 % 101) as f32 / 101.0)).collect();
    let mut lab = vec![0.0; 3 * pixels];
    srgb_to_lab(&floats, &mut lab).expect("same lengths");
    let other: Vec<f32> = (0..pixels)
        .flat_map(|p| [lab[3 * p], 255.0 * colour[2 * p] - 128.0, 255.0 * colour[2 * p + 1] - 128.0])
        .collect();
    let mut want = vec![0.0; pixels];
    ciede2000(&lab, &other, &mut want).expect("same lengths");
    let (mut from_bytes, mut from_floats) = (vec![0.0; pixels], vec![0.0; pixels]);
    recolour_difference::<u8>(&rgb, &colour, 0.02, &mut from_bytes).expect("same pixels");
    recolour_difference::<f32>(&floats, &colour, 0.02, &mut from_floats).expect("same pixels");
    assert!(want.iter().any(|d| 0.02 * d > 1.0) && want.iter().any(|d| 0.02 * d < 0.5), "both sides of the clamp");
    for ((b, f), d) in from_bytes.iter().zip(&from_floats).zip(&want) {
        let want = (0.02 * d).min(1.0);
        assert!((b - want).abs() < 2e-5 && (f - want).abs() < 2e-5, "{b}, {f} for {want}");
    }
}

#[test]
fn an_image_under_its_own_colours_is_itself() {
    let pixels = 200;
    let rgb: Vec<f32> = bytes(3 * pixels).iter().map(|v| f32::from(*v) / 255.0).collect();
    let (mut lightness, mut colour) = (vec![0.0; pixels], vec![0.0; 2 * pixels]);
    split_colour::<f32>(&rgb, &mut lightness, &mut colour).expect("same pixels");
    assert!(lightness.iter().chain(&colour).all(|v| (0.0..=1.0).contains(v)));
    let (mut again, mut map) = (vec![0.0; 3 * pixels], vec![1.0; pixels]);
    recolour::<f32>(&rgb, &colour, &mut again).expect("same pixels");
    recolour_difference::<f32>(&rgb, &colour, 0.01, &mut map).expect("same pixels");
    assert!(rgb.iter().zip(&again).all(|(a, b)| (a - b).abs() < 2e-4), "another image");
    assert!(map.iter().all(|d| *d < 1e-4), "a difference to itself");
}
