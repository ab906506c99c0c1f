//! Registers of AArch64, where NEON is always there.

use std::arch::aarch64::*;

use half::f16;

use super::Lanes;

/// Four values.
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

/// Operations of two registers that are one instruction.
macro_rules! pairwise {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: every AArch64 CPU has NEON.
            Self(unsafe { $instruction(self.0, other.0) })
        }
    )*};
}

/// Operations of two registers of integers that are one instruction.
macro_rules! bitwise {
    ($($name:ident: $instruction:ident),*) => {$(
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: every AArch64 CPU has NEON.
            Self(unsafe {
                vreinterpretq_f32_s32($instruction(vreinterpretq_s32_f32(self.0), vreinterpretq_s32_f32(other.0)))
            })
        }
    )*};
}

super::doubles::doubles!(
    /// Four values in double precision.
    NeonDoubles, float64x2_t, 2, vld1q_f64, vst1q_f64, add: vaddq_f64, sub: vsubq_f64, mul: vmulq_f64
);

impl Lanes for Neon {
    const WIDTH: usize = 4;
    type Doubles = NeonDoubles;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vdupq_n_f32(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for four values.
        Self(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller vouches for four halves.
        let halves = unsafe { *from.cast::<[f16; 4]>() };
        let wide = halves.map(f16::to_f32);
        // SAFETY: an array of four.
        unsafe { Self::load(wide.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller vouches for four integers.
        Self(unsafe { vcvtq_f32_s32(vld1q_s32(from)) })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut values = [0.0; 4];
        // SAFETY: at most four of the values that the caller vouches for, into an array of four.
        unsafe {
            std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), count.min(4));
            Self::load(values.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for four values.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut values = [0.0; 4];
        // SAFETY: from an array of four, at most four of the values that the caller vouches for.
        unsafe {
            self.store(values.as_mut_ptr());
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, count.min(4));
        }
    }

    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        // SAFETY: every AArch64 CPU has NEON; the caller vouches for four bytes.
        unsafe {
            let words = vmovn_u32(vreinterpretq_u32_f32(self.0));
            let bytes = vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words)));
            to.cast::<u32>().write_unaligned(vget_lane_u32::<0>(bytes));
        }
    }

    #[inline(always)]
    unsafe fn store_u16(self, to: *mut u16) {
        // SAFETY: every AArch64 CPU has NEON; the caller vouches for four words.
        unsafe { vst1_u16(to, vmovn_u32(vreinterpretq_u32_f32(self.0))) }
    }

    pairwise!(add: vaddq_f32, sub: vsubq_f32, div: vdivq_f32, mul: vmulq_f32);

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vfmaq_f32(addend.0, self.0, factor.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: every AArch64 CPU has NEON. The comparison is false where one is not a number.
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: every AArch64 CPU has NEON. The comparison is false where one is not a number.
        Self(unsafe { vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0) })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; 4];
        // SAFETY: `lanes` holds the four values that are stored.
        unsafe { self.store(lanes.as_mut_ptr()) };
        (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let mut lanes = [0.0; 4];
        // SAFETY: `lanes` holds the four values that are stored.
        unsafe { self.store(lanes.as_mut_ptr()) };
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        larger(larger(lanes[0], lanes[2]), larger(lanes[1], lanes[3]))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vsqrtq_f32(self.0) })
    }

    #[inline(always)]
    fn above(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), then.0, otherwise.0) })
    }

    #[inline(always)]
    fn same(self, value: f32) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vdupq_n_f32(value) })
    }

    bitwise!(bits_add: vaddq_s32, bits_sub: vsubq_s32, bits_and: vandq_s32, bits_xor: veorq_s32);

    #[inline(always)]
    fn bits_up(self, count: i32) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vreinterpretq_f32_s32(vshlq_s32(vreinterpretq_s32_f32(self.0), vdupq_n_s32(count))) })
    }

    #[inline(always)]
    fn bits_down(self, count: i32) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vreinterpretq_f32_s32(vshlq_s32(vreinterpretq_s32_f32(self.0), vdupq_n_s32(-count))) })
    }

    #[inline(always)]
    fn bits_to_number(self) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vcvtq_f32_s32(vreinterpretq_s32_f32(self.0)) })
    }

    #[inline(always)]
    fn any(self) -> bool {
        // SAFETY: every AArch64 CPU has NEON.
        unsafe { vmaxvq_u32(vreinterpretq_u32_f32(self.0)) != 0 }
    }

    #[inline(always)]
    fn number_to_bits(self) -> Self {
        // SAFETY: every AArch64 CPU has NEON.
        Self(unsafe { vreinterpretq_f32_s32(vcvtq_s32_f32(self.0)) })
    }

    #[inline(always)]
    fn widen(self) -> NeonDoubles {
        // SAFETY: every AArch64 CPU has NEON.
        unsafe { NeonDoubles(vcvt_f64_f32(vget_low_f32(self.0)), vcvt_high_f64_f32(self.0)) }
    }
}
