//! Partial gradients of the weights: launching `weight_gradient.cu`.

use bytemuck::{Pod, Zeroable};

use super::super::pass::PassSizes;
use super::super::product::Cut;
use super::division::Division;
use super::{STAGES, TERMS, THREADS, TILE, precision};
use crate::device::{Gpu, GpuBuffer, WARP, Written, launch_written, macros};

/// `Pass` of weight_gradient.cu.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Pass {
    images: i32,
    in_h: i32,
    in_w: i32,
    in_stride: i32,
    in_first: i32,
    in_channels: i32,
    out_h: i32,
    out_w: i32,
    out_stride: i32,
    out_first: i32,
    out_channels: i32,
    kernel_w: i32,
    taps: i32,
    stride: i32,
    dilation: i32,
    before_h: i32,
    before_w: i32,
    by_h: Division,
    by_w: Division,
    row_tiles: i32,
    column_tiles: i32,
    splits: i32,
    per_split: i32,
    total: i32,
}

/// Floats of a line of 64 channels and what keeps lines apart in shared memory.
const LINE: usize = TILE + 8;

/// Queues the partial weight gradients of one group.
pub(in super::super) fn run(gpu: &Gpu, s: &PassSizes, x: &GpuBuffer, grad: &GpuBuffer, partial: &GpuBuffer, cut: &Cut) {
    let pass = Pass {
        images: s.images as i32,
        in_h: s.in_h as i32,
        in_w: s.in_w as i32,
        in_stride: s.in_stride as i32,
        in_first: s.in_first as i32,
        in_channels: s.in_channels as i32,
        out_h: s.out_h as i32,
        out_w: s.out_w as i32,
        out_stride: s.out_stride as i32,
        out_first: s.out_first as i32,
        out_channels: s.out_channels as i32,
        kernel_w: s.kernel_w as i32,
        taps: (s.kernel_h * s.kernel_w) as i32,
        stride: s.stride as i32,
        dilation: s.dilation as i32,
        before_h: s.before_h as i32,
        before_w: s.before_w as i32,
        by_h: Division::by(s.out_h),
        by_w: Division::by(s.out_w),
        row_tiles: cut.row_tiles as i32,
        column_tiles: cut.column_tiles as i32,
        splits: cut.splits as i32,
        per_split: cut.per_split as i32,
        total: cut.total as i32,
    };
    let kernel = Written {
        entry: "weight_gradient",
        parts: &[WARP, include_str!("division.cuh"), include_str!("weight_gradient.cu")],
        macros: macros(&[("PRECISION", precision(gpu))]),
        threads: THREADS,
        shared: (STAGES * 2 * TERMS * LINE * size_of::<f32>()) as u32,
        writable: &[false, false, true],
        cooperative: false,
    };
    let Some(queue) = gpu.cuda() else { unreachable!("takes_weight_gradient was asked") };
    let blocks = cut.row_tiles * cut.column_tiles * cut.splits;
    launch_written(queue, kernel, blocks, &[x.handle(), grad.handle(), partial.handle()], &pass);
}
