//! All tiles of a product: windows of pixels that lie evenly, two at a time, by blocks of channels, two at a time.

use bytemuck::{Pod, Zeroable};

use super::super::micro::NR;
use super::panels::{Panels, ROWS, Row};
use super::tile::{Lane, Operands, Products, Sums, Unit};
use crate::device::Reused;
use crate::simd::Lanes;

/// Some pixels side by side: where the first one begins, in bytes, and its number.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Window {
    pub at: usize,
    pub pixel: usize,
}

/// Windows of equal size.
pub(super) struct Windows {
    pub list: Reused<Window>,
    /// Pixels of each, at most [`ROWS`].
    pub pixels: usize,
    /// Bytes from one pixel to the next.
    pub stride: usize,
}

impl Windows {
    /// The fewest windows that cover `count` pixels of a row: the first pixel of each, and the pixels of all, a multiple of `unit` as
    /// `count` is. The last one may share pixels with the one before.
    pub fn cut(count: usize, unit: usize) -> (impl ExactSizeIterator<Item = usize> + Clone, usize) {
        let windows = count.div_ceil(ROWS);
        let pixels = count.div_ceil(windows.max(1)).next_multiple_of(unit);
        debug_assert!(count.is_multiple_of(unit) && ROWS.is_multiple_of(unit));
        ((0..windows).map(move |window| (window * pixels).min(count - pixels)), pixels)
    }

    /// Of one row of `count` pixels, `stride` bytes apart; each has a multiple of `unit` pixels, as `count` is.
    pub fn row(count: usize, stride: usize, unit: usize) -> Self {
        let (firsts, pixels) = Self::cut(count, unit);
        Self { list: Reused::collect(firsts.map(|pixel| Window { at: pixel * stride, pixel })), pixels, stride }
    }
}

/// What all tiles of a product read. Whole pieces are read: beyond a run they belong to the next pixels, and their weights are 0, so
/// that a value which is not finite may spoil its neighbours.
pub(super) struct Source<'a> {
    pub bytes: &'a [u8],
    /// Where the runs of a pixel begin, and how many bytes each has.
    pub runs: Reused<usize>,
    pub run: usize,
    pub panels: &'a Panels,
    /// The first run of the panels that is read.
    pub first_run: usize,
    pub products: Products,
}

impl Source<'_> {
    /// # Panics
    /// When a window leads out of the bytes, or a block or run out of the weights.
    fn check(&self, windows: &Windows, blocks: usize) {
        let (rows, runs, whole) = (&self.panels.rows, self.panels.runs, self.panels.run());
        let first = windows.list.iter().map(|w| w.at).max().unwrap_or(0);
        let last = first + windows.pixels.saturating_sub(1) * windows.stride;
        let farthest = last + self.runs.iter().max().unwrap_or(&0) + whole;
        assert!(windows.list.is_empty() || farthest <= self.bytes.len(), "a window leads out of its memory");
        assert!(self.first_run + self.runs.len() <= runs && self.run <= whole, "runs of the weights");
        assert!(blocks * self.panels.block() <= rows.len(), "weights of all blocks");
    }

    /// The first row of a block.
    fn panel(&self, block: usize) -> *const Row {
        self.panels.rows[block * self.panels.block() + self.first_run * self.panels.pieces * ROWS..].as_ptr()
    }
}

/// What sums begin with, and where they go. A trait, not closures: its methods are compiled for the instruction set of their
/// caller.
pub(super) trait Output {
    /// What the sums of a block begin with.
    fn starts(&self, block: usize) -> Lane;

    /// Takes the sums of the pixels of a window.
    ///
    /// # Safety
    /// The CPU has the set of `L`.
    unsafe fn take<L: Lanes, const V: usize>(&mut self, sums: &[Lane], window: usize, block: usize);
}

/// Computes all tiles of some blocks.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes, const V: usize>(
    source: &Source,
    windows: &Windows,
    blocks: std::ops::Range<usize>,
    output: &mut impl Output,
) {
    source.check(windows, blocks.end);
    let unit = Unit::new(source.products, windows.pixels);
    let mut sums = Sums([[[[0; NR]; ROWS]; 2]; 2]);
    for block in blocks.clone().step_by(2) {
        let panels = (blocks.end - block).min(2);
        let second = if panels == 2 { block + 1 } else { block };
        let starts = [output.starts(block), output.starts(second)];
        for (number, pair) in windows.list.chunks(2).enumerate() {
            let at = |window: &Window| source.bytes[window.at..].as_ptr();
            let operands = Operands {
                windows: [at(&pair[0]), at(&pair[pair.len() - 1])],
                stride: windows.stride,
                pixels: windows.pixels,
                runs: &source.runs,
                run: source.run,
                panels: [source.panel(block), source.panel(second)],
                pieces: source.panels.pieces,
                starts: &starts,
            };
            // SAFETY: `Source::check` has compared windows, runs and blocks with their memory, and `Unit::new` has made a unit
            // that this CPU has; the caller vouches for the set of `L`.
            unsafe {
                unit.run(source.products, &operands, pair.len(), panels, &mut sums);
                for (window, sums) in sums.0.iter().enumerate().take(pair.len()) {
                    for (panel, sums) in sums.iter().enumerate().take(panels) {
                        output.take::<L, V>(&sums[..windows.pixels], 2 * number + window, block + panel);
                    }
                }
            }
        }
    }
}

/// A block of values, zeros where there are no more.
#[inline(always)]
pub(super) fn block_of<T: Copy + Default>(values: &[T], block: usize) -> [T; NR] {
    let known = values.get(block * NR..).unwrap_or(&[]);
    // Whole blocks are registers, not a call that copies.
    known.first_chunk::<NR>().copied().unwrap_or_else(|| {
        let mut lanes = [T::default(); NR];
        lanes.iter_mut().zip(known).for_each(|(to, from)| *to = *from);
        lanes
    })
}
