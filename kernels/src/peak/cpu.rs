//! What the cores do at most, in the instruction set that is in use.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use crate::simd::lanes_fn;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Isa, isa};

/// Independent sums that hide the latency of a multiply-add; with its two operands they fit into 16 registers.
const SUMS: usize = 14;
/// Rounds of a measurement.
const STEPS: usize = 1_000_000;

/// Kinds of multiply-adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// 32-bit floats.
    F32,
    /// Products of 16-bit brain floats, summed in f32 (AMX, or AVX512_BF16).
    Bf16,
    /// Products of 8-bit integers, summed in 32 bits (AMX, or AVX512_VNNI).
    Int8,
}

impl Arithmetic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Whether the instruction set in use has instructions for it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            match self {
                Self::F32 => true,
                Self::Bf16 => isa() >= Isa::Avx512 && has!("avx512bf16"),
                Self::Int8 => isa() >= Isa::Avx512 && has!("avx512vnni"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::F32
        }
    }
}

lanes_fn! {
    /// `steps` rounds of multiply-adds on registers.
    fn spin<L>(steps: usize, factor: f32) -> f32 {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let (mut sums, factor, addend) = unsafe { ([L::splat(1.0); SUMS], L::splat(factor), L::splat(1e-9)) };
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, addend);
            }
        }
        let mut total = 0.0;
        for sum in sums {
            total += sum.sum();
        }
        total / L::WIDTH as f32
    }
}

lanes_fn! {
    /// Values in a register.
    fn width<L>() -> usize {
        L::WIDTH
    }
}

/// `steps` rounds of `SUMS` times 32 products in bf16.
///
/// # Safety
/// The CPU has AVX-512 F and BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn spin_bf16(steps: usize, factor: f32) -> f32 {
    use std::arch::x86_64::{_mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let mut sums = [_mm512_set1_ps(1.0); SUMS];
    let factor = _mm512_cvtne2ps_pbh(_mm512_set1_ps(factor), _mm512_set1_ps(-factor));
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, factor, factor);
        }
    }
    sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
}

/// `steps` rounds of `SUMS` times 64 products of bytes.
///
/// # Safety
/// The CPU has AVX-512 F and VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn spin_int8(steps: usize, factor: i8) -> i32 {
    use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_set1_epi32};
    let mut sums = [_mm512_set1_epi32(1); SUMS];
    let factor = _mm512_set1_epi8(factor);
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, factor, factor);
        }
    }
    sums.into_iter().map(|sum| _mm512_reduce_add_epi32(sum)).fold(0, i32::wrapping_add)
}

/// `steps` rounds of four products of AMX tiles; returns the multiply-adds.
///
/// # Safety
/// AMX is available.
#[cfg(target_arch = "x86_64")]
unsafe fn spin_tiles(steps: usize, bytes: bool) -> usize {
    use crate::simd::amx::{ROW, ROWS, Tiles, load, multiply};
    let zeros = [0u8; ROWS * ROW];
    // SAFETY: every tile is read from as many zeros; the caller vouches for AMX.
    unsafe {
        let _tiles = Tiles::new(ROWS);
        load!("0", zeros.as_ptr(), ROW);
        load!("1", zeros.as_ptr(), ROW);
        load!("2", zeros.as_ptr(), ROW);
        load!("3", zeros.as_ptr(), ROW);
        load!("4", zeros.as_ptr(), ROW);
        load!("6", zeros.as_ptr(), ROW);
        for _ in 0..steps {
            if bytes {
                multiply!("tdpbusd", "0", "4", "6");
                multiply!("tdpbusd", "1", "4", "6");
                multiply!("tdpbusd", "2", "4", "6");
                multiply!("tdpbusd", "3", "4", "6");
            } else {
                multiply!("tdpbf16ps", "0", "4", "6");
                multiply!("tdpbf16ps", "1", "4", "6");
                multiply!("tdpbf16ps", "2", "4", "6");
                multiply!("tdpbf16ps", "3", "4", "6");
            }
        }
    }
    4 * steps * ROWS * ROWS * if bytes { ROW } else { ROW / 2 }
}

/// `STEPS` rounds in some arithmetic; returns the multiply-adds.
fn rounds(arithmetic: Arithmetic) -> usize {
    #[cfg(target_arch = "x86_64")]
    match arithmetic {
        // SAFETY: `isa` answers Amx only where it is available.
        Arithmetic::Bf16 | Arithmetic::Int8 if isa() == Isa::Amx => unsafe {
            return spin_tiles(STEPS, arithmetic == Arithmetic::Int8);
        },
        // SAFETY: `is_available` is asked first (`operations`).
        Arithmetic::Bf16 => unsafe {
            black_box(spin_bf16(STEPS, black_box(0.5)));
            return STEPS * SUMS * 32;
        },
        // SAFETY: likewise.
        Arithmetic::Int8 => unsafe {
            black_box(spin_int8(STEPS, black_box(1)));
            return STEPS * SUMS * 64;
        },
        Arithmetic::F32 => {}
    }
    debug_assert_eq!(arithmetic, Arithmetic::F32);
    black_box(spin(STEPS, black_box(0.999_9)));
    STEPS * SUMS * width()
}

/// Operations per second of all threads (a multiply-add counts two), if the instruction set in use has this arithmetic.
pub fn cpu_operations(arithmetic: Arithmetic) -> Option<f64> {
    let run = || {
        let start = Instant::now();
        let done: usize = (0..rayon::current_num_threads()).into_par_iter().map(|_| rounds(arithmetic)).sum();
        2.0 * done as f64 / start.elapsed().as_secs_f64()
    };
    arithmetic.is_available().then(|| (0..5).map(|_| run()).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_has_a_rate() {
        for arithmetic in Arithmetic::ALL {
            let rate = cpu_operations(arithmetic);
            println!("{}: {:.0} Gop/s", arithmetic.name(), rate.unwrap_or(0.0) / 1e9);
            assert_eq!(rate.is_some_and(|r| r.is_finite() && r > 0.0), arithmetic.is_available());
        }
    }
}
