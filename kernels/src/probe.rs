//! What this machine can do at most: multiply-adds per second and bytes copied per second, measured
//! on the spot, so that benches can say what share of it a kernel reaches.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use crate::simd::{madd, simd_fn};

/// Independent sums that hide the latency of a multiply-add.
const SUMS: usize = 12;

simd_fn! {
    /// `steps` rounds of multiply-adds on registers.
    fn spin(steps: usize, factor: f32) -> f32 {
        let mut sums = [[1.0f32; 8]; SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                for s in sum {
                    *s = madd::<FMA>(*s, factor, 1e-9);
                }
            }
        }
        sums.iter().flatten().sum()
    }
}

/// Floating-point operations per second of all threads together (a multiply-add counts two).
pub fn peak_flops() -> f64 {
    const STEPS: usize = 2_000_000;
    let threads = rayon::current_num_threads();
    let run = || {
        let start = Instant::now();
        (0..threads).into_par_iter().for_each(|_| {
            black_box(spin(STEPS, black_box(0.999_9)));
        });
        (2 * 8 * SUMS * STEPS * threads) as f64 / start.elapsed().as_secs_f64()
    };
    (0..3).map(|_| run()).fold(0.0, f64::max)
}

/// Bytes read plus bytes written per second when all threads copy a buffer larger than the caches.
pub fn copy_bandwidth() -> f64 {
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
