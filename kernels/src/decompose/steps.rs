//! All steps of the decomposition in one launch (steps.cu), where every tile of the batch is on the device at once.

use bytemuck::{Pod, Zeroable};

use super::gpu::LARGEST_WINDOW;
use crate::adam::AdamStep;
use crate::border::Border;
use crate::device::{COOPERATIVE, GpuBuffer, Queue, UNITS, WARP, Written, launch_written, macros};
use crate::error::Result;
use crate::ssim::gpu::{GROUP, Layout, TILE};

/// Blocks that a multiprocessor can hold: the kernel is compiled for two.
const BLOCKS: usize = 2;

/// Bytes of the shared memory of each block that the runtime reserves.
const RESERVED: usize = 1024;

/// `Shape` of steps.cu.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Shape {
    h: i32,
    w: i32,
    c: i32,
    oh: i32,
    ow: i32,
    steps: i32,
    c1: f32,
    c2: f32,
    scale: f32,
    upstream: f32,
    lambda: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
}

/// Number of a border in steps.cu.
fn number(border: Border) -> usize {
    match border {
        Border::Valid => 0,
        Border::Symmetric => 1,
        Border::Reflect101 => 2,
        Border::Zero => 3,
    }
}

/// Bytes of `Shared` of steps.cu.
fn shared(size: usize) -> usize {
    let (halo, wide) = (TILE - 1 + size, TILE - 2 + 2 * size);
    let row_pitch = halo | 1;
    let (square, rows) = (wide * (wide + 1) + GROUP, 3 * wide * row_pitch + 3 * row_pitch);
    (2 * square + 3 * halo * row_pitch + rows + 2 * TILE * size) * size_of::<f32>()
}

/// The queue of a device that has all blocks at once.
pub(super) fn queue_that_fits(layout: &Layout) -> Option<&Queue> {
    let queue = layout.gpu.cuda()?;
    let limits = queue.limits();
    let fits = layout.size <= LARGEST_WINDOW
        && layout.image_cubes() <= BLOCKS * limits.multiprocessors as usize
        && BLOCKS * (shared(layout.size) + RESERVED) <= limits.shared_memory;
    (fits && limits.cooperative).then_some(queue)
}

/// Queues all steps; there is one at least.
pub(super) fn run(
    (queue, layout): (&Queue, &Layout),
    (x, prior): (&GpuBuffer, &GpuBuffer),
    (upstream, lambda): (f32, f32),
    steps: &[AdamStep],
    l: &mut GpuBuffer,
) -> Result<()> {
    let gpu = &layout.gpu;
    let kernel = Written {
        entry: "decompose_steps",
        parts: &[WARP, COOPERATIVE, include_str!("steps.cu")],
        macros: macros(&[("SIZE", layout.size), ("BORDER", number(layout.border)), ("SHARED", shared(layout.size))]),
        threads: UNITS,
        shared: shared(layout.size) as u32,
        writable: &[false, false, false, false, false, false, true, true, true],
        cooperative: true,
    };
    let ([n, h, w, c], (oh, ow), k, adam) = (layout.shape, layout.out, layout.constants(), steps[0]);
    let shape = Shape {
        h: h as i32,
        w: w as i32,
        c: c as i32,
        oh: oh as i32,
        ow: ow as i32,
        steps: steps.len() as i32,
        c1: k.c1,
        c2: k.c2,
        scale: k.scale,
        upstream,
        lambda,
        beta1: adam.beta1,
        one_minus_beta1: adam.one_minus_beta1,
        beta2: adam.beta2,
        one_minus_beta2: adam.one_minus_beta2,
        eps: adam.eps,
    };
    let rates: Vec<f32> = steps.iter().flat_map(|step| [step.rate, step.correction]).collect();
    let (rates, other, arrived) = (gpu.constants(&rates)?, gpu.alloc::<f32>(l.len())?, gpu.counters(n * c)?);
    let tables = [&layout.weights, &layout.row_band, &layout.column_band, &rates].map(GpuBuffer::handle);
    let [weights, rows, columns, rates] = tables;
    let (x, prior, l) = (x.handle(), prior.handle(), l.handle());
    let buffers = [x, prior, weights, rows, columns, rates, l, other.handle(), arrived.handle()];
    launch_written(queue, kernel, layout.image_cubes(), &buffers, &shape);
    Ok(())
}
