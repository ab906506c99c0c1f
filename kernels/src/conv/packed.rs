//! Weights as the dense pass reads them: a phase's taps, and their values laid out for the register tiles, transformed or
//! rounded where a pass wants them so.

use std::sync::OnceLock;

use rayon::prelude::*;
use smallvec::SmallVec;

use super::micro::NR;
use super::reduced::{Convert, Int8, Panels, Rounded};
use crate::device::{HostBuffer, Reused, Rounding};
use crate::error::Result;
use crate::simd::{Isa, isa};

/// Offsets of taps along an axis.
pub(super) type Offsets = SmallVec<[isize; 8]>;

/// One set of taps and the output pixels it belongs to.
pub(super) struct Phase {
    /// Offsets of the kernel rows, ascending.
    pub rows: Offsets,
    /// Offsets of the kernel columns, ascending.
    pub cols: Offsets,
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
                let mut rounded = HostBuffer::uninit(packed.len());
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
    pub fn runs(&self, origin: (isize, isize), width: usize, channels: usize) -> (Reused<usize>, usize) {
        let (columns, run) = self.shape_of_runs(channels);
        let shift =
            |row: &isize, col: &isize| ((row - origin.0) as usize * width + (col - origin.1) as usize) * channels;
        // Where the kernel is smaller than the stride, a phase may have no taps.
        let columns = columns.min(self.cols.len());
        let mut starts = Reused::uninit(self.rows.len() * columns);
        for (row, starts) in self.rows.iter().zip(starts.chunks_exact_mut(columns.max(1))) {
            starts.iter_mut().zip(&self.cols).for_each(|(start, col)| *start = shift(row, col));
        }
        (starts, run)
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

/// Lays weights out as `[out / NR][row][col][in][NR]`, zeros beyond the last output channel.
pub(super) fn pack(
    taps: usize,
    cin: usize,
    cout: usize,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> HostBuffer<f32> {
    let mut packed = HostBuffer::uninit(cout.div_ceil(NR) * taps * cin * NR);
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
    let mut packed = HostBuffer::uninit(cout.div_ceil(NR) * len * NR);
    packed.par_chunks_exact_mut((len * NR).max(1)).zip(w.par_chunks((len * NR).max(1))).for_each(|(panel, rows)| {
        if rows.len() < NR * len {
            panel.fill(0.0);
        }
        for (lane, row) in rows.chunks_exact(len).enumerate() {
            panel.as_chunks_mut::<NR>().0.iter_mut().zip(row).for_each(|(lanes, v)| lanes[lane] = *v);
        }
    });
    packed
}

/// [`pack`] for the adjoint, whose "out" channels are innermost: weights as `[in][tap][out]`, of which
/// `taps` are taken.
pub(crate) fn pack_columns(w: &[f32], cin: usize, cout: usize, taps: &[usize]) -> HostBuffer<f32> {
    let all = w.len() / (cin * cout).max(1);
    let mut packed = HostBuffer::uninit(cout.div_ceil(NR) * taps.len() * cin * NR);
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
