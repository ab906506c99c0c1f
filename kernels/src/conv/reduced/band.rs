//! One phase of a band whose operands have fewer bits: tiles over windows of pixels that lie evenly in the slab.

use half::bf16;

use super::super::band::{finish, lattice};
use super::super::dense::{Pass, Target};
use super::super::micro::{NR, store};
use super::super::packed::Phase;
use super::super::slab::Slab;
use super::panels::{Int8, Panels};
use super::tile::{Lane, Products};
use super::tiles::{Output, Source, Window, Windows, block_of, run};
use super::values::Values;
use crate::device::Reused;
use crate::simd::{Lanes, lanes_fn};

/// The pixels of a phase in a band, whose slab has elements of `size` bytes. Rows that follow each other without a gap are one.
fn windows<E: bytemuck::Pod>(pass: &Pass, phase: &Phase, slab: &Slab<E>, target: &Target) -> Windows {
    let (ow, (py, px)) = (pass.y_shape[2], phase.start);
    let (mut height, mut width) = lattice(pass, phase, target);
    if slab.width == width && pass.in_step == 1 && pass.out_step == 1 {
        (height, width) = (1, height * width);
    }
    let stride = pass.in_step * slab.channels * size_of::<E>();
    let (firsts, pixels) = Windows::cut(width, 1);
    let mut list = Reused::uninit(height * firsts.len());
    for (j, row) in list.chunks_exact_mut(firsts.len().max(1)).enumerate() {
        row.iter_mut().zip(firsts.clone()).for_each(|(window, i)| {
            *window = Window {
                at: (j * slab.width + i) * stride,
                pixel: (j * pass.out_step + py) * ow + i * pass.out_step + px,
            };
        });
    }
    Windows { list, pixels, stride }
}

fn source<'a, E: bytemuck::Pod>(
    phase: &Phase,
    panels: &'a Panels,
    slab: &'a Slab<E>,
    origin: (isize, isize),
    products: Products,
) -> Source<'a> {
    let (mut runs, run) = phase.runs(origin, slab.width, slab.channels);
    runs.iter_mut().for_each(|at| *at *= size_of::<E>());
    Source { bytes: bytemuck::cast_slice(slab.data()), runs, run: run * size_of::<E>(), panels, first_run: 0, products }
}

/// The epilogue of a band.
struct Band<'a, 't> {
    pass: &'a Pass<'a>,
    windows: &'a Windows,
    /// Weights in bytes, none where sums are values.
    int8: Option<&'a Int8>,
    target: &'a mut Target<'t>,
}

impl Band<'_, '_> {
    fn bias(&self, block: usize) -> [f32; NR] {
        block_of(self.pass.epilogue.bias.unwrap_or(&[]), block)
    }
}

impl Output for Band<'_, '_> {
    fn starts(&self, block: usize) -> Lane {
        match self.int8 {
            Some(weights) => block_of(&weights.starts, block).map(|start| start as u32),
            None => self.bias(block).map(f32::to_bits),
        }
    }

    #[inline(always)]
    unsafe fn take<L: Lanes, const V: usize>(&mut self, sums: &[Lane], window: usize, block: usize) {
        let values = match self.int8 {
            Some(weights) => Values::Scaled { scales: block_of(&weights.scales, block), added: self.bias(block) },
            None => Values::Sums,
        };
        let first = self.windows.list[window].pixel;
        for (i, sums) in sums.iter().enumerate() {
            let mut lanes = [0.0; NR];
            // SAFETY: NR values are written; the caller vouches for the set.
            unsafe {
                store(&values.of::<L, V>(sums), lanes.as_mut_ptr());
                finish::<L, V>(self.pass, &lanes, first + i * self.pass.out_step, block, self.target);
            }
        }
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
        let (windows, blocks) = (windows(pass, phase, slab, target), target.blocks.clone());
        let source = source(phase, weights, slab, origin, Products::Bf16);
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { run::<L, V>(&source, &windows, blocks, &mut Band { pass, windows: &windows, int8: None, target }) };
    }
}

lanes_fn! {
    /// One phase of one band in bytes, widened or not; `origin` is the row and column of its first tap in the slab.
    pub(in super::super) fn compute_int8[E: bytemuck::Pod][E]<L, V, R>(
        pass: &Pass,
        phase: &Phase,
        weights: &Int8,
        slab: &Slab<E>,
        origin: (isize, isize),
        target: &mut Target,
    ) {
        let (windows, blocks) = (windows(pass, phase, slab, target), target.blocks.clone());
        let source = source(phase, &weights.panels, slab, origin, weights.products);
        let mut band = Band { pass, windows: &windows, int8: Some(weights), target };
        // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
        unsafe { run::<L, V>(&source, &windows, blocks, &mut band) };
    }
}
