//! The inner loop of every dense convolution: a register tile of `MR x NR` sums.
//!
//! `acc[m][n] += sum over i of a[a_off[m] + i * a_stride] * b[b_off + i * b_stride + n]`
//!
//! Forward and data gradient read `a` from the padded input (one offset per output pixel) and `b`
//! from packed weights; the weight gradient reads `a` and `b` from two activation maps and sums
//! over pixels. Per step: `MR` broadcasts, `NR / lanes` loads, `MR * NR` multiply-adds.

use crate::simd::madd;

/// Rows of the register tile: with [`NR`] it fills 12 of the 16 AVX2 registers.
pub const MR: usize = 6;
/// Columns of the register tile: two AVX2 registers, one of AVX-512.
pub const NR: usize = 16;

/// Sums of one register tile.
pub type Tile = [[f32; NR]; MR];

/// How the operands of a tile are walked.
#[derive(Clone, Copy)]
pub struct Walk {
    /// Steps of the sum, at least 1.
    pub steps: usize,
    /// Elements from one step to the next in `a`.
    pub a_stride: usize,
    /// Elements from one step to the next in `b`.
    pub b_stride: usize,
}

/// Adds `walk.steps` products to `acc`; `b` starts at the first step.
///
/// # Panics
/// When `a` or `b` is too short for the offsets and steps.
#[inline(always)]
pub fn accumulate<const FMA: bool>(a: &[f32], a_off: &[usize; MR], b: &[f32], walk: Walk, acc: &mut Tile) {
    let last = walk.steps - 1;
    let farthest = a_off.iter().copied().fold(0, usize::max);
    assert!(farthest + last * walk.a_stride < a.len(), "tile reads past its left operand");
    assert!(last * walk.b_stride + NR <= b.len(), "tile reads past its right operand");
    // Opaque to the compiler: knowing a stride of 1, LLVM vectorises over steps instead of lanes,
    // with a shuffle for every product, which is 20 times slower.
    let a_stride = std::hint::black_box(walk.a_stride);
    let mut sums = *acc;
    let mut rows = [a.as_ptr(); MR];
    for (row, off) in rows.iter_mut().zip(a_off) {
        // SAFETY: every offset is below `a.len()`, asserted above.
        *row = unsafe { row.add(*off) };
    }
    for i in 0..walk.steps {
        // SAFETY: step `i <= last` stays inside `b` and, for every row, inside `a`: asserted above.
        let (left, lanes) = unsafe {
            let at = i * a_stride;
            (rows.map(|row| *row.add(at)), *b.as_ptr().add(i * walk.b_stride).cast::<[f32; NR]>())
        };
        for (sum, left) in sums.iter_mut().zip(left) {
            for (s, r) in sum.iter_mut().zip(lanes) {
                *s = madd::<FMA>(left, r, *s);
            }
        }
    }
    *acc = sums;
}
