//! Faults put into kernels on purpose: the checker reports each, with the line of the source.
//!
//! They are put into the two kernels of the background prior, `choose_kernel` (a sum over the block) and
//! `replace_kernel` (one thread an element), and into `decompose_steps`, whose blocks wait for each other. Misses stay within
//! the memory that buffers are given in.

use hotad_kernels::KernelError;
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::decompose::{DecomposeOptions, decompose};
use hotad_kernels::device::emulator::{Order, Settings};
use hotad_kernels::device::{Device, Gpu};
use hotad_kernels::replacement::replace_farthest;
use hotad_kernels::ssim::SsimOptions;

use crate::{agrees, open};

const BARRIER: &str = "__syncthreads();";

/// 4,515 elements in blocks of 256: the last block is not full.
fn replaced(gpu: Gpu) -> Result<Vec<f32>, KernelError> {
    let (images, locations, dim) = (3, 301, 5);
    let device = Device::Gpu(gpu);
    let features: Vec<f32> = (0..images * locations * dim).map(|i| i as f32).collect();
    let score: Vec<f32> = (0..images * locations).map(|i| (i * 7 % 301) as f32).collect();
    let (nearest, score) = (device.upload(vec![0.0; features.len()])?, device.upload(score)?);
    let mut features = device.upload(features)?;
    let (mut mask, mut image_scores) =
        (device.upload(vec![0_u32; images * locations])?, device.upload(vec![0.0; images])?);
    replace_farthest(&mut features, &nearest, &score, 0.3, &mut mask, &mut image_scores)?;
    features.to_vec()
}

/// Two images of one channel, six tiles each, most of which are not full.
fn decomposed(gpu: Gpu) -> Result<Vec<f32>, KernelError> {
    let (shape, device) = ([2, 34, 30, 1], Device::Gpu(gpu));
    let len = shape.iter().product::<usize>();
    let image = |factor: usize| (0..len).map(|i| (i * factor % 101) as f32 / 100.0).collect();
    let (x, prior, mut l) = (device.upload(image(7))?, device.upload(image(13))?, device.alloc(len)?);
    let adam = AdamOptions { lr: 0.01, ..AdamOptions::default() };
    let opts = DecomposeOptions { lambda: 1e-3, steps: 4, adam, ssim: SsimOptions::default() };
    decompose(&x, &prior, shape, &opts, &mut l, None)?;
    l.to_vec()
}

/// A use of kernels.
type Run = fn(Gpu) -> Result<Vec<f32>, KernelError>;

/// What the checker says of a change of the prior's kernels in every order, which must be one line with all words.
fn reported(alter: fn(&str) -> String, words: &[&str]) {
    reported_in(replaced, alter, words);
}

/// What it says of a change in what is run.
fn reported_in(run: Run, alter: fn(&str) -> String, words: &[&str]) {
    let cache = tempfile::tempdir().expect("a folder");
    for order in [Order::Forward, Order::Reversed, Order::Random(3)] {
        let settings = Settings { alter: Some(alter), order, cache: cache.path().into(), ..Settings::default() };
        let Some(gpu) = open(&settings) else { return };
        let line = run(gpu).expect_err("the checker sees it").to_string();
        assert!(!line.contains('\n'), "{line}");
        for word in words {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
    }
}

/// Changes a kernel, in which the text must be.
fn change(source: &str, kernel: &str, from: &str, to: &str) -> String {
    if ![" (", "(const"].iter().any(|open| source.contains(&format!("{kernel}{open}"))) {
        return source.into();
    }
    assert!(source.contains(from), "{from:?} is not in:\n{source}");
    source.replace(from, to)
}

#[test]
fn sound_kernels_give_what_the_cpu_gives() {
    let Some(gpu) = open(&Settings::default()) else { return };
    agrees("background prior", gpu);
}

/// Changes one of a kernel's barriers.
fn change_barrier(source: &str, number: usize, to: &str) -> String {
    let Some((at, _)) = source.match_indices(BARRIER).nth(number) else { return source.into() };
    format!("{}{to}{}", &source[..at], &source[at + BARRIER.len()..])
}

#[test]
fn a_dropped_barrier_is_seen() {
    let before_sums = |source: &str| change_barrier(source, 1, "");
    let between_sums = |source: &str| change_barrier(source, 2, "");
    reported(before_sums, &["choose_kernel", "shared memory"]);
    reported(between_sums, &["choose_kernel", "race", "shared memory"]);
}

#[test]
fn a_barrier_that_a_thread_passes_by_is_seen() {
    let one = |source: &str| change_barrier(source, 0, "if (threadIdx.x != 7) __syncthreads();");
    reported(one, &["choose_kernel", "different barriers"]);
}

#[test]
fn shifted_indices_are_out_of_bounds() {
    let write = |source: &str| change(source, "replace_kernel", "buffer_0[idxGlobal]", "buffer_0[idxGlobal + 9]");
    reported(write, &["replace_kernel", "write of 4 bytes", "argument 0"]);
    let shared = |source: &str| change(source, "choose_kernel", "[l_29];", "[l_29 + 1];");
    reported(shared, &["choose_kernel", "out of bounds", "shared memory at 1024 of 1024"]);
}

#[test]
fn a_condition_that_does_not_guard_an_index_is_seen() {
    // What CubeCL makes of `if at < n && mask[at / dim] == 1`: the mask is read first.
    let joined = |source: &str| {
        let open = change(source, "replace_kernel", "if (l_0) {", "{");
        change(&open, "replace_kernel", "if (l_3) {", "if (l_0 && l_3) {")
    };
    reported(joined, &["replace_kernel", "out of bounds", "read of 4 bytes", "argument 2"]);
}

#[test]
fn a_write_to_a_read_only_argument_is_seen() {
    let write = |source: &str| {
        change(source, "replace_kernel", "buffer_0[idxGlobal] = l_4", "((float*)buffer_1)[idxGlobal] = l_4 + 1")
    };
    reported(write, &["replace_kernel", "read-only", "argument 1"]);
}

#[test]
fn a_dropped_barrier_of_blocks_is_seen() {
    const BARRIER: &str = "blocks_barrier(arrived + map, across * down, step);";
    let dropped = |source: &str| change(source, "decompose_steps", BARRIER, "__syncthreads();");
    reported_in(decomposed, dropped, &["decompose_steps", "race", "argument"]);
}

/// Changes the barrier of blocks itself.
fn barrier(source: &str, from: &str, to: &str) -> String {
    change(source, "decompose_steps", from, to)
}

#[test]
fn faults_of_the_barrier_of_blocks_are_seen() {
    // What other threads of the block have written is not behind the count.
    let early = |source: &str| barrier(source, "unsigned round) {\n    __syncthreads();", "unsigned round) {");
    reported_in(decomposed, early, &["decompose_steps", "race", "argument"]);
    let behind = |source: &str| barrier(source, "blocks * (round + 1), blocks);", "blocks * round, blocks);");
    reported_in(decomposed, behind, &["decompose_steps", "ends before all have come"]);
    let silent = |source: &str| barrier(source, "        announce(counter);\n", "");
    reported_in(decomposed, silent, &["decompose_steps", "blocks wait for others for ever"]);
    let kept = |source: &str| {
        barrier(source, "blocks * (rounds + 1) - 1) *counter = 0;", "blocks * (rounds + 1)) *counter = 0;")
    };
    reported_in(decomposed, kept, &["decompose_steps", "not back at zero"]);
}

#[test]
fn a_background_that_is_written_while_others_read_it_is_seen() {
    let alone = |source: &str| {
        let read = change(source, "decompose_steps", "odd ? other : l", "l");
        change(&read, "decompose_steps", "(odd ? l : other)[offset]", "l[offset]")
    };
    reported_in(decomposed, alone, &["decompose_steps", "race", "argument 6"]);
}

#[test]
fn blocks_that_wait_for_ever_are_seen() {
    let more =
        |source: &str| change(source, "decompose_steps", "map, across * down, step", "map, across * down + 1, step");
    reported_in(decomposed, more, &["decompose_steps", "blocks wait for others for ever"]);
    let elsewhere = |source: &str| {
        change_barrier(
            source,
            0,
            "if (threadIdx.x == 0) emu_wait_for_blocks((const unsigned*)buffer_0, 0, 2); __syncthreads();",
        )
    };
    reported(elsewhere, &["choose_kernel", "not cooperative"]);
}
