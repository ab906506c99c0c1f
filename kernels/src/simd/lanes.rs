//! One vector register of f32 values, for loops that decide speed.
//!
//! The instructions of each set are spelled out, so that a loop written on [`Lanes`] does not depend on
//! the auto-vectoriser. `lanes_fn!` compiles a function for every set and chooses when it is called.

use half::f16;

/// The values of one register.
///
/// A value can only be made by the unsafe functions, which demand the instruction set; the others may
/// rely on it.
pub(crate) trait Lanes: Copy {
    /// Values in a register.
    const WIDTH: usize;

    /// Panels of [`super::LANES`] columns that a register tile takes at once (conv/micro.rs).
    const PANELS: usize;

    /// The same value in every lane.
    ///
    /// # Safety
    /// The CPU has the instruction set of this type.
    unsafe fn splat(value: f32) -> Self;

    /// [`Lanes::WIDTH`] values from `from` on.
    ///
    /// # Safety
    /// The CPU has the instruction set of this type, and so many values can be read there.
    unsafe fn load(from: *const f32) -> Self;

    /// [`Lanes::WIDTH`] halves from `from` on, widened.
    ///
    /// # Safety
    /// The CPU has the instruction set of this type, and so many values can be read there.
    unsafe fn load_f16(from: *const f16) -> Self;

    /// [`Lanes::WIDTH`] integers from `from` on, rounded to f32.
    ///
    /// # Safety
    /// The CPU has the instruction set of this type, and so many values can be read there.
    unsafe fn load_i32(from: *const i32) -> Self;

    /// `count` values from `from` on, at most [`Lanes::WIDTH`]; zeros in the other lanes.
    ///
    /// # Safety
    /// The CPU has the instruction set of this type, and `count` values can be read there.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;

    /// Writes all lanes.
    ///
    /// # Safety
    /// [`Lanes::WIDTH`] values can be written there.
    unsafe fn store(self, to: *mut f32);

    /// Writes the first `count` lanes, at most [`Lanes::WIDTH`].
    ///
    /// # Safety
    /// `count` values can be written there.
    unsafe fn store_part(self, to: *mut f32, count: usize);

    /// Sum, lane by lane.
    fn add(self, other: Self) -> Self;

    /// Difference, lane by lane.
    fn sub(self, other: Self) -> Self;

    /// Product, lane by lane.
    fn mul(self, other: Self) -> Self;

    /// `self * factor + addend`, rounded once where the set has the instruction.
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// The larger one, `other` where `self` is not a number.
    fn max(self, other: Self) -> Self;

    /// The smaller one, `other` where `self` is not a number.
    fn min(self, other: Self) -> Self;

    /// The sum of all lanes: halves added to each other until one value is left.
    fn sum(self) -> f32;

    /// The largest lane, found in the same order; of two, the second where one is not a number.
    fn largest(self) -> f32;
}

/// Compiles one body for each instruction set and calls the right one.
///
/// `fn name<L>(..)`: the body is generic over the register type `L`. `fn name<L, V, R>(..)`: also over the
/// number `V` of registers that hold [`super::LANES`] values, and the number `R` of rows of a register tile
/// whose sums fit into the registers beside their operands. Generic parameters of the function itself stand
/// before them: `fn name[T: Element, const N: usize][T, N]<L>(..)`.
///
/// The body may call the unsafe functions of `L`: it only runs where the CPU has the set of `L`.
macro_rules! lanes_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $([$($own:tt)*] [$($given:tt)*])? <$l:ident>
        ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $crate::simd::lanes_fn!(@ [$(#[$meta])* $vis] $name [$($($own)*,)?] [$($($given)*,)?]
            [$l: $crate::simd::Lanes] [] [] [] [] ($($arg: $ty),*) [$(-> $ret)?] $body);
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident $([$($own:tt)*] [$($given:tt)*])? <$l:ident, $v:ident, $r:ident>
        ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $crate::simd::lanes_fn!(@ [$(#[$meta])* $vis] $name [$($($own)*,)?] [$($($given)*,)?]
            [$l: $crate::simd::Lanes, const $v: usize, const $r: usize] [4, 2] [2, 6] [1, 12] [4, 6]
            ($($arg: $ty),*) [$(-> $ret)?] $body);
    };
    (@ [$($head:tt)*] $name:ident [$($own:tt)*] [$($given:tt)*] [$($lanes:tt)*]
        [$($portable:tt)*] [$($avx2:tt)*] [$($avx512:tt)*] [$($neon:tt)*]
        ($($arg:ident : $ty:ty),*) [$($ret:tt)*] $body:block) => {
        #[allow(clippy::too_many_arguments)] // the wrapper repeats the signature it is given
        $($head)* fn $name<$($own)*>($($arg: $ty),*) $($ret)* {
            #[allow(clippy::too_many_arguments)]
            #[inline(always)]
            fn body<$($own)* $($lanes)*>($($arg: $ty),*) $($ret)* $body

            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2<$($own)*>($($arg: $ty),*) $($ret)* {
                    body::<$($given)* $crate::simd::Avx2, $($avx2)*>($($arg),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn avx512<$($own)*>($($arg: $ty),*) $($ret)* {
                    body::<$($given)* $crate::simd::Avx512, $($avx512)*>($($arg),*)
                }
                match $crate::simd::isa() {
                    // SAFETY: `isa` answers Avx512 and Amx only where the CPU has every feature named above.
                    $crate::simd::Isa::Amx | $crate::simd::Isa::Avx512 => unsafe { avx512::<$($given)*>($($arg),*) },
                    // SAFETY: likewise for Avx2.
                    $crate::simd::Isa::Avx2 => unsafe { avx2::<$($given)*>($($arg),*) },
                    $crate::simd::Isa::Portable => {
                        body::<$($given)* $crate::simd::Sse2, $($portable)*>($($arg),*)
                    }
                }
            }
            #[cfg(target_arch = "aarch64")]
            {
                body::<$($given)* $crate::simd::Neon, $($neon)*>($($arg),*)
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            {
                body::<$($given)* $crate::simd::Portable, $($portable)*>($($arg),*)
            }
        }
    };
}
pub(crate) use lanes_fn;
