//! One vector register of f32 values, for loops that must keep a block of sums in registers.
//!
//! The instructions of each set are spelled out, so that a loop written on [`Lanes`] does not depend on
//! the auto-vectoriser. `lanes_fn!` compiles a function for every set and chooses when it is called.

/// The values of one register.
///
/// A value can only be made by the unsafe functions, which demand the instruction set; the others may
/// rely on it.
pub(crate) trait Lanes: Copy {
    /// Values in a register.
    const WIDTH: usize;

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

    /// `self * factor + addend`, rounded once where the set has the instruction.
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// The larger one, `other` where `self` is not a number.
    fn max(self, other: Self) -> Self;

    /// The smaller one, `other` where `self` is not a number.
    fn min(self, other: Self) -> Self;
}

/// Compiles one body for each instruction set and calls the right one. The body is generic over the
/// register type `L`, the number `V` of registers that hold [`super::LANES`] values, and the number `R` of
/// such rows whose sums fit into the registers beside their operands.
///
/// The body may call the unsafe functions of `L`: it only runs where the CPU has the set of `L`.
macro_rules! lanes_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$l:ident, $v:ident, $r:ident>($($arg:ident : $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body<$l: $crate::simd::Lanes, const $v: usize, const $r: usize>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) {
                    body::<$crate::simd::Avx2, 2, 6>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn avx512($($arg: $ty),*) {
                    body::<$crate::simd::Avx512, 1, 12>($($arg),*)
                }
                match $crate::simd::isa() {
                    // SAFETY: `isa` answers Avx512 only where the CPU has every feature named above.
                    $crate::simd::Isa::Avx512 => unsafe { avx512($($arg),*) },
                    // SAFETY: likewise for Avx2.
                    $crate::simd::Isa::Avx2 => unsafe { avx2($($arg),*) },
                    $crate::simd::Isa::Portable => body::<$crate::simd::Portable, 4, 3>($($arg),*),
                }
            }
            #[cfg(target_arch = "aarch64")]
            body::<$crate::simd::Neon, 4, 6>($($arg),*);
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            body::<$crate::simd::Portable, 4, 3>($($arg),*);
        }
    };
}
pub(crate) use lanes_fn;
