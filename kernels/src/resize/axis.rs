//! One axis of a resize as a sparse matrix: each output pixel is a weighted sum of neighbouring input pixels.

use bytemuck::{Pod, Zeroable};

use super::Filter;
use crate::device::Reused;
use crate::sparse_rows::{Entry, SparseRows};

/// Input pixels and weights of every output pixel of one axis.
pub(super) struct Axis {
    spans: Reused<Span>,
    weights: Reused<f32>,
}

/// What an output pixel sums.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Span {
    /// Its first input pixel.
    first: usize,
    /// Where its weights end; they begin where those of the output pixel before it end.
    end: usize,
}

impl Axis {
    pub(super) fn new(filter: Filter, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let reach = match filter {
            Filter::Bilinear => 2,
            Filter::BilinearAntialias => 2 * scale.max(1.0).ceil() as usize + 1,
        };
        let mut axis = Self { spans: Reused::with_capacity(to), weights: Reused::with_capacity(to * reach.min(from)) };
        for o in 0..to {
            let first = match filter {
                Filter::Bilinear => two_taps(o, scale, from, &mut axis.weights),
                Filter::BilinearAntialias => triangle(o, scale, from, &mut axis.weights),
            };
            axis.spans.push(Span { first, end: axis.weights.len() });
        }
        axis
    }

    /// Output pixels.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The first input pixel of an output pixel, and the weights from it on.
    pub(super) fn taps(&self, output: usize) -> (usize, &[f32]) {
        let begin = if output == 0 { 0 } else { self.spans[output - 1].end };
        let Span { first, end } = self.spans[output];
        (first, &self.weights[begin..end])
    }

    /// For each output pixel the input pixels it sums.
    pub(super) fn rows(&self) -> SparseRows {
        let mut rows = SparseRows::with_capacity(self.len(), self.weights.len().div_ceil(self.len().max(1)));
        for o in 0..self.len() {
            let (first, weights) = self.taps(o);
            rows.push((first..).zip(weights).map(|(column, weight)| Entry::new(column, *weight)));
        }
        rows
    }
}

/// Position (o + 0.5) * scale - 0.5, not below 0; upper neighbour clamped to the last pixel. Appends the weights from the pixel
/// on that it returns.
fn two_taps(o: usize, scale: f64, n: usize, weights: &mut Reused<f32>) -> usize {
    let at = ((o as f64 + 0.5) * scale - 0.5).max(0.0);
    let low = (at as usize).min(n - 1);
    let part = (at - low as f64).min(1.0);
    if low + 1 < n {
        weights.extend([(1.0 - part) as f32, part as f32]);
    } else {
        weights.push(1.0);
    }
    low
}

/// Weights max(0, 1 - |j + 0.5 - m| / r) around m = scale (o + 0.5), r = max(scale, 1), made to sum to 1. Appends those from the
/// pixel on that it returns.
fn triangle(o: usize, scale: f64, n: usize, weights: &mut Reused<f32>) -> usize {
    let (m, r) = (scale * (o as f64 + 0.5), scale.max(1.0));
    let first = (m - r + 0.5).max(0.0) as usize;
    let end = ((m + r + 0.5) as usize).min(n);
    let raw = |j: usize| (1.0 - (j as f64 + 0.5 - m).abs() / r).max(0.0);
    let sum: f64 = (first..end).map(raw).sum();
    weights.extend((first..end).map(|j| (raw(j) / sum) as f32));
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_lie_inside() {
        for filter in [Filter::Bilinear, Filter::BilinearAntialias] {
            for (from, to) in [(1, 1), (1, 9), (9, 1), (7, 7), (5, 13), (100, 3), (3, 100), (101, 100)] {
                let axis = Axis::new(filter, from, to);
                assert_eq!(axis.len(), to);
                let rows = axis.rows();
                for o in 0..to {
                    let (first, weights) = axis.taps(o);
                    assert!(
                        !weights.is_empty() && first + weights.len() <= from,
                        "{filter:?} {from} to {to}, pixel {o}"
                    );
                    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{filter:?} {from} to {to}, pixel {o}");
                    let entries = (first..).zip(weights).map(|(column, weight)| Entry::new(column, *weight));
                    assert!(rows[o].iter().copied().eq(entries));
                }
            }
        }
    }
}
