//! Patches of whole data sets: memory banks and metrics over pixels.

use std::ops::ControlFlow;

use std::hint::black_box;

use hotad_engine::device::Device;
use hotad_engine::metrics::region::{area, components};
use hotad_engine::metrics::tally::Tally;
use hotad_kernels::coreset::greedy_coreset;
use hotad_kernels::cosine_nn::BankData;
use hotad_kernels::covariance::moments;
use hotad_kernels::flat_bank::FlatBank;

use crate::work::{Work, noise, put, uninit};

/// Queries, bank vectors and their length: 28 x 28 patches of an image and a bank of PatchCore.
const KNN: (usize, usize, usize) = (784, 16_385, 1024);

/// The same of PatchCore on EfficientNet-Lite0.
const KNN_LITE: (usize, usize, usize) = (784, 2_000, 152);

/// The same with PatchCore's default bank of 170 images.
const KNN_PATCHES: (usize, usize, usize) = (784, 13_328, 152);

fn neighbours(
    device: &Device,
    size: (usize, usize, usize),
    names: (&'static str, &'static str),
    goal: (f64, f64),
) -> Work {
    let (q, m, d) = size;
    searched(device, size, (noise(q * d, 10), noise(m * d, 11)), names, goal)
}

/// Vectors whose elements have variances as the principal components of real patches: 94 % in the first 48 of 152. Queries are
/// as far from vectors of the bank as those of other images are: 0.3 of the distance of any two.
fn like_patches((q, m, d): (usize, usize, usize)) -> (Vec<f32>, Vec<f32>) {
    let deviation = |j: usize| (-(j as f32) / 34.0).exp();
    let bank: Vec<f32> = noise(m * d, 12).iter().enumerate().map(|(i, v)| deviation(i % d) * (v - 0.5)).collect();
    let near = |(i, v): (usize, &f32)| bank[i / d * 17 % m * d + i % d] + 0.4 * deviation(i % d) * (v - 0.5);
    let query = noise(q * d, 13).iter().enumerate().map(near).collect();
    (query, bank)
}

fn searched(
    device: &Device,
    (q, m, d): (usize, usize, usize),
    (query, bank): (Vec<f32>, Vec<f32>),
    (title, name): (&'static str, &'static str),
    goal: (f64, f64),
) -> Work {
    let query = put(device, query);
    let bank = FlatBank::new(BankData::F32(bank), d, device).expect("memory for a bench");
    let (mut index, mut distance) = (uninit(device, q), uninit(device, q));
    Work {
        title,
        name,
        flops: 2.0 * (q * m * d) as f64,
        bytes: 4.0 * ((q + m) * d) as f64,
        units: 1.0,
        goal,
        latency: false,
        run: Box::new(move || bank.nearest(&query, 1, &mut index, &mut distance).expect("shapes fit")),
    }
}

/// Against `cdist` and `min`, or a product and `min`.
pub fn knn(device: &Device) -> Work {
    neighbours(device, KNN, ("flat nearest neighbour, 784 x 16,385 x 1024", "knn"), (1.3, 1.0))
}

/// Against faiss, which runs on the CPU.
pub fn knn_faiss(device: &Device) -> Work {
    neighbours(device, KNN, ("the same against faiss-cpu's IndexFlatL2", "knn_faiss"), (1.0, 1.0))
}

/// Against `cdist` and `min`, or a product and `min`.
pub fn knn_lite(device: &Device) -> Work {
    neighbours(device, KNN_LITE, ("flat nearest neighbour, 784 x 2,000 x 152", "knn_lite"), (1.3, 1.0))
}

/// Against faiss, which runs on the CPU.
pub fn knn_lite_faiss(device: &Device) -> Work {
    neighbours(device, KNN_LITE, ("the same against faiss-cpu's IndexFlatL2", "knn_lite_faiss"), (1.0, 1.0))
}

/// Against `cdist` and `min`, or a product and `min`; these take the same time whatever the vectors are.
pub fn knn_patches(device: &Device) -> Work {
    let names = ("flat nearest neighbour, 784 x 13,328 x 152, variances of patches", "knn_patches");
    searched(device, KNN_PATCHES, like_patches(KNN_PATCHES), names, (1.3, 1.0))
}

/// Against faiss, which runs on the CPU.
pub fn knn_patches_faiss(device: &Device) -> Work {
    let names = ("the same against faiss-cpu's IndexFlatL2", "knn_patches_faiss");
    searched(device, KNN_PATCHES, like_patches(KNN_PATCHES), names, (1.0, 1.0))
}

/// Sums of principal components: 32 images of 28 x 28 patches of ResNet-18's first three stages.
pub fn covariance(device: &Device) -> Work {
    let (n, d) = (25_088, 448);
    let (x, shift) = (put(device, noise(n * d, 15)), put(device, noise(d, 16)));
    let on = device.clone();
    Work {
        title: "covariance of 25,088 patches x 448",
        name: "covariance",
        flops: (n * d * (d + 1)) as f64, // the products are symmetric
        bytes: 8.0 * (n * d) as f64,
        units: 1.0,
        goal: (1.0, 1.0),
        latency: false,
        run: Box::new(move || drop(black_box(moments(&x, &shift, &on).expect("shapes fit")))),
    }
}

/// 1 % of 50,000 vectors.
pub fn coreset(device: &Device) -> Work {
    let (m, d, count) = (50_000, 128, 500);
    let x = put(device, noise(m * d, 14));
    let (mut index, mut distance) = (uninit(device, count), uninit(device, count));
    Work {
        title: "greedy coreset, 500 of 50,000 x 128",
        name: "coreset",
        // As many as a pass over all points for each choice has.
        flops: 3.0 * (m * d * count) as f64,
        bytes: 0.0,
        units: 1.0,
        goal: (3.0, 1.0),
        latency: false,
        run: Box::new(move || {
            greedy_coreset(&x, d, 0, &mut index, &mut distance, &mut |_| ControlFlow::Continue(()))
                .expect("points enough")
        }),
    }
}

/// 100 maps of 256 x 256 with two square defects in every other, from maps and masks to one number; on the host.
pub fn aupro(_: &Device) -> Work {
    let side = 256;
    let inside = |i: usize, at: usize, size: usize| {
        (at..at + size).contains(&(i / side)) && (at..at + size).contains(&(i % side))
    };
    let maps: Vec<(Vec<f32>, Vec<bool>)> = (0..100)
        .map(|n| {
            let defect = |i| n % 2 == 0 && (inside(i, 20 + n as usize, 24) || inside(i, 180, 40));
            let mask: Vec<bool> = (0..side * side).map(defect).collect();
            let mut map = noise(side * side, 20 + n);
            map.iter_mut().zip(&mask).filter(|(_, d)| **d).for_each(|(v, _)| *v += 0.5);
            (map, mask)
        })
        .collect();
    Work {
        title: "AU-PRO of 100 maps, 256x256, against NumPy",
        name: "aupro",
        flops: 0.0,
        bytes: 0.0,
        units: 1.0,
        goal: (10.0, 1.0),
        latency: true,
        run: Box::new(move || {
            let mut tally = Tally::default();
            for (map, mask) in &maps {
                tally.add(map, mask, &components(mask, side));
            }
            black_box(tally.bends().map(|c| area(c, 0.3)));
        }),
    }
}
