use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{
    ConvOptions, Padding, conv_transpose2d, conv_transpose2d_backward_data, conv_transpose2d_shape, conv2d,
    conv2d_backward_data, conv2d_backward_weight,
};
use hotad_kernels::device::Device;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestCaseResult};

use crate::{adjoint, at_all, near, noise, put, uninit};

/// Relative to the largest value: sums of up to a thousand products in any order.
const CLOSE: f64 = 1e-5;

/// A convolution: map, kernel rows and columns, channels of each group in and out, options.
#[derive(Clone, Debug)]
struct Shape {
    map: [usize; 3],
    kernel: [usize; 2],
    channels: [usize; 2],
    opts: ConvOptions,
}

fn options() -> impl Strategy<Value = ConvOptions> {
    let padding = prop_oneof![3 => (0..3usize).prop_map(Padding::Each), 1 => Just(Padding::Same)];
    (1..4usize, padding, 1..4usize, 1..4usize).prop_map(|(stride, padding, dilation, groups)| ConvOptions {
        stride,
        padding,
        dilation,
        groups,
    })
}

fn few_channels() -> impl Strategy<Value = Shape> {
    let parts = (1..3usize, 1..20usize, 1..20usize, [1..6usize, 1..6usize], [1..7usize, 1..7usize], options());
    parts.prop_map(|(n, h, w, kernel, channels, opts)| Shape { map: [n, h, w], kernel, channels, opts })
}

fn many_channels() -> impl Strategy<Value = Shape> {
    let kernel = prop_oneof![Just([1, 1]), Just([3, 3])];
    let parts = (1..3usize, 1..9usize, 1..9usize, kernel, [1..80usize, 1..80usize], options());
    parts.prop_map(|(n, h, w, kernel, channels, opts)| Shape { map: [n, h, w], kernel, channels, opts })
}

/// Outputs along an axis and pixels of padding before it; `None` where no window fits.
fn axis(n: usize, k: usize, opts: ConvOptions) -> Option<(usize, usize)> {
    let reach = opts.dilation * (k - 1) + 1;
    match opts.padding {
        Padding::Each(p) => Some(((n + 2 * p).checked_sub(reach)? / opts.stride + 1, p)),
        Padding::Same => {
            let outputs = n.div_ceil(opts.stride);
            Some((outputs, ((outputs - 1) * opts.stride + reach).saturating_sub(n) / 2))
        }
    }
}

/// Calls `f(output, input, weight)` with the places of every product of a convolution; weights are OHWI.
fn products(s: &Shape, (oh, top): (usize, usize), (ow, left): (usize, usize), mut f: impl FnMut(usize, usize, usize)) {
    let ([n, h, w], [kh, kw], [ci, co], g) = (s.map, s.kernel, s.channels, s.opts.groups);
    for (i, oy, ox) in (0..n).flat_map(|i| (0..oh).flat_map(move |y| (0..ow).map(move |x| (i, y, x)))) {
        for (r, t) in (0..kh).flat_map(|r| (0..kw).map(move |t| (r, t))) {
            let y = (oy * s.opts.stride + r * s.opts.dilation).wrapping_sub(top);
            let x = (ox * s.opts.stride + t * s.opts.dilation).wrapping_sub(left);
            if y >= h || x >= w {
                continue; // a zero beyond the border
            }
            for o in 0..g * co {
                let group = o / co;
                for c in 0..ci {
                    let output = ((i * oh + oy) * ow + ox) * g * co + o;
                    f(output, ((i * h + y) * w + x) * g * ci + group * ci + c, ((o * kh + r) * kw + t) * ci + c);
                }
            }
        }
    }
}

fn forward_and_backward(device: &Device, s: Shape) -> TestCaseResult {
    let ([n, h, w], [kh, kw], [ci, co], opts) = (s.map, s.kernel, s.channels, s.opts);
    let (xs, ws) = ([n, h, w, ci * opts.groups], [co * opts.groups, kh, kw, ci]);
    let (x, weight, bias) = (noise(xs.iter().product(), 1), noise(ws.iter().product(), 2), noise(ws[0], 3));
    let (xb, wb, bb) = (put(device, &x), put(device, &weight), put(device, &bias));
    let (Some(rows), Some(columns)) = (axis(h, kh, opts), axis(w, kw, opts)) else {
        let refused = conv2d(&xb, xs, &wb, ws, None, opts, Activation::Identity, &mut uninit(device, 1)).is_err();
        return if refused { Ok(()) } else { Err(TestCaseError::fail("no window fits, and it was not refused")) };
    };
    let len = n * rows.0 * columns.0 * ws[0];
    let mut want: Vec<f64> = (0..len).map(|i| f64::from(bias[i % ws[0]])).collect();
    products(&s, rows, columns, |o, i, k| want[o] += f64::from(x[i]) * f64::from(weight[k]));
    let (mut y, mut plain) = (uninit(device, len), uninit(device, len));
    conv2d(&xb, xs, &wb, ws, Some(bb.view()), opts, Activation::Identity, &mut y).expect("a window fits");
    near(&y, &want, CLOSE)?;

    conv2d(&xb, xs, &wb, ws, None, opts, Activation::Identity, &mut plain).expect("a window fits");
    let g = noise(len, 4);
    let (gb, mut dx) = (put(device, &g), uninit(device, x.len()));
    conv2d_backward_data(&gb, xs, &wb, ws, opts, &mut dx).expect("as forward");
    adjoint(&plain, &g, &x, &dx)?;
    let mut dw = device.zeros(weight.len()).expect("memory");
    conv2d_backward_weight(&xb, xs, &gb, ws, opts, &mut dw).expect("as forward");
    adjoint(&plain, &g, &weight, &dw)
}

#[test]
fn convolutions_of_few_channels() {
    at_all(few_channels(), forward_and_backward);
}

#[test]
fn convolutions_of_many_channels() {
    at_all(many_channels(), forward_and_backward);
}

/// A transposed convolution scatters what the convolution from its output to its input gathers.
#[test]
fn transposed_convolutions() {
    let shapes = few_channels().prop_map(|mut s| {
        s.opts.groups = 1;
        s.opts.padding = Padding::Each(s.kernel[0].min(s.kernel[1]) / 2);
        s
    });
    at_all(shapes, |device, s| {
        let ([n, h, w], [kh, kw], [ci, co], opts) = (s.map, s.kernel, s.channels, s.opts);
        let (xs, ws) = ([n, h, w, ci], [ci, kh, kw, co]);
        let pads = kh.min(kw) / 2 * 2;
        let fits = |n: usize, k: usize| (n - 1) * opts.stride + opts.dilation * (k - 1) + 1 > pads;
        let Ok(ys) = conv_transpose2d_shape(xs, ws, opts) else {
            prop_assert!(!(fits(h, kh) && fits(w, kw)), "refused");
            return Ok(());
        };
        let len = ys.iter().product();
        let (x, weight) = (noise(xs.iter().product(), 1), noise(ws.iter().product(), 2));
        let (xb, wb, mut y) = (put(device, &x), put(device, &weight), uninit(device, len));
        conv_transpose2d(&xb, xs, &wb, ws, None, opts, Activation::Identity, &mut y).expect("it has an output");
        let gathered = Shape { map: [n, ys[1], ys[2]], channels: [co, ci], ..s };
        let (rows, columns) = (axis(ys[1], kh, opts).expect("a window"), axis(ys[2], kw, opts).expect("a window"));
        let mut want = vec![0.0; len];
        products(&gathered, (h, rows.1), (w, columns.1), |o, i, k| want[i] += f64::from(x[o]) * f64::from(weight[k]));
        near(&y, &want, CLOSE)?;

        let (g, mut dx) = (noise(len, 3), uninit(device, x.len()));
        conv_transpose2d_backward_data(&put(device, &g), xs, &wb, ws, opts, &mut dx).expect("as forward");
        adjoint(&y, &g, &x, &dx)
    });
}
