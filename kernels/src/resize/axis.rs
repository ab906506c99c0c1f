//! One axis of a resize as a sparse matrix: each output pixel is a weighted sum of neighbouring input pixels.

use super::Filter;

/// A sparse matrix of one axis, row by row: for each output its inputs and weights.
pub(super) type Rows = Vec<Vec<(usize, f32)>>;

/// Input pixels and weights of every output pixel of one axis.
pub(super) struct Axis {
    taps: Vec<(usize, Vec<f32>)>,
}

impl Axis {
    pub(super) fn new(filter: Filter, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let taps = (0..to)
            .map(|o| match filter {
                Filter::Bilinear => two_taps(o, scale, from),
                Filter::BilinearAntialias => triangle(o, scale, from),
            })
            .collect();
        Self { taps }
    }

    /// Output pixels.
    pub(super) fn len(&self) -> usize {
        self.taps.len()
    }

    /// The first input pixel of an output pixel, and the weights from it on.
    pub(super) fn taps(&self, output: usize) -> (usize, &[f32]) {
        let (first, weights) = &self.taps[output];
        (*first, weights)
    }

    /// For each output pixel the input pixels it sums.
    pub(super) fn rows(&self) -> Rows {
        let row = |(first, w): &(usize, Vec<f32>)| w.iter().enumerate().map(|(k, w)| (first + k, *w)).collect();
        self.taps.iter().map(row).collect()
    }

    /// The transposed matrix: which outputs each input pixel reaches.
    pub(super) fn transposed(&self, from: usize) -> Rows {
        let mut reaches = vec![Vec::new(); from];
        for (o, (first, weights)) in self.taps.iter().enumerate() {
            for (k, w) in weights.iter().enumerate() {
                reaches[first + k].push((o, *w));
            }
        }
        reaches
    }
}

/// Position (o + 0.5) * scale - 0.5, not below 0; upper neighbour clamped to the last pixel.
fn two_taps(o: usize, scale: f64, n: usize) -> (usize, Vec<f32>) {
    let at = ((o as f64 + 0.5) * scale - 0.5).max(0.0);
    let low = (at as usize).min(n - 1);
    let part = (at - low as f64).min(1.0);
    if low + 1 < n { (low, vec![(1.0 - part) as f32, part as f32]) } else { (low, vec![1.0]) }
}

/// Weights max(0, 1 - |j + 0.5 - m| / r) around m = scale (o + 0.5), r = max(scale, 1), made to sum to 1.
fn triangle(o: usize, scale: f64, n: usize) -> (usize, Vec<f32>) {
    let (m, r) = (scale * (o as f64 + 0.5), scale.max(1.0));
    let first = (m - r + 0.5).max(0.0) as usize;
    let end = ((m + r + 0.5) as usize).min(n);
    let raw: Vec<f64> = (first..end).map(|j| (1.0 - (j as f64 + 0.5 - m).abs() / r).max(0.0)).collect();
    let sum: f64 = raw.iter().sum();
    (first, raw.iter().map(|w| (w / sum) as f32).collect())
}
