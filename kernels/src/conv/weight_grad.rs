//! Weight gradient of a dense convolution.
//!
//! `dw[o, r, s, c] = sum over images and output pixels of x[in_step * pixel + tap(r, s), c] * g[pixel, o]`:
//! a matrix product whose sum runs over pixels. Each task takes one image and adds to a partial
//! gradient of its own; partials are added in image order, so the result does not depend on the
//! number of threads. Memory: one partial per image of the batch.

use cubecl::prelude::*;
use rayon::prelude::*;

use super::Geometry;
use super::dense::Slab;
use super::micro::{MR, NR, Tile, Walk, accumulate};
use super::pass::{Direction, Sizes, input_at};
use super::tensor_core::{self, Cut};
use crate::device::{Gpu, GpuBuffer, Precision, UNITS, grid, launch};
use crate::error::Result;
use crate::reduce::add_chunks;
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

/// Partial gradients of a share of the pixels: rows are out channels, columns taps and in channels.
/// A tile of 64 x 64, 4 x 4 sums to a unit, 16 pixels at a time through shared memory.
#[cube(launch_unchecked)]
fn weight_grad_kernel(
    x: &Array<f32>,
    grad: &Array<f32>,
    partial: &mut Array<f32>,
    s: Sizes,
    row_tiles: usize,
    column_tiles: usize,
    splits: usize,
    per_split: usize,
    total: usize,
) {
    let split = CUBE_POS / (row_tiles * column_tiles);
    if split < splits {
        let mut a = SharedMemory::<f32>::new(1040usize); // [pixel][out channel]
        let mut b = SharedMemory::<f32>::new(1040usize); // [pixel][tap and in channel]
        let unit = UNIT_POS as usize;
        let (tile_row, tile_column) = (unit / 16, unit % 16);
        let first_column = (CUBE_POS % column_tiles) * 64;
        let first_row = ((CUBE_POS / column_tiles) % row_tiles) * 64;
        let width = s.kernel_h * s.kernel_w * s.in_channels;
        let pixels = s.images * s.out_h * s.out_w;
        let end = usize::min((split + 1) * per_split, pixels);

        // The column that this unit loads never changes.
        let (own, lane) = (unit % 64, unit / 64);
        let column = first_column + own;
        let channel = column % s.in_channels;
        let tap = column / s.in_channels;
        let dy = (tap / s.kernel_w * s.dilation) as i32 - s.padding as i32;
        let dx = (tap % s.kernel_w * s.dilation) as i32 - s.padding as i32;

        let mut sums = Array::<f32>::new(16usize);
        #[unroll]
        for i in 0..16usize {
            sums[i] = f32::new(0.0);
        }
        let mut first = split * per_split;
        while first < end {
            sync_cube();
            #[unroll]
            for i in 0..4usize {
                let term = lane + 4 * i;
                let pixel = first + term;
                let mut g = f32::new(0.0);
                let mut value = f32::new(0.0);
                if pixel < end {
                    if first_row + own < s.out_channels {
                        g = grad[pixel * s.out_stride + s.out_first + first_row + own];
                    }
                    if column < width {
                        value = input_at(x, pixel, dy, dx, channel, s);
                    }
                }
                a[term * 65 + own] = g;
                b[term * 65 + own] = value;
            }
            sync_cube();
            #[unroll]
            for k in 0..16usize {
                let mut left = Array::<f32>::new(4usize);
                #[unroll]
                for i in 0..4usize {
                    left[i] = a[k * 65 + tile_row + 16 * i];
                }
                #[unroll]
                for j in 0..4usize {
                    let right = b[k * 65 + tile_column + 16 * j];
                    #[unroll]
                    for i in 0..4usize {
                        sums[i * 4 + j] += left[i] * right;
                    }
                }
            }
            first += 16;
        }
        #[unroll]
        for i in 0..4usize {
            #[unroll]
            for j in 0..4usize {
                let (o, k) = (first_row + tile_row + 16 * i, first_column + tile_column + 16 * j);
                if o < s.out_channels && k < width {
                    partial[split * total + (s.out_first + o) * width + k] = sums[i * 4 + j];
                }
            }
        }
    }
}

/// Queues the gradient of all groups and adds it to `dw`: pixels are split over cubes, their partial
/// gradients added in a fixed order.
pub(super) fn run_on_gpu(gpu: &Gpu, g: &Geometry, x: &GpuBuffer, grad: &GpuBuffer, dw: &mut GpuBuffer) -> Result<()> {
    let pixels = g.y[0] * g.y[1] * g.y[2];
    let (out, width) = (g.y[3] / g.opts.groups, g.w[1] * g.w[2] * g.w[3]);
    let (row_tiles, column_tiles) = (out.div_ceil(64), width.div_ceil(64));
    let splits = 512usize.div_ceil(row_tiles * column_tiles).clamp(1, pixels.div_ceil(64).max(1));
    let per_split = pixels.div_ceil(splits).next_multiple_of(32);
    let cut = Cut { row_tiles, column_tiles, splits, per_split, total: dw.len() };
    let partial = gpu.alloc::<f32>(splits * cut.total)?;
    let rounded = gpu.precision() != Precision::F32 && out >= 16 && width >= 16;
    for group in 0..g.opts.groups {
        let s = Sizes::new(g, group, Direction::Gather);
        if rounded {
            tensor_core::run_weight(gpu, &s, x, grad, &partial, &cut);
            continue;
        }
        launch!(
            gpu,
            weight_grad_kernel,
            (grid(row_tiles * column_tiles * splits), CubeDim::new_1d(UNITS)),
            x.arg(),
            grad.arg(),
            partial.arg(),
            s.arg(),
            row_tiles,
            column_tiles,
            splits,
            per_split,
            cut.total
        );
    }
    add_chunks(&partial, splits, 1.0, dw, true);
    Ok(())
}
