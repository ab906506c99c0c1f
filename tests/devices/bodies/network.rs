use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{ConvOptions, ConvWeights, Extra, Padding, PreparedConv, PreparedInvertedResidual};
use hotad_kernels::device::{Buffer, Device, Rounding};
use hotad_kernels::pool::{PoolOptions, avg_pool2d, avg_pool2d_backward};

use super::{Results, exact, host, noise, put, uninit};

/// Relative to the largest value; sums of up to a few thousand terms in another order.
const CLOSE: f32 = 2e-5;

fn len(shape: [usize; 4]) -> usize {
    shape.iter().product()
}

pub fn pooling(device: &Device) -> Results {
    let mut out = Results::new();
    let shape = [2, 13, 10, 19];
    let x = put(device, noise(len(shape), 1));
    for (kernel, stride, padding, count) in [(2, 2, 0, true), (3, 1, 1, false), (3, 2, 1, true)] {
        let opts = PoolOptions { kernel, stride, padding };
        let n = len(opts.output(shape).expect("windows fit"));
        let (mut y, mut dx, grad) = (uninit(device, n), uninit(device, len(shape)), put(device, noise(n, 2)));
        avg_pool2d(&x, shape, opts, count, &mut y).expect("shapes fit");
        avg_pool2d_backward(&grad, shape, opts, count, &mut dx).expect("shapes fit");
        out.extend([&y, &dx].map(|b| (host(b), CLOSE)));
    }
    out
}

/// One prepared convolution with everything it takes.
fn prepared_on(device: &Device, conv: &PreparedConv, xs: [usize; 4], extras: bool, out: &mut Results) {
    let x = put(device, exact(len(xs), 3));
    let ys = conv.output(xs).expect("the map fits");
    let residual = put(device, exact(len(ys), 4));
    let attention = put(device, exact(len(ys) / ys[3], 5));
    let extra = match extras {
        true => Extra { residual: Some(residual.view()), attention: Some(attention.view()) },
        false => Extra::default(),
    };
    let mut y = uninit(device, len(ys));
    conv.run(&x, xs, extra, &mut y).expect("shapes fit");
    out.push((host(&y), CLOSE));
}

pub fn prepared(device: &Device) -> Results {
    let mut out = Results::new();
    let layer =
        |w: [usize; 4], o: usize| -> (Buffer, Buffer) { (put(device, exact(len(w), 1)), put(device, exact(o, 2))) };
    for (xs, w, stride, groups) in [
        ([2, 9, 7, 20], [35, 3, 3, 20], 1, 1),
        ([1, 8, 8, 40], [70, 3, 3, 40], 2, 1),
        ([1, 1, 1, 33], [130, 1, 1, 33], 1, 1),
        ([2, 6, 5, 12], [18, 3, 3, 4], 1, 3),
        ([2, 9, 6, 23], [23, 3, 3, 1], 2, 23),
    ] {
        let (weight, bias) = layer(w, w[0]);
        let opts = ConvOptions { stride, padding: (w[1] / 2).into(), groups, ..Default::default() };
        let conv = PreparedConv::new(weight, w, bias, opts, Activation::Relu).expect("shapes fit");
        prepared_on(device, &conv, xs, w[3] > 1, &mut out);
        if groups == 1 && xs[1] > 1 {
            let ys = conv.output(xs).expect("the map fits");
            let n = ys[0] * (ys[1] / 2) * (ys[2] / 2);
            let (x, map, mut y) = (put(device, exact(len(xs), 3)), put(device, exact(n, 6)), uninit(device, n * ys[3]));
            conv.run_pooled(&x, xs, Some(map.view()), &mut y).expect("shapes fit");
            out.push((host(&y), CLOSE));
        }
    }
    for (xs, w) in [([2, 5, 4, 18], [18, 2, 2, 33]), ([1, 3, 3, 9], [9, 2, 2, 2])] {
        let (weight, bias) = layer(w, w[3]);
        let opts = ConvOptions { stride: 2, ..Default::default() };
        let conv = PreparedConv::transposed(weight, w, bias, opts, Activation::Sigmoid).expect("shapes fit");
        prepared_on(device, &conv, xs, false, &mut out);
    }
    out
}

pub fn inverted_residuals(device: &Device) -> Results {
    let mut out = Results::new();
    let weights = |shape: [usize; 4], at| ConvWeights {
        weight: put(device, noise(len(shape), at)),
        shape,
        bias: put(device, noise(shape[0], at + 1)),
        rounding: Rounding::None,
    };
    for (xs, e, to, k, stride, activation) in [
        ([2, 9, 7, 20], 83, 20, 3, 1, Activation::Relu6),
        ([1, 13, 18, 16], 96, 70, 5, 2, Activation::Relu6),
        ([1, 6, 6, 33], 33, 18, 3, 2, Activation::Relu),
        ([2, 5, 11, 12], 72, 12, 5, 1, Activation::HardSwish),
    ] {
        let opts = ConvOptions { stride, padding: Padding::Same, ..Default::default() };
        let expand = (e != xs[3]).then(|| weights([e, 1, 1, xs[3]], 1));
        let block = PreparedInvertedResidual::new(
            expand,
            weights([e, k, k, 1], 3),
            weights([to, 1, 1, e], 5),
            opts,
            activation,
        );
        let block = block.expect("shapes fit");
        let ys = block.output(xs).expect("the map fits");
        let (x, mut y) = (put(device, noise(len(xs), 7)), uninit(device, len(ys)));
        block.run(&x, xs, xs == ys, &mut y).expect("shapes fit");
        out.push((host(&y), CLOSE));
    }
    out
}
