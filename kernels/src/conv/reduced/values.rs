//! What sums come to.

use super::super::micro::{NR, load, store};
use super::tile::Lane;
use crate::simd::Lanes;

/// Sums of whole numbers times a scale plus a value. Rounded twice on every set, so that all give the same bits.
pub(super) struct Scaled {
    pub scales: [f32; NR],
    pub added: [f32; NR],
}

impl Scaled {
    /// The values of one pixel.
    ///
    /// # Safety
    /// The CPU has the set of `L`.
    #[inline(always)]
    pub unsafe fn of<L: Lanes, const V: usize>(&self, sums: &Lane) -> [f32; NR] {
        let mut values = [0.0; NR];
        // SAFETY: all are NR values; the caller vouches for the set.
        unsafe {
            let (scales, added): ([L; V], [L; V]) = (load(self.scales.as_ptr()), load(self.added.as_ptr()));
            let mut lanes = scales;
            for (v, lane) in lanes.iter_mut().enumerate() {
                *lane = L::load_i32(sums.as_ptr().add(v * L::WIDTH).cast()).mul(scales[v]).add(added[v]);
            }
            store(&lanes, values.as_mut_ptr());
        }
        values
    }
}
