//! Weight gradient of a dense convolution.
//!
//! `dw[o, r, s, c] = sum over images and output pixels of x[stride * pixel + tap(r, s), c] * g[pixel, o]`:
//! a matrix product whose sum runs over the pixels of all images. Its columns are the channels of one
//! tap, or of a row of adjacent taps, which lie side by side in memory; a task takes up to 96 of them,
//! lays them out for the register tile, and multiplies them with the gradients, `PIXELS` at a time.
//! Tasks are cut by shape alone and every sum is taken in pixel order, so the result does not depend on
//! the number of threads. Memory: a padded copy of the input, a copy of the gradient, one result.

use cubecl::prelude::*;
use rayon::prelude::*;

use super::Geometry;
use super::micro::{MOST_ROWS, NR, Sums, accumulate, load, store};
use super::pass::{Direction, PassSizes};
use super::product::{Cut, SIDE, TILE, column, corner, factors};
use super::reduced::Copied;
use super::slab::Slab;
use super::tensor_core;
use crate::device::{Gpu, GpuBuffer, HostBuffer, Precision, UNITS, grid, launch};
use crate::error::Result;
use crate::reduce::add_chunks;
use crate::simd::{Lanes, lanes_fn};

/// Pixels of a partial sum: both operands of a tile stay in the first cache.
const PIXELS: usize = 252;
/// Most columns of a task.
const COLUMNS: usize = 96;
/// Tasks that a gradient is cut into at least, where it is wide enough.
const TASKS: usize = 6;

/// Columns that lie side by side in the input: from `shift` elements after a pixel's first tap.
struct Columns {
    /// First column of the gradient.
    first: usize,
    count: usize,
    shift: usize,
}

/// Cuts the columns of a gradient into tasks.
fn tasks(g: &Geometry, width: usize) -> Vec<Columns> {
    let [_, kh, kw, cin] = g.w;
    let dilation = g.opts.dilation;
    let (runs, run) = if dilation == 1 { (1, kw * cin) } else { (kw, cin) };
    let most = (kh * runs * run).div_ceil(TASKS).next_multiple_of(MOST_ROWS).clamp(2 * MOST_ROWS, COLUMNS);
    let starts = (0..kh).flat_map(|r| (0..runs).map(move |s| (r, s)));
    starts
        .flat_map(|(r, s)| {
            let (base, shift) = ((r * kw + s) * cin, (r * dilation * width + s * dilation) * cin);
            (0..run).step_by(most).map(move |at| Columns {
                first: base + at,
                count: most.min(run - at),
                shift: shift + at,
            })
        })
        .collect()
}

/// The input of a group with its padding, all images.
fn padded(g: &Geometry, group: usize, x: &[f32]) -> Vec<Slab> {
    let [_, h, w, c] = g.x;
    let (cin, [top, left], [bottom, right]) = (g.w[3], g.before, g.after);
    x.par_chunks(h * w * c)
        .map(|image| {
            let mut slab = Slab::default();
            let corner = (-(top as isize), -(left as isize));
            let size = (top + h + bottom, left + w + right);
            slab.fill(image, g.x, (group * cin, cin), corner, size, &Copied);
            slab
        })
        .collect()
}

/// The gradient of a group as `[PIXELS][out / NR][pixel][NR]`, zeros beyond the last channel.
fn packed_gradient(g: &Geometry, group: usize, grad: &[f32]) -> Vec<HostBuffer<f32>> {
    let oc = g.y[3];
    let cout = oc / g.opts.groups;
    grad.par_chunks(PIXELS * oc)
        .map(|rows| {
            let pixels = rows.len() / oc;
            let mut packed = HostBuffer::uninit(cout.div_ceil(NR) * pixels * NR);
            for (block, panel) in packed.chunks_exact_mut(pixels * NR).enumerate() {
                let lanes = NR.min(cout - block * NR);
                let from = group * cout + block * NR;
                for (lane, row) in panel.chunks_exact_mut(NR).zip(rows.chunks_exact(oc)) {
                    lane[..lanes].copy_from_slice(&row[from..from + lanes]);
                    lane[lanes..].fill(0.0);
                }
            }
            packed
        })
        .collect()
}

/// Adds the gradient of group `group` to `dw` (OHWI).
pub(super) fn run(g: &Geometry, group: usize, x: &[f32], grad: &[f32], dw: &mut [f32]) {
    let [_, kh, kw, cin] = g.w;
    let (cout, width) = (g.y[3] / g.opts.groups, kh * kw * cin);
    let images = padded(g, group, x);
    let gradient = packed_gradient(g, group, grad);
    let tasks = tasks(g, g.before[1] + g.x[2] + g.after[1]);
    let parts: Vec<HostBuffer<f32>> = tasks.par_iter().map(|t| column_gradient(g, t, &images, &gradient)).collect();
    let rows = dw[group * cout * width..(group + 1) * cout * width].par_chunks_mut(width);
    rows.enumerate().for_each(|(o, row)| {
        for (task, part) in tasks.iter().zip(&parts) {
            let sums = part[o / NR * task.count.next_multiple_of(MOST_ROWS) * NR..].iter().skip(o % NR).step_by(NR);
            row[task.first..task.first + task.count].iter_mut().zip(sums).for_each(|(d, s)| *d += s);
        }
    });
}

/// Gradient of some columns, `[out / NR][column][NR]`.
fn column_gradient(g: &Geometry, columns: &Columns, images: &[Slab], gradient: &[HostBuffer<f32>]) -> HostBuffer<f32> {
    let cout = g.y[3] / g.opts.groups;
    let mut sums = HostBuffer::uninit(cout.div_ceil(NR) * columns.count.next_multiple_of(MOST_ROWS) * NR);
    sums.fill(0.0);
    let mut packed = HostBuffer::uninit(columns.count.next_multiple_of(MOST_ROWS) * PIXELS);
    for (i, gradient) in gradient.iter().enumerate() {
        let pixels = PIXELS.min(g.y[0] * g.y[1] * g.y[2] - i * PIXELS);
        let packed = &mut packed[..columns.count.next_multiple_of(MOST_ROWS) * pixels];
        pack_columns(g, columns, images, (i * PIXELS, pixels), packed);
        add_product(pixels, packed, gradient, &mut sums);
    }
    sums
}

/// Lays out some columns of some pixels as `[column / MOST_ROWS][pixel][MOST_ROWS]`.
fn pack_columns(g: &Geometry, columns: &Columns, images: &[Slab], (first, pixels): (usize, usize), packed: &mut [f32]) {
    let [_, oh, ow, _] = g.y;
    for p in 0..pixels {
        let (image, pixel) = ((first + p) / (oh * ow), (first + p) % (oh * ow));
        let slab = &images[image];
        let base = (pixel / ow * slab.width + pixel % ow) * g.opts.stride * slab.channels + columns.shift;
        // What follows the last column is another tap's; its sums are never looked at.
        let blocks = slab.data()[base..].as_chunks::<MOST_ROWS>().0;
        for (panel, from) in packed.chunks_exact_mut(pixels * MOST_ROWS).zip(blocks) {
            panel.as_chunks_mut::<MOST_ROWS>().0[p] = *from;
        }
    }
}

lanes_fn! {
    /// Adds the product of packed columns and gradients to the sums.
    fn add_product<L, V, R>(pixels: usize, columns: &[f32], gradient: &[f32], sums: &mut [f32]) {
        let (panel, of_block) = (pixels * NR, columns.len() / pixels * NR);
        assert!(columns.len().is_multiple_of(pixels * MOST_ROWS), "whole panels of columns");
        assert!(gradient.len().is_multiple_of(panel) && sums.len() == gradient.len() / panel * of_block, "whole blocks");
        let mut sums = sums.as_mut_ptr();
        let mut gradients = gradient.chunks_exact(panel);
        while let Some(first) = gradients.next() {
            let second = if L::PANELS == 2 { gradients.next() } else { None };
            for (at, columns) in columns.chunks_exact(pixels * MOST_ROWS).enumerate() {
                for row in (0..MOST_ROWS).step_by(R) {
                    // SAFETY: `pixels` steps of MOST_ROWS columns, a multiple of `R`, and of one or two panels, and
                    // the sums of these blocks, as asserted. `lanes_fn` runs this only on CPUs with the set of `L`.
                    unsafe {
                        let (columns, to) = (columns.as_ptr().add(row), sums.add((at * MOST_ROWS + row) * NR));
                        match second {
                            Some(second) => {
                                let panels = [first.as_ptr(), second.as_ptr()];
                                add_tile::<L, V, 2, R>(pixels, columns, &panels, of_block, to);
                            }
                            None => add_tile::<L, V, 1, R>(pixels, columns, &[first.as_ptr()], of_block, to),
                        }
                    }
                }
            }
            // SAFETY: the blocks just added to.
            sums = unsafe { sums.add(of_block * (1 + usize::from(second.is_some()))) };
        }
    }
}

/// Adds the products of `R` columns and `P` panels; the sums of a panel lie `of_block` behind those of the one before.
///
/// # Safety
/// The CPU has the set of `L`; `columns` are `pixels` steps of [`MOST_ROWS`], every panel of [`NR`] values, and `to`
/// leads to `R` rows of [`NR`] sums for each panel.
#[inline(always)]
unsafe fn add_tile<L: Lanes, const V: usize, const P: usize, const R: usize>(
    pixels: usize,
    columns: *const f32,
    panels: &[*const f32; P],
    of_block: usize,
    to: *mut f32,
) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        let (mut sums, mut rows): (Sums<L, V, P, R>, _) = ([[[L::splat(0.0); V]; P]; R], [columns; R]);
        for (m, row) in rows.iter_mut().enumerate() {
            *row = row.add(m);
        }
        accumulate(&rows, MOST_ROWS, panels, pixels, &mut sums);
        for (m, sums) in sums.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                let to = to.add(p * of_block + m * NR);
                let mut whole = load::<L, V>(to);
                for v in 0..V {
                    whole[v] = whole[v].add(sums[v]);
                }
                store(&whole, to);
            }
        }
    }
}

/// Pixels that a cube takes at a time.
const TERMS: usize = 16;
/// Rows and columns of a unit.
const OWN: usize = TILE / SIDE;
/// Elements of a pixel in shared memory: a spare one between lines.
const PITCH: usize = TILE + 1;

/// Partial gradients of a share of the pixels: rows are out channels, columns taps and in channels.
/// A tile of 64 x 64, 4 x 4 sums to a unit, 16 pixels at a time through shared memory.
#[cube(launch_unchecked)]
fn weight_grad_kernel(x: &Array<f32>, grad: &Array<f32>, partial: &mut Array<f32>, s: PassSizes, cut: Cut) {
    let split = CUBE_POS / (cut.row_tiles * cut.column_tiles);
    if split < cut.splits {
        let mut a = SharedMemory::<f32>::new(comptime!(TERMS * PITCH)); // [pixel][out channel]
        let mut b = SharedMemory::<f32>::new(comptime!(TERMS * PITCH)); // [pixel][tap and in channel]
        let unit = UNIT_POS as usize;
        let corner = corner(cut.row_tiles, cut.column_tiles, TILE);
        let width = s.kernel_h * s.kernel_w * s.in_channels;
        let end = usize::min((split + 1) * cut.per_split, s.images * s.out_h * s.out_w);
        // The column that this unit loads never changes.
        let (own, lane) = (unit % TILE, unit / TILE);
        let column = column(corner.column + own, width, s);

        let mut sums = Array::<f32>::new(comptime!(OWN * OWN));
        #[unroll]
        for i in 0..comptime!(OWN * OWN) {
            sums[i] = f32::new(0.0);
        }
        let mut first = split * cut.per_split;
        while first < end {
            sync_cube();
            #[unroll]
            for i in 0..comptime!(TERMS * TILE / UNITS as usize) {
                let term = lane + comptime!(UNITS as usize / TILE) * i;
                let (g, value) = factors(x, grad, first + term, end, corner.row + own, column, s);
                a[term * PITCH + own] = g;
                b[term * PITCH + own] = value;
            }
            sync_cube();
            add_tile_product(&a, &b, &mut sums);
            first += TERMS;
        }
        let (tile_row, tile_column) = (unit / SIDE, unit % SIDE);
        #[unroll]
        for i in 0..OWN {
            #[unroll]
            for j in 0..OWN {
                let (o, k) = (corner.row + tile_row + SIDE * i, corner.column + tile_column + SIDE * j);
                if o < s.out_channels && k < width {
                    partial[split * cut.total + (s.out_first + o) * width + k] = sums[i * OWN + j];
                }
            }
        }
    }
}

/// Adds the products of some pixels to the sums of a unit, which has every 16th row and column of a tile.
#[cube]
fn add_tile_product(a: &SharedMemory<f32>, b: &SharedMemory<f32>, sums: &mut Array<f32>) {
    let (tile_row, tile_column) = (UNIT_POS as usize / SIDE, UNIT_POS as usize % SIDE);
    #[unroll]
    for k in 0..TERMS {
        let mut left = Array::<f32>::new(OWN);
        #[unroll]
        for i in 0..OWN {
            left[i] = a[k * PITCH + tile_row + SIDE * i];
        }
        #[unroll]
        for j in 0..OWN {
            let right = b[k * PITCH + tile_column + SIDE * j];
            #[unroll]
            for i in 0..OWN {
                sums[i * OWN + j] += left[i] * right;
            }
        }
    }
}

/// Queues the gradient of all groups and adds it to `dw`: pixels are split over cubes, their partial
/// gradients added in a fixed order.
pub(super) fn run_on_gpu(gpu: &Gpu, g: &Geometry, x: &GpuBuffer, grad: &GpuBuffer, dw: &mut GpuBuffer) -> Result<()> {
    let pixels = g.y[0] * g.y[1] * g.y[2];
    let (out, width) = (g.y[3] / g.opts.groups, g.w[1] * g.w[2] * g.w[3]);
    let (row_tiles, column_tiles) = (out.div_ceil(TILE), width.div_ceil(TILE));
    let splits = 512usize.div_ceil(row_tiles * column_tiles).clamp(1, pixels.div_ceil(64).max(1));
    let per_split = pixels.div_ceil(splits).next_multiple_of(32);
    let cut = Cut { row_tiles, column_tiles, splits, per_split, total: dw.len() };
    let partial = gpu.alloc::<f32>(splits * cut.total)?;
    let rounded = gpu.precision() != Precision::F32 && out >= 16 && width >= 16;
    for group in 0..g.opts.groups {
        let s = PassSizes::new(g, group, Direction::Gather);
        #[cfg(feature = "cuda")]
        if super::cuda::takes_weight_gradient(gpu, &s) {
            super::cuda::run_weight_gradient(gpu, &s, x, grad, &partial, &cut);
            continue;
        }
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
            cut.arg()
        );
    }
    add_chunks(&partial, splits, 1.0, dw, true);
    Ok(())
}
