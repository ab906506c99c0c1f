//! Depthwise convolution: every channel with a kernel of its own, vectorised over channels.
//!
//! Bytes: input and output once from memory (rows stay in cache). Operations: `2 * k * k` per element.

use cubecl::prelude::*;
use rayon::prelude::*;

use super::Geometry;
use super::pass::{Direction, Operands, Sizes};
use crate::activation::{Activation, Kind, activate};
use crate::device::{Gpu, GpuBuffer, launch, units};
use crate::error::Result;
use crate::reduce::add_chunks;
use crate::simd::{madd, simd_fn};

/// Weights as `[tap][channel]`.
pub(super) fn by_tap(g: &Geometry, w: &[f32]) -> Vec<f32> {
    let taps = g.w[1] * g.w[2];
    (0..taps * g.w[0]).map(|i| w[(i % g.w[0]) * taps + i / g.w[0]]).collect()
}

/// Input position of tap `t` for output position `o` along axis 0 (rows) or 1 (columns), when inside.
fn source(o: usize, t: usize, axis: usize, g: &Geometry) -> Option<usize> {
    (o * g.opts.stride + t * g.opts.dilation).checked_sub(g.before[axis]).filter(|p| *p < g.x[1 + axis])
}

pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, act: Activation, y: &mut [f32]) {
    forward_by_tap(g, x, &by_tap(g, w), bias, act, y);
}

/// [`forward()`] with weights laid out by [`by_tap`].
pub(super) fn forward_by_tap(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, act: Activation, y: &mut [f32]) {
    let [_, h, wd, c] = g.x;
    let [_, oh, ow, _] = g.y;
    y.par_chunks_mut(ow * c).enumerate().for_each(|(row, out)| {
        let (n, j) = (row / oh, row % oh);
        forward_row(g, &x[n * h * wd * c..(n + 1) * h * wd * c], w, bias.unwrap_or(&[]), act, j, out);
    });
}

simd_fn! {
    /// Output row `j` of one image; `bias` is empty where there is none.
    fn forward_row(g: &Geometry, x: &[f32], w: &[f32], bias: &[f32], act: Activation, j: usize, out: &mut [f32]) {
        let [_, _, wd, c] = g.x;
        for (i, pixel) in out.chunks_exact_mut(c).enumerate() {
            pixel.fill(0.0);
            for r in 0..g.w[1] {
                for s in 0..g.w[2] {
                    if let (Some(sy), Some(sx)) = (source(j, r, 0, g), source(i, s, 1, g)) {
                        let (at, tap) = ((sy * wd + sx) * c, (r * g.w[2] + s) * c);
                        add_product::<FMA>(pixel, &x[at..at + c], &w[tap..tap + c]);
                    }
                }
            }
            pixel.iter_mut().zip(bias).for_each(|(p, b)| *p += b);
        }
        act.apply_lanes(out);
    }
}

/// `sum += a * b`, element by element.
#[inline(always)]
fn add_product<const FMA: bool>(sum: &mut [f32], a: &[f32], b: &[f32]) {
    for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
        *s = madd::<FMA>(*a, *b, *s);
    }
}

pub(super) fn backward_data(g: &Geometry, grad: &[f32], w: &[f32], dx: &mut [f32]) {
    let [_, h, wd, c] = g.x;
    let [_, oh, ow, _] = g.y;
    let w = by_tap(g, w);
    dx.par_chunks_mut(h * wd * c).zip(grad.par_chunks(oh * ow * c)).for_each(|(image, grad)| {
        backward_image(g, grad, &w, image);
    });
}

simd_fn! {
    fn backward_image(g: &Geometry, grad: &[f32], w: &[f32], image: &mut [f32]) {
        let [_, _, wd, c] = g.x;
        let [_, oh, ow, _] = g.y;
        image.fill(0.0);
        for (j, i) in (0..oh).flat_map(|j| (0..ow).map(move |i| (j, i))) {
            let from = (j * ow + i) * c;
            for r in 0..g.w[1] {
                for s in 0..g.w[2] {
                    if let (Some(sy), Some(sx)) = (source(j, r, 0, g), source(i, s, 1, g)) {
                        let (at, tap) = ((sy * wd + sx) * c, (r * g.w[2] + s) * c);
                        add_product::<FMA>(&mut image[at..at + c], &grad[from..from + c], &w[tap..tap + c]);
                    }
                }
            }
        }
    }
}

pub(super) fn backward_weight(g: &Geometry, x: &[f32], grad: &[f32], dw: &mut [f32]) {
    let c = g.x[3];
    let taps = g.w[1] * g.w[2];
    let mut sums = vec![0.0; taps * c];
    sums.par_chunks_mut(c).enumerate().for_each(|(tap, sum)| tap_gradient(g, x, grad, tap, sum));
    for (channel, out) in dw.chunks_exact_mut(taps).enumerate() {
        for (tap, d) in out.iter_mut().enumerate() {
            *d += sums[tap * c + channel];
        }
    }
}

simd_fn! {
    /// Gradient of one tap of every channel.
    fn tap_gradient(g: &Geometry, x: &[f32], grad: &[f32], tap: usize, sum: &mut [f32]) {
        let [n, h, wd, c] = g.x;
        let [_, oh, ow, _] = g.y;
        let (r, s) = (tap / g.w[2], tap % g.w[2]);
        for (b, j) in (0..n).flat_map(|b| (0..oh).map(move |j| (b, j))) {
            for i in 0..ow {
                if let (Some(sy), Some(sx)) = (source(j, r, 0, g), source(i, s, 1, g)) {
                    let (at, from) = (((b * h + sy) * wd + sx) * c, ((b * oh + j) * ow + i) * c);
                    add_product::<FMA>(sum, &x[at..at + c], &grad[from..from + c]);
                }
            }
        }
    }
}

/// One unit for each output element.
#[cube(launch_unchecked)]
fn depthwise_kernel(
    x: &Array<f32>,
    w: &Array<f32>,
    bias: &Array<f32>,
    y: &mut Array<f32>,
    s: Sizes,
    total: usize,
    parameter: f32,
    #[comptime] biased: bool,
    #[comptime] kind: Kind,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let c = s.out_stride;
        let channel = at % c;
        let i = (at / c) % s.out_w;
        let j = (at / (c * s.out_w)) % s.out_h;
        let image = at / (c * s.out_w * s.out_h);
        let mut sum = f32::new(0.0);
        if comptime!(biased) {
            sum = bias[channel];
        }
        for r in 0..s.kernel_h {
            for q in 0..s.kernel_w {
                let iy = (j * s.stride + r * s.dilation) as i32 - s.before_h as i32;
                let ix = (i * s.stride + q * s.dilation) as i32 - s.before_w as i32;
                if iy >= 0 && ix >= 0 && iy < s.in_h as i32 && ix < s.in_w as i32 {
                    let pixel = (image * s.in_h + iy as usize) * s.in_w + ix as usize;
                    sum += x[pixel * c + channel] * w[(channel * s.kernel_h + r) * s.kernel_w + q];
                }
            }
        }
        y[at] = activate(sum, parameter, kind);
    }
}

/// One unit for each input element: the outputs whose windows hold it.
#[cube(launch_unchecked)]
fn depthwise_backward_kernel(grad: &Array<f32>, w: &Array<f32>, dx: &mut Array<f32>, s: Sizes, total: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let c = s.in_stride;
        let channel = at % c;
        let i = (at / c) % s.in_w;
        let j = (at / (c * s.in_w)) % s.in_h;
        let image = at / (c * s.in_w * s.in_h);
        let mut sum = f32::new(0.0);
        for r in 0..s.kernel_h {
            for q in 0..s.kernel_w {
                let oy = (j + s.before_h) as i32 - (r * s.dilation) as i32;
                let ox = (i + s.before_w) as i32 - (q * s.dilation) as i32;
                if oy >= 0 && ox >= 0 && oy as usize % s.stride == 0 && ox as usize % s.stride == 0 {
                    let (oy, ox) = (oy as usize / s.stride, ox as usize / s.stride);
                    if oy < s.out_h && ox < s.out_w {
                        let pixel = (image * s.out_h + oy) * s.out_w + ox;
                        sum += grad[pixel * c + channel] * w[(channel * s.kernel_h + r) * s.kernel_w + q];
                    }
                }
            }
        }
        dx[at] = sum;
    }
}

/// One unit for each weight and share of the pixels: `partial[share][channel][tap]`.
#[cube(launch_unchecked)]
fn depthwise_weight_kernel(
    x: &Array<f32>,
    grad: &Array<f32>,
    partial: &mut Array<f32>,
    s: Sizes,
    splits: usize,
    per_split: usize,
) {
    let at = ABSOLUTE_POS;
    let c = s.out_stride;
    let taps = s.kernel_h * s.kernel_w;
    let channel = at % c;
    let tap = (at / c) % taps;
    let split = at / (c * taps);
    if split < splits {
        let dy = (tap / s.kernel_w * s.dilation) as i32 - s.before_h as i32;
        let dx = (tap % s.kernel_w * s.dilation) as i32 - s.before_w as i32;
        let end = usize::min((split + 1) * per_split, s.images * s.out_h * s.out_w);
        let mut sum = f32::new(0.0);
        for pixel in split * per_split..end {
            let iy = ((pixel / s.out_w) % s.out_h * s.stride) as i32 + dy;
            let ix = (pixel % s.out_w * s.stride) as i32 + dx;
            if iy >= 0 && ix >= 0 && iy < s.in_h as i32 && ix < s.in_w as i32 {
                let image = pixel / (s.out_w * s.out_h);
                let from = (image * s.in_h + iy as usize) * s.in_w + ix as usize;
                sum += x[from * c + channel] * grad[pixel * c + channel];
            }
        }
        partial[split * c * taps + channel * taps + tap] = sum;
    }
}

/// Queues the forward pass.
pub(super) fn forward_on_gpu(gpu: &Gpu, g: &Geometry, operands: &Operands, activation: Activation) {
    let Operands { x, w, bias, y, .. } = operands;
    let (kind, parameter) = activation.kind();
    let (s, total) = (Sizes::new(g, 0, Direction::Gather), y.len());
    launch!(
        gpu,
        depthwise_kernel,
        units(total),
        x.arg(),
        w.arg(),
        bias.unwrap_or(w).arg(),
        y.arg(),
        s.arg(),
        total,
        parameter,
        bias.is_some(),
        kind
    );
}

/// Queues the data gradient.
pub(super) fn backward_data_on_gpu(gpu: &Gpu, g: &Geometry, grad: &GpuBuffer, w: &GpuBuffer, dx: &mut GpuBuffer) {
    let (s, total) = (Sizes::new(g, 0, Direction::Gather), dx.len());
    launch!(gpu, depthwise_backward_kernel, units(total), grad.arg(), w.arg(), dx.arg(), s.arg(), total);
}

/// Queues the weight gradient, added to `dw`.
pub(super) fn backward_weight_on_gpu(
    gpu: &Gpu,
    g: &Geometry,
    x: &GpuBuffer,
    grad: &GpuBuffer,
    dw: &mut GpuBuffer,
) -> Result<()> {
    let pixels = g.y[0] * g.y[1] * g.y[2];
    let splits = pixels.div_ceil(256).clamp(1, 256);
    let per_split = pixels.div_ceil(splits);
    let s = Sizes::new(g, 0, Direction::Gather);
    let partial = gpu.alloc::<f32>(splits * dw.len())?;
    let n = splits * dw.len();
    launch!(gpu, depthwise_weight_kernel, units(n), x.arg(), grad.arg(), partial.arg(), s.arg(), splits, per_split);
    add_chunks(&partial, splits, 1.0, dw, true);
    Ok(())
}
