//! Per-region overlap: PRO (Bergmann et al. 2020) and saturated PRO (MVTec LOCO, IJCV 2022).
//!
//! A curve has one point for each distinct score t, descending, with P = (map >= t): the false
//! positive rate over pixels outside every region, and the mean over all regions of
//! min(pixels of the region in P / saturation, 1). PRO is the case where the regions are the
//! 8-connected components of the masks and saturate at their own area.

/// A region of one image.
#[derive(Clone, Debug)]
pub struct Region {
    /// Image it belongs to.
    pub image: usize,
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
pub fn components(image: usize, mask: &[bool], width: usize) -> Vec<Region> {
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
        regions.push(Region { image, pixels, saturation });
    }
    regions
}

/// The curve over all distinct scores, starting at (0, 0). `None` without regions or without
/// pixels outside them.
pub fn curve(maps: &[Vec<f32>], regions: &[Region]) -> Option<Vec<CurvePoint>> {
    let offsets: Vec<usize> = maps
        .iter()
        .scan(0, |at, m| {
            *at += m.len();
            Some(*at - m.len())
        })
        .collect();
    let total: usize = maps.iter().map(Vec::len).sum();
    let mut outside = vec![true; total];
    let mut events: Vec<(f32, u32)> = Vec::new();
    for (index, region) in regions.iter().enumerate() {
        for p in &region.pixels {
            outside[offsets[region.image] + *p as usize] = false;
            events.push((maps[region.image][*p as usize], index as u32));
        }
    }
    let scores = maps.iter().flatten();
    let mut normal: Vec<f32> = scores.zip(&outside).filter(|(_, o)| **o).map(|(s, _)| *s).collect();
    if regions.is_empty() || normal.is_empty() {
        return None;
    }
    normal.sort_unstable_by(|a, b| b.total_cmp(a));
    events.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    Some(sweep(&normal, &events, regions))
}

/// Walks both sorted lists from the highest score down.
fn sweep(normal: &[f32], events: &[(f32, u32)], regions: &[Region]) -> Vec<CurvePoint> {
    let mut points = vec![CurvePoint { fpr: 0.0, overlap: 0.0, threshold: f32::INFINITY }];
    let mut counts = vec![0u64; regions.len()];
    let (mut n, mut e, mut overlap) = (0, 0, 0.0);
    while n < normal.len() || e < events.len() {
        let threshold = match (normal.get(n), events.get(e)) {
            (Some(a), Some((b, _))) => a.max(*b),
            (Some(a), None) => *a,
            (None, Some((b, _))) => *b,
            (None, None) => break,
        };
        while normal.get(n).is_some_and(|s| *s >= threshold) {
            n += 1;
        }
        while let Some((_, region)) = events.get(e).filter(|(s, _)| *s >= threshold) {
            let (count, saturation) = (&mut counts[*region as usize], regions[*region as usize].saturation);
            let before = (*count as f64 / saturation).min(1.0);
            *count += 1;
            overlap += (*count as f64 / saturation).min(1.0) - before;
            e += 1;
        }
        let fpr = n as f64 / normal.len() as f64;
        points.push(CurvePoint { fpr, overlap: overlap / regions.len() as f64, threshold });
    }
    points
}

/// Trapezoidal area under a curve for rates in 0..=limit, the value at the limit interpolated
/// linearly, divided by the limit.
pub fn area(curve: &[CurvePoint], limit: f64) -> f64 {
    let mut sum = 0.0;
    for pair in curve.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if a.fpr >= limit {
            break;
        }
        let (end, height) = if b.fpr <= limit {
            (b.fpr, b.overlap)
        } else {
            (limit, a.overlap + (b.overlap - a.overlap) * (limit - a.fpr) / (b.fpr - a.fpr))
        };
        sum += (end - a.fpr) * 0.5 * (a.overlap + height);
    }
    sum / limit
}
