//! The convolution and its adjoint: launching `implicit_gemm.cu`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::{Pod, Zeroable};
use cubecl::prelude::*;

use super::super::pass::{Direction, Operands, PassSizes, PassVariant};
use super::division::Division;
use super::{STAGES, TERMS, THREADS, TILE, precision};
use crate::activation::Kind;
use crate::device::{Gpu, GpuBuffer, Precision, Queue, WARP, Written, launch, launch_written, macros, units};
use crate::error::Result;

/// Blocks that a multiprocessor has room for in f32, the least of all precisions.
const BLOCKS: usize = 3;

/// Most splits of the terms of a tile, and the fewest steps that are worth one.
const MOST_SPLITS: usize = 16;
const FEWEST_STEPS: usize = 4;

/// `Pass` of implicit_gemm.cu.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Pass {
    images: i32,
    in_h: i32,
    in_w: i32,
    in_stride: i32,
    in_first: i32,
    in_channels: i32,
    out_h: i32,
    out_w: i32,
    out_stride: i32,
    out_first: i32,
    out_channels: i32,
    taps: i32,
    in_step: i32,
    out_step: i32,
    lattice_h: i32,
    lattice_w: i32,
    by_h: Division,
    by_w: Division,
    row_tiles: i32,
    column_tiles: i32,
    phases: i32,
    splits: i32,
    parameter: f32,
}

/// Rows and columns of a tap from a lattice point's input pixel, and which of the weights it is.
type Tap = [i32; 4];

/// The taps of one phase of the output, `py` and `px` modulo the stride.
fn taps_of(s: &PassSizes, direction: Direction, py: usize, px: usize) -> Vec<Tap> {
    let taps = (0..s.kernel_h).flat_map(|r| (0..s.kernel_w).map(move |q| (r, q)));
    taps.filter_map(|(r, q)| {
        let dy = offset(r, py, (s.before_h, s.stride, s.dilation), direction)?;
        let dx = offset(q, px, (s.before_w, s.stride, s.dilation), direction)?;
        Some([dy, dx, (r * s.kernel_w + q) as i32, 0])
    })
    .collect()
}

/// Input pixels from a lattice point to what a tap reads along one axis; none where the tap does not reach the
/// phase.
fn offset(tap: usize, phase: usize, (before, stride, dilation): (usize, usize, usize), way: Direction) -> Option<i32> {
    let (reach, before, stride) = ((tap * dilation) as i32, before as i32, stride as i32);
    match way {
        Direction::Gather => Some(reach - before),
        Direction::Scatter => {
            let position = phase as i32 + before - reach;
            (position % stride == 0).then(|| position / stride)
        }
    }
}

/// The table of taps, a header for each phase first, and the most taps that a phase has.
fn table(s: &PassSizes, direction: Direction) -> (Vec<Tap>, usize) {
    let step = if direction == Direction::Gather { 1 } else { s.stride };
    let phases: Vec<(usize, usize)> = (0..step * step).map(|p| (p / step, p % step)).collect();
    let (mut headers, mut entries) = (Vec::new(), Vec::new());
    for (py, px) in &phases {
        let taps = taps_of(s, direction, *py, *px);
        headers.push([(phases.len() + entries.len()) as i32, taps.len() as i32, *py as i32, *px as i32]);
        entries.extend(taps);
    }
    let most = headers.iter().map(|header| header[1] as usize).max().unwrap_or(0);
    headers.extend(entries);
    (headers, most)
}

/// Number of an activation in activation.cuh.
fn number(kind: Kind) -> usize {
    match kind {
        Kind::Identity => 0,
        Kind::Relu => 1,
        Kind::Relu6 => 2,
        Kind::LeakyRelu => 3,
        Kind::Elu => 4,
        Kind::Sigmoid => 5,
        Kind::Tanh => 6,
        Kind::HardSigmoid => 7,
        Kind::HardSwish => 8,
    }
}

fn kernel(gpu: &Gpu, v: &PassVariant) -> Written {
    Written {
        entry: "implicit_gemm",
        parts: &[WARP, include_str!("division.cuh"), include_str!("activation.cuh"), include_str!("implicit_gemm.cu")],
        macros: macros(&[
            ("PRECISION", precision(gpu)),
            ("ACTIVATION", number(v.activation)),
            ("BIAS", v.bias.into()),
            ("RESIDUAL", v.residual.into()),
            ("ATTENTION", v.attention.into()),
            ("POOLED", v.pooled.into()),
            ("GATED", v.gated.into()),
        ]),
        threads: THREADS,
        shared: (STAGES * 2 * TILE * TERMS * size_of::<f32>()) as u32,
        writable: &[false, false, false, false, false, false, true, true, true],
        cooperative: false,
    }
}

/// How many blocks share the terms of a tile, so that all multiprocessors have work.
fn splits(queue: &Queue, tiles: usize, steps: usize) -> usize {
    let room = queue.limits().multiprocessors as usize * BLOCKS;
    (room / tiles.max(1)).min(steps / FEWEST_STEPS).clamp(1, MOST_SPLITS)
}

/// What depends on shapes alone.
struct PassPlan {
    pass: Pass,
    taps: Vec<u32>,
    kernel: Written,
    /// Tiles of all phases.
    tiles: usize,
}

/// What a plan is made for: the pass, the activation's parameter, the precision, the multiprocessors.
type Key = (PassSizes, PassVariant, u32, Precision, u32);

/// Plans that are kept at most; then all are made anew.
const MOST_PLANS: usize = 4096;

impl PassPlan {
    /// The plan of a pass, made when first asked for.
    fn get(gpu: &Gpu, queue: &Queue, s: &PassSizes, v: &PassVariant, parameter: f32) -> Arc<Self> {
        static PLANS: Mutex<Option<HashMap<Key, Arc<PassPlan>>>> = Mutex::new(None);
        let key = (*s, *v, parameter.to_bits(), gpu.precision(), queue.limits().multiprocessors);
        let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
        let plans = plans.get_or_insert_default();
        if plans.len() == MOST_PLANS {
            plans.clear();
        }
        plans.entry(key).or_insert_with(|| Arc::new(Self::new(gpu, queue, s, v, parameter))).clone()
    }

    fn new(gpu: &Gpu, queue: &Queue, s: &PassSizes, v: &PassVariant, parameter: f32) -> Self {
        let gather = v.direction == Direction::Gather;
        let (taps, most) = table(s, v.direction);
        let step = if gather { 1 } else { s.stride };
        let columns = s.out_channels.div_ceil(if v.gated { TILE / 2 } else { TILE });
        let rows = s.rows(v).div_ceil(TILE);
        let tiles = rows * columns * step * step;
        let lattice = |n: usize| if v.pooled { n / 2 } else { n.div_ceil(step) };
        let (lattice_h, lattice_w) = (lattice(s.out_h), lattice(s.out_w));
        let pass = Pass {
            images: s.images as i32,
            in_h: s.in_h as i32,
            in_w: s.in_w as i32,
            in_stride: s.in_stride as i32,
            in_first: s.in_first as i32,
            in_channels: s.in_channels as i32,
            out_h: s.out_h as i32,
            out_w: s.out_w as i32,
            out_stride: s.out_stride as i32,
            out_first: s.out_first as i32,
            out_channels: s.out_channels as i32,
            taps: (s.kernel_h * s.kernel_w) as i32,
            in_step: if gather { s.stride as i32 } else { 1 },
            out_step: step as i32,
            lattice_h: lattice_h as i32,
            lattice_w: lattice_w as i32,
            by_h: Division::by(lattice_h),
            by_w: Division::by(lattice_w),
            row_tiles: rows as i32,
            column_tiles: columns as i32,
            phases: (step * step) as i32,
            splits: splits(queue, tiles, most * s.in_channels.div_ceil(TERMS)) as i32,
            parameter,
        };
        Self { pass, taps: bytemuck::cast_slice(&taps).to_vec(), kernel: kernel(gpu, v), tiles }
    }
}

/// Queues one group of a convolution, or of its adjoint, whose weights are turned round first.
pub(in super::super) fn run(
    gpu: &Gpu,
    s: &PassSizes,
    v: &PassVariant,
    parameter: f32,
    operands: &Operands,
) -> Result<()> {
    let Operands { x, w, bias, residual, attention, y } = operands;
    let turned;
    let w: &GpuBuffer = match v.direction {
        Direction::Gather => w,
        Direction::Scatter => {
            turned = turned_weights(gpu, s, w)?;
            &turned
        }
    };
    let Some(queue) = gpu.cuda() else { unreachable!("takes was asked") };
    let plan = PassPlan::get(gpu, queue, s, v, parameter);
    let (tiles, splits) = (plan.tiles, plan.pass.splits as usize);
    let taps = gpu.constants(&plan.taps)?;
    let partial = gpu.alloc::<f32>(if splits > 1 { tiles * splits * TILE * TILE } else { 1 })?;
    let arrived = gpu.counters(if splits > 1 { tiles } else { 1 })?;
    let buffers = [
        x.handle(),
        w.handle(),
        bias.unwrap_or(w).handle(),
        residual.unwrap_or(x).handle(),
        attention.unwrap_or(x).handle(),
        taps.handle(),
        partial.handle(),
        arrived.handle(),
        y.handle(),
    ];
    launch_written(queue, plan.kernel.clone(), tiles * splits, &buffers, &plan.pass);
    Ok(())
}

/// Weights `[out][tap][in]` of all groups as `[in][tap][out]`, in and out of a group, groups one after another.
fn turned_weights(gpu: &Gpu, s: &PassSizes, w: &GpuBuffer) -> Result<GpuBuffer> {
    let (taps, inside, outside) = (s.kernel_h * s.kernel_w, s.out_channels, s.in_channels);
    let turned = gpu.alloc::<f32>(w.len())?;
    let n = w.len();
    launch!(gpu, turn_kernel, units(n), w.arg(), turned.arg(), n, taps, inside, outside);
    Ok(turned)
}

#[cube(launch_unchecked)]
fn turn_kernel(w: &Array<f32>, turned: &mut Array<f32>, n: usize, taps: usize, inside: usize, outside: usize) {
    let at = ABSOLUTE_POS;
    if at < n {
        let out = at % outside;
        let tap = at / outside % taps;
        let channel = at / (outside * taps) % inside;
        let group = at / (outside * taps * inside);
        turned[at] = w[((group * outside + out) * taps + tap) * inside + channel];
    }
}
