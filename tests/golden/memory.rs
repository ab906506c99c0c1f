//! Memory banks.

use hotad_kernels::cosine_nn::{BankData, LocationBank};
use hotad_kernels::knn::l2_knn;
use hotad_kernels::prior::{replace_features, replaced_locations};

use crate::case::{Case, Outputs, outputs, wide};

pub fn run(case: &Case) -> Option<Outputs> {
    match case.op.as_str() {
        "cosine_nn_location" => Some(cosine(case)),
        "paedid_prior" => Some(prior(case)),
        "l2_knn" => Some(knn(case)),
        _ => None,
    }
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
    let found = bank.nearest(&case.flat("query")).expect("shapes fit");
    outputs([
        ("index", found.iter().map(|f| f64::from(f.index)).collect()),
        ("cosine", found.iter().map(|f| f64::from(f.cosine)).collect()),
    ])
}

fn prior(case: &Case) -> Outputs {
    let mask = replaced_locations(&case.flat("score"), case.number("alpha")).expect("alpha is a share");
    let mut features = case.flat("query");
    replace_features(&mut features, &case.flat("nearest"), &mask).expect("shapes fit");
    outputs([("features", wide(&features)), ("mask", mask.iter().map(|m| f64::from(u8::from(*m))).collect())])
}

fn knn(case: &Case) -> Outputs {
    let d = case.shape("query")[1];
    let found = l2_knn(&case.flat("query"), &case.flat("bank"), d, case.count("k")).expect("shapes fit");
    outputs([
        ("index", found.iter().map(|f| f.index as f64).collect()),
        ("distance", found.iter().map(|f| f64::from(f.distance)).collect()),
    ])
}
