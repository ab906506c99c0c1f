use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{ConvOptions, PreparedGated, checkerboard_masks, join_checkerboard};
use hotad_kernels::device::{Buffer, Device};
use hotad_kernels::gather::gather;
use hotad_kernels::softmax::{self as soft, softmax_backward};
use hotad_kernels::spectral_norm::{spectral_norm, spectral_norm_backward};

use super::{Results, host, noise, put, uninit};

/// Relative to the largest value; sums of up to a few thousand terms in another order.
const CLOSE: f32 = 2e-5;

fn len(shape: [usize; 4]) -> usize {
    shape.iter().product()
}

pub fn gated(device: &Device) -> Results {
    let mut out = Results::new();
    let mut run = |conv: &PreparedGated, xs: [usize; 4], masked: bool| {
        let x = put(device, noise(len(xs), 3));
        let mask: Vec<f32> = noise(len(xs) / xs[3], 4).into_iter().map(|v| f32::from(u8::from(v > 0.2))).collect();
        let mask = masked.then(|| put(device, mask));
        let seen = if masked { [xs[0], xs[1], xs[2], 5] } else { xs };
        let mut y = uninit(device, len(conv.output(seen).expect("the map fits")));
        conv.run(&x, xs, mask.as_ref().map(Buffer::view), &mut y).expect("shapes fit");
        out.push((host(&y), CLOSE));
    };
    let layer = |w: [usize; 4]| (put(device, noise(len(w), 1)), put(device, noise(w[0], 2)));
    for (xs, w, stride, dilation, features) in [
        ([2, 9, 7, 20], [34, 3, 3, 20], 1, 1, Activation::Elu(1.0)),
        ([1, 12, 10, 6], [16, 3, 3, 6], 2, 1, Activation::Relu),
        ([1, 17, 19, 33], [70, 3, 3, 33], 1, 4, Activation::Elu(1.0)),
        ([1, 1, 1, 3], [2, 1, 1, 3], 1, 1, Activation::Identity),
    ] {
        let (weight, bias) = layer(w);
        let opts = ConvOptions { stride, padding: (w[1] / 2 * dilation).into(), dilation, groups: 1 };
        let conv = PreparedGated::new(weight, w, bias, opts, features).expect("shapes fit");
        run(&conv, xs, false);
    }
    let w = [22, 5, 5, 5];
    let (weight, bias) = layer(w);
    let conv = PreparedGated::new(weight, w, bias, ConvOptions::same(5), Activation::Elu(1.0)).expect("shapes fit");
    run(&conv, [2, 11, 13, 3], true);
    for (xs, o) in [([2, 5, 7, 9], 6), ([1, 8, 8, 32], 24)] {
        let w = [2 * o, 3, 3, xs[3]];
        let (weight, bias) = layer(w);
        let conv = PreparedGated::upsampled(weight, w, bias, Activation::Elu(1.0)).expect("shapes fit");
        run(&conv, xs, false);
    }
    out
}

pub fn masks(device: &Device) -> Results {
    let (h, w, c) = (13, 10, 3);
    let (mut masks, mut moved) = (uninit(device, 4 * h * w), uninit(device, 3 * 4 * h * w));
    checkerboard_masks(h, w, 3, 0, &mut masks).expect("a size");
    checkerboard_masks(h, w, 3, 2, &mut moved).expect("three images");
    let made = put(device, noise(2 * 4 * h * w * c, 1));
    let mut joined = uninit(device, 2 * h * w * c);
    join_checkerboard(&made, &masks, c, &mut joined).expect("shapes fit");
    let known = put(device, noise(4 * h * w * c, 2));
    let picked = gather(&known, h * w * c, &[3, 0, 3]).expect("four images");
    [&masks, &moved, &joined, &picked].map(|b| (host(b), 0.0)).into()
}

pub fn spectral(device: &Device) -> Results {
    let mut out = Results::new();
    for (rows, columns, iterations) in [(1, 1, 1), (7, 301, 2), (300, 33, 3)] {
        let (w, grad) = (put(device, noise(rows * columns, 1)), put(device, noise(rows * columns, 2)));
        let (mut u, mut v) = (put(device, noise(rows, 3)), uninit(device, columns));
        let (mut sigma, mut normal, mut dw) = (uninit(device, 1), uninit(device, w.len()), uninit(device, w.len()));
        spectral_norm(&w, iterations, &mut u, &mut v, &mut sigma, &mut normal).expect("shapes fit");
        spectral_norm_backward(&normal, &u, &v, &sigma, &grad, &mut dw).expect("shapes fit");
        // Without iterations the vectors stay as they are.
        let mut again = uninit(device, w.len());
        spectral_norm(&w, 0, &mut u, &mut v, &mut sigma, &mut again).expect("shapes fit");
        let largest = if columns == 1 { 1.0 } else { 1e-4 };
        out.extend([&u, &v, &sigma, &normal, &again].map(|b| (host(b), 1e-4)));
        out.push((host(&dw), largest));
    }
    out
}

pub fn softmax(device: &Device) -> Results {
    let mut out = Results::new();
    for axis in [[5, 301, 1], [2, 7, 33]] {
        let n = axis.iter().product();
        let (x, grad) = (put(device, noise(n, 1)), put(device, noise(n, 2)));
        let (mut y, mut dx) = (uninit(device, n), uninit(device, n));
        soft::softmax(&x, axis, &mut y).expect("shapes fit");
        softmax_backward(&y, axis, &grad, &mut dx).expect("shapes fit");
        out.push((host(&dx), CLOSE));
    }
    out
}
