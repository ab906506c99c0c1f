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
    if comptime!(border == Border::Symmetric || border == Border::Reflect101) {
        let edge = comptime!(if border == Border::Symmetric { 1 } else { 0 });
        // With one pixel, every position is that pixel.
        if comptime!(border == Border::Reflect101) && n == 1 {
            place = i32::new(0);
        }
        // Few positions are outside, and one reflection brings them in but where an image is smaller than the window.
        while place < 0 || place >= n {
            place = select(place < 0, 0 - place - edge, 2 * n - 2 + edge - place);
        }
    } else if p < 0 || p >= n {
        place = i32::new(-1);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflections_repeat_with_their_period() {
        for n in 1..9_i32 {
            for p in -40..40_i32 {
                let q = p.rem_euclid(2 * n);
                assert_eq!(mirror(p, n, Border::Symmetric), q.min(2 * n - 1 - q), "{p} of {n}");
                let period = (2 * n - 2).max(1);
                let q = p.rem_euclid(period);
                assert_eq!(mirror(p, n, Border::Reflect101), if n == 1 { 0 } else { q.min(period - q) }, "{p} of {n}");
                let inside = if (0..n).contains(&p) { p } else { -1 };
                assert_eq!(mirror(p, n, Border::Zero), inside, "{p} of {n}");
                assert_eq!(mirror(p, n, Border::Valid), inside, "{p} of {n}");
            }
        }
    }
}
