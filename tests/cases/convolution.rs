//! Convolutions of maps, images x rows x columns x channels, and weights, outputs x rows x columns x inputs of a group.

use hotad_engine::Result;
use hotad_engine::ops::{ConvParams, conv_transpose2d, conv2d, conv2d_max_pool2, upsample_conv2d};
use hotad_engine::tensor::Tensor;
use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{ConvOptions, Padding};

use super::{Array, Case, Input, SUM, exact};

const PLAIN: ConvOptions = ConvOptions { stride: 1, padding: Padding::Each(0), dilation: 1, groups: 1 };
pub const AROUND: ConvOptions = ConvOptions { padding: Padding::Each(1), ..PLAIN };
const DILATED: ConvOptions = ConvOptions { padding: Padding::Each(2), dilation: 2, ..PLAIN };
pub const STRIDED: ConvOptions = ConvOptions { stride: 2, ..AROUND };
const STRIDED_POINTS: ConvOptions = ConvOptions { stride: 2, ..PLAIN };
const STRIDED_DILATED: ConvOptions = ConvOptions { stride: 2, ..DILATED };
const STRIDED_SAME: ConvOptions = ConvOptions { stride: 2, padding: Padding::Same, ..PLAIN };
const GROUPED: ConvOptions = ConvOptions { groups: 3, ..AROUND };
pub const DEPTHWISE: ConvOptions = ConvOptions { groups: 21, ..STRIDED_SAME };
const DEPTHWISE_DILATED: ConvOptions = ConvOptions { groups: 21, ..DILATED };

/// Outputs along an axis of `n` elements, and zeros before it. SAME as the documentation of TensorFlow's `tf.nn` has it.
pub fn axis(n: usize, kernel: usize, opts: ConvOptions) -> (usize, usize) {
    let reach = opts.dilation * (kernel - 1) + 1;
    match opts.padding {
        Padding::Each(p) => ((n + 2 * p - reach) / opts.stride + 1, p),
        Padding::Same => {
            let last = if n.is_multiple_of(opts.stride) { opts.stride } else { n % opts.stride };
            (n.div_ceil(opts.stride), reach.saturating_sub(last) / 2)
        }
    }
}

/// The shape of the output.
pub fn output(x: [usize; 4], w: [usize; 4], opts: ConvOptions) -> [usize; 4] {
    [x[0], axis(x[1], w[1], opts).0, axis(x[2], w[2], opts).0, w[0]]
}

/// Calls `f` with the indices in output, input and weights of every product.
pub fn products(x: [usize; 4], w: [usize; 4], opts: ConvOptions, mut f: impl FnMut(usize, usize, usize)) {
    let ([_, h, wd, c], [o, kh, kw, i], [n, oh, ow, _]) = (x, w, output(x, w, opts));
    let (top, left) = (axis(h, kh, opts).1, axis(wd, kw, opts).1);
    for y_at in 0..n * oh * ow * o {
        let (out, px, py, image) = (y_at % o, y_at / o % ow, y_at / (o * ow) % oh, y_at / (o * ow * oh));
        for tap in 0..kh * kw {
            let sy = (py * opts.stride + tap / kw * opts.dilation).wrapping_sub(top);
            let sx = (px * opts.stride + tap % kw * opts.dilation).wrapping_sub(left);
            if sy >= h || sx >= wd {
                continue; // a zero beyond the border
            }
            let x_at = ((image * h + sy) * wd + sx) * c + out / (o / opts.groups) * i;
            let w_at = (out * kh * kw + tap) * i;
            (0..i).for_each(|k| f(y_at, x_at + k, w_at + k));
        }
    }
}

pub fn shape(array: &Array) -> [usize; 4] {
    array.shape[..].try_into().expect("four axes")
}

/// The sums of all products of a map and weights, and the bias.
fn sums(x: &[f64], xs: [usize; 4], [w, bias]: [&Array; 2], opts: ConvOptions) -> Vec<f64> {
    let ws = shape(w);
    let mut y: Vec<f64> = bias.values.iter().copied().cycle().take(output(xs, ws, opts).iter().product()).collect();
    products(xs, ws, opts, |y_at, x_at, w_at| y[y_at] += x[x_at] * w.values[w_at]);
    y
}

/// Convolution of a map, weights and bias.
pub fn convolution(a: &[Array], opts: ConvOptions) -> Vec<f64> {
    sums(&a[0].values, shape(&a[0]), [&a[1], &a[2]], opts)
}

/// The largest of every 2x2 values.
pub fn pooled(y: &[f64], [n, h, w, c]: [usize; 4]) -> Vec<f64> {
    let at = |i: usize, y: usize, x: usize, k: usize| ((i * h + y) * w + x) * c + k;
    let largest = |to: usize| {
        let (k, px, py, i) = (to % c, to / c % (w / 2), to / c / (w / 2) % (h / 2), to / c / (w / 2) / (h / 2));
        let corners = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| y[at(i, 2 * py + dy, 2 * px + dx, k)]);
        corners.into_iter().fold(f64::NEG_INFINITY, f64::max)
    };
    (0..n * (h / 2) * (w / 2) * c).map(largest).collect()
}

/// Every pixel four times, as 2x2.
fn enlarged(x: &Array) -> Vec<f64> {
    let [n, h, w, c] = shape(x);
    let at = |to: usize| {
        let (k, px, py, i) = (to % c, to / c % (2 * w), to / c / (2 * w) % (2 * h), to / c / (4 * w * h));
        ((i * h + py / 2) * w + px / 2) * c + k
    };
    (0..4 * n * h * w * c).map(|to| x.values[at(to)]).collect()
}

/// A 3x3 convolution of the enlarged map.
pub fn upsampled(a: &[Array]) -> Vec<f64> {
    let [n, h, w, c] = shape(&a[0]);
    sums(&enlarged(&a[0]), [n, 2 * h, 2 * w, c], [&a[1], &a[2]], AROUND)
}

/// The adjoint of a convolution that has the weights `[i, rows, columns, o]`.
pub fn transposed(a: &[Array], opts: ConvOptions) -> Vec<f64> {
    let (xs, ws) = (shape(&a[0]), shape(&a[1]));
    let Padding::Each(padding) = opts.padding else { unreachable!("transposed ones have the same zeros on all sides") };
    let size = |n: usize, k: usize| (n - 1) * opts.stride + k - 2 * padding;
    let ys = [xs[0], size(xs[1], ws[1]), size(xs[2], ws[2]), ws[3]];
    let mut y: Vec<f64> = a[2].values.iter().copied().cycle().take(ys.iter().product()).collect();
    products(ys, ws, opts, |x_at, y_at, w_at| y[y_at] += a[0].values[x_at] * a[1].values[w_at]);
    y
}

/// Weights and bias as a layer.
fn layer(t: &[Tensor]) -> ConvParams {
    ConvParams { weight: t[1].clone(), bias: Some(t[2].clone()), activation: Activation::Identity }
}

fn run(t: &[Tensor], opts: ConvOptions) -> Result<Tensor> {
    conv2d(&t[0], &layer(t), opts)
}

/// Of an output and `taps` weights for each of `inputs` channels: floating-point operations for each element of the map.
const fn flops(taps: usize, outputs: usize) -> f64 {
    (2 * taps * outputs) as f64
}

pub const fn constant(shape: &'static [usize]) -> Input {
    Input { learned: false, ..exact(shape) }
}

pub const CASES: &[Case] = &[
    Case {
        name: "conv2d",
        checked: &[
            &[exact(&[1, 9, 7, 1]), exact(&[3, 3, 3, 1]), exact(&[3])],
            &[exact(&[3, 13, 17, 5]), exact(&[19, 3, 3, 5]), exact(&[19])],
            &[exact(&[1, 5, 5, 130]), exact(&[129, 3, 3, 130]), exact(&[129])],
        ],
        timed: &[exact(&[1, 64, 64, 64]), exact(&[64, 3, 3, 64]), exact(&[64])],
        flops: flops(9, 64),
        run: |t| run(t, AROUND),
        oracle: |a| convolution(a, AROUND),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_unpadded",
        checked: &[
            &[exact(&[1, 8, 8, 17]), exact(&[5, 8, 8, 17]), exact(&[5])],
            &[exact(&[5, 6, 5, 16]), exact(&[16, 1, 1, 16]), exact(&[16])],
        ],
        timed: &[exact(&[1, 64, 64, 64]), exact(&[64, 1, 1, 64]), exact(&[64])],
        flops: flops(1, 64),
        run: |t| run(t, PLAIN),
        oracle: |a| convolution(a, PLAIN),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_dilated",
        checked: &[&[exact(&[2, 11, 10, 33]), exact(&[66, 3, 3, 33]), exact(&[66])]],
        timed: &[exact(&[1, 64, 64, 64]), exact(&[64, 3, 3, 64]), exact(&[64])],
        flops: flops(9, 64),
        run: |t| run(t, DILATED),
        oracle: |a| convolution(a, DILATED),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_strided",
        checked: &[
            &[exact(&[2, 15, 12, 6]), exact(&[21, 4, 4, 6]), exact(&[21])],
            &[exact(&[2, 15, 12, 6]), exact(&[21, 3, 3, 6]), exact(&[21])],
        ],
        timed: &[exact(&[1, 64, 64, 64]), exact(&[64, 4, 4, 64]), exact(&[64])],
        flops: flops(4, 64),
        run: |t| run(t, STRIDED),
        oracle: |a| convolution(a, STRIDED),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_strided_points",
        checked: &[&[exact(&[2, 15, 12, 6]), exact(&[21, 1, 1, 6]), exact(&[21])]],
        timed: &[exact(&[1, 64, 64, 64]), exact(&[128, 1, 1, 64]), exact(&[128])],
        flops: flops(1, 32),
        run: |t| run(t, STRIDED_POINTS),
        oracle: |a| convolution(a, STRIDED_POINTS),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_strided_dilated",
        checked: &[&[exact(&[2, 15, 12, 6]), exact(&[21, 3, 3, 6]), exact(&[21])]],
        timed: &[exact(&[1, 64, 64, 64]), exact(&[64, 3, 3, 64]), exact(&[64])],
        flops: flops(9, 16),
        run: |t| run(t, STRIDED_DILATED),
        oracle: |a| convolution(a, STRIDED_DILATED),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_strided_same",
        checked: &[
            &[exact(&[2, 14, 11, 18]), exact(&[21, 3, 3, 18]), exact(&[21])],
            &[exact(&[2, 14, 11, 18]), exact(&[21, 5, 5, 18]), exact(&[21])],
        ],
        timed: &[exact(&[1, 64, 64, 64]), exact(&[64, 3, 3, 64]), exact(&[64])],
        flops: flops(9, 16),
        run: |t| run(t, STRIDED_SAME),
        oracle: |a| convolution(a, STRIDED_SAME),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_grouped",
        checked: &[&[exact(&[2, 9, 8, 12]), exact(&[15, 3, 3, 4]), exact(&[15])]],
        timed: &[exact(&[1, 64, 64, 96]), exact(&[96, 3, 3, 32]), exact(&[96])],
        flops: flops(9, 32),
        run: |t| run(t, GROUPED),
        oracle: |a| convolution(a, GROUPED),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_depthwise",
        checked: &[
            &[exact(&[2, 11, 14, 21]), exact(&[21, 3, 3, 1]), exact(&[21])],
            &[exact(&[2, 11, 14, 21]), exact(&[21, 5, 5, 1]), exact(&[21])],
        ],
        timed: &[exact(&[8, 64, 64, 21]), exact(&[21, 3, 3, 1]), exact(&[21])],
        flops: 4.5,
        run: |t| run(t, DEPTHWISE),
        oracle: |a| convolution(a, DEPTHWISE),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_depthwise_dilated",
        checked: &[&[exact(&[1, 7, 13, 21]), exact(&[21, 3, 3, 1]), exact(&[21])]],
        timed: &[exact(&[8, 64, 64, 21]), exact(&[21, 3, 3, 1]), exact(&[21])],
        flops: 18.0,
        run: |t| run(t, DEPTHWISE_DILATED),
        oracle: |a| convolution(a, DEPTHWISE_DILATED),
        tolerance: SUM,
    },
    Case {
        name: "conv2d_max_pool2",
        checked: &[
            &[constant(&[1, 10, 14, 1]), constant(&[3, 3, 3, 1]), constant(&[3])],
            &[constant(&[3, 7, 9, 18]), constant(&[70, 3, 3, 18]), constant(&[70])],
        ],
        timed: &[exact(&[1, 64, 64, 64]), exact(&[64, 3, 3, 64]), exact(&[64])],
        flops: flops(9, 64),
        run: |t| conv2d_max_pool2(&t[0], &layer(t), AROUND),
        oracle: |a| pooled(&convolution(a, AROUND), output(shape(&a[0]), shape(&a[1]), AROUND)),
        tolerance: SUM,
    },
    Case {
        name: "upsample_conv2d",
        checked: &[
            &[exact(&[1, 10, 14, 1]), exact(&[3, 3, 3, 1]), exact(&[3])],
            &[exact(&[3, 4, 5, 18]), exact(&[70, 3, 3, 18]), exact(&[70])],
        ],
        timed: &[exact(&[1, 32, 32, 64]), exact(&[64, 3, 3, 64]), exact(&[64])],
        flops: flops(36, 64),
        run: |t| upsample_conv2d(&t[0], &layer(t)),
        oracle: upsampled,
        tolerance: SUM,
    },
    Case {
        name: "conv_transpose2d",
        checked: &[
            &[exact(&[1, 1, 1, 1]), exact(&[1, 4, 4, 1]), exact(&[1])],
            &[exact(&[2, 5, 6, 18]), exact(&[18, 4, 4, 3]), exact(&[3])],
        ],
        timed: &[exact(&[1, 32, 32, 64]), exact(&[64, 4, 4, 64]), exact(&[64])],
        flops: flops(16, 64),
        run: |t| conv_transpose2d(&t[0], &layer(t), STRIDED),
        oracle: |a| transposed(a, STRIDED),
        tolerance: SUM,
    },
];
