//! Model containers, settings, regions of interest and names of random bytes: accepted or refused in one line, without a panic and without much
//! memory. `HOTAD_FUZZ_CASES` sets how many. Images and folders are in tests/images/, whole models in tests/model_files/.

mod bodies;
#[path = "../common/mutation.rs"]
mod mutation;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hotad_engine::random;
use peak_alloc::PeakAlloc;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Held by the test that runs, as memory is measured.
static MEASURED: Mutex<()> = Mutex::new(());

/// Most memory that a case may take, in bytes; inputs are below 10 KB.
const MOST: usize = 16 << 20;

/// Longest that a case may take.
const LONGEST: Duration = Duration::from_secs(2);

/// Runs a body on inputs; the share of accepted ones has to lie in a range, or the inputs would test nothing.
fn run(name: &str, cases: u64, input: impl Fn(&mut ChaCha8Rng) -> Vec<u8>, body: fn(&[u8]) -> bool) {
    let _guard = MEASURED.lock();
    let cases =
        std::env::var("HOTAD_FUZZ_CASES").ok().map_or(cases, |v| v.parse().expect("HOTAD_FUZZ_CASES is a number"));
    let (mut accepted, mut peak, mut slowest) = (0, 0, Duration::ZERO);
    for case in 0..cases {
        let bytes = input(&mut random::stream(23, name, case));
        MEMORY.reset_peak_usage();
        let (before, started) = (MEMORY.current_usage(), Instant::now());
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&bytes)));
        let (taken, time) = (MEMORY.peak_usage().saturating_sub(before), started.elapsed());
        let good = outcome.unwrap_or_else(|_| panic!("{name} {case} panics: {}", bytes.escape_ascii()));
        assert!(taken < MOST, "{name} {case} takes {taken} bytes: {}", bytes.escape_ascii());
        assert!(time < LONGEST, "{name} {case} takes {} ms: {}", time.as_millis(), bytes.escape_ascii());
        accepted += u64::from(good);
        (peak, slowest) = (peak.max(taken), slowest.max(time));
    }
    assert!(accepted > cases / 50 && accepted < cases, "{accepted} of {cases} inputs were accepted");
    println!(
        "{name}: {cases} inputs, {accepted} accepted, at most {peak} bytes of memory and {} ms",
        slowest.as_millis()
    );
}

/// One of the seeds with up to six changes.
fn changed(seeds: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).expect("some").clone();
    for _ in 0..rng.random_range(0..=6) {
        mutation::change(&mut bytes, seeds, rng);
    }
    bytes
}

#[test]
fn containers() {
    let seeds = seeds::containers();
    run("containers", 20_000, |rng| changed(&seeds, rng), bodies::container::check);
}

#[test]
fn settings() {
    let seeds = seeds::settings();
    run("settings", 10_000, |rng| seeds::altered_settings(&seeds, rng), bodies::settings::check);
}

#[test]
fn regions() {
    let seeds = seeds::regions();
    run("regions", 20_000, |rng| changed(&seeds, rng), bodies::region::check);
}

#[test]
fn names() {
    let seeds = seeds::names();
    run("names", 50_000, |rng| changed(&seeds, rng), bodies::name::check);
}
