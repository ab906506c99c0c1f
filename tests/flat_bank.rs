//! The flat memory bank against exhaustive search in f64: every case on the CPU, those that a GPU's bounds are for on all
//! devices.

#[path = "common/devices.rs"]
mod devices;
#[path = "common/neighbours.rs"]
mod neighbours;

use half::f16;
use hotad_kernels::cosine_nn::BankData;
use hotad_kernels::device::Device;
use hotad_kernels::flat_bank::FlatBank;
use neighbours::{correlated, exhaustive, noise, spheres};

fn search(data: BankData, query: &[f32], d: usize, k: usize) -> (Vec<u32>, Vec<f32>) {
    search_on(&Device::CPU, data, query, d, k)
}

fn search_on(device: &Device, data: BankData, query: &[f32], d: usize, k: usize) -> (Vec<u32>, Vec<f32>) {
    let bank = FlatBank::new(data, d, device).expect("shapes fit");
    let found = query.len() / d * k;
    let query = device.upload(query.to_vec()).expect("memory");
    let (mut index, mut distance) = (device.alloc::<u32>(found).expect("memory"), device.alloc(found).expect("memory"));
    bank.nearest(&query, k, &mut index, &mut distance).expect("shapes fit");
    (index.into_vec().expect("results"), distance.into_vec().expect("results"))
}

/// The neighbours are those of the exhaustive search, the distances its own rounded to f32.
fn agrees(query: &[f32], bank: &[f32], d: usize, k: usize) {
    let (index, distance) = search(BankData::F32(bank.to_vec()), query, d, k);
    let (want, exact) = exhaustive(query, bank, d, k);
    assert_eq!(index, want, "{} queries, {} vectors of {d}, k {k}", query.len() / d, bank.len() / d);
    for (r, e) in distance.iter().zip(exact) {
        assert!((f64::from(*r) - e).abs() <= 1e-7 * e, "{r} instead of {e}");
    }
}

#[test]
fn any_shape() {
    let shapes = [
        (1, 1, 1, 1),
        (1, 5, 3, 5),
        (7, 16, 8, 16),
        (13, 17, 31, 2),
        (6, 100, 152, 1),
        (50, 400, 37, 3),
        (1, 1000, 16, 9),
        (1600, 33, 5, 1),
    ];
    for (q, m, d, k) in shapes {
        let mut bank = noise(m * d, 1);
        bank.copy_within(0..d, (m - 1) * d);
        let mut query = noise(q * d, 2);
        query[..d].copy_from_slice(&bank[(m / 2) * d..][..d]);
        agrees(&query, &bank, d, k);
    }
}

#[test]
fn halves_are_searched_as_they_are() {
    let k = 4;
    for (query, bank, d) in [
        (noise(19 * 45, 3), noise(211 * 45, 4), 45),
        (correlated(19, 90, 50), correlated(2111, 90, 52), 90), // in a few directions first
    ] {
        let bank: Vec<f16> = bank.into_iter().map(f16::from_f32).collect();
        let wide: Vec<f32> = bank.iter().map(|v| v.to_f32()).collect();
        let last = bank.len() / d - 1;
        let held = FlatBank::new(BankData::F16(bank.clone()), d, &Device::CPU).expect("shapes fit");
        assert_eq!(held.vectors().expect("on the host"), BankData::F16(bank.clone()));
        let selected = [&wide[last * d..], &wide[3 * d..4 * d]].concat();
        assert_eq!(held.select(&[last, 3]).expect("vectors")[..], selected);
        assert_eq!(search(BankData::F16(bank), &query, d, k).0, exhaustive(&query, &wide, d, k).0);
    }
}

/// Vectors of length 10,000 that lie 1 apart: |q|^2 + |b|^2 - 2 q.b in f32 has steps of 8 here.
#[test]
fn a_large_common_offset() {
    let (q, m, d) = (40, 500, 100);
    let offset = |v: Vec<f32>| v.into_iter().map(|v| 1000.0 + 0.25 * v).collect::<Vec<f32>>();
    agrees(&offset(noise(q * d, 5)), &offset(noise(m * d, 6)), d, 1);
    agrees(&offset(noise(q * d, 5)), &offset(noise(m * d, 6)), d, 3);
}

/// Two clusters far from their mean, in which all vectors are nearly the same: all are candidates.
#[test]
fn clusters_far_apart() {
    let (q, m, d) = (30, 3000, 24);
    let clusters = |v: Vec<f32>| -> Vec<f32> {
        let at = |i: usize| if (i / d).is_multiple_of(2) { 500.0 } else { -500.0 };
        v.into_iter().enumerate().map(|(i, v)| at(i) + 0.01 * v).collect()
    };
    agrees(&clusters(noise(q * d, 7)), &clusters(noise(m * d, 8)), d, 2);
}

#[test]
fn copies_come_in_their_order() {
    let d = 20;
    let one = noise(d, 9);
    let bank: Vec<f32> = (0..2500).flat_map(|_| one.clone()).collect();
    agrees(&noise(9 * d, 10), &bank, d, 5);
    agrees(&one, &bank, d, 1);
}

#[test]
fn very_large_and_very_small_numbers() {
    for scale in [1e-42, 1e-30, 1e-20, 1e15, 1e30] {
        let scaled = |v: Vec<f32>| v.into_iter().map(|v| v * scale).collect::<Vec<f32>>();
        let (query, bank) = (scaled(noise(8 * 10, 11)), scaled(noise(60 * 10, 12)));
        let (index, _) = search(BankData::F32(bank.clone()), &query, 10, 2);
        assert_eq!(index, exhaustive(&query, &bank, 10, 2).0, "scale {scale}");
    }
}

/// One element of one vector is much larger than all others.
#[test]
fn outliers() {
    let (q, m, d) = (12, 300, 64);
    let (mut query, mut bank) = (noise(q * d, 13), noise(m * d, 14));
    bank[77 * d + 5] = 1e6;
    query[3 * d] = -1e5;
    agrees(&query, &bank, d, 2);
}

#[test]
fn what_is_no_number_has_neighbours_without_distance() {
    let (m, d) = (70, 6);
    let mut query = noise(2 * d, 15);
    query[2] = f32::NAN;
    let mut bank = noise(m * d, 16);
    for device in devices::under_test() {
        let (index, distance) = search_on(&device, BankData::F32(bank.clone()), &query, d, 2);
        assert!(!distance[0].is_finite() && !distance[1].is_finite(), "{}: {distance:?}", device.name());
        assert!(index.iter().all(|i| *i < m as u32), "{}: {index:?}", device.name());
        assert_eq!(index[2..], exhaustive(&query[d..], &bank, d, 2).0, "{}", device.name());
    }
    let (index, _) = search(BankData::F32(bank.clone()), &query, d, 1);
    // A broken bank vector is nobody's neighbour.
    let nearest = index[1] as usize;
    bank[nearest * d] = f32::INFINITY;
    let (index, distance) = search(BankData::F32(bank), &query[d..], d, 1);
    assert!(index[0] as usize != nearest && distance[0].is_finite());
}

/// Banks that are searched in a few directions first.
#[test]
fn elements_that_depend_on_each_other() {
    let shapes = [(50, 2048, 64, 1), (7, 3001, 152, 9), (1, 2500, 99, 1), (1600, 2050, 64, 2), (13, 2100, 65, 2100)];
    for (q, m, d, k) in shapes {
        let (mut query, mut bank) = (correlated(q, d, 40), correlated(m, d, 42));
        bank.copy_within(0..d, (m - 1) * d);
        query[..d].copy_from_slice(&bank[(m / 2) * d..][..d]);
        agrees(&query, &bank, d, k);
        let distant = |v: Vec<f32>| v.into_iter().map(|v| v + 3000.0).collect::<Vec<_>>();
        agrees(&distant(query), &distant(bank), d, k);
    }
}

/// Among vectors that depend on each other: copies of one, and one far away, also beyond those that directions are chosen by.
#[test]
fn vectors_unlike_those_that_directions_are_of() {
    let (q, m, d) = (15, 9000, 64);
    let (mut query, bank) = (correlated(q, d, 60), correlated(m, d, 62));
    let one: Vec<f32> = bank[..d].iter().cycle().take(m / 2 * d).copied().collect();
    agrees(&query, &[&one, &bank[m / 2 * d..]].concat(), d, 3);
    for vector in [4500, 8999] {
        let mut bank = bank.clone();
        bank[vector * d + 7] = 1e6;
        query[d] = 0.9e6;
        agrees(&query, &bank, d, 2);
    }
}

/// f32 on a GPU: the distances are those of the exhaustive search, each that of its vector, none is there twice.
fn agrees_on_all(what: &str, data: &BankData, query: &[f32], d: usize, k: usize) {
    let bank = match data {
        BankData::F16(v) => v.iter().map(|v| v.to_f32()).collect(),
        BankData::F32(v) => v.clone(),
    };
    let (q, m) = (query.len() / d, bank.len() / d);
    let (order, exact) = exhaustive(query, &bank, d, m);
    for device in devices::under_test() {
        let (index, distance) = search_on(&device, data.clone(), query, d, k);
        let case = format!("{what} on {}, {q} queries, {m} vectors of {d}, k {k}", device.name());
        for n in 0..q {
            let (index, distance) = (&index[n * k..][..k], &distance[n * k..][..k]);
            let (order, exact) = (&order[n * m..][..m], &exact[n * m..][..m]);
            for (i, (found, r)) in index.iter().zip(distance).enumerate() {
                let own = order.iter().position(|o| o == found).expect("a vector of the bank");
                let close = |e: f64| (f64::from(*r) - e).abs() <= 2e-6 * e;
                assert!(close(exact[i]) && close(exact[own]), "{case}, query {n}: {i} is {found} at {r}");
                assert!(!index[..i].contains(found), "{case}, query {n}: {found} twice");
            }
        }
        assert!(search_on(&device, data.clone(), query, d, k) == (index, distance), "{case}: not the same again");
    }
}

#[test]
fn a_first_pass_leaves_the_nearest_in_any_shape() {
    // The last has more queries than pass the bank together.
    let shapes = [
        (130, 600, 68, 1),
        (20, 333, 36, 32),
        (1, 4100, 256, 4),
        (3, 1025, 512, 3),
        (70, 1300, 16, 9),
        (1030, 130, 32, 1),
    ];
    for (q, m, d, k) in shapes {
        let bank = BankData::F32(noise(m * d, 20));
        agrees_on_all("noise", &bank, &noise(q * d, 21), d, k);
    }
    let halves = noise(900 * 80, 22).into_iter().map(f16::from_f32).collect();
    agrees_on_all("halves", &BankData::F16(halves), &noise(60 * 80, 23), 80, 2);
}

#[test]
fn distances_that_are_nearly_equal() {
    let (q, m, d) = (24, 700, 96);
    let (query, bank) = spheres(q, m, d);
    let bank = BankData::F32(bank);
    for k in [3, 20] {
        agrees_on_all("spheres", &bank, &query, d, k);
    }
}

#[test]
fn offsets_and_outliers_on_all_devices() {
    let (q, m, d) = (48, 500, 100);
    let offset = |v: Vec<f32>| v.into_iter().map(|v| 1000.0 + 0.25 * v).collect::<Vec<f32>>();
    agrees_on_all("offset", &BankData::F32(offset(noise(m * d, 27))), &offset(noise(q * d, 28)), d, 2);
    let (mut query, mut bank) = (noise(q * d, 29), noise(m * d, 30));
    bank[77 * d + 5] = 1e6;
    bank[200 * d..].iter_mut().take(3 * d).for_each(|v| *v *= 1e-3);
    query[3 * d] = -1e5;
    query[4 * d..5 * d].fill(0.0);
    agrees_on_all("outliers", &BankData::F32(bank), &query, d, 2);
}

/// The lower index first among equals, and copies as many as there are.
#[test]
fn copies_on_all_devices() {
    let (q, m, d, k) = (21, 1003, 40, 6);
    let (five, query) = (noise(5 * d, 31), noise(q * d, 32));
    let bank: Vec<f32> = (0..m).flat_map(|i| five[i * i % 5 * d..][..d].to_vec()).collect();
    let same = [
        ("copies", bank, query.clone()),
        ("zeros", vec![0.0; m * d], query),
        ("all zeros", vec![0.0; m * d], vec![0.0; q * d]),
    ];
    for (what, bank, query) in same {
        let want = exhaustive(&query, &bank, d, k).0;
        for device in devices::under_test() {
            let (index, _) = search_on(&device, BankData::F32(bank.clone()), &query, d, k);
            assert_eq!(index, want, "{what} on {}", device.name());
        }
    }
}

#[test]
fn what_is_no_number_is_nobodys_neighbour_on_all_devices() {
    let (q, m, d, k) = (40, 900, 64, 2);
    let (mut query, mut bank) = (noise(q * d, 33), noise(m * d, 34));
    query[5 * d + 7] = f32::NAN;
    query[6 * d] = f32::INFINITY;
    let sound = exhaustive(&query[7 * d..], &bank, d, 1).0;
    let broken = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for (found, value) in sound.iter().zip(broken) {
        bank[*found as usize * d + 3] = value;
    }
    // In f64 what is no number is far away.
    let far: Vec<f32> = bank.iter().map(|v| if v.is_finite() { *v } else { 1e9 }).collect();
    let want = exhaustive(&query[7 * d..], &far, d, k).0;
    for device in devices::under_test() {
        let (index, distance) = search_on(&device, BankData::F32(bank.clone()), &query, d, k);
        assert_eq!(index[7 * k..], want, "{}", device.name());
        assert!(distance[5 * k..7 * k].iter().all(|v| !v.is_finite()), "{}", device.name());
        assert!(index.iter().all(|i| *i < m as u32) && distance[..5 * k].iter().all(|v| v.is_finite()));
    }
}

#[test]
fn refused() {
    let new = |n: usize, d: usize| FlatBank::new(BankData::F32(vec![0.0; n]), d, &Device::CPU);
    for (n, d) in [(0, 3), (4, 3), (4, 0)] {
        assert!(new(n, d).is_err(), "{n} elements of dimension {d}");
    }
    let bank = new(6, 3).expect("two vectors");
    let (mut index, mut distance) = (vec![0; 3], vec![0.0; 3]);
    for k in [0, 3] {
        let error = bank.nearest(&[0.0; 3], k, &mut index, &mut distance).expect_err("two vectors").to_string();
        assert!(error.contains(&format!("{k} neighbours from 2")), "{error}");
    }
    assert!(bank.nearest(&[0.0; 4], 1, &mut index[..1], &mut distance[..1]).is_err());
    assert!(bank.select(&[2]).is_err());
}
