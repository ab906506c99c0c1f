//! Per-region overlap: PRO (Bergmann et al. 2020) and saturated PRO (MVTec LOCO, IJCV 2022).
//!
//! A curve ([`super::tally::Tally::curve`]) has one point for each distinct score t, descending, with P = (map >= t): the false
//! positive rate over pixels outside every region, and the mean over all regions of
//! min(pixels of the region in P / saturation, 1). PRO is the case where the regions are the
//! 8-connected components of the masks and saturate at their own area.

/// A region of an image.
#[derive(Clone, Debug)]
pub struct DefectRegion {
    /// Its pixels, as positions in the image's map.
    pub pixels: Vec<u32>,
    /// Pixels after which it counts as found whole.
    pub saturation: f64,
}

/// One point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// False positive rate.
    pub fpr: f64,
    /// Mean overlap of the regions.
    pub overlap: f64,
    /// The score; infinite for the point (0, 0).
    pub threshold: f32,
}

/// Components of a mask under 8-connectivity, each saturating at its area.
pub fn components(mask: &[bool], width: usize) -> Vec<DefectRegion> {
    if !mask.contains(&true) {
        return Vec::new();
    }
    let height = mask.len() / width.max(1);
    let mut seen = vec![false; mask.len()];
    let mut regions = Vec::new();
    for start in 0..mask.len() {
        if !mask[start] || seen[start] {
            continue;
        }
        seen[start] = true;
        let mut pixels = vec![start as u32];
        let mut next = 0;
        while next < pixels.len() {
            let (y, x) = (pixels[next] as usize / width, pixels[next] as usize % width);
            next += 1;
            for ny in y.saturating_sub(1)..(y + 2).min(height) {
                for nx in x.saturating_sub(1)..(x + 2).min(width) {
                    let at = ny * width + nx;
                    if mask[at] && !seen[at] {
                        seen[at] = true;
                        pixels.push(at as u32);
                    }
                }
            }
        }
        let saturation = pixels.len() as f64;
        regions.push(DefectRegion { pixels, saturation });
    }
    regions
}

/// Trapezoidal area under a curve for rates in 0..=limit, the value at the limit interpolated
/// linearly, divided by the limit.
pub fn area(curve: impl IntoIterator<Item = CurvePoint>, limit: f64) -> f64 {
    let mut sum = 0.0;
    let mut curve = curve.into_iter();
    let Some(mut a) = curve.next() else { return 0.0 };
    for b in curve {
        if a.fpr >= limit {
            break;
        }
        let (end, height) = if b.fpr <= limit {
            (b.fpr, b.overlap)
        } else {
            (limit, a.overlap + (b.overlap - a.overlap) * (limit - a.fpr) / (b.fpr - a.fpr))
        };
        sum += (end - a.fpr) * 0.5 * (a.overlap + height);
        a = b;
    }
    sum / limit
}
