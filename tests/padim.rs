//! PaDiM: Gaussians and distances against plain sums in f64, training end to end, bad input.

mod common;
#[path = "common/devices.rs"]
mod devices;

use std::path::Path;

use common::{ok, refused, small_data, text};
use hotad_engine::data::picture::Picture;
use hotad_engine::device::Device;
use hotad_engine::random;
use hotad_engine::tensor::Tensor;
use hotad_kernels::mahalanobis::{Factors, LocationGaussians, halved, pack};
use hotad_models::model::Model;
use hotad_models::padim::factor::{Regular, factor, oracle_shrinkage};
use hotad_models::padim::moments::{Limit, Moments};
use rand::Rng;

const LIMIT: Limit = Limit { mebibytes: 1, reduces: "dimensions" };

/// Solves `a x = b` by Gaussian elimination with row exchange.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|i, j| a[*i][k].abs().total_cmp(&a[*j][k].abs())).expect("not empty");
        a.swap(k, pivot);
        b.swap(k, pivot);
        let (above, below) = a.split_at_mut(k + 1);
        for (row, right) in below.iter_mut().zip(k + 1..n) {
            let share = row[k] / above[k][k];
            row.iter_mut().zip(&above[k]).skip(k).for_each(|(v, pivot)| *v -= share * pivot);
            b[right] -= share * b[k];
        }
    }
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| a[k][j] * b[j]).sum();
        b[k] = (b[k] - known) / a[k][k];
    }
    b
}

/// Mean and covariance (divided by n - 1) of rows, in two passes.
fn statistics(rows: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (n, d) = (rows.len() as f64, rows[0].len());
    let mean: Vec<f64> = (0..d).map(|i| rows.iter().map(|r| r[i]).sum::<f64>() / n).collect();
    let entry = |i: usize, j: usize| rows.iter().map(|r| (r[i] - mean[i]) * (r[j] - mean[j])).sum::<f64>() / (n - 1.0);
    let covariance = (0..d).map(|i| (0..d).map(|j| entry(i, j)).collect()).collect();
    (mean, covariance)
}

/// Chen et al. 2010, equation 23, with whole matrices.
fn chen(s: &[Vec<f64>], n: f64) -> f64 {
    let p = s.len() as f64;
    let trace: f64 = (0..s.len()).map(|i| s[i][i]).sum();
    let product = |i: usize, j: usize| (0..s.len()).map(|k| s[i][k] * s[k][j]).sum::<f64>();
    let square: f64 = (0..s.len()).map(|i| product(i, i)).sum();
    let above = (1.0 - 2.0 / p) * square + trace.powi(2);
    (above / ((n + 1.0 - 2.0 / p) * (square - trace.powi(2) / p))).min(1.0)
}

/// Correlated vectors of some images at some locations, far from zero.
fn drawn(images: usize, locations: usize, d: usize) -> Vec<f32> {
    let mut rng = random::stream(5, "padim", 0);
    let mut x = Vec::new();
    for _ in 0..images * locations {
        let common: f32 = random::normal(&mut rng);
        x.extend((0..d).map(|i| 20.0 + common * (i % 3) as f32 + 0.3 * random::normal(&mut rng)));
    }
    x
}

#[test]
fn gaussians_and_distances_are_those_of_plain_sums() {
    let (images, locations, d) = (13, 3, 11);
    let x = drawn(images, locations, d);
    let query = drawn(1, locations, d).into_iter().map(|v| v + 0.5).collect::<Vec<f32>>();
    let mut moments = Moments::new(locations, d, &LIMIT).expect("small");
    // In uneven parts.
    x.chunks(5 * locations * d).for_each(|part| moments.add(part));
    assert_eq!(moments.images(), images);
    let row =
        |i: usize, l: usize| -> Vec<f64> { x[(i * locations + l) * d..][..d].iter().map(|v| f64::from(*v)).collect() };
    let naive: Vec<_> =
        (0..locations).map(|l| statistics(&(0..images).map(|i| row(i, l)).collect::<Vec<_>>())).collect();
    let variances = naive.iter().flat_map(|(_, s)| (0..d).map(|i| s[i][i])).sum::<f64>() / (locations * d) as f64;
    assert!((moments.mean_variance() / variances - 1.0).abs() < 1e-9);
    for shrinkage in [None, Some(0.0), Some(0.3)] {
        let (mut mean, mut packed, mut want) = (Vec::new(), Vec::new(), Vec::new());
        for (l, (mu, s)) in naive.iter().enumerate() {
            let own = moments.gaussian(l);
            let rho = oracle_shrinkage(&own.covariance, d, images);
            assert!((rho / chen(s, images as f64) - 1.0).abs() < 1e-8, "{rho}");
            let rho = shrinkage.unwrap_or(rho);
            let trace: f64 = (0..d).map(|i| s[i][i]).sum();
            let mut sigma: Vec<Vec<f64>> = s.iter().map(|r| r.iter().map(|v| (1.0 - rho) * v).collect()).collect();
            (0..d).for_each(|i| sigma[i][i] += rho * trace / d as f64 + 0.01);
            let e: Vec<f64> = (0..d).map(|i| f64::from(query[l * d + i]) - mu[i]).collect();
            want.push(solved(sigma, e.clone()).iter().zip(&e).map(|(a, b)| a * b).sum::<f64>().sqrt());
            let lower = factor(&own.covariance, d, images, Regular { shrinkage, eps: 0.01 }).expect("regular");
            mean.extend(own.mean.iter().map(|v| *v as f32));
            packed.extend(pack(d, |i, j| lower[(i, j)] as f32));
        }
        let (halves, scales) = halved(&packed, d);
        for (factors, scales, close) in [(Factors::F32(packed), vec![1.0; locations], 1e-5), (halves, scales, 1e-3)] {
            let gaussians = LocationGaussians::new(d, mean.clone(), factors, scales).expect("lengths fit");
            for device in devices::under_test() {
                let (x, mut y) =
                    (device.upload(query.clone()).expect("memory"), device.alloc(locations).expect("memory"));
                gaussians.clone().distances(&x, &mut y).expect("shapes fit");
                for (got, want) in y.into_vec().expect("read").iter().zip(&want) {
                    let off = (f64::from(*got) / want - 1.0).abs();
                    assert!(off < close, "{shrinkage:?} on {}: {got}, {want} expected", device.name());
                }
            }
        }
    }
}

#[test]
fn distances_of_every_size_are_plain_sums() {
    let mut rng = random::stream(6, "padim", 0);
    for (images, locations, d) in [(1, 1, 1), (3, 2, 7), (1, 5, 40), (6, 2, 33), (2, 1, 301)] {
        let mut draw =
            |n: usize, scale: f32| -> Vec<f32> { (0..n).map(|_| scale * (rng.random::<f32>() - 0.5)).collect() };
        let (x, mean) = (draw(images * locations * d, 2.0), draw(locations * d, 2.0));
        // Far from what f16 holds.
        let w = draw(locations * d * d, 4e6);
        let packed: Vec<f32> = (0..locations).flat_map(|l| pack(d, |i, j| w[(l * d + i) * d + j])).collect();
        let (halves, scales) = halved(&packed, d);
        for (factors, scales, close) in [(Factors::F32(packed), vec![1.0; locations], 2e-5), (halves, scales, 1e-3)] {
            for device in devices::under_test() {
                let gaussians =
                    LocationGaussians::new(d, mean.clone(), factors.clone(), scales.clone()).expect("lengths fit");
                let there = device.upload(x.clone()).expect("memory");
                let mut y = device.upload(vec![f32::NAN; images * locations]).expect("memory");
                gaussians.distances(&there, &mut y).expect("shapes fit");
                for (at, got) in y.into_vec().expect("read").into_iter().enumerate() {
                    let l = at % locations;
                    let e: Vec<f64> = (0..d).map(|j| f64::from(x[at * d + j]) - f64::from(mean[l * d + j])).collect();
                    let row = |i: usize| (0..=i).map(|j| f64::from(w[(l * d + i) * d + j]) * e[j]).sum::<f64>();
                    let want = (0..d).map(|i| row(i).powi(2)).sum::<f64>().sqrt();
                    let off = (f64::from(got) / want - 1.0).abs();
                    assert!(off < close, "{images} {locations} {d} on {}: {got}, {want}", device.name());
                }
            }
        }
    }
    let error = LocationGaussians::new(3, vec![0.0; 6], Factors::F32(vec![0.0; 64]), vec![1.0; 2]);
    assert!(error.expect_err("one factor for two").to_string().contains("factors"));
}

#[test]
fn a_channel_that_never_changes_is_no_fault() {
    let mut moments = Moments::new(1, 9, &LIMIT).expect("small");
    moments.add(&[0.25; 9 * 4]);
    let own = moments.gaussian(0);
    assert!(own.covariance.iter().all(|v| *v == 0.0));
    let lower = factor(&own.covariance, 9, 4, Regular { shrinkage: None, eps: 1e-4 }).expect("regular");
    assert!((lower[(4, 4)] - 100.0).abs() < 1e-9);
    assert!(factor(&[f64::NAN; 45], 9, 4, Regular { shrinkage: None, eps: 1e-4 }).is_none());
}

fn scores(model: &Path, files: &[&str], device: &Device) -> Vec<f32> {
    let model = Model::load(model, device).expect("a model");
    let spec = model.detector.image();
    let read = |f: &&str| Picture::read(Path::new(f)).expect("a picture").fit(spec).expect("fits").values;
    let values: Vec<f32> = files.iter().flat_map(read).collect();
    let images = Tensor::new(values, &[files.len(), spec.height, spec.width, spec.channels]).expect("fits");
    model
        .score(&images)
        .expect("scored")
        .into_iter()
        .flat_map(|s| [vec![s.value], s.map.values.into_vec()].concat())
        .collect()
}

#[test]
fn padim_finds_cracks_and_survives_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    small_data(&dir.join("data"), 64);
    let (data, out) = (dir.join("data"), dir.join("m.safetensors"));
    let small = ["--set", "image_size=64", "--set", "backbone=", "--set", "backbone_epochs=15", "--set", "blur=1"];
    let args = ["train", "padim", "--data", text(&data), "--out", text(&out), "-q", "--force"];
    for more in [["--set", "dimensions=24"], ["--set", "factors=f32"], ["--set", "shrinkage=0.5"]] {
        ok(&[&args[..], &small, &more].concat());
        let line = ok(&["eval", "--model", text(&out), "--data", text(&data), "--json", "-q"]);
        let metrics: serde_json::Value = serde_json::from_str(&line).expect("one object");
        let value = |name: &str| metrics[name].as_f64().expect("both classes");
        let (images, pixels) = (value("image_auroc"), value("pixel_auroc"));
        assert!(images > 0.9 && pixels > 0.8, "{more:?}: {images} {pixels}");
        let files = [0, 1, 2].map(|i| data.join(format!("test/crack/{i:03}.png")));
        let files: Vec<&str> = files.iter().map(|f| text(f)).collect();
        let first = scores(&out, &files, &Device::CPU);
        // Alone as among others, and saved again as before.
        let alone: Vec<f32> = files.iter().flat_map(|f| scores(&out, &[f], &Device::CPU)).collect();
        assert!(first == alone, "{more:?}: scores depend on the batch");
        let again = dir.join("again.safetensors");
        Model::load(&out, &Device::CPU).expect("a model").save(&again).expect("saved");
        assert!(std::fs::read(&out).expect("bytes") == std::fs::read(&again).expect("bytes"));
        for device in devices::under_test() {
            let largest = first.iter().fold(0.0f32, |m, v| m.max(*v));
            let off = scores(&out, &files, &device).iter().zip(&first).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off <= 2e-3 * largest, "{more:?} on {}: off by {off} of {largest}", device.name());
        }
    }
    // Its backbone serves others.
    let (other, backbone) = (dir.join("p.safetensors"), format!("backbone={}", text(&out)));
    ok(&["train", "patchcore", "--data", text(&data), "--out", text(&other), "-q", "--set", &backbone]);
    for (set, words) in [
        ("memory=1", ["1 at most", "setting dimensions"]),
        ("shrinkage=2", ["shrinkage", "2"]),
        ("eps=0", ["eps", "0"]),
        ("dimensions=5", ["dimensions", "5"]),
        ("factors=f64", ["factors", "f64"]),
    ] {
        let out = dir.join("x.safetensors");
        let args = ["train", "padim", "--data", text(&data), "--out", text(&out), "--set", &backbone];
        refused(&[&args[..], &["--set", "dimensions=0", "--set", set]].concat(), &words);
        assert!(!out.exists());
    }
}
