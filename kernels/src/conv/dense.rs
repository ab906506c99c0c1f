//! The dense pass: implicit matrix product from a padded slab of the input to a lattice of output
//! pixels, with bias and activation in the epilogue.
//!
//! A pass has one or more phases. Phase `(py, px)` computes the output pixels
//! `(out_step * j + py, out_step * i + px)` from the input pixels
//! `in_start + (in_step * j + row, in_step * i + col)` for `row`, `col` in its lists of tap offsets.
//! Bytes: input once per band plus halo, output once. Operations: `2 * taps * in * out` per pixel.

use bytemuck::Pod;
use half::bf16;
use rayon::prelude::*;

use super::band;
use super::micro::{HALF, NR};
use super::packed::{Packed, Phase};
use super::reduced::{self, Convert, Copied, Rounded, ToBf16};
use super::slab::Slab;
use super::winograd::{self, Grid};
use crate::activation::Activation;
use crate::device::Reused;
use crate::shape::Nhwc;
use crate::simd::{by_registers, lanes_fn};

/// Lattice rows that one task computes at least.
const BAND: usize = 4;
/// Pixels of a task at least, where an image has them: for all of these the weights are read once. The weights of the last
/// layers of ResNet-18 do not fit into the second cache.
const PIXELS: usize = 64;

/// Lattice rows that one task computes.
fn band_rows(pass: &Pass) -> usize {
    let lattice = |n: usize| n.div_ceil(pass.out_step);
    let [_, oh, ow, _] = pass.y_shape;
    PIXELS.div_ceil(lattice(ow)).clamp(BAND, lattice(oh).max(BAND))
}

/// A whole pass.
pub(super) struct Pass<'a> {
    pub x: &'a [f32],
    pub x_shape: Nhwc,
    /// First input channel and how many are read.
    pub x_channels: (usize, usize),
    pub y_shape: Nhwc,
    /// First output channel and how many are written.
    pub y_channels: (usize, usize),
    pub in_step: usize,
    /// Row and column that a tap of offset 0 reads for the first output pixel.
    pub in_start: [isize; 2],
    pub out_step: usize,
    pub phases: &'a [Phase],
    pub epilogue: Epilogue<'a>,
    /// One value for each input pixel: `x` then has three channels and is seen as five (masked.rs).
    pub mask: Option<&'a [f32]>,
}

/// What happens to a sum before it is written: `activation(sum + bias + residual) * (1 + attention)`, or
/// where gated, `activation(sum + bias) * sigmoid(its gate)`.
#[derive(Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    /// One value for each written channel.
    pub bias: Option<&'a [f32]>,
    /// A map like the output.
    pub residual: Option<&'a [f32]>,
    pub activation: Activation,
    /// One value for each output pixel.
    pub attention: Option<&'a [f32]>,
    /// Each block of channels is features and their gates, of which the features are written.
    pub gated: bool,
}

impl<'a> Epilogue<'a> {
    pub fn new(bias: Option<&'a [f32]>, activation: Activation) -> Self {
        Self { bias, activation, ..Self::default() }
    }
}

/// Smallest and largest of the tap offsets of all phases: rows, then columns.
fn reach(phases: &[Phase]) -> ((isize, isize), (isize, isize)) {
    let span =
        |list: &mut dyn Iterator<Item = isize>| list.fold((0, 0), |(lo, hi): (isize, isize), v| (lo.min(v), hi.max(v)));
    (
        span(&mut phases.iter().flat_map(|p| p.rows.iter().copied())),
        span(&mut phases.iter().flat_map(|p| p.cols.iter().copied())),
    )
}

/// Where a band goes: all its pixels, with the channels of some blocks.
pub(super) struct Target<'a> {
    pub values: &'a mut [f32],
    /// Channels of a pixel, and the place of the first block among them.
    pub stride: usize,
    pub first: usize,
    /// Blocks of `NR` output channels.
    pub blocks: std::ops::Range<usize>,
    /// Number of the band's first pixel in the whole output.
    pub pixel: usize,
}

/// Pieces of the input that a task works on, of which it fills the one that its weights want.
#[derive(Default)]
pub(super) struct Slabs {
    f32: Slab<f32>,
    bf16: Slab<bf16>,
    bytes: Slab<u8>,
    words: Slab<u16>,
}

/// The window of the input that a band reads.
struct Window {
    image: usize,
    /// Row and column of its first pixel.
    first: (isize, isize),
    /// Rows and columns.
    size: (usize, usize),
}

impl Window {
    fn fill<E: Pod>(&self, pass: &Pass, how: &impl Convert<E>, slab: &mut Slab<E>) {
        let ([_, h, w, c], n) = (pass.x_shape, self.image);
        match pass.mask {
            None => {
                let source = &pass.x[n * h * w * c..(n + 1) * h * w * c];
                slab.fill(source, pass.x_shape, pass.x_channels, self.first, self.size, how);
            }
            Some(mask) => {
                let source = (&pass.x[n * h * w * 3..(n + 1) * h * w * 3], &mask[n * h * w..(n + 1) * h * w]);
                slab.fill_masked(source, (h, w), self.first, self.size, how);
            }
        }
    }
}

/// Computes some channels of a band of image `n` from output row `row` on: all phases, whose weights are of one kind.
fn run_band(pass: &Pass, n: usize, row: usize, target: &mut Target) {
    let mut slabs = Slabs::default();
    let ow = pass.y_shape[2];
    let ((top, bottom), (left, right)) = reach(pass.phases);
    let lattice_rows = (target.values.len() / (ow * target.stride)).div_ceil(pass.out_step);
    let size = (
        (lattice_rows - 1) * pass.in_step + (bottom - top) as usize + 1,
        (ow.div_ceil(pass.out_step) - 1) * pass.in_step + (right - left) as usize + 1,
    );
    let first = ((row / pass.out_step * pass.in_step) as isize + top + pass.in_start[0], left + pass.in_start[1]);
    let (window, origin) = (Window { image: n, first, size }, (top, left));
    match pass.phases.first().map(|phase| &phase.packed) {
        None => return,
        Some(Packed::F32(_)) => window.fill(pass, &Copied, &mut slabs.f32),
        Some(Packed::Rounded(_)) => window.fill(pass, &Rounded, &mut slabs.f32),
        Some(Packed::Bf16(_)) => window.fill(pass, &ToBf16, &mut slabs.bf16),
        Some(Packed::Int8(weights)) if weights.is_widened() => {
            window.fill(pass, &weights.quantiser, &mut slabs.words);
        }
        Some(Packed::Int8(weights)) => window.fill(pass, &weights.quantiser, &mut slabs.bytes),
    }
    for phase in pass.phases {
        match &phase.packed {
            Packed::F32(weights) | Packed::Rounded(weights) => {
                band::compute(pass, phase, weights, &slabs.f32, origin, target);
            }
            Packed::Bf16(weights) => reduced::compute_bf16(pass, phase, weights, &slabs.bf16, origin, target),
            Packed::Int8(weights) if weights.is_widened() => {
                reduced::compute_int8(pass, phase, weights, &slabs.words, origin, target);
            }
            Packed::Int8(weights) => reduced::compute_int8(pass, phase, weights, &slabs.bytes, origin, target),
        }
    }
}

/// Runs a pass over all images, with Winograd's transforms where that is faster.
pub(super) fn run(pass: &Pass, y: &mut [f32]) {
    match Grid::suited(pass) {
        Some(grid) => in_bands(pass, grid.band(), y, |n, row, to| winograd::run_band(pass, &grid, n, row, to)),
        None => in_bands(pass, band_rows(pass) * pass.out_step, y, |n, row, to| run_band(pass, n, row, to)),
    }
}

/// Has every band of `rows` output rows computed, in parallel; where there are fewer bands than threads, as in small maps,
/// blocks of channels too. `compute` takes the number of an image and of the first row.
fn in_bands(pass: &Pass, rows: usize, y: &mut [f32], compute: impl Fn(usize, usize, &mut Target) + Sync) {
    let [_, oh, ow, oc] = pass.y_shape;
    if y.is_empty() {
        return;
    }
    let bands = y.len() / (oh * ow * oc) * oh.div_ceil(rows);
    let blocks = pass.y_channels.1.div_ceil(NR);
    let parts = rayon::current_num_threads().div_ceil(bands).min(blocks);
    y.par_chunks_mut(oh * ow * oc).enumerate().for_each(|(n, image)| {
        image.par_chunks_mut(rows * ow * oc).enumerate().for_each(|(b, values)| {
            let (row, first) = (b * rows, pass.y_channels.0);
            if parts > 1 {
                in_parts(pass, (n, row), blocks.div_ceil(parts), values, &compute);
            } else {
                let pixel = (n * oh + row) * ow;
                compute(n, row, &mut Target { values, stride: oc, first, blocks: 0..blocks, pixel });
            }
        });
    });
}

/// A band, `per_part` blocks of channels at a time, in parallel. Every value is the same as in one part.
fn in_parts(
    pass: &Pass,
    (n, row): (usize, usize),
    per_part: usize,
    band: &mut [f32],
    compute: &(impl Fn(usize, usize, &mut Target) + Sync),
) {
    let [_, oh, ow, oc] = pass.y_shape;
    let pixel = (n * oh + row) * ow;
    let blocks = pass.y_channels.1.div_ceil(NR);
    let (width, written) = if pass.epilogue.gated { (HALF, oc) } else { (NR, pass.y_channels.1) };
    let wide = |part: usize| (per_part * width).min(written - part * per_part * width);
    let pixels = band.len() / oc;
    let mut parts = Reused::uninit(pixels * written);
    parts.par_chunks_mut(pixels * per_part * width).enumerate().for_each(|(part, values)| {
        let blocks = part * per_part..((part + 1) * per_part).min(blocks);
        compute(n, row, &mut Target { values, stride: wide(part), first: 0, blocks, pixel });
    });
    for (part, values) in parts.chunks(pixels * per_part * width).enumerate() {
        let at = pass.y_channels.0 + part * per_part * width;
        for (to, from) in band.chunks_exact_mut(oc).zip(values.chunks_exact(wide(part))) {
            to[at..at + from.len()].copy_from_slice(from);
        }
    }
}

/// Runs a pass of output step 1 and takes the maximum of each 2x2 block; `y` has half the rows and
/// columns of the pass, which only ever exists band by band.
pub(super) fn run_pooled(pass: &Pass, y: &mut [f32]) {
    // Blocks do not reach from band to band.
    match Grid::suited(pass).filter(|grid| grid.band().is_multiple_of(2)) {
        Some(grid) => in_pooled_bands(pass, grid.band(), y, |n, row, to| winograd::run_band(pass, &grid, n, row, to)),
        None => in_pooled_bands(pass, BAND, y, |n, row, to| run_band(pass, n, row, to)),
    }
}

/// [`in_bands`] for [`run_pooled`]; `rows` is even.
fn in_pooled_bands(pass: &Pass, rows: usize, y: &mut [f32], compute: impl Fn(usize, usize, &mut Target) + Sync) {
    let [_, oh, ow, oc] = pass.y_shape;
    let (ph, pw) = (oh / 2, ow / 2);
    if y.is_empty() {
        return;
    }
    y.par_chunks_mut(ph * pw * oc).enumerate().for_each(|(n, image)| {
        image.par_chunks_mut(rows / 2 * pw * oc).enumerate().for_each(|(b, pooled)| {
            let mut band = Reused::uninit(2 * pooled.len() / (pw * oc) * ow * oc);
            let blocks = 0..oc.div_ceil(NR);
            compute(n, b * rows, &mut Target { values: &mut band, stride: oc, first: 0, blocks, pixel: 0 });
            for (out, rows) in pooled.chunks_exact_mut(pw * oc).zip(band.chunks_exact(2 * ow * oc)) {
                pool_pair(rows, oc, out);
            }
        });
    });
}

lanes_fn! {
    /// Maxima of the 2x2 blocks of two rows.
    fn pool_pair<L>(rows: &[f32], c: usize, out: &mut [f32]) {
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        let zero = unsafe { L::splat(0.0) };
        let (upper, lower) = rows.split_at(rows.len() / 2);
        let blocks = upper.chunks_exact(2 * c).zip(lower.chunks_exact(2 * c));
        for (pixel, (upper, lower)) in out.chunks_exact_mut(c).zip(blocks) {
            let pixels = (upper.split_at(c), lower.split_at(c));
            by_registers!(L, c, |part| {
                let ((a, b), (c, d)) = pixels;
                let (a, b) = (zero.read(&a[part.clone()]), zero.read(&b[part.clone()]));
                let (c, d) = (zero.read(&c[part.clone()]), zero.read(&d[part.clone()]));
                a.max(b).max(c.max(d)).write(&mut pixel[part]);
            });
        }
    }
}
