//! What sums come to.

use super::super::micro::{NR, load};
use super::tile::Lane;
use crate::simd::Lanes;

/// How the sums of a block of channels become values.
pub(super) enum Values {
    /// They are values.
    Sums,
    /// They are whole numbers, of which each is multiplied by a scale and added to a value. Rounded twice on every set, so that
    /// all give the same bits.
    Scaled { scales: [f32; NR], added: [f32; NR] },
}

impl Values {
    /// Those of one pixel.
    ///
    /// # Safety
    /// The CPU has the set of `L`.
    #[inline(always)]
    pub unsafe fn of<L: Lanes, const V: usize>(&self, sums: &Lane) -> [L; V] {
        // SAFETY: all are NR values of 32 bits; the caller vouches for the set.
        unsafe {
            match self {
                Self::Sums => load(sums.as_ptr().cast()),
                Self::Scaled { scales, added } => {
                    let (scales, added): ([L; V], [L; V]) = (load(scales.as_ptr()), load(added.as_ptr()));
                    let mut values = numbers::<L, V>(sums);
                    for (v, value) in values.iter_mut().enumerate() {
                        *value = value.mul(scales[v]).add(added[v]);
                    }
                    values
                }
            }
        }
    }
}

/// Whole numbers as values.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
pub(super) unsafe fn numbers<L: Lanes, const V: usize>(sums: &Lane) -> [L; V] {
    // SAFETY: all are NR numbers of 32 bits; the caller vouches for the set.
    unsafe {
        let mut values = [L::splat(0.0); V];
        for (v, value) in values.iter_mut().enumerate() {
            *value = L::load_i32(sums.as_ptr().add(v * L::WIDTH).cast());
        }
        values
    }
}
