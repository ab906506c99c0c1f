//! Colour taken apart, put together and compared, against the operations that golden vectors check.

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::random;
use hotad_kernels::ciede2000::ciede2000;
use hotad_kernels::colour::srgb_to_lab;
use hotad_kernels::recolour::{recolour, recolour_difference, split_colour};
use hotad_models::fancy_pca::FancyPca;

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
    assert!(want.iter().any(|d| 0.02 * d > 1.0) && want.iter().any(|d| 0.02 * d < 0.5), "small and large");
    for ((b, f), d) in from_bytes.iter().zip(&from_floats).zip(&want) {
        let want = 0.02 * d;
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

/// Colours spread along two directions: the augmentation moves an image along these, by the given share
/// of the deviation along each.
#[test]
fn fancy_pca_moves_colours_along_their_own_axes() {
    let dir = tempfile::tempdir().expect("a folder");
    let axes = [[0.6f32, 0.0, 0.8], [0.8, 0.0, -0.6]];
    let spread = [0.16f32, 0.04];
    let side = 64;
    let values = (0..side * side).flat_map(|i| {
        // Each sign as often as the other, in all combinations: deviations are exactly the spreads.
        let signs = [if i % 2 == 0 { 1.0 } else { -1.0 }, if i / 2 % 2 == 0 { 1.0 } else { -1.0 }];
        let at = |k: usize| 0.5 + (0..2).map(|a| signs[a] * spread[a] * axes[a][k]).sum::<f32>();
        [at(0), at(1), at(2)]
    });
    let path = dir.path().join("x.png");
    let picture = Picture { height: side, width: side, channels: 3, values: values.collect() };
    picture.write_png(&path).expect("a picture");
    let spec = ImageSpec { height: side, width: side, channels: 3 };
    let pca = FancyPca::of(ImageFiles::whole(&[path]), spec, 0.1, 0).expect("a readable picture");
    let (mut rng, mut squares) = (random::stream(9, "fancy test", 0), [0.0f64; 2]);
    const DRAWS: usize = 4000;
    for _ in 0..DRAWS {
        let mut pixel = vec![0.5f32; 3];
        pca.apply(&mut pixel, &mut rng);
        assert!((pixel[1] - 0.5).abs() < 1e-4, "green does not vary: {pixel:?}");
        for (axis, sum) in axes.iter().zip(&mut squares) {
            let along: f32 = (0..3).map(|k| (pixel[k] - 0.5) * axis[k]).sum();
            *sum += f64::from(along * along);
        }
    }
    for (sum, spread) in squares.iter().zip(spread) {
        let (deviation, want) = ((sum / DRAWS as f64).sqrt(), 0.1 * f64::from(spread));
        assert!((deviation / want - 1.0).abs() < 0.06, "{deviation} for {want}");
    }
}
