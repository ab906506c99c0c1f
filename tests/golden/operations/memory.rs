//! Memory banks.

use std::ops::ControlFlow;

use hotad_kernels::coreset::greedy_coreset;
use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::device::Buffer;
use hotad_kernels::flat_bank::FlatBank;
use hotad_kernels::replacement::replace_farthest;

use crate::case::{Case, Outputs, host, outputs, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "cosine_nn_location" => Some(cosine(case)),
        "paedid_prior" => Some(prior(case)),
        "l2_knn" => Some(knn(case)),
        "coreset_greedy" => Some(coreset(case)),
        _ => None,
    }
}

/// Indices as the files have them.
fn integers(buffer: &Buffer<u32>) -> Vec<f64> {
    host(buffer).into_iter().map(f64::from).collect()
}

fn cosine(case: &Case) -> Outputs {
    let [n, p1, p2, d] = case.shape("bank") else { panic!("a bank has four axes") };
    let (n, locations, d) = (*n, p1 * p2, *d);
    let bank = case.flat("bank");
    let by_location: Vec<f32> = (0..locations)
        .flat_map(|l| (0..n).map(move |e| (e * locations + l) * d))
        .flat_map(|at| bank[at..at + d].to_vec())
        .collect();
    let bank = LocationBank::new(locations, n, d, BankData::F32(by_location)).expect("shapes fit");
    let (mut index, mut cosine) = (case.room_u32(locations), case.uninit(locations));
    bank.nearest(&case.put(case.flat("query")), &mut index, &mut cosine).expect("shapes fit");
    let entry = integers(&index).into_iter().map(|vector| vector % n as f64).collect();
    outputs([("index", entry), ("cosine", wide(&cosine))])
}

fn prior(case: &Case) -> Outputs {
    let (mut features, nearest) = (case.put(case.flat("query")), case.put(case.flat("nearest")));
    let score = case.put(case.flat("score"));
    let (mut mask, mut image_scores) = (case.room_u32(score.len()), case.uninit(1));
    replace_farthest(&mut features, &nearest, &score, case.number("alpha"), &mut mask, &mut image_scores)
        .expect("shapes fit");
    outputs([("features", wide(&features)), ("mask", integers(&mask))])
}

fn coreset(case: &Case) -> Outputs {
    let (d, count) = (case.shape("x")[1], case.count("count"));
    let (mut index, mut distance) = (case.room_u32(count), case.uninit(count));
    let x = case.put(case.flat("x"));
    greedy_coreset(&x, d, case.count("start"), &mut index, &mut distance, &mut |_| ControlFlow::Continue(()))
        .expect("points enough");
    outputs([("index", integers(&index)), ("distance", wide(&distance))])
}

fn knn(case: &Case) -> Outputs {
    let (d, k) = (case.shape("query")[1], case.count("k"));
    let query = case.put(case.flat("query"));
    let bank = FlatBank::new(BankData::F32(case.flat("bank")), d, &case.device).expect("shapes fit");
    let found = query.len() / d * k;
    let (mut index, mut distance) = (case.room_u32(found), case.uninit(found));
    bank.nearest(&query, k, &mut index, &mut distance).expect("shapes fit");
    outputs([("index", integers(&index)), ("distance", wide(&distance))])
}
