//! What lies beyond the edge of an image.

use cubecl::prelude::*;

/// What lies beyond the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Border {
    /// Nothing: only windows inside the image, so the map is smaller.
    Valid,
    /// The mirror image, edge pixel repeated (d c b a | a b c d | d c b a).
    Symmetric,
    /// The mirror image around the edge pixel (d c b | a b c d | c b a).
    Reflect101,
    /// Zeros; the window is not renormalised.
    Zero,
}

/// Where position `p` of an axis of `n`, seen beyond its ends, lies; -1 when there is nothing.
#[cube]
pub fn mirror(p: i32, n: i32, #[comptime] border: Border) -> i32 {
    let mut place = p;
    // Divisions are slow on a GPU, and few positions are outside.
    if p < 0 || p >= n {
        if comptime!(border == Border::Symmetric) {
            let q = ((p % (2 * n)) + 2 * n) % (2 * n);
            place = select(q < n, q, 2 * n - 1 - q);
        } else if comptime!(border == Border::Reflect101) {
            let period = i32::max(2 * n - 2, 1);
            let q = ((p % period) + period) % period;
            place = select(q < n, q, period - q);
        } else {
            place = i32::new(-1);
        }
    }
    place
}
