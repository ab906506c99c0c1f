//! Weight gradient of a dense convolution.
//!
//! `dw[o, r, s, c] = sum over images and output pixels of x[in_step * pixel + tap(r, s), c] * g[pixel, o]`:
//! a matrix product whose sum runs over pixels. Each task takes one image and adds to a partial
//! gradient of its own; partials are added in image order, so the result does not depend on the
//! number of threads. Memory: one partial per image of the batch.

use rayon::prelude::*;

use super::Geometry;
use super::dense::Slab;
use super::micro::{MR, NR, Tile, Walk, accumulate};
use crate::simd::simd_fn;

/// Output rows that share one slab.
const BAND: usize = 4;

/// Gradient rows of one band with channels padded to a multiple of `NR`.
struct GradRows {
    data: Vec<f32>,
    channels: usize,
}

impl GradRows {
    fn fill(&mut self, rows: &[f32], channels: usize, (o0, cout): (usize, usize)) {
        self.channels = cout.next_multiple_of(NR);
        let pixels = rows.len() / channels;
        self.data.clear();
        self.data.resize(pixels * self.channels, 0.0);
        for (t, s) in self.data.chunks_exact_mut(self.channels).zip(rows.chunks_exact(channels)) {
            t[..cout].copy_from_slice(&s[o0..o0 + cout]);
        }
    }
}

/// Adds the gradient of group `group` to `dw` (OHWI).
pub(super) fn run(g: &Geometry, group: usize, x: &[f32], grad: &[f32], dw: &mut [f32]) {
    let [n, h, w, c] = g.x;
    let [_, oh, ow, oc] = g.y;
    let [_, kh, kw, cin] = g.w;
    let cout = oc / g.opts.groups;
    let per_image: Vec<Vec<f32>> = (0..n)
        .into_par_iter()
        .map(|i| {
            let image = &x[i * h * w * c..(i + 1) * h * w * c];
            let grad = &grad[i * oh * ow * oc..(i + 1) * oh * ow * oc];
            image_gradient(g, group, image, grad)
        })
        .collect();
    let steps = kh * kw * cin;
    for partial in &per_image {
        for (o, out) in dw[group * cout * steps..(group + 1) * cout * steps].chunks_exact_mut(steps).enumerate() {
            let panel = &partial[(o / NR) * steps * NR..(o / NR + 1) * steps * NR];
            for (d, p) in out.iter_mut().zip(panel.chunks_exact(NR)) {
                *d += p[o % NR];
            }
        }
    }
}

/// Gradient of one image, laid out `[out / NR][row][col][in][NR]`.
fn image_gradient(g: &Geometry, group: usize, image: &[f32], grad: &[f32]) -> Vec<f32> {
    let [_, oh, ow, oc] = g.y;
    let [_, kh, kw, cin] = g.w;
    let cout = oc / g.opts.groups;
    let (stride, dilation) = (g.opts.stride, g.opts.dilation);
    let mut partial = vec![0.0; cout.div_ceil(NR) * kh * kw * cin * NR];
    let (mut slab, mut rows) = (Slab::new(), GradRows { data: Vec::new(), channels: 0 });
    let pad = -(g.opts.padding as isize);
    for first in (0..oh).step_by(BAND) {
        let count = BAND.min(oh - first);
        let size = ((count - 1) * stride + (kh - 1) * dilation + 1, (ow - 1) * stride + (kw - 1) * dilation + 1);
        let top = (first * stride) as isize + pad;
        slab.fill(image, g.x, (group * cin, cin), (top, pad), size);
        rows.fill(&grad[first * ow * oc..(first + count) * ow * oc], oc, (group * cout, cout));
        add_band(g, &slab, &rows, count, &mut partial);
    }
    partial
}

simd_fn! {
    /// Adds one band of output rows to the partial gradient.
    fn add_band(g: &Geometry, slab: &Slab, rows: &GradRows, count: usize, partial: &mut [f32]) {
        let ow = g.y[2];
        let [_, kh, kw, cin] = g.w;
        let (stride, dilation) = (g.opts.stride, g.opts.dilation);
        let (runs, run) = if dilation == 1 { (1, kw * cin) } else { (kw, cin) };
        let walk = Walk { steps: ow, a_stride: stride * cin, b_stride: rows.channels };
        for (block, panel) in partial.chunks_exact_mut(kh * kw * cin * NR).enumerate() {
            for r in 0..kh {
                for s in 0..runs {
                    let base = (r * kw * cin + s * run) * NR;
                    for m0 in (0..run).step_by(MR) {
                        let live = MR.min(run - m0);
                        let target = &mut panel[base + m0 * NR..base + (m0 + live) * NR];
                        let mut acc: Tile = [[0.0; NR]; MR];
                        for (sums, t) in acc.iter_mut().zip(target.chunks_exact(NR)) {
                            sums.copy_from_slice(t);
                        }
                        let a_off: [usize; MR] = std::array::from_fn(|m| m0 + m.min(live - 1));
                        for j in 0..count {
                            let at = ((j * stride + r * dilation) * slab.width + s * dilation) * cin;
                            let b = &rows.data[j * ow * rows.channels + block * NR..];
                            accumulate::<FMA>(&slab.data[at..], &a_off, b, walk, &mut acc);
                        }
                        for (sums, t) in acc.iter().zip(target.chunks_exact_mut(NR)) {
                            t.copy_from_slice(sums);
                        }
                    }
                }
            }
        }
    }
}
