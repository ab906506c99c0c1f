//! conv2d: cross-correlation with zero padding, bias and activation fused.
//!
//! `y[n, j, i, o] = act(b[o] + sum over r, s, c of x[n, j*stride + r*dilation - p, i*stride + s*dilation - p, c] * w[o, r, s, c])`
//!
//! Layout: maps NHWC, weights OHWI. Source: PyTorch `conv2d`, which the golden vectors follow.

use rayon::prelude::*;
use smallvec::SmallVec;

use super::dense::{self, Epilogue, Pass};
use super::implicit_gemm;
use super::micro::NR;
use super::packed::{Offsets, Packed, Phase, pack, pack_columns, pack_rows};
use super::pass::{Direction, Operands, PassSizes};
use super::{ConvOptions, Geometry, depthwise, weight_grad};
use crate::activation::Activation;
use crate::device::{Gpu, HostBuffer, Reused, View, ViewMut, place};
use crate::error::{Result, check_len};
use crate::reduce::{Column, column_sums};
use crate::shape::Nhwc;

/// The taps and packed weights of one group.
pub(super) fn forward_phase(g: &Geometry, w: &[f32], group: usize) -> Phase {
    let [_, kh, kw, cin] = g.w;
    let cout = g.y[3] / g.opts.groups;
    let offsets = |k: usize| (0..k).map(|t| (t * g.opts.dilation) as isize).collect();
    Phase {
        rows: offsets(kh),
        cols: offsets(kw),
        start: (0, 0),
        packed: Packed::F32(pack_rows(&w[group * cout * kh * kw * cin..(group + 1) * cout * kh * kw * cin], cout)),
        transformed: None,
    }
}

/// The dense pass of one group.
pub(super) fn forward_pass<'a>(
    g: &Geometry,
    group: usize,
    x: &'a [f32],
    phases: &'a [Phase],
    epilogue: Epilogue<'a>,
) -> Pass<'a> {
    let (cin, cout) = (g.w[3], g.y[3] / g.opts.groups);
    Pass {
        x,
        x_shape: g.x,
        x_channels: (group * cin, cin),
        y_shape: g.y,
        y_channels: (group * cout, cout),
        in_step: g.opts.stride,
        in_start: g.before.map(|zeros| -(zeros as isize)),
        out_step: 1,
        phases,
        epilogue: Epilogue { bias: epilogue.bias.map(|b| &b[group * cout..(group + 1) * cout]), ..epilogue },
        mask: None,
    }
}

/// Forward: writes `y` of shape `[n, oh, ow, o]` and returns that shape.
///
/// # Errors
/// When shapes, options, lengths or devices do not fit together.
#[allow(clippy::too_many_arguments)] // a convolution has this many operands
pub fn conv2d<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    w: impl Into<View<'a>>,
    w_shape: [usize; 4],
    bias: Option<View<'a>>,
    opts: ConvOptions,
    activation: Activation,
    y: impl Into<ViewMut<'a>>,
) -> Result<Nhwc> {
    const OP: &str = "conv2d";
    let (x, w, y) = (x.into(), w.into(), y.into());
    let g = Geometry::new(OP, x_shape, w_shape, opts)?;
    g.check_x(OP, x.len())?;
    g.check_w(OP, w.len())?;
    g.check_y(OP, y.len())?;
    if let Some(b) = bias {
        check_len(OP, "bias", b.len(), g.y[3])?;
    }
    let gpu = place(OP, &[&x, &w, &bias.unwrap_or(w), &y])?;
    match gpu {
        None => on_host(&g, x.host(), w.host(), bias.map(View::host), activation, y.host()),
        Some(gpu) => {
            let operands = Operands::new(x.device(), w.device(), bias.map(View::device), y.device());
            on_gpu(&gpu, &g, Direction::Gather, &operands, activation)?;
        }
    }
    Ok(g.y)
}

fn on_host(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
    if g.is_depthwise() {
        depthwise::forward(g, x, w, bias, activation, y);
        return;
    }
    for group in 0..g.opts.groups {
        let phases = [forward_phase(g, w, group)];
        dense::run(&forward_pass(g, group, x, &phases, Epilogue::new(bias, activation)), y);
    }
}

/// Queues a convolution or its adjoint, group by group; depthwise adjoints do not come here.
pub(super) fn on_gpu(
    gpu: &Gpu,
    g: &Geometry,
    direction: Direction,
    operands: &Operands,
    activation: Activation,
) -> Result<()> {
    if g.is_depthwise() {
        depthwise::forward_on_gpu(gpu, g, operands, activation);
        return Ok(());
    }
    for group in 0..g.opts.groups {
        implicit_gemm::run(gpu, &PassSizes::new(g, group, direction), direction, false, activation, operands)?;
    }
    Ok(())
}

/// Forward with a 2x2 max pooling of stride 2 in the epilogue, for inference: writes `y` of shape
/// `[n, oh / 2, ow / 2, o]`. The convolution's own output is never in memory as a whole. One group.
///
/// # Errors
/// When shapes, options, lengths or devices do not fit together.
#[allow(clippy::too_many_arguments)] // a convolution has this many operands
pub fn conv2d_max_pool2<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    w: impl Into<View<'a>>,
    w_shape: [usize; 4],
    bias: impl Into<View<'a>>,
    opts: ConvOptions,
    activation: Activation,
    y: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "conv2d_max_pool2";
    let (x, w, bias, y) = (x.into(), w.into(), bias.into(), y.into());
    let g = Geometry::new(OP, x_shape, w_shape, ConvOptions { groups: 1, ..opts })?;
    let [n, oh, ow, o] = g.y;
    g.check_x(OP, x.len())?;
    g.check_w(OP, w.len())?;
    check_len(OP, "bias", bias.len(), o)?;
    check_len(OP, "output", y.len(), n * (oh / 2) * (ow / 2) * o)?;
    match place(OP, &[&x, &w, &bias, &y])? {
        None => {
            let phases = [forward_phase(&g, w.host(), 0)];
            let epilogue = Epilogue::new(Some(bias.host()), activation);
            dense::run_pooled(&forward_pass(&g, 0, x.host(), &phases, epilogue), y.host());
        }
        Some(_) => {
            let operands = Operands::new(x.device(), w.device(), Some(bias.device()), y.device());
            pooled_on_gpu(&g, activation, &operands)?;
        }
    }
    Ok(())
}

/// Queues a convolution with pooling in its epilogue.
pub(super) fn pooled_on_gpu(g: &Geometry, activation: Activation, operands: &Operands) -> Result<()> {
    let sizes = PassSizes::new(g, 0, Direction::Gather);
    implicit_gemm::run(operands.x.gpu(), &sizes, Direction::Gather, true, activation, operands)
}

/// Gradient with respect to the input: writes `dx` of shape `x_shape` from `grad`, the gradient of
/// the output before the activation.
///
/// # Errors
/// When shapes, options, lengths or devices do not fit together.
pub fn conv2d_backward_data<'a>(
    grad: impl Into<View<'a>>,
    x_shape: Nhwc,
    w: impl Into<View<'a>>,
    w_shape: [usize; 4],
    opts: ConvOptions,
    dx: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "conv2d_backward_data";
    let (grad, w, dx) = (grad.into(), w.into(), dx.into());
    let g = Geometry::new(OP, x_shape, w_shape, opts)?;
    g.check_y(OP, grad.len())?;
    g.check_w(OP, w.len())?;
    g.check_x(OP, dx.len())?;
    match place(OP, &[&grad, &w, &dx])? {
        None if g.is_depthwise() => depthwise::backward_data(&g, grad.host(), w.host(), dx.host()),
        None => {
            let dx = dx.host();
            for group in 0..opts.groups {
                scatter(&g, group, grad.host(), w.host(), Epilogue::default(), dx);
            }
        }
        Some(gpu) if g.is_depthwise() => {
            depthwise::backward_data_on_gpu(&gpu, &g, grad.device(), w.device(), dx.device());
        }
        Some(gpu) => {
            let operands = Operands::new(grad.device(), w.device(), None, dx.device());
            on_gpu(&gpu, &g, Direction::Scatter, &operands, Activation::Identity)?;
        }
    }
    Ok(())
}

/// The adjoint of a convolution, one dense pass per residue of the output position modulo the
/// stride. Also the forward pass of a transposed convolution.
pub(super) fn scatter(g: &Geometry, group: usize, grad: &[f32], w: &[f32], epilogue: Epilogue, dx: &mut [f32]) {
    if is_narrow(g) {
        scatter_joined(g, grad, w, epilogue, dx);
    } else {
        dense::run(&scatter_pass(g, group, grad, &scatter_phases(g, group, w), epilogue), dx);
    }
}

/// Whether all phases of an adjoint fit into one register tile.
pub(super) fn is_narrow(g: &Geometry) -> bool {
    let stride = g.opts.stride;
    stride > 1 && g.opts.groups == 1 && stride * stride * g.w[3] <= NR
}

/// The taps and packed weights of the adjoint of one group.
pub(super) fn scatter_phases(g: &Geometry, group: usize, w: &[f32]) -> SmallVec<[Phase; 4]> {
    let [_, kh, kw, cin] = g.w;
    let stride = g.opts.stride;
    let cout = g.y[3] / g.opts.groups;
    (0..stride * stride)
        .map(|p| {
            let (py, px) = (p / stride, p % stride);
            let (row_taps, rows) = phase_taps(py, kh, g.before[0], g.opts);
            let (col_taps, cols) = phase_taps(px, kw, g.before[1], g.opts);
            let taps: Reused<usize> = row_taps.iter().flat_map(|r| col_taps.iter().map(move |s| r * kw + s)).collect();
            let own = &w[group * cout * kh * kw * cin..(group + 1) * cout * kh * kw * cin];
            let packed = pack_columns(own, cout, cin, &taps);
            Phase { rows, cols, start: (py, px), packed: Packed::F32(packed), transformed: None }
        })
        .collect()
}

/// The dense pass of the adjoint of one group.
pub(super) fn scatter_pass<'a>(
    g: &Geometry,
    group: usize,
    grad: &'a [f32],
    phases: &'a [Phase],
    epilogue: Epilogue<'a>,
) -> Pass<'a> {
    let (cin, cout) = (g.w[3], g.y[3] / g.opts.groups);
    Pass {
        x: grad,
        x_shape: g.y,
        x_channels: (group * cout, cout),
        y_shape: g.x,
        y_channels: (group * cin, cin),
        in_step: 1,
        in_start: [0, 0],
        out_step: g.opts.stride,
        phases,
        epilogue,
        mask: None,
    }
}

/// Numbers and offsets of taps along an axis.
type Taps = SmallVec<[(usize, isize); 8]>;

/// [`scatter`] for few channels: all phases are lanes of one pass over the union of their taps, into
/// a map of `stride * stride * channels` that is then spread over the pixels. Wastes products with
/// zero weights, but fills the register tile that single phases would leave mostly empty.
fn scatter_joined(g: &Geometry, grad: &[f32], w: &[f32], epilogue: Epilogue, dx: &mut [f32]) {
    let [n, h, wd, c] = g.x;
    let [cout, kh, kw, _] = g.w;
    let stride = g.opts.stride;
    let taps = |k: usize, before: usize| -> SmallVec<[Taps; 4]> {
        let pair = |p| phase_taps(p, k, before, g.opts);
        (0..stride).map(pair).map(|(t, o)| t.into_iter().zip(o).collect()).collect()
    };
    let offsets = |taps: &[Taps]| -> Offsets {
        let all = || taps.iter().flatten().map(|(_, o)| *o);
        (all().min().unwrap_or(0)..=all().max().unwrap_or(0)).collect()
    };
    let (row_taps, col_taps) = (taps(kh, g.before[0]), taps(kw, g.before[1]));
    let (rows, cols) = (offsets(&row_taps), offsets(&col_taps));
    let at = |taps: &[(usize, isize)], offset: isize| taps.iter().find(|(_, o)| *o == offset).map(|(t, _)| *t);
    let lanes = stride * stride * c;
    let packed = pack(rows.len() * cols.len(), cout, lanes, |lane, tap, o| {
        let (phase, channel) = (lane / c, lane % c);
        let r = at(&row_taps[phase / stride], rows[tap / cols.len()]);
        let s = at(&col_taps[phase % stride], cols[tap % cols.len()]);
        r.zip(s).map_or(0.0, |(r, s)| w[((o * kh + r) * kw + s) * c + channel])
    });
    let joined_shape = [n, h.div_ceil(stride), wd.div_ceil(stride), lanes];
    let mut joined = HostBuffer::uninit(joined_shape.iter().product());
    let repeat = |bias: &[f32]| Reused::collect((0..lanes).map(|lane| bias[lane % c]));
    let repeated = epilogue.bias.map(repeat);
    let pass = Pass {
        x: grad,
        x_shape: g.y,
        x_channels: (0, cout),
        y_shape: joined_shape,
        y_channels: (0, lanes),
        in_step: 1,
        in_start: [0, 0],
        out_step: 1,
        phases: &[Phase { rows, cols, start: (0, 0), packed: Packed::F32(packed), transformed: None }],
        epilogue: Epilogue::new(repeated.as_deref(), epilogue.activation),
        mask: None,
    };
    dense::run(&pass, &mut joined);
    let [_, jh, jw, _] = joined_shape;
    dx.par_chunks_mut(wd * c).enumerate().for_each(|(line, out)| {
        let (image, y) = (line / h, line % h);
        let row = (image * jh + y / stride) * jw;
        for (x, pixel) in out.chunks_exact_mut(c).enumerate() {
            let from = (row + x / stride) * lanes + ((y % stride) * stride + x % stride) * c;
            pixel.copy_from_slice(&joined[from..from + c]);
        }
    });
}

/// Taps that reach input positions `stride * j + phase`, and the output position, relative to `j`,
/// that each reads; ascending in that offset. `before` zeros precede the axis.
fn phase_taps(phase: usize, k: usize, before: usize, opts: ConvOptions) -> (SmallVec<[usize; 8]>, Offsets) {
    let stride = opts.stride as isize;
    (0..k)
        .rev()
        .map(|t| (t, (phase + before) as isize - (t * opts.dilation) as isize))
        .filter(|(_, position)| position.rem_euclid(stride) == 0)
        .map(|(t, position)| (t, position.div_euclid(stride)))
        .unzip()
}

/// Gradient with respect to the weights: adds to `dw` (OHWI).
///
/// # Errors
/// When shapes, options, lengths or devices do not fit together.
pub fn conv2d_backward_weight<'a>(
    x: impl Into<View<'a>>,
    x_shape: Nhwc,
    grad: impl Into<View<'a>>,
    w_shape: [usize; 4],
    opts: ConvOptions,
    dw: impl Into<ViewMut<'a>>,
) -> Result<()> {
    const OP: &str = "conv2d_backward_weight";
    let (x, grad, dw) = (x.into(), grad.into(), dw.into());
    let g = Geometry::new(OP, x_shape, w_shape, opts)?;
    g.check_x(OP, x.len())?;
    g.check_y(OP, grad.len())?;
    g.check_w(OP, dw.len())?;
    match place(OP, &[&x, &grad, &dw])? {
        None if g.is_depthwise() => depthwise::backward_weight(&g, x.host(), grad.host(), dw.host()),
        None => {
            let dw = dw.host();
            for group in 0..opts.groups {
                weight_grad::run(&g, group, x.host(), grad.host(), dw);
            }
        }
        Some(gpu) if g.is_depthwise() => {
            depthwise::backward_weight_on_gpu(&gpu, &g, x.device(), grad.device(), dw.device())?;
        }
        Some(gpu) => weight_grad::run_on_gpu(&gpu, &g, x.device(), grad.device(), dw.device())?,
    }
    Ok(())
}

/// Gradient with respect to the bias: adds the sum of `grad` over images and pixels to `db`, in a
/// fixed order.
///
/// # Errors
/// When `grad` is not a whole number of images of `shape`, or devices differ.
pub fn conv2d_backward_bias<'a>(grad: impl Into<View<'a>>, shape: Nhwc, db: impl Into<ViewMut<'a>>) -> Result<()> {
    const OP: &str = "conv2d_backward_bias";
    let (grad, db) = (grad.into(), db.into());
    let [n, h, w, c] = shape;
    check_len(OP, "gradient", grad.len(), n * h * w * c)?;
    check_len(OP, "bias gradient", db.len(), c)?;
    match place(OP, &[&grad, &db])? {
        Some(gpu) => {
            let grad = grad.device();
            column_sums(&gpu, Column::Value, (grad, grad), (grad, grad), 1.0, db.device(), true)
        }
        None => {
            let row_sum = |row: &[f32]| {
                let mut sum = vec![0.0; c];
                for pixel in row.chunks_exact(c) {
                    sum.iter_mut().zip(pixel).for_each(|(s, v)| *s += v);
                }
                sum
            };
            let sums: Vec<Vec<f32>> = grad.host().par_chunks((w * c).max(1)).map(row_sum).collect();
            let db = db.host();
            for sum in sums {
                db.iter_mut().zip(sum).for_each(|(d, s)| *d += s);
            }
            Ok(())
        }
    }
}
