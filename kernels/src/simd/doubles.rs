//! As many f64 values as a register holds f32 values, for sums that are long.

/// The values of two registers.
///
/// A value is only made from another or from one of [`super::Lanes`], which prove the instruction set.
pub(crate) trait Doubles: Copy {
    /// The values of a slice; zeros in the lanes beyond its end. `self` is any value of this type.
    fn read(self, from: &[f64]) -> Self;

    /// Writes the first lanes to a slice, as many as it has room for.
    fn write(self, to: &mut [f64]);

    /// The sum of all lanes, one after the other.
    #[inline(always)]
    fn sum(self) -> f64 {
        let mut lanes = [0.0; super::LANES];
        self.write(&mut lanes);
        lanes.iter().sum()
    }

    /// Sum, lane by lane.
    fn add(self, other: Self) -> Self;

    /// Difference, lane by lane.
    fn sub(self, other: Self) -> Self;

    /// Product, lane by lane.
    fn mul(self, other: Self) -> Self;
}

/// Two registers of `$half` values each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! doubles {
    ($(#[$meta:meta])* $name:ident, $register:ty, $half:literal, $load:ident, $store:ident,
        $($operation:ident: $instruction:ident),*) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(pub $register, pub $register);

        impl $crate::simd::Doubles for $name {
            #[inline(always)]
            fn read(self, from: &[f64]) -> Self {
                let mut part = [0.0; 2 * $half];
                let from = match from.first_chunk() {
                    Some(whole) => whole,
                    None => {
                        part[..from.len()].copy_from_slice(from);
                        &part
                    }
                };
                // SAFETY: a value of this type proves the instruction set; the array holds both registers.
                unsafe { Self($load(from.as_ptr()), $load(from.as_ptr().add($half))) }
            }

            #[inline(always)]
            fn write(self, to: &mut [f64]) {
                let mut part = [0.0; 2 * $half];
                let whole = to.first_chunk_mut();
                let is_whole = whole.is_some();
                let room = whole.unwrap_or(&mut part);
                // SAFETY: a value of this type proves the instruction set; the array holds both registers.
                unsafe {
                    $store(room.as_mut_ptr(), self.0);
                    $store(room.as_mut_ptr().add($half), self.1);
                }
                if !is_whole {
                    let count = to.len();
                    to.copy_from_slice(&part[..count]);
                }
            }

            $(
                #[inline(always)]
                fn $operation(self, other: Self) -> Self {
                    // SAFETY: a value of this type proves the instruction set.
                    unsafe { Self($instruction(self.0, other.0), $instruction(self.1, other.1)) }
                }
            )*
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use doubles;
