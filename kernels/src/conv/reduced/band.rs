//! One phase of a band whose operands have fewer bits: tiles over windows of pixels that lie evenly in the slab.

use half::bf16;

use super::super::band::{finish, lattice};
use super::super::dense::{Pass, Phase, Target};
use super::super::micro::{NR, load, store};
use super::super::slab::Slab;
use super::panels::{Int8, Panels, ROW, ROWS, Row};
use super::tile::{Lane, Operands, Products, Sums, Unit};
use crate::simd::{Lanes, lanes_fn};

/// Some pixels side by side: where the first one's window begins in the slab, in elements, and its number in the band.
#[derive(Clone, Copy)]
struct Window {
    slab: usize,
    pixel: usize,
}

/// The pixels of a phase in a band.
struct Windows {
    list: Vec<Window>,
    /// Pixels of each, at most [`ROWS`].
    pixels: usize,
    /// Elements of the slab from one to the next.
    step: usize,
    /// Pixels of the band from one to the next.
    pixel_step: usize,
}

impl Windows {
    /// Cuts rows into the fewest windows of equal size; the last one of a row may share pixels with the one before. Rows
    /// that follow each other without a gap are one.
    fn new(pass: &Pass, phase: &Phase, (slab_width, channels): (usize, usize), target: &Target) -> Self {
        let (ow, (py, px)) = (pass.y_shape[2], phase.start);
        let (mut height, mut width) = lattice(pass, phase, target);
        if slab_width == width * pass.in_step && pass.in_step == 1 && pass.out_step == 1 {
            (height, width) = (1, height * width);
        }
        let count = width.div_ceil(ROWS);
        let pixels = width.div_ceil(count.max(1));
        let mut list = Vec::with_capacity(height * count);
        for j in 0..height {
            list.extend((0..count).map(|tile| {
                let i = (tile * pixels).min(width - pixels);
                Window {
                    slab: (j * slab_width + i) * pass.in_step * channels,
                    pixel: (j * pass.out_step + py) * ow + i * pass.out_step + px,
                }
            }));
        }
        Self { list, pixels, step: pass.in_step * channels, pixel_step: pass.out_step }
    }
}

/// What all tiles of a phase read.
struct Source<'a> {
    slab: &'a [u8],
    /// Bytes of an element.
    size: usize,
    /// In bytes.
    runs: Vec<usize>,
    run: usize,
    panels: &'a Panels,
    products: Products,
}

impl<'a> Source<'a> {
    /// # Panics
    /// When a window leads out of the slab, or a block of the target out of the weights.
    fn new<E: bytemuck::Pod>(
        phase: &Phase,
        panels: &'a Panels,
        slab: &'a Slab<E>,
        origin: (isize, isize),
        products: Products,
    ) -> Self {
        let size = size_of::<E>();
        let (runs, run) = phase.runs(origin, slab.width, slab.channels);
        let runs: Vec<usize> = runs.into_iter().map(|at| at * size).collect();
        assert!(runs.len() == panels.runs && (run * size).div_ceil(ROW) == panels.pieces, "runs of the weights");
        Self { slab: bytemuck::cast_slice(slab.data()), size, runs, run: run * size, panels, products }
    }

    fn check(&self, windows: &Windows, blocks: usize) {
        let first = windows.list.iter().map(|w| w.slab).max().unwrap_or(0);
        let last = (first + windows.pixels.saturating_sub(1) * windows.step) * self.size;
        let farthest = last + self.runs.iter().max().unwrap_or(&0) + self.panels.pieces * ROW;
        assert!(windows.list.is_empty() || farthest <= self.slab.len(), "a window leads out of the slab");
        assert!(blocks * self.panels.block() <= self.panels.rows.len(), "weights of all blocks");
    }

    /// The first row of a block.
    fn panel(&self, block: usize) -> *const Row {
        self.panels.rows[block * self.panels.block()..].as_ptr()
    }
}

lanes_fn! {
    /// One phase of one band in bf16; `origin` is the row and column of its first tap in the slab.
    pub(in super::super) fn compute_bf16<L, V, R>(
        pass: &Pass,
        phase: &Phase,
        weights: &Panels,
        slab: &Slab<bf16>,
        origin: (isize, isize),
        target: &mut Target,
    ) {
        let source = Source::new(phase, weights, slab, origin, Products::Bf16);
        let windows = Windows::new(pass, phase, (slab.width, slab.channels), target);
        let bias = pass.epilogue.bias.unwrap_or(&[]);
        let starts = |block: usize| block_of(bias, block).map(f32::to_bits);
        let values = |sums: &Lane, _: usize| sums.map(f32::from_bits);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { compute::<L, V>(pass, &source, &windows, starts, values, target) };
    }
}

lanes_fn! {
    /// One phase of one band in bytes; `origin` is the row and column of its first tap in the slab.
    pub(in super::super) fn compute_int8<L, V, R>(
        pass: &Pass,
        phase: &Phase,
        weights: &Int8,
        slab: &Slab<u8>,
        origin: (isize, isize),
        target: &mut Target,
    ) {
        let source = Source::new(phase, &weights.panels, slab, origin, Products::Int8);
        let windows = Windows::new(pass, phase, (slab.width, slab.channels), target);
        let bias = pass.epilogue.bias.unwrap_or(&[]);
        let starts = |block: usize| block_of(&weights.starts, block).map(|start: i32| start as u32);
        let values = |sums: &Lane, block: usize| {
            let (scales, bias) = (block_of(&weights.scales, block), block_of(bias, block));
            let mut values = [0.0; NR];
            // SAFETY: all are whole blocks; `lanes_fn` runs this only on CPUs with the set of `L`.
            unsafe {
                let (scales, bias): ([L; V], [L; V]) = (load(scales.as_ptr()), load(bias.as_ptr()));
                let mut sums_of = scales;
                for (v, value) in sums_of.iter_mut().enumerate() {
                    // Rounded twice on every set, so that all give the same bits.
                    *value = L::load_i32(sums.as_ptr().add(v * L::WIDTH).cast()).mul(scales[v]).add(bias[v]);
                }
                store(&sums_of, values.as_mut_ptr());
            }
            values
        };
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { compute::<L, V>(pass, &source, &windows, starts, values, target) };
    }
}

/// A block of values, zeros where there are no more.
#[inline(always)]
fn block_of<T: Copy + Default>(values: &[T], block: usize) -> [T; NR] {
    let mut lanes = [T::default(); NR];
    let known = values.get(block * NR..).unwrap_or(&[]);
    lanes.iter_mut().zip(known).for_each(|(to, from)| *to = *from);
    lanes
}

/// All tiles of a phase: `starts` gives what the sums of a block begin with, `values` what they come to.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
unsafe fn compute<L: Lanes, const V: usize>(
    pass: &Pass,
    source: &Source,
    windows: &Windows,
    starts: impl Fn(usize) -> Lane,
    values: impl Fn(&Lane, usize) -> [f32; NR],
    target: &mut Target,
) {
    source.check(windows, target.blocks.end);
    let unit = Unit::new(source.products, windows.pixels);
    let mut sums = Sums([[[[0; NR]; ROWS]; 2]; 2]);
    let blocks = target.blocks.clone();
    for block in blocks.clone().step_by(2) {
        let panels = (blocks.end - block).min(2);
        let starts = [starts(block), starts(block + 1)];
        let second = if panels == 2 { block + 1 } else { block };
        for pair in windows.list.chunks(2) {
            let at = |window: &Window| source.slab[window.slab * source.size..].as_ptr();
            let operands = Operands {
                windows: [at(&pair[0]), at(&pair[pair.len() - 1])],
                stride: windows.step * source.size,
                pixels: windows.pixels,
                runs: &source.runs,
                run: source.run,
                panels: [source.panel(block), source.panel(second)],
                pieces: source.panels.pieces,
                starts: &starts,
            };
            // SAFETY: `Source::check` has compared windows, runs and blocks with slab and weights; the instruction set does not
            // change while a band is computed; the caller vouches for the set of `L`.
            unsafe {
                unit.run(source.products, &operands, pair.len(), panels, &mut sums);
                for (window, sums) in pair.iter().zip(&sums.0) {
                    for (panel, sums) in sums.iter().enumerate().take(panels) {
                        for (i, lane) in sums.iter().enumerate().take(windows.pixels) {
                            let pixel = window.pixel + i * windows.pixel_step;
                            finish::<L, V>(pass, &values(lane, block + panel), pixel, block + panel, target);
                        }
                    }
                }
            }
        }
    }
}
