//! The flat bank's first pass on tensor cores: what its bounds are for, and that turns of threads change nothing.

use hotad_kernels::cosine_nn::BankData;
use hotad_kernels::device::Device;
use hotad_kernels::device::emulator::{Order, Settings};
use hotad_kernels::flat_bank::FlatBank;

use crate::common::neighbours::{exhaustive, spheres};
use crate::open;

const QUERIES: usize = 24;
const DIMENSION: usize = 96;
const NEIGHBOURS: usize = 3;

/// Numbers and distances of the nearest among spheres.
fn found(settings: &Settings) -> Option<(Vec<u32>, Vec<f32>)> {
    let device = Device::Gpu(open(settings)?);
    let (query, bank) = spheres(QUERIES, 700, DIMENSION);
    let bank = FlatBank::new(BankData::F32(bank), DIMENSION, &device).expect("shapes fit");
    let (query, len) = (device.upload(query).expect("memory"), QUERIES * NEIGHBOURS);
    let (mut index, mut distance) = (device.alloc::<u32>(len).expect("memory"), device.alloc(len).expect("memory"));
    bank.nearest(&query, NEIGHBOURS, &mut index, &mut distance).expect("shapes fit");
    Some((index.into_vec().expect("results"), distance.into_vec().expect("results")))
}

/// Whether all distances are those of the exhaustive search.
fn is_right(distance: &[f32]) -> bool {
    let (query, bank) = spheres(QUERIES, 700, DIMENSION);
    let exact = exhaustive(&query, &bank, DIMENSION, NEIGHBOURS).1;
    distance.iter().zip(exact).all(|(r, e)| (f64::from(*r) - e).abs() <= 2e-6 * e)
}

#[test]
fn turns_of_threads_change_no_neighbour() {
    let Some(forward) = found(&Settings::default()) else { return };
    assert!(is_right(&forward.1));
    for order in [Order::Reversed, Order::Random(2)] {
        assert!(found(&Settings { order, ..Settings::default() }) == Some(forward.clone()), "{order:?}");
    }
}

/// Takes the bounds from the choice of candidates; the text of each must be there.
fn without_bounds(source: &str) -> String {
    if !source.contains("nearest_of_candidates(") {
        return source.into();
    }
    let bounds = [" - error - groups[g].x", " + error + group.x", " + group.y", " * (1.0f - s.rounding)"];
    bounds.iter().fold(source.into(), |source: String, bound| {
        assert!(source.contains(bound), "{bound:?} is not in:\n{source}");
        source.replace(bound, "")
    })
}

#[test]
fn without_its_bounds_the_first_pass_loses_neighbours() {
    let cache = tempfile::tempdir().expect("a folder");
    let settings = Settings { alter: Some(without_bounds), cache: cache.path().into(), ..Settings::default() };
    let Some((_, distance)) = found(&settings) else { return };
    assert!(!is_right(&distance), "halves were enough");
}
