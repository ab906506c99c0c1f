//! Registers that a formula can be written on as on numbers, and formulas that are written once for both.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::Lanes;

/// One register, with the operators of numbers.
#[derive(Clone, Copy)]
pub(crate) struct Wide<L>(pub L);

/// What a function of a register takes beside it: a register, or a number that stands for all lanes.
pub(crate) trait Operand<L> {
    /// The register; `like` is one of the same kind.
    fn lanes(self, like: L) -> L;
}

impl<L: Lanes> Operand<L> for Wide<L> {
    #[inline(always)]
    fn lanes(self, _: L) -> L {
        self.0
    }
}

impl<L: Lanes> Operand<L> for f32 {
    #[inline(always)]
    fn lanes(self, like: L) -> L {
        like.same(self)
    }
}

macro_rules! operators {
    ($($operator:ident $name:ident),*) => {$(
        impl<L: Lanes, T: Operand<L>> $operator<T> for Wide<L> {
            type Output = Self;
            #[inline(always)]
            fn $name(self, other: T) -> Self {
                Self(self.0.$name(other.lanes(self.0)))
            }
        }

        impl<L: Lanes> $operator<Wide<L>> for f32 {
            type Output = Wide<L>;
            #[inline(always)]
            fn $name(self, other: Wide<L>) -> Wide<L> {
                Wide(other.0.same(self).$name(other.0))
            }
        }
    )*};
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl<L: Lanes> Neg for Wide<L> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(self.0.bits_xor(self.0.same(-0.0)))
    }
}

impl<L: Lanes> Wide<L> {
    /// Square root.
    #[inline(always)]
    pub fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }

    /// Without the sign.
    #[inline(always)]
    pub fn abs(self) -> Self {
        Self(self.0.bits_and(self.0.same(f32::from_bits(i32::MAX as u32))))
    }

    /// `self * factor + addend`, rounded once where the set has the instruction.
    #[inline(always)]
    pub fn mul_add(self, factor: impl Operand<L>, addend: impl Operand<L>) -> Self {
        Self(self.0.mul_add(factor.lanes(self.0), addend.lanes(self.0)))
    }
}

/// Writes formulas once for numbers and for registers.
///
/// Each becomes a `#[cube]` function of f32, for GPU kernels and single values, and one of the same name over registers in the module
/// `wide` beside it. Structures of numbers likewise. What stands behind a semicolon among the arguments is the same for all
/// lanes. A first line `use` is for `wide` alone: a structure of registers from another file.
macro_rules! formulas {
    (@scalar) => {};
    (@scalar $(#[$meta:meta])* pub struct $name:ident { $($(#[$about:meta])* $field:ident,)* } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(CubeType, Clone, Copy)]
        pub struct $name { $($(#[$about])* pub $field: f32,)* }
        $crate::simd::formulas!(@scalar $($rest)*);
    };
    (@scalar $(#[$meta:meta])* pub fn $name:ident($($arg:ident: $ty:ident),* $(; $($same:ident: $kind:ident),*)?)
        -> $ret:ident { $($body:tt)* } $($rest:tt)*) => {
        $(#[$meta])*
        #[cube]
        #[inline(always)]
        pub fn $name($($arg: $ty,)* $($($same: $kind),*)?) -> $ret { $($body)* }
        $crate::simd::formulas!(@scalar $($rest)*);
    };
    (@wide) => {};
    (@wide $(#[$meta:meta])* pub struct $name:ident { $($(#[$about:meta])* $field:ident,)* } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name<L> { $($(#[$about])* pub $field: Wide<L>,)* }
        $crate::simd::formulas!(@wide $($rest)*);
    };
    (@wide $(#[$meta:meta])* pub fn $name:ident($($arg:ident: $ty:ident),* $(; $($same:ident: $kind:ident),*)?)
        -> $ret:ident { $($body:tt)* } $($rest:tt)*) => {
        $(#[$meta])*
        #[inline(always)]
        pub(crate) fn $name<L: Lanes>($($arg: $crate::simd::formulas!(@type $ty),)* $($($same: $kind),*)?)
            -> $crate::simd::formulas!(@type $ret) { $($body)* }
        $crate::simd::formulas!(@wide $($rest)*);
    };
    (@type f32) => { Wide<L> };
    (@type $structure:ident) => { $structure<L> };
    (@all [$($($segment:ident)::+)?] $($rest:tt)*) => {
        $crate::simd::formulas!(@scalar $($rest)*);

        /// The same over registers.
        pub(crate) mod wide {
            #[allow(unused_imports)]
            use super::*;
            #[allow(unused_imports)]
            use $crate::math::wide as math;
            use $crate::simd::{Lanes, Wide};
            $(use $($segment)::+;)?
            $crate::simd::formulas!(@wide $($rest)*);
        }
    };
    (use $($segment:ident)::+; $($rest:tt)*) => {
        $crate::simd::formulas!(@all [$($segment)::+] $($rest)*);
    };
    ($($rest:tt)*) => {
        $crate::simd::formulas!(@all [] $($rest)*);
    };
}
pub(crate) use formulas;
