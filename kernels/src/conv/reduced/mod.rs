//! Convolutions on the CPU whose operands are rounded to fewer bits: 16-bit brain floats, or bytes.
//!
//! bf16: inputs and weights are rounded to the nearest bf16 (ties to even), products are summed in f32. AMX takes subnormal
//! numbers for 0 and adds in an order of its own.
//!
//! int8: `q = clamp(round(x / s) + z, 0, 255)` with one scale `s` and zero point `z` for all inputs, `round(w / t)` between
//! -127 and 127 with a scale `t` for each output channel; products are summed exactly in 32 bits, and
//! `s t (sum - z * sum of weights)` is what goes into the epilogue in f32; within an inverted residual it becomes the bytes of the next
//! product at once (requantise.rs), and the depthwise convolution is of bytes, too (depthwise/). Source: Jacob et al. 2018, "Quantization and
//! Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", equations 1 to 7. The sums are the same on
//! every instruction set.
//!
//! | set | bf16 | int8 |
//! |---|---|---|
//! | AMX | tiles of 2 x 16 pixels by 2 x 16 channels (`tdpbf16ps`) | the same (`tdpbusd`) |
//! | AVX-512 VNNI | f32 products of rounded operands | 8 pixels by 32 channels (`vpdpbusd`) |
//! | AVX2, and AVX-512 without VNNI | the same | 6 pixels by 16 channels in 16 bits (`vpmaddwd`), of bytes that are widened when they are copied |
//! | others | the same | one by one |

mod band;
mod convert;
mod depthwise;
mod panels;
mod pixels;
mod quads;
mod requantise;
mod tile;
mod tiles;
mod values;

pub(super) use band::{compute_bf16, compute_int8};
pub(super) use convert::{Convert, Copied, Rounded, ToBf16, round};
pub(super) use depthwise::{Depthwise, QUAD, QuadMap, depthwise};
pub(super) use panels::{Int8, Panels};
pub(super) use pixels::{Operand, Pixels, expand, granule, project};
pub(super) use quads::{Quad, ToQuads, copy_quads, expand_quads};
pub(super) use requantise::Requantiser;

use crate::device::InputRange;

/// How inputs become bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quantiser {
    /// What one step stands for.
    pub scale: f32,
    /// The byte of 0.
    pub zero: u8,
}

impl Quantiser {
    /// A range of 0 alone has steps of 1.
    pub fn new(range: InputRange) -> Self {
        let (least, most) = range.ends();
        // The width itself may be beyond f32.
        let scale = if most > least { (most / 255.0 - least / 255.0).max(f32::MIN_POSITIVE) } else { 1.0 };
        Self { scale, zero: (-least / scale).round().clamp(0.0, 255.0) as u8 }
    }
}
