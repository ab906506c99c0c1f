//! Depthwise convolution and its gradients on a GPU: one unit for each element that is written.

use cubecl::prelude::*;

use super::super::Geometry;
use super::super::pass::{Direction, Layer, LayerLaunch, Operands, PassSizes};
use crate::activation::{Activation, Kind, activate};
use crate::device::{Gpu, GpuBuffer, launch, units};
use crate::error::Result;
use crate::reduce::add_chunks;
use crate::shape::{pixel_at, place_of};

/// One unit for each output element.
#[cube(launch_unchecked)]
fn depthwise_kernel(
    x: &Array<f32>,
    layer: &Layer,
    y: &mut Array<f32>,
    s: PassSizes,
    total: usize,
    parameter: f32,
    #[comptime] biased: bool,
    #[comptime] kind: Kind,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let c = s.out_stride;
        let o = place_of(at, s.out_h, s.out_w, c);
        let mut sum = f32::new(0.0);
        if comptime!(biased) {
            sum = layer.bias[o.channel];
        }
        for r in 0..s.kernel_h {
            for q in 0..s.kernel_w {
                let iy = (o.y * s.stride + r * s.dilation) as i32 - s.before_h as i32;
                let ix = (o.x * s.stride + q * s.dilation) as i32 - s.before_w as i32;
                if iy >= 0 && ix >= 0 && iy < s.in_h as i32 && ix < s.in_w as i32 {
                    let pixel = pixel_at(o.image, iy as usize, ix as usize, s.in_h, s.in_w);
                    sum += x[pixel * c + o.channel] * layer.weights[(o.channel * s.kernel_h + r) * s.kernel_w + q];
                }
            }
        }
        y[at] = activate(sum, parameter, kind);
    }
}

/// One unit for each input element: the outputs whose windows hold it.
#[cube(launch_unchecked)]
fn depthwise_backward_kernel(grad: &Array<f32>, w: &Array<f32>, dx: &mut Array<f32>, s: PassSizes, total: usize) {
    let at = ABSOLUTE_POS;
    if at < total {
        let c = s.in_stride;
        let p = place_of(at, s.in_h, s.in_w, c);
        let mut sum = f32::new(0.0);
        for r in 0..s.kernel_h {
            for q in 0..s.kernel_w {
                let oy = (p.y + s.before_h) as i32 - (r * s.dilation) as i32;
                let ox = (p.x + s.before_w) as i32 - (q * s.dilation) as i32;
                if oy >= 0 && ox >= 0 && oy as usize % s.stride == 0 && ox as usize % s.stride == 0 {
                    let (oy, ox) = (oy as usize / s.stride, ox as usize / s.stride);
                    if oy < s.out_h && ox < s.out_w {
                        let pixel = pixel_at(p.image, oy, ox, s.out_h, s.out_w);
                        sum += grad[pixel * c + p.channel] * w[(p.channel * s.kernel_h + r) * s.kernel_w + q];
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
    s: PassSizes,
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
                let from = pixel_at(image, iy as usize, ix as usize, s.in_h, s.in_w);
                sum += x[from * c + channel] * grad[pixel * c + channel];
            }
        }
        partial[split * c * taps + channel * taps + tap] = sum;
    }
}

/// Queues the forward pass.
pub(in crate::conv) fn forward_on_gpu(gpu: &Gpu, g: &Geometry, operands: &Operands, activation: Activation) {
    let Operands { x, w, bias, y, .. } = operands;
    let (kind, parameter) = activation.kind();
    let (s, total) = (PassSizes::new(g, 0, Direction::Gather), y.len());
    launch!(
        gpu,
        depthwise_kernel,
        units(total),
        x.arg(),
        LayerLaunch::new(w.arg(), bias.unwrap_or(w).arg()),
        y.arg(),
        s.arg(),
        total,
        parameter,
        bias.is_some(),
        kind
    );
}

/// Queues the data gradient.
pub(in crate::conv) fn backward_data_on_gpu(
    gpu: &Gpu,
    g: &Geometry,
    grad: &GpuBuffer,
    w: &GpuBuffer,
    dx: &mut GpuBuffer,
) {
    let (s, total) = (PassSizes::new(g, 0, Direction::Gather), dx.len());
    launch!(gpu, depthwise_backward_kernel, units(total), grad.arg(), w.arg(), dx.arg(), s.arg(), total);
}

/// Queues the weight gradient, added to `dw`.
pub(in crate::conv) fn backward_weight_on_gpu(
    gpu: &Gpu,
    g: &Geometry,
    x: &GpuBuffer,
    grad: &GpuBuffer,
    dw: &mut GpuBuffer,
) -> Result<()> {
    let pixels = g.y[0] * g.y[1] * g.y[2];
    let splits = pixels.div_ceil(256).clamp(1, 256);
    let per_split = pixels.div_ceil(splits);
    let s = PassSizes::new(g, 0, Direction::Gather);
    let partial = gpu.alloc::<f32>(splits * dw.len())?;
    let n = splits * dw.len();
    launch!(gpu, depthwise_weight_kernel, units(n), x.arg(), grad.arg(), partial.arg(), s.arg(), splits, per_split);
    add_chunks(&partial, splits, 1.0, dw, true);
    Ok(())
}
