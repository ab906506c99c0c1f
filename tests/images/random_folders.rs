//! Random folders. `HOTAD_FUZZ_CASES` sets how many.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotad_engine::random;

use crate::{bodies, cases};

#[test]
fn random_folders_are_listed_or_refused() {
    let (mut listed, all) = (0, cases(200));
    for case in 0..all {
        let mut rng = random::stream(17, "folders", case);
        let outcome = catch_unwind(AssertUnwindSafe(|| bodies::folder::random(&mut rng)));
        listed += u64::from(outcome.unwrap_or_else(|_| panic!("case {case} panics")));
    }
    assert!(listed > all / 20 && listed < all, "{listed} of {all} folders are data sets");
    println!("{all} random folders, {listed} of them data sets");
}
