//! Depthwise convolution: every channel with a kernel of its own, vectorised over channels.
//!
//! Bytes: input and output once from memory (rows stay in cache). Operations: `2 * k * k` per element.

use rayon::prelude::*;

use super::Geometry;
use crate::activation::Activation;
use crate::simd::{madd, simd_fn};

/// Weights as `[tap][channel]`.
fn by_tap(g: &Geometry, w: &[f32]) -> Vec<f32> {
    let taps = g.w[1] * g.w[2];
    (0..taps * g.w[0]).map(|i| w[(i % g.w[0]) * taps + i / g.w[0]]).collect()
}

simd_fn! {
    /// `sum += a * b`, element by element.
    fn add_product(sum: &mut [f32], a: &[f32], b: &[f32]) {
        for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
            *s = madd::<FMA>(*a, *b, *s);
        }
    }
}

/// Input position of tap `t` for output position `o`, when inside `0..n`.
fn source(o: usize, t: usize, n: usize, g: &Geometry) -> Option<usize> {
    (o * g.opts.stride + t * g.opts.dilation).checked_sub(g.opts.padding).filter(|p| *p < n)
}

pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, act: Activation, y: &mut [f32]) {
    let [_, h, wd, c] = g.x;
    let [_, oh, ow, _] = g.y;
    let w = by_tap(g, w);
    y.par_chunks_mut(ow * c).enumerate().for_each(|(row, out)| {
        let (n, j) = (row / oh, row % oh);
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            match bias {
                Some(b) => pixel.copy_from_slice(b),
                None => pixel.fill(0.0),
            }
            for r in 0..g.w[1] {
                for s in 0..g.w[2] {
                    if let (Some(sy), Some(sx)) = (source(j, r, h, g), source(i, s, wd, g)) {
                        let at = ((n * h + sy) * wd + sx) * c;
                        let tap = (r * g.w[2] + s) * c;
                        add_product(pixel, &x[at..at + c], &w[tap..tap + c]);
                    }
                }
            }
        }
        act.apply(out);
    });
}

pub(super) fn backward_data(g: &Geometry, grad: &[f32], w: &[f32], dx: &mut [f32]) {
    let [_, h, wd, c] = g.x;
    let [_, oh, ow, _] = g.y;
    let w = by_tap(g, w);
    dx.par_chunks_mut(h * wd * c).enumerate().for_each(|(n, image)| {
        image.fill(0.0);
        for j in 0..oh {
            for i in 0..ow {
                let from = ((n * oh + j) * ow + i) * c;
                for r in 0..g.w[1] {
                    for s in 0..g.w[2] {
                        if let (Some(sy), Some(sx)) = (source(j, r, h, g), source(i, s, wd, g)) {
                            let at = (sy * wd + sx) * c;
                            let tap = (r * g.w[2] + s) * c;
                            add_product(&mut image[at..at + c], &grad[from..from + c], &w[tap..tap + c]);
                        }
                    }
                }
            }
        }
    });
}

pub(super) fn backward_weight(g: &Geometry, x: &[f32], grad: &[f32], dw: &mut [f32]) {
    let [n, h, wd, c] = g.x;
    let [_, oh, ow, _] = g.y;
    let taps = g.w[1] * g.w[2];
    let mut sums = vec![0.0; taps * c];
    sums.par_chunks_mut(c).enumerate().for_each(|(tap, sum)| {
        let (r, s) = (tap / g.w[2], tap % g.w[2]);
        for b in 0..n {
            for j in 0..oh {
                for i in 0..ow {
                    if let (Some(sy), Some(sx)) = (source(j, r, h, g), source(i, s, wd, g)) {
                        let at = ((b * h + sy) * wd + sx) * c;
                        let from = ((b * oh + j) * ow + i) * c;
                        add_product(sum, &x[at..at + c], &grad[from..from + c]);
                    }
                }
            }
        }
    });
    for (channel, out) in dw.chunks_exact_mut(taps).enumerate() {
        for (tap, d) in out.iter_mut().enumerate() {
            *d += sums[tap * c + channel];
        }
    }
}
