//! Vectors of memory banks in the precision that files hold them in.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::simd::Lanes;

/// Elements of the vectors of a memory bank.
#[derive(Clone, Debug, PartialEq)]
pub enum BankData {
    /// Half precision, accumulated in f32.
    F16(Vec<f16>),
    /// Single precision.
    F32(Vec<f32>),
}

impl BankData {
    /// How many numbers there are.
    pub(crate) fn elements(&self) -> usize {
        match self {
            Self::F16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }
}

/// An element of a bank vector.
pub(crate) trait BankElement: Copy + Default + Send + Sync {
    fn widen_into(from: &[Self], to: &mut [f32]);
    fn wide(self) -> f32;

    /// A register of elements, widened.
    ///
    /// # Safety
    /// The CPU has the set of `L`, and [`Lanes::WIDTH`] elements can be read there.
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
}

impl BankElement for f32 {
    fn widen_into(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f32) -> L {
        // SAFETY: the caller's.
        unsafe { L::load(from) }
    }
}

impl BankElement for f16 {
    fn widen_into(from: &[f16], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f16) -> L {
        // SAFETY: the caller's.
        unsafe { L::load_f16(from) }
    }
}
