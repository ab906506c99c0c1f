//! Run-time choice of the instruction set: one loop, compiled once per set, chosen when called.
//!
//! `simd_fn!` wraps a function body so that LLVM vectorises it for AVX-512, for AVX2 and for the
//! portable baseline. Inside the body the constant `FMA` says whether fused multiply-add is an
//! instruction here; [`madd`] uses it. `lanes_fn!` is for loops that decide speed: their bodies name the
//! registers and instructions themselves (lanes.rs).

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

/// `a * b + c`, fused when `FMA` says that the CPU does it in one instruction.
#[inline(always)]
pub fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Floats that element-wise loops hold in registers at a time. Working on arrays of this size, not
/// on slices, tells the compiler that nothing aliases, so the loop is vectorised without checks.
pub(crate) const LANES: usize = 16;

/// Compiles one body for each [`Isa`] and calls the right one.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$(const $g:ident : usize),+>)? ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)] // the wrapper repeats the signature it is given
        $vis fn $name $(<$(const $g: usize),+>)? ($($arg: $ty),*) $(-> $ret)? {
            #[allow(dead_code, clippy::too_many_arguments)] // `FMA` is unused by some bodies
            #[inline(always)]
            fn body<const FMA: bool $($(, const $g: usize)+)?>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2 $(<$(const $g: usize),+>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<true $($(, $g)+)?>($($arg),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn avx512 $(<$(const $g: usize),+>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<true $($(, $g)+)?>($($arg),*)
                }
                match $crate::simd::isa() {
                    // SAFETY: `isa` answers Avx512 only where the CPU has every feature named above.
                    $crate::simd::Isa::Avx512 => return unsafe { avx512 $(::<$($g),+>)? ($($arg),*) },
                    // SAFETY: likewise for Avx2.
                    $crate::simd::Isa::Avx2 => return unsafe { avx2 $(::<$($g),+>)? ($($arg),*) },
                    $crate::simd::Isa::Portable => {}
                }
            }
            body::<{ cfg!(target_arch = "aarch64") } $($(, $g)+)?>($($arg),*)
        }
    };
}
pub(crate) use simd_fn;
