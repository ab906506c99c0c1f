//! Run-time choice of the instruction set: one loop, compiled once per set, chosen when called.
//!
//! `lanes_fn!` is for loops whose bodies name the registers and instructions themselves (lanes.rs). `simd_fn!` wraps a function
//! body so that LLVM vectorises it for AVX-512, for AVX2 and for the portable baseline.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod doubles;
mod isa;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod sse2;
mod wide;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use doubles::Doubles;
pub use isa::{Isa, check, isa, select};
pub(crate) use lanes::{Lanes, by_registers, lanes_fn};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use sse2::Sse2;
pub(crate) use wide::{Operand, Wide, formulas};

/// Values of the widest register, and columns of a panel.
pub(crate) const LANES: usize = 16;

/// Compiles one body for each [`Isa`] and calls the right one.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match $crate::simd::isa() {
                    // SAFETY: `isa` answers Avx512 and Amx only where the CPU has every feature named above.
                    $crate::simd::Isa::Amx | $crate::simd::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: likewise for Avx2.
                    $crate::simd::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Isa::Portable => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use simd_fn;
