//! The dense pass: implicit matrix product from a padded slab of the input to a lattice of output
//! pixels, with bias and activation in the epilogue.
//!
//! A pass has one or more phases. Phase `(py, px)` computes the output pixels
//! `(out_step * j + py, out_step * i + px)` from the input pixels
//! `in_start + (in_step * j + row, in_step * i + col)` for `row`, `col` in its lists of tap offsets.
//! Bytes: input once per band plus halo, output once. Operations: `2 * taps * in * out` per pixel.

use std::sync::OnceLock;

use bytemuck::Pod;
use half::bf16;
use rayon::prelude::*;

use super::gated::HALF;
use super::micro::NR;
use super::reduced::{self, Convert, Copied, Int8, Panels, Rounded, ToBf16};
use super::slab::Slab;
use super::winograd::{self, Grid};
use super::{Nhwc, band};
use crate::activation::Activation;
use crate::device::{HostBuffer, Rounding};
use crate::error::Result;
use crate::simd::{Isa, by_registers, isa, lanes_fn};

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

/// One set of taps and the output pixels it belongs to.
pub(super) struct Phase {
    /// Offsets of the kernel rows, ascending.
    pub rows: Vec<isize>,
    /// Offsets of the kernel columns, ascending.
    pub cols: Vec<isize>,
    /// First output pixel.
    pub start: (usize, usize),
    pub packed: Packed,
    /// Of weights that are kept for many calls: those in f32 transformed (winograd/), once they are needed so.
    pub transformed: Option<OnceLock<HostBuffer<f32>>>,
}

/// Weights of a phase.
pub(super) enum Packed {
    /// As [`pack`] lays them out.
    F32(HostBuffer<f32>),
    /// Likewise, rounded to bf16; inputs are rounded, too.
    Rounded(HostBuffer<f32>),
    Bf16(Panels),
    Int8(Int8),
}

impl Packed {
    /// With operands rounded, if they are in f32; `runs` is how many runs a block has, and their elements.
    ///
    /// # Errors
    /// When so many terms overflow the integers that sum them.
    pub fn rounded(self, runs: (usize, usize), rounding: Rounding) -> Result<Self> {
        let Self::F32(packed) = self else { return Ok(self) };
        Ok(match rounding {
            Rounding::None => Self::F32(packed),
            Rounding::Bf16 if isa() == Isa::Amx => Self::Bf16(Panels::bf16(&packed, runs)),
            Rounding::Bf16 => {
                let mut rounded = HostBuffer::room(packed.len());
                Rounded.convert(&packed, &mut rounded);
                Self::Rounded(rounded)
            }
            Rounding::Int8(range) => Self::Int8(Int8::new(&packed, runs, range)?),
        })
    }
}

impl Phase {
    /// For many calls: transforms may be used.
    pub fn kept(self) -> Self {
        Self { transformed: Some(OnceLock::new()), ..self }
    }

    /// Where the runs begin that a tile reads, from the beginning of a window whose first tap is at row and column `origin`
    /// of a slab of such width, and their elements: every tap, or every row of adjacent taps, is a run.
    pub fn runs(&self, origin: (isize, isize), width: usize, channels: usize) -> (Vec<usize>, usize) {
        let (columns, run) = self.shape_of_runs(channels);
        let shift =
            |row: &isize, col: &isize| ((row - origin.0) as usize * width + (col - origin.1) as usize) * channels;
        let starts = |row| self.cols.iter().take(columns).map(move |col| shift(row, col));
        (self.rows.iter().flat_map(starts).collect(), run)
    }

    /// Runs of a row, and their elements.
    fn shape_of_runs(&self, channels: usize) -> (usize, usize) {
        let adjacent = self.cols.windows(2).all(|p| p[1] - p[0] == 1);
        if adjacent { (1, self.cols.len() * channels) } else { (self.cols.len(), channels) }
    }

    /// With the operands of its products rounded; `channels` is those of the input.
    ///
    /// # Errors
    /// When so many terms overflow the integers that sum them.
    pub fn rounded(self, channels: usize, rounding: Rounding) -> Result<Self> {
        let (columns, run) = self.shape_of_runs(channels);
        let runs = (self.rows.len() * columns, run);
        Ok(Self { packed: self.packed.rounded(runs, rounding)?, ..self })
    }
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

/// Lays weights out as `[out / NR][row][col][in][NR]`, zeros beyond the last output channel.
pub(super) fn pack(
    taps: usize,
    cin: usize,
    cout: usize,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> HostBuffer<f32> {
    let mut packed = HostBuffer::room(cout.div_ceil(NR) * taps * cin * NR);
    packed.par_chunks_exact_mut((taps * cin * NR).max(1)).enumerate().for_each(|(block, panel)| {
        for (step, lanes) in panel.chunks_exact_mut(NR).enumerate() {
            let (tap, c) = (step / cin, step % cin);
            for (lane, value) in lanes.iter_mut().enumerate() {
                let o = block * NR + lane;
                *value = if o < cout { weight(o, tap, c) } else { 0.0 };
            }
        }
    });
    packed
}

/// [`pack`] for weights that lie as `[out][tap][in]`: 16 rows become columns.
pub(crate) fn pack_rows(w: &[f32], cout: usize) -> HostBuffer<f32> {
    let len = w.len() / cout.max(1);
    let mut packed = HostBuffer::room(cout.div_ceil(NR) * len * NR);
    packed.par_chunks_exact_mut((len * NR).max(1)).zip(w.par_chunks((len * NR).max(1))).for_each(|(panel, rows)| {
        let rows: Vec<&[f32]> = rows.chunks_exact(len).collect();
        if rows.len() < NR {
            panel.fill(0.0);
        }
        for (lane, row) in rows.iter().enumerate() {
            panel.as_chunks_mut::<NR>().0.iter_mut().zip(*row).for_each(|(lanes, v)| lanes[lane] = *v);
        }
    });
    packed
}

/// [`pack`] for the adjoint, whose "out" channels are innermost: weights as `[in][tap][out]`, of which
/// `taps` are taken.
pub(crate) fn pack_columns(w: &[f32], cin: usize, cout: usize, taps: &[usize]) -> HostBuffer<f32> {
    let all = w.len() / (cin * cout).max(1);
    let mut packed = HostBuffer::room(cout.div_ceil(NR) * taps.len() * cin * NR);
    packed.par_chunks_exact_mut((taps.len() * cin * NR).max(1)).enumerate().for_each(|(block, panel)| {
        let (first, count) = (block * NR, NR.min(cout - block * NR));
        // Taps of a channel lie close together.
        for (i, t) in (0..cin).flat_map(|i| (0..taps.len()).map(move |t| (i, t))) {
            let from = (i * all + taps[t]) * cout + first;
            let lanes = &mut panel[(t * cin + i) * NR..][..NR];
            lanes[..count].copy_from_slice(&w[from..from + count]);
            lanes[count..].fill(0.0);
        }
    });
    packed
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
        Some(Packed::Int8(weights)) => window.fill(pass, &weights.quantiser, &mut slabs.bytes),
    }
    for phase in pass.phases {
        match &phase.packed {
            Packed::F32(weights) | Packed::Rounded(weights) => {
                band::compute(pass, phase, weights, &slabs.f32, origin, target);
            }
            Packed::Bf16(weights) => reduced::compute_bf16(pass, phase, weights, &slabs.bf16, origin, target),
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
    let parts: Vec<Vec<f32>> = (0..blocks.div_ceil(per_part))
        .into_par_iter()
        .map(|part| {
            let mut values = vec![0.0; band.len() / oc * wide(part)];
            let blocks = part * per_part..((part + 1) * per_part).min(blocks);
            compute(n, row, &mut Target { values: &mut values, stride: wide(part), first: 0, blocks, pixel });
            values
        })
        .collect();
    for (part, values) in parts.iter().enumerate() {
        let at = pass.y_channels.0 + part * per_part * width;
        for (to, from) in band.chunks_exact_mut(oc).zip(values.chunks_exact(wide(part))) {
            to[at..at + from.len()].copy_from_slice(from);
        }
    }
}

/// Runs a pass of output step 1 and takes the maximum of each 2x2 block; `y` has half the rows and
/// columns of the pass, which only ever exists band by band.
pub(super) fn run_pooled(pass: &Pass, y: &mut [f32]) {
    match Grid::suited(pass) {
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
        image.par_chunks_mut(rows / 2 * pw * oc).enumerate().for_each_init(Vec::new, |band, (b, pooled)| {
            band.resize(2 * pooled.len() / (pw * oc) * ow * oc, 0.0);
            let blocks = 0..oc.div_ceil(NR);
            compute(n, b * rows, &mut Target { values: band, stride: oc, first: 0, blocks, pixel: 0 });
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
