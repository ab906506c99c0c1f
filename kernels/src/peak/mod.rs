//! What this machine can do at most: multiply-adds per second and bytes copied per second, measured
//! on the spot, so that benches can say what share of it a kernel reaches.

mod cpu;

use std::hint::black_box;
use std::time::Instant;

pub use cpu::{Arithmetic, cpu_operations};
use cubecl::prelude::*;
use rayon::prelude::*;

use crate::device::{Device, Gpu, copy, fill, launch, units};
use crate::error::Result;

/// Floating-point operations per second of the whole device (a multiply-add counts two).
///
/// # Errors
/// When the device is lost.
pub fn peak_flops(device: &Device) -> Result<f64> {
    match device {
        Device::Cpu(_) => Ok(cpu_operations(Arithmetic::F32).expect("every set has f32")),
        Device::Gpu(gpu) => gpu_flops(gpu),
    }
}

/// Eight sums in registers, `steps` rounds of multiply-adds.
#[cube(launch_unchecked)]
fn spin_kernel(out: &mut Array<f32>, n: usize, steps: usize, factor: f32) {
    let at = ABSOLUTE_POS;
    if at < n {
        let mut sums = Array::<f32>::new(8usize);
        #[unroll]
        for k in 0..8usize {
            sums[k] = f32::cast_from(at + k);
        }
        for _ in 0..steps {
            #[unroll]
            for k in 0..8usize {
                sums[k] = fma(sums[k], factor, f32::new(1e-9));
            }
        }
        let mut total = f32::new(0.0);
        #[unroll]
        for k in 0..8usize {
            total += sums[k];
        }
        out[at] = total;
    }
}

fn gpu_flops(gpu: &Gpu) -> Result<f64> {
    // A software adapter gets less to do.
    let (n, steps): (usize, usize) = if gpu.facts().software { (1 << 12, 512) } else { (1 << 20, 4096) };
    let out = gpu.alloc::<f32>(n)?;
    let mut best: f64 = 0.0;
    for _ in 0..4 {
        gpu.synchronize()?;
        let start = Instant::now();
        launch!(gpu, spin_kernel, units(n), out.arg(), n, steps, 0.9999);
        gpu.synchronize()?;
        best = best.max((2 * 8 * n * steps) as f64 / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Bytes read plus bytes written per second when a buffer larger than the caches is copied.
///
/// # Errors
/// When the device has no room for it, or is lost.
pub fn copy_bandwidth(device: &Device) -> Result<f64> {
    match device {
        Device::Cpu(_) => Ok(cpu_bandwidth()),
        Device::Gpu(gpu) => gpu_bandwidth(gpu),
    }
}

fn cpu_bandwidth() -> f64 {
    const BYTES: usize = 256 << 20;
    let from = vec![1u8; BYTES];
    let mut to = vec![0u8; BYTES];
    let mut run = || {
        let start = Instant::now();
        to.par_chunks_mut(1 << 20).zip(from.par_chunks(1 << 20)).for_each(|(t, f)| t.copy_from_slice(f));
        black_box(&to);
        2.0 * BYTES as f64 / start.elapsed().as_secs_f64()
    };
    (0..4).map(|_| run()).fold(0.0, f64::max)
}

fn gpu_bandwidth(gpu: &Gpu) -> Result<f64> {
    const COPIES: usize = 8;
    let len: usize = if gpu.facts().software { 1 << 22 } else { 1 << 28 };
    let (mut from, mut to) = (gpu.alloc(len)?, gpu.alloc(len)?);
    fill(&mut from, 1.0);
    let mut best: f64 = 0.0;
    for _ in 0..3 {
        gpu.synchronize()?;
        let start = Instant::now();
        (0..COPIES).for_each(|_| copy(&from, &mut to));
        gpu.synchronize()?;
        best = best.max((COPIES * 8 * len) as f64 / start.elapsed().as_secs_f64());
    }
    Ok(best)
}
