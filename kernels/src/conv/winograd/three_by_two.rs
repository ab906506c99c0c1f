//! F(3, 2): three outputs of two taps from four inputs, with the points 0, 1, -1 and infinity.
//!
//! A 4x4 kernel of stride 2 is the sum of four 2x2 kernels of stride 1, each on the pixels of one parity of rows and columns.
//! Errors are about those of sums without transforms. F(5, 2) would have a fifth fewer products, but exceeds what the golden vectors
//! allow with 256 channels, and more than twice the transformed weights.

use super::transform::Transform;
use crate::simd::Lanes;

/// Of the parts of 4x4 kernels of stride 2.
pub(super) struct ThreeByTwo;

impl Transform<4, 3> for ThreeByTwo {
    const POINTS: &[f64] = &[0.0, 1.0, -1.0];

    #[inline(always)]
    unsafe fn input_column<L: Lanes>(x: [L; 4]) -> [L; 4] {
        let [x0, x1, x2, x3] = x;
        [x2.sub(x0), x2.add(x1), x2.sub(x1), x3.sub(x1)]
    }

    #[inline(always)]
    unsafe fn output_column<L: Lanes>(m: [L; 4]) -> [L; 3] {
        let [m0, m1, m2, m3] = m;
        let even = m1.add(m2);
        [m0.add(even), m1.sub(m2), even.add(m3)]
    }
}
