//! One phase of a band whose operands have fewer bits: tiles over windows of pixels that lie evenly in the slab.

use half::bf16;

use super::super::band::{finish, lattice};
use super::super::dense::{Pass, Phase, Target};
use super::super::micro::{NR, store};
use super::super::slab::Slab;
use super::panels::{Int8, Panels};
use super::tile::{Lane, Products};
use super::tiles::{Source, Window, Windows, block_of, run};
use super::values::Values;
use crate::simd::{Lanes, lanes_fn};

/// The pixels of a phase in a band, whose slab has elements of `size` bytes. Rows that follow each other without a gap are one.
fn windows<E>(pass: &Pass, phase: &Phase, slab: &Slab<E>, target: &Target) -> Windows {
    let (ow, (py, px)) = (pass.y_shape[2], phase.start);
    let (mut height, mut width) = lattice(pass, phase, target);
    if slab.width == width && pass.in_step == 1 && pass.out_step == 1 {
        (height, width) = (1, height * width);
    }
    let stride = pass.in_step * slab.channels * size_of::<E>();
    let mut list = Vec::new();
    for j in 0..height {
        list.extend(Windows::cut(width).0.map(|i| Window {
            at: (j * slab.width + i) * stride,
            pixel: (j * pass.out_step + py) * ow + i * pass.out_step + px,
        }));
    }
    Windows { list, pixels: Windows::cut(width).1, stride }
}

fn source<'a, E: bytemuck::Pod>(
    phase: &Phase,
    panels: &'a Panels,
    slab: &'a Slab<E>,
    origin: (isize, isize),
    products: Products,
) -> Source<'a> {
    let (runs, run) = phase.runs(origin, slab.width, slab.channels);
    Source {
        bytes: bytemuck::cast_slice(slab.data()),
        runs: runs.into_iter().map(|at| at * size_of::<E>()).collect(),
        run: run * size_of::<E>(),
        panels,
        first_run: 0,
        products,
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
        let windows = windows(pass, phase, slab, target);
        let bias = pass.epilogue.bias.unwrap_or(&[]);
        let starts = |block: usize| block_of(bias, block).map(f32::to_bits);
        run(&source(phase, weights, slab, origin, Products::Bf16), &windows, target.blocks.clone(), starts,
            // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
            |sums, window, block| unsafe {
                write::<L, V>(pass, &Values::Sums, (sums, windows.list[window].pixel), block, target);
            });
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
        let windows = windows(pass, phase, slab, target);
        let bias = pass.epilogue.bias.unwrap_or(&[]);
        let starts = |block: usize| block_of(&weights.starts, block).map(|start| start as u32);
        run(&source(phase, &weights.panels, slab, origin, Products::Int8), &windows, target.blocks.clone(), starts,
            |sums, window, block| {
                let values = Values::Scaled { scales: block_of(&weights.scales, block), added: block_of(bias, block) };
                // SAFETY: `lanes_fn` runs this only on CPUs with the set of `L`.
                unsafe { write::<L, V>(pass, &values, (sums, windows.list[window].pixel), block, target) };
            });
    }
}

/// The pixels of a window, of which the first has number `pixel`, through the epilogue.
///
/// # Safety
/// The CPU has the set of `L`.
#[inline(always)]
unsafe fn write<L: Lanes, const V: usize>(
    pass: &Pass,
    values: &Values,
    (sums, pixel): (&[Lane], usize),
    block: usize,
    target: &mut Target,
) {
    for (i, sums) in sums.iter().enumerate() {
        let mut lanes = [0.0; NR];
        // SAFETY: NR values are written; the caller vouches for the set.
        unsafe {
            store(&values.of::<L, V>(sums), lanes.as_mut_ptr());
            finish::<L, V>(pass, &lanes, pixel + i * pass.out_step, block, target);
        }
    }
}
