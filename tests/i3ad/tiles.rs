//! Images larger than what the generator sees.

use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_models::detector::Detector;
use hotad_models::explanation::Explainable;
use hotad_models::i3ad::{Config, I3ad};
use hotad_models::model::Model;

use crate::common::{bars, ok, refused, small_data, text};
use crate::{json, train};

const SIZE: usize = 100;
const TILE: usize = 64;

/// With the same weights for each image size.
fn untrained(config: Config) -> I3ad {
    let config = Config { width: 8, test_iterations: 2, stop: 0.0, ..config };
    I3ad::untrained(config, 0.2, 3, &Device::CPU).expect("memory")
}

fn images(n: u64) -> Tensor {
    let values = (0..n).flat_map(|i| bars(SIZE, i).with_channels(3).values).collect();
    Tensor::new(values, &[n as usize, SIZE, SIZE, 3]).expect("lengths fit")
}

/// Rows and columns of an image from `top` and `left` on.
fn tile(image: &Tensor, top: usize, left: usize) -> Tensor {
    let values = image.values().expect("host");
    let rows = (top..top + TILE).flat_map(|y| values[(y * SIZE + left) * 3..][..TILE * 3].iter().copied());
    Tensor::new(rows.collect(), &[1, TILE, TILE, 3]).expect("lengths fit")
}

/// Each tile is scored by itself; a pixel of the map is their mean, weighted by the distance from the nearest edge.
#[test]
fn a_map_is_the_weighted_mean_of_its_tiles() {
    let image = images(1);
    let alone = untrained(Config { image_size: TILE, ..Config::default() });
    let whole = untrained(Config { image_size: SIZE, tile: TILE, ..Config::default() });
    let (mut sum, mut weights) = (vec![0.0_f64; SIZE * SIZE], vec![0.0_f64; SIZE * SIZE]);
    for (top, left) in [(0, 0), (0, 36), (36, 0), (36, 36)] {
        let map = alone.score(&tile(&image, top, left)).expect("scored").remove(0).map.values;
        let near = |at: usize| (at + 1).min(TILE - at) as f64;
        for (i, v) in map.iter().enumerate() {
            let (y, x) = (i / TILE, i % TILE);
            sum[(top + y) * SIZE + left + x] += near(y) * near(x) * f64::from(*v);
            weights[(top + y) * SIZE + left + x] += near(y) * near(x);
        }
    }
    let score = whole.score(&image).expect("scored").remove(0);
    assert_eq!((score.map.height, score.map.width), (SIZE, SIZE));
    let want = sum.iter().zip(&weights).map(|(s, w)| s / w);
    let worst = want.clone().zip(&score.map.values).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-5, "{worst}");
    let mean = want.sum::<f64>() / (SIZE * SIZE) as f64;
    assert!((f64::from(score.value) - mean).abs() < 1e-5, "{} for {mean}", score.value);
}

/// Those of a batch that are done leave it tile by tile.
#[test]
fn tiles_give_the_same_bits_in_a_batch_and_alone() {
    let all = images(2);
    let model = untrained(Config { image_size: SIZE, tile: TILE, shifts: 2, ..Config::default() });
    let scores = model.score(&all).expect("scored");
    for (i, score) in scores.iter().enumerate() {
        let one = all.values().expect("host")[i * SIZE * SIZE * 3..][..SIZE * SIZE * 3].to_vec();
        let one = Tensor::new(one, &[1, SIZE, SIZE, 3]).expect("lengths fit");
        assert_eq!(model.score(&one).expect("scored")[0], *score, "image {i}");
    }
}

/// What a report shows of an iteration is what the model would give after as many.
#[test]
fn reports_show_whole_images() {
    let image = images(1);
    let of = |test_iterations, patches| {
        let config =
            Config { width: 8, image_size: SIZE, tile: TILE, test_iterations, patches, stop: 0.0, ..Config::default() };
        I3ad::untrained(config, 0.3, 3, &Device::CPU).expect("memory")
    };
    let model = of(1, 6);
    let shown = model.explain(&image).expect("explained").remove(0);
    let made = |i| {
        let column = format!("iteration {i}");
        let found = shown.iter().find(|s| s.row == "1 - SSIM" && s.column == column).expect("it is shown");
        found.picture.clone()
    };
    let sweeps = model.sweeps(&image).expect("scored").remove(0);
    for i in 0..=1 {
        let score = of(i, 6).score(&image).expect("scored").remove(0);
        assert_eq!((made(i).height, made(i).width), (SIZE, SIZE));
        assert_eq!(made(i).values[..], score.map.values[..], "after {i}");
        assert_eq!(sweeps[0].scores[i], score.value, "after {i}");
    }
    // Figure 4: other checkerboards to begin with.
    let from_four = sweeps.iter().find(|s| s.chart.contains("SSIM from 2 to 12 patches") && s.name == "4");
    let from_four = from_four.expect("it is swept");
    assert_eq!(from_four.scores[1], of(1, 4).score(&image).expect("scored")[0].value);
    assert_eq!(sweeps.iter().filter(|s| s.chart.contains("2 to 12 patches")).count(), 12, "six a residual");
}

/// Trained on parts of images at their own resolution; maps of what was learned from have mean 0 and deviation 1.
#[test]
fn a_texture_is_learned_from_tiles_and_scored_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, model) = (dir.path().join("data"), dir.path().join("m.safetensors"));
    small_data(&data, 96);
    let set = ["image_size=96", "tile=64", "iterations=120", "u=0.3", "standardise=all"];
    let set: Vec<&str> = set.iter().flat_map(|s| ["--set", s]).collect();
    train(&data, &model, &set);
    let metrics = json(&ok(&["eval", "--model", text(&model), "--data", text(&data), "--json", "-q"]));
    assert!(metrics["image_auroc"].as_f64().is_some_and(|v| v > 0.9), "{metrics}");
    assert!(metrics["pixel_auroc"].as_f64().is_some_and(|v| v > 0.7), "{metrics}");
    let loaded = Model::load(&model, &Device::CPU).expect("a model");
    let learned = &loaded.provenance.learned_images;
    let paths: Vec<_> =
        std::fs::read_dir(data.join("train/good")).expect("a folder").flatten().map(|e| e.path()).collect();
    let sha256 = |path: &std::path::Path| hotad_engine::data::prepare::file_sha256(path).expect("a hash");
    let paths: Vec<_> = paths.into_iter().filter(|path| learned.contains(&sha256(path))).collect();
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for_all(&Images::new(loaded.files(&paths), loaded.detector.image()), 8, |batch| {
        for v in loaded.score(&batch.images)?.iter().flat_map(|s| &s.map.values) {
            (n, sum, squares) = (n + 1.0, sum + f64::from(*v), squares + f64::from(*v) * f64::from(*v));
        }
        Ok(())
    })
    .expect("scored");
    let (mean, variance) = (sum / n, squares / n - (sum / n) * (sum / n));
    assert!(mean.abs() < 1e-2 && (variance - 1.0).abs() < 1e-2, "{mean} {variance}");
}

#[test]
fn tiles_that_cannot_be_are_refused() {
    let refuse = |value: &str, words: &[&str]| {
        let (tile, size) = (format!("tile={value}"), ["--set", "image_size=128"]);
        let args = ["train", "i3ad", "--data", "nowhere", "--out", "nothing", "--set", &tile];
        refused(&[&args[..], &size].concat(), words);
    };
    refuse("40", &["tile = 40", "a multiple of 4 from 64 to image_size"]);
    refuse("66", &["tile = 66", "a multiple of 4"]);
    refuse("132", &["tile = 132", "image_size = 128"]);
}
