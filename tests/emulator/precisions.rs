//! Convolutions and nearest neighbours on tensor cores against the CPU in f32. The operands are exact in every
//! precision, so one tolerance serves all.

use hotad_kernels::device::emulator::Settings;
use hotad_kernels::device::{Device, Precision};

use crate::{bodies, open};

fn agree(precision: Precision) {
    let Some(gpu) = open(&Settings::default()) else { return };
    let device = Device::Gpu(gpu.with_precision(precision).expect("tensor cores"));
    bodies::agree_when_rounded(&device, &format!("the emulator in {precision:?}"));
}

#[test]
fn tf32_gives_what_the_cpu_gives() {
    agree(Precision::Tf32);
}

#[test]
fn f16_gives_what_the_cpu_gives() {
    agree(Precision::F16);
}

#[test]
fn bf16_gives_what_the_cpu_gives() {
    agree(Precision::Bf16);
}
