//! One vector register of f32 values, for loops that decide speed.
//!
//! The instructions of each set are spelled out, so that a loop written on [`Lanes`] does not depend on
//! the auto-vectoriser. `lanes_fn!` compiles a function for every set and chooses when it is called.

use half::f16;

use super::Doubles;

/// The values of one register.
///
/// A value can only be made by the unsafe functions, which demand the instruction set; the others may
/// rely on it.
pub(crate) trait Lanes: Copy {
    /// Values in a register.
    const WIDTH: usize;

    /// As many values in double precision.
    type Doubles: Doubles;

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

    /// Writes the lowest byte of each lane's bits, which are integers from 0 to 255.
    ///
    /// # Safety
    /// [`Lanes::WIDTH`] bytes can be written there.
    unsafe fn store_u8(self, to: *mut u8);

    /// Likewise, widened to 16 bits.
    ///
    /// # Safety
    /// [`Lanes::WIDTH`] words can be written there.
    unsafe fn store_u16(self, to: *mut u16);

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

    /// Quotient, lane by lane.
    fn div(self, other: Self) -> Self;

    /// Square root, lane by lane.
    fn sqrt(self) -> Self;

    /// `then` in the lanes where `self > other`, `otherwise` in the others.
    fn above(self, other: Self, then: Self, otherwise: Self) -> Self;

    /// `value` in every lane.
    fn same(self, value: f32) -> Self;

    /// Sum of the bits as integers, modulo 2^32.
    fn bits_add(self, other: Self) -> Self;

    /// Difference of the bits as integers, modulo 2^32.
    fn bits_sub(self, other: Self) -> Self;

    /// The bits that both have.
    fn bits_and(self, other: Self) -> Self;

    /// The bits that one of the two has.
    fn bits_xor(self, other: Self) -> Self;

    /// The bits moved up by `count`, at most 31; zeros follow.
    fn bits_up(self, count: i32) -> Self;

    /// The bits moved down by `count`, at most 31; copies of the uppermost bit follow.
    fn bits_down(self, count: i32) -> Self;

    /// The number that the bits are as a signed integer.
    fn bits_to_number(self) -> Self;

    /// Whether a lane has a bit that is set.
    fn any(self) -> bool;

    /// The bits of the signed integer that is left when the fraction is cut off.
    fn number_to_bits(self) -> Self;

    /// The values of a slice, at most [`Lanes::WIDTH`]; zeros in the lanes beyond its end.
    #[inline(always)]
    fn read(self, from: &[f32]) -> Self {
        // SAFETY: a value of this type proves the instruction set; so many values are in the slice.
        unsafe {
            if from.len() >= Self::WIDTH {
                Self::load(from.as_ptr())
            } else {
                Self::load_part(from.as_ptr(), from.len())
            }
        }
    }

    /// The first `count` lanes; zeros in the others.
    #[inline(always)]
    fn first(self, count: usize) -> Self {
        if count >= Self::WIDTH {
            return self;
        }
        let mut kept = [0.0; super::LANES];
        self.write(&mut kept[..count]);
        self.read(&kept)
    }

    /// Writes the first lanes to a slice, as many as it has room for.
    #[inline(always)]
    fn write(self, to: &mut [f32]) {
        // SAFETY: so many values are in the slice.
        unsafe {
            if to.len() >= Self::WIDTH {
                self.store(to.as_mut_ptr());
            } else {
                self.store_part(to.as_mut_ptr(), to.len());
            }
        }
    }

    /// The values in double precision.
    fn widen(self) -> Self::Doubles;

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
                body::<$($given)* $crate::simd::Portable<4>, $($portable)*>($($arg),*)
            }
        }
    };
}
pub(crate) use lanes_fn;

/// Runs a body for every register of `len` values: with the range of whole registers, whose number of values the compiler
/// knows, and at last with that of the rest.
macro_rules! by_registers {
    ($l:ident, $len:expr, |$range:ident| $body:block) => {{
        let len: usize = $len;
        let mut at = 0;
        while at + $l::WIDTH <= len {
            let $range = at..at + $l::WIDTH;
            $body
            at += $l::WIDTH;
        }
        if at < len {
            let $range = at..len;
            $body
        }
    }};
}
pub(crate) use by_registers;
