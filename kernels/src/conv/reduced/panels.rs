//! Weights in fewer bits, laid out as the tiles read them.

use half::bf16;

use super::super::micro::NR;
use super::Quantiser;
use super::requantise::Requantiser;
use super::tile::Products;
use crate::device::InputRange;
use crate::error::{Result, shape_error};

/// Bytes of a row of a panel: some terms of [`NR`] columns.
pub(super) const ROW: usize = 64;
/// Rows of a piece: their terms are as many as a row of left operands has.
pub(super) const ROWS: usize = 16;

/// Some terms of [`NR`] columns: two of 16 bits, or four bytes, of one column after the other.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Row(pub [u8; ROW]);

/// Weights of all blocks of [`NR`] output channels: `[block][run][piece][ROWS]` rows, every run padded with zeros to whole
/// pieces.
pub(in super::super) struct Panels {
    pub(super) rows: Vec<Row>,
    /// Runs of a block.
    pub(super) runs: usize,
    /// Pieces of a run.
    pub(super) pieces: usize,
}

impl Panels {
    /// From panels of f32, `[block][run][step][NR]`, each weight by `bytes`, which is given its channel.
    fn new<const SIZE: usize>(
        packed: &[f32],
        (runs, run): (usize, usize),
        bytes: impl Fn(usize, f32) -> [u8; SIZE],
    ) -> Self {
        let terms = ROW / (NR * SIZE);
        let pieces = run.div_ceil(ROWS * terms);
        let steps = packed.chunks_exact((run * NR).max(1));
        let mut rows = vec![Row([0; ROW]); steps.len() * pieces * ROWS];
        for (index, (steps, rows)) in steps.zip(rows.chunks_exact_mut((pieces * ROWS).max(1))).enumerate() {
            for (step, lanes) in steps.chunks_exact(NR).enumerate() {
                for (lane, weight) in lanes.iter().enumerate() {
                    let at = (lane * terms + step % terms) * SIZE;
                    rows[step / terms].0[at..at + SIZE].copy_from_slice(&bytes(index / runs * NR + lane, *weight));
                }
            }
        }
        Self { rows, runs, pieces }
    }

    /// In bf16.
    pub fn bf16(packed: &[f32], runs: (usize, usize)) -> Self {
        Self::new(packed, runs, |_, weight| bf16::from_f32(weight).to_ne_bytes())
    }

    /// Bytes of a run of left operands, whole pieces.
    pub(super) fn run(&self) -> usize {
        self.pieces * ROW
    }

    /// Rows of a block.
    pub(super) fn block(&self) -> usize {
        self.runs * self.pieces * ROWS
    }
}

/// Weights in bytes, and what leads from their sums to values.
pub(in super::super) struct Int8 {
    /// Of bytes, or of bytes that are widened to 16 bits.
    pub panels: Panels,
    /// How they are multiplied.
    pub(super) products: Products,
    pub quantiser: Quantiser,
    /// Factors of the sums, for each channel of all blocks.
    pub(super) scales: Vec<f32>,
    /// Where the sums begin: minus the zero point times the sum of the channel's weights.
    pub(super) starts: Vec<i32>,
}

impl Int8 {
    /// From panels of f32, `[block][run][step][NR]`.
    ///
    /// # Errors
    /// When sums of so many terms do not fit into 32 bits.
    pub fn new(packed: &[f32], (runs, run): (usize, usize), range: InputRange) -> Result<Self> {
        let terms = runs * run;
        if terms > i32::MAX as usize / (255 * 127) {
            return shape_error("int8", format!("{terms} terms of an output overflow 32 bits; use bf16 or f32"));
        }
        let channels = packed.len() / terms.max(1);
        let quantiser = Quantiser::new(range);
        let mut largest = vec![0.0f32; channels];
        let blocks = || packed.chunks_exact((terms * NR).max(1));
        for (block, largest) in blocks().zip(largest.chunks_exact_mut(NR)) {
            for lanes in block.chunks_exact(NR) {
                largest.iter_mut().zip(lanes).for_each(|(most, w)| *most = most.max(w.abs()));
            }
        }
        let steps: Vec<f32> = largest.iter().map(|most| if *most > 0.0 { most / 127.0 } else { 1.0 }).collect();
        let rounded = |channel: usize, w: f32| (w / steps[channel]).round().clamp(-127.0, 127.0) as i8;
        let mut starts = vec![0; channels];
        for (number, block) in blocks().enumerate() {
            for (at, w) in block.iter().enumerate() {
                let channel = number * NR + at % NR;
                starts[channel] -= i32::from(quantiser.zero) * i32::from(rounded(channel, *w));
            }
        }
        let products = Products::of_bytes();
        let panels = match products {
            Products::Int16 => {
                Panels::new(packed, (runs, run), |channel, w| i16::from(rounded(channel, w)).to_ne_bytes())
            }
            _ => Panels::new(packed, (runs, run), |channel, w| rounded(channel, w).to_ne_bytes()),
        };
        let scales = steps.iter().map(|step| step * quantiser.scale).collect();
        Ok(Self { panels, products, quantiser, scales, starts })
    }

    /// How its sums, with the bias of every channel and between bounds, become bytes of `to`.
    pub fn requantiser(&self, bias: &[f32], to: Quantiser, bounds: (f32, f32)) -> Requantiser {
        Requantiser::new(&self.scales, bias, to, bounds)
    }

    /// Whether inputs are bytes that are widened to 16 bits.
    pub fn is_widened(&self) -> bool {
        self.products == Products::Int16
    }
}
