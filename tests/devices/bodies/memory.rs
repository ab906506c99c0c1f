use std::ops::ControlFlow;

use half::f16;
use hotad_kernels::coreset::greedy_coreset;
use hotad_kernels::cosine_nn::{BankData, LocationBank, Neighbourhood};
use hotad_kernels::device::{Buffer, Device};
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::mahalanobis::{Factors, LocationGaussians, halved, pack};
use hotad_kernels::replacement::{mark_highest, replace_farthest};

use super::{Results, exact, host, integers, noise, put, uninit};

/// A bank with a duplicate and a zero vector, queries of which one is zero.
fn search(device: &Device, images: usize, shape: (usize, usize, usize), half: bool, out: &mut Results) {
    let (locations, entries, dim) = shape;
    let mut data = exact(locations * entries * dim, 1);
    data.copy_within(0..dim, (entries - 1) * dim);
    data[dim..2 * dim].fill(0.0);
    let data = if half { BankData::F16(data.into_iter().map(f16::from_f32).collect()) } else { BankData::F32(data) };
    let bank = LocationBank::new(locations, entries, dim, data).expect("shapes fit");
    let mut queries = exact(images * locations * dim, 2);
    queries[..dim].fill(0.0);
    let found = images * locations;
    let (mut index, mut cosine) = (put(device, vec![u32::MAX; found]), uninit(device, found));
    bank.nearest(&put(device, queries), &mut index, &mut cosine).expect("shapes fit");
    let mut vectors = uninit(device, found * dim);
    bank.gather(&index, &mut vectors).expect("shapes fit");
    out.push((integers(&index), 0.0));
    out.push((host(&cosine), 1e-5));
    out.push((host(&vectors), 0.0));
}

pub fn locations(device: &Device) -> Results {
    let mut out = Results::new();
    search(device, 1, (5, 3, 7), false, &mut out);
    search(device, 3, (9, 131, 81), true, &mut out);
    search(device, 5, (2, 700, 33), false, &mut out);
    search(device, 1, (17, 64, 64), true, &mut out);
    out
}

/// Searches of a grid's neighbourhoods, from the own location alone to all of it, among all entries and among three for each
/// image.
pub fn neighbourhoods(device: &Device) -> Results {
    let mut out = Results::new();
    for (images, (rows, columns, entries, dim), reach, half) in [
        (1, (3, 2, 5, 7), 1, false),
        (3, (3, 4, 131, 81), 1, true),
        (5, (2, 3, 70, 33), 0, false),
        (6, (4, 4, 66, 64), 2, true),
        (2, (2, 5, 7, 32), 9, true),
    ] {
        let locations = rows * columns;
        let data = exact(locations * entries * dim, 1);
        let data =
            if half { BankData::F16(data.into_iter().map(f16::from_f32).collect()) } else { BankData::F32(data) };
        let bank = LocationBank::new(locations, entries, dim, data).expect("shapes fit");
        let queries = put(device, exact(images * locations * dim, 2));
        let mut means = uninit(device, images * entries);
        bank.mean_cosines(&queries, &mut means).expect("shapes fit");
        out.push((host(&means), 1e-5));
        let mut alike = put(device, vec![u32::MAX; images * entries]);
        mark_highest(&put(device, noise(images * entries, 3)), entries, 3, &mut alike).expect("shapes fit");
        out.push((integers(&alike), 0.0));
        let found = images * locations;
        for among in [None, Some(alike.view())] {
            let (mut index, mut cosine) = (put(device, vec![u32::MAX; found]), uninit(device, found));
            let near = Neighbourhood { columns, reach };
            bank.nearest_within(&queries, (near, among), &mut index, &mut cosine).expect("shapes fit");
            let mut vectors = uninit(device, found * dim);
            bank.gather(&index, &mut vectors).expect("shapes fit");
            out.push((integers(&index), 0.0));
            out.push((host(&cosine), 1e-5));
            out.push((host(&vectors), 0.0));
        }
    }
    out
}

pub fn flat(device: &Device) -> Results {
    let mut out = Results::new();
    // The last five have a first pass on NVIDIA's tensor cores, in blocks of 1, 4, 7 and 8 units, the last in two.
    for (q, m, d, k, half) in [
        (1, 5, 3, 5, false),
        (70, 333, 37, 1, true),
        (129, 65, 16, 4, false),
        (3, 1100, 128, 16, true),
        (60, 700, 100, 1, false),
        (97, 333, 44, 3, false),
        (128, 257, 128, 1, false),
        (1030, 130, 32, 1, false),
    ] {
        let mut bank = exact(m * d, 1);
        bank.copy_within(0..d, (m - 1) * d);
        let data =
            if half { BankData::F16(bank.into_iter().map(f16::from_f32).collect()) } else { BankData::F32(bank) };
        let bank = FlatBank::new(data, d, device).expect("shapes fit");
        let (mut index, mut distance) = (put(device, vec![u32::MAX; q * k]), uninit(device, q * k));
        bank.nearest(&put(device, exact(q * d, 2)), k, &mut index, &mut distance).expect("fits");
        out.push((integers(&index), 0.0));
        out.push((host(&distance), 1e-5));
        out.push((bank.select(&[m - 1, 0, m / 2]).expect("three vectors").into_vec(), 0.0));
        let vectors = match bank.vectors().expect("a device that answers") {
            BankData::F16(v) => v.into_iter().map(f16::to_f32).collect(),
            BankData::F32(v) => v,
        };
        out.push((vectors, 0.0));
    }
    out
}

/// Gaussians of one block of rows and of more, in both precisions; more rows than a cube has units.
pub fn gaussians(device: &Device) -> Results {
    let mut out = Results::new();
    for (images, locations, dim) in [(1, 3, 5), (5, 2, 33), (2, 1, 300)] {
        let w = noise(locations * dim * dim, 1);
        let entry = |l: usize, i: usize, j: usize| w[(l * dim + i) * dim + j];
        let packed: Vec<f32> = (0..locations).flat_map(|l| pack(dim, |i, j| entry(l, i, j))).collect();
        let (halves, scales) = halved(&packed, dim);
        for (factors, scales) in [(Factors::F32(packed), vec![1.0; locations]), (halves, scales)] {
            let gaussians = LocationGaussians::new(dim, noise(locations * dim, 2), factors, scales).expect("fits");
            let (x, mut y) = (put(device, noise(images * locations * dim, 3)), uninit(device, images * locations));
            gaussians.distances(&x, &mut y).expect("fits");
            out.push((host(&y), 1e-5));
        }
    }
    out
}

pub fn prior(device: &Device) -> Results {
    let mut out = Results::new();
    for (images, locations, dim, alpha) in [(1, 9, 4, 0.0), (3, 301, 5, 0.31), (2, 16, 3, 1.0)] {
        let mut features = put(device, noise(images * locations * dim, 1));
        let nearest = put(device, noise(images * locations * dim, 2));
        let mut score = noise(images * locations, 3);
        score[1] = score[0];
        let mut mask: Buffer<u32> = put(device, vec![u32::MAX; images * locations]);
        let mut image_scores = uninit(device, images);
        replace_farthest(&mut features, &nearest, &put(device, score), alpha, &mut mask, &mut image_scores)
            .expect("fits");
        out.push((host(&features), 0.0));
        out.push((integers(&mask), 0.0));
        out.push((host(&image_scores), 1e-5));
    }
    out
}

pub fn coreset(device: &Device) -> Results {
    let mut out = Results::new();
    for (m, d, count) in [(1, 3, 1), (65, 7, 65), (700, 33, 20)] {
        let mut x = noise(m * d, 1);
        x.copy_within(0..d, (m - 1) * d);
        let (mut index, mut distance) = (put(device, vec![u32::MAX; count]), uninit(device, count));
        greedy_coreset(&put(device, x), d, m / 2, &mut index, &mut distance, &mut |_| ControlFlow::Continue(()))
            .expect("points enough");
        out.push((integers(&index), 0.0));
        out.push((host(&distance), 1e-5));
    }
    out
}
