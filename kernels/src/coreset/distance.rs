//! Squared distances of points, summed in one order wherever they are needed.

use crate::simd::{Lanes, lanes_fn};

/// Distances that are summed side by side.
const SIDE_BY_SIDE: usize = 4;

lanes_fn! {
    /// Squared distances of a point to those rows of `x` that have these numbers.
    pub fn square_distances<L>(point: &[f32], x: &[f32], numbers: &[u32], squares: &mut [f32]) {
        let d = point.len();
        let row = |number: u32| x[number as usize * d..][..d].as_ptr();
        let (groups, rest) = numbers.as_chunks::<SIDE_BY_SIDE>();
        let (of_groups, of_rest) = squares.as_chunks_mut::<SIDE_BY_SIDE>();
        assert!(of_groups.len() == groups.len() && of_rest.len() == rest.len(), "a square for each row");
        for (group, to) in groups.iter().zip(of_groups) {
            // SAFETY: rows of `d` values. `lanes_fn` runs this only on CPUs with the set of `L`.
            *to = unsafe { sums::<L, SIDE_BY_SIDE>(point, group.map(row)) };
        }
        for (number, to) in rest.iter().zip(of_rest) {
            // SAFETY: likewise.
            [*to] = unsafe { sums::<L, 1>(point, [row(*number)]) };
        }
    }
}

lanes_fn! {
    /// The smallest of `known` and the squared distances of a point to some others, `[..][d]`; a distance that is no number is ignored.
    pub fn nearest_square<L>(point: &[f32], others: &[f32], known: f32) -> f32 {
        let d = point.len();
        let mut nearest = known;
        let mut groups = others.chunks_exact(SIDE_BY_SIDE * d);
        for group in &mut groups {
            let rows: [*const f32; SIDE_BY_SIDE] = std::array::from_fn(|n| group[n * d..].as_ptr());
            // SAFETY: rows of `d` values. `lanes_fn` runs this only on CPUs with the set of `L`.
            for square in unsafe { sums::<L, SIDE_BY_SIDE>(point, rows) } {
                nearest = if square < nearest { square } else { nearest };
            }
        }
        for other in groups.remainder().chunks_exact(d) {
            // SAFETY: likewise.
            let [square] = unsafe { sums::<L, 1>(point, [other.as_ptr()]) };
            nearest = if square < nearest { square } else { nearest };
        }
        nearest
    }
}

/// Squared distances of a point to `N` others.
///
/// # Safety
/// The CPU has the set of `L`; the others have as many values.
#[inline(always)]
unsafe fn sums<L: Lanes, const N: usize>(point: &[f32], others: [*const f32; N]) -> [f32; N] {
    // SAFETY: the caller vouches for set and values; the last register reads only what is left.
    unsafe {
        let d = point.len();
        let mut sums = [L::splat(0.0); N];
        let mut at = 0;
        while at + L::WIDTH <= d {
            let values = L::load(point.as_ptr().add(at));
            for (sum, other) in sums.iter_mut().zip(others) {
                let e = values.sub(L::load(other.add(at)));
                *sum = e.mul_add(e, *sum);
            }
            at += L::WIDTH;
        }
        if at < d {
            let values = L::load_part(point.as_ptr().add(at), d - at);
            for (sum, other) in sums.iter_mut().zip(others) {
                let e = values.sub(L::load_part(other.add(at), d - at));
                *sum = e.mul_add(e, *sum);
            }
        }
        let mut totals = [0.0; N];
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = sum.sum();
        }
        totals
    }
}
