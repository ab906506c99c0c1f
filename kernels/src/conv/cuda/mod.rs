//! Dense convolutions in CUDA C++, a file for each source. All copy four channels at a time to shared memory,
//! asynchronously; other shapes stay with CubeCL's kernels.

mod division;
mod implicit_gemm;
mod weight_gradient;

pub(super) use implicit_gemm::run;
pub(super) use weight_gradient::run as run_weight_gradient;

use super::pass::PassSizes;
use crate::device::{Gpu, Precision};

/// Rows and columns of a tile, terms of a step, steps on their way.
const TILE: usize = 64;
const TERMS: usize = 32;
const STAGES: usize = 3;

/// Threads of a block.
const THREADS: u32 = 128;

/// Whether so many pixels of `stride` channels can be addressed in chunks of four channels.
fn is_addressable(pixels: usize, stride: usize) -> bool {
    pixels * (stride / 4) <= i32::MAX as usize
}

/// Whether a pass can be copied four channels at a time.
pub(super) fn takes(gpu: &Gpu, s: &PassSizes) -> bool {
    let in_fours = [s.in_channels, s.in_stride, s.in_first].iter().all(|n| n.is_multiple_of(4));
    gpu.cuda().is_some() && in_fours && is_addressable(s.images * s.in_h * s.in_w, s.in_stride)
}

/// Whether a weight gradient can.
pub(super) fn takes_weight_gradient(gpu: &Gpu, s: &PassSizes) -> bool {
    let in_fours = [s.out_channels, s.out_stride, s.out_first].iter().all(|n| n.is_multiple_of(4));
    takes(gpu, s) && in_fours && is_addressable(s.images * s.out_h * s.out_w, s.out_stride)
}

/// The macro PRECISION.
fn precision(gpu: &Gpu) -> usize {
    match gpu.precision() {
        Precision::F32 => 0,
        Precision::Tf32 => 1,
        Precision::F16 => 2,
        Precision::Bf16 => 3,
        Precision::Int8 => unreachable!("refused by `Gpu::with_precision`"),
    }
}
