use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{
    ConvOptions, Padding, PreparedGated, conv_transpose2d, conv_transpose2d_backward_data,
    conv_transpose2d_backward_weight, conv_transpose2d_shape, conv2d, conv2d_backward_bias, conv2d_backward_data,
    conv2d_backward_weight, conv2d_max_pool2, upsample_conv2d, upsample_conv2d_backward_data,
    upsample_conv2d_backward_weight,
};
use hotad_kernels::device::Device;

use super::{Results, exact, host, noise, put, uninit};

/// Relative to the largest value; sums of up to a few thousand terms in another order.
const CLOSE: f32 = 2e-5;

/// Forward and all gradients of one convolution.
fn all(device: &Device, x: [usize; 4], w: [usize; 4], opts: ConvOptions, out: &mut Results) {
    let size = |n, k| opts.output(n, k).expect("the kernel fits");
    let y = [x[0], size(x[1], w[1]), size(x[2], w[2]), w[0]];
    let len = |s: [usize; 4]| s.iter().product::<usize>();
    let (data, weights, bias) =
        (put(device, exact(len(x), 1)), put(device, exact(len(w), 2)), put(device, exact(w[0], 3)));
    let (mut result, grad) = (uninit(device, len(y)), put(device, exact(len(y), 4)));
    let leaky = Activation::LeakyRelu(0.2);
    conv2d(&data, x, &weights, w, Some(bias.view()), opts, leaky, &mut result).expect("shapes fit");
    out.push((host(&result), CLOSE));
    let mut dx = uninit(device, len(x));
    conv2d_backward_data(&grad, x, &weights, w, opts, &mut dx).expect("shapes fit");
    out.push((host(&dx), CLOSE));
    // Gradients of weights are added to what is there.
    let (mut dw, mut db) = (put(device, exact(len(w), 5)), put(device, exact(w[0], 6)));
    conv2d_backward_weight(&data, x, &grad, w, opts, &mut dw).expect("shapes fit");
    conv2d_backward_bias(&grad, y, &mut db).expect("shapes fit");
    out.push((host(&dw), CLOSE));
    out.push((host(&db), CLOSE));
}

pub fn plain(device: &Device) -> Results {
    let mut out = Results::new();
    all(device, [1, 9, 7, 1], [3, 3, 3, 1], ConvOptions::same(3), &mut out);
    all(device, [3, 13, 17, 5], [19, 3, 3, 5], ConvOptions::same(3), &mut out);
    all(
        device,
        [2, 11, 10, 33],
        [66, 3, 3, 33],
        ConvOptions { padding: 2.into(), dilation: 2, ..Default::default() },
        &mut out,
    );
    all(device, [1, 8, 8, 17], [5, 8, 8, 17], ConvOptions::default(), &mut out);
    all(device, [5, 6, 5, 16], [16, 1, 1, 16], ConvOptions::default(), &mut out);
    out
}

pub fn same(device: &Device) -> Results {
    let mut out = Results::new();
    for (kernel, stride, dilation) in [(3, 2, 1), (5, 2, 1), (3, 2, 2), (5, 1, 1)] {
        let dense = ConvOptions { stride, padding: Padding::Same, dilation, groups: 1 };
        all(device, [2, 14, 11, 18], [21, kernel, kernel, 18], dense, &mut out);
        let depthwise = ConvOptions { groups: 21, ..dense };
        all(device, [2, 11, 14, 21], [21, kernel, kernel, 1], depthwise, &mut out);
    }
    out
}

pub fn grouped(device: &Device) -> Results {
    let mut out = Results::new();
    let opts = ConvOptions { padding: 1.into(), groups: 3, ..Default::default() };
    all(device, [2, 9, 8, 12], [15, 3, 3, 4], opts, &mut out);
    let depthwise = ConvOptions { padding: 2.into(), stride: 2, groups: 37, ..Default::default() };
    all(device, [2, 11, 9, 37], [37, 5, 5, 1], depthwise, &mut out);
    let dilated = ConvOptions { padding: 2.into(), dilation: 2, groups: 6, ..Default::default() };
    all(device, [1, 7, 13, 6], [6, 3, 3, 1], dilated, &mut out);
    out
}

pub fn strided(device: &Device) -> Results {
    let mut out = Results::new();
    for (kernel, stride, padding, dilation) in [(4, 2, 1, 1), (3, 2, 1, 1), (3, 3, 0, 1), (3, 2, 2, 2), (1, 2, 0, 1)] {
        let opts = ConvOptions { stride, padding: padding.into(), dilation, groups: 1 };
        all(device, [2, 15, 12, 6], [21, kernel, kernel, 6], opts, &mut out);
    }
    let opts = ConvOptions { stride: 2, padding: 1.into(), ..Default::default() };
    let (x, w) = ([2, 5, 6, 18], [18, 4, 4, 3]);
    let y = conv_transpose2d_shape(x, w, opts).expect("shapes fit");
    let len = |s: [usize; 4]| s.iter().product::<usize>();
    let (data, weights) = (put(device, exact(len(x), 1)), put(device, exact(len(w), 2)));
    let (bias, grad) = (put(device, exact(3, 3)), put(device, exact(len(y), 4)));
    let (mut result, mut dx, mut dw) = (uninit(device, len(y)), uninit(device, len(x)), put(device, vec![0.0; len(w)]));
    conv_transpose2d(&data, x, &weights, w, Some(bias.view()), opts, Activation::Sigmoid, &mut result).expect("fits");
    conv_transpose2d_backward_data(&grad, x, &weights, w, opts, &mut dx).expect("fits");
    conv_transpose2d_backward_weight(&data, x, &grad, w, opts, &mut dw).expect("fits");
    out.extend([&result, &dx, &dw].map(|b| (host(b), CLOSE)));
    out
}

pub fn fused(device: &Device) -> Results {
    let mut out = Results::new();
    for (x, w) in [([1, 10, 14, 1], [3, 3, 3, 1]), ([3, 7, 9, 18], [70, 3, 3, 18])] {
        let len = |s: [usize; 4]| s.iter().product::<usize>();
        let (data, weights, bias) =
            (put(device, exact(len(x), 1)), put(device, exact(len(w), 2)), put(device, exact(w[0], 3)));
        let mut pooled = uninit(device, x[0] * (x[1] / 2) * (x[2] / 2) * w[0]);
        conv2d_max_pool2(&data, x, &weights, w, &bias, ConvOptions::same(3), Activation::Relu, &mut pooled)
            .expect("shapes fit");
        let y = [x[0], 2 * x[1], 2 * x[2], w[0]];
        let (mut up, mut dx) = (uninit(device, len(y)), uninit(device, len(x)));
        let (grad, mut dw) = (put(device, exact(len(y), 4)), put(device, exact(len(w), 5)));
        upsample_conv2d(&data, x, &weights, w, Some(bias.view()), Activation::Tanh, &mut up).expect("shapes fit");
        upsample_conv2d_backward_data(&grad, x, &weights, w, &mut dx).expect("shapes fit");
        upsample_conv2d_backward_weight(&data, x, &grad, w, &mut dw).expect("shapes fit");
        out.extend([&pooled, &up, &dx, &dw].map(|b| (host(b), CLOSE)));
    }
    out
}

pub fn wide(device: &Device) -> Results {
    let mut out = Results::new();
    all(device, [1, 5, 5, 130], [129, 3, 3, 130], ConvOptions::same(3), &mut out);
    out
}

pub fn activations(device: &Device) -> Results {
    let mut out = Results::new();
    let kinds = [
        Activation::Identity,
        Activation::Relu,
        Activation::Relu6,
        Activation::LeakyRelu(0.1),
        Activation::Elu(1.3),
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::HardSigmoid,
        Activation::HardSwish,
    ];
    let (x, w) = ([1, 6, 5, 20], [17, 3, 3, 20]);
    let (data, weights) = (put(device, noise(600, 1)), put(device, noise(17 * 180, 2)));
    for activation in kinds {
        let mut y = uninit(device, 30 * 17);
        conv2d(&data, x, &weights, w, None, ConvOptions::same(3), activation, &mut y).expect("shapes fit");
        let mut again = put(device, noise(301, 7));
        activation.apply(&mut again);
        let mut grad = put(device, noise(301, 8));
        activation.backward(&again, &mut grad).expect("same lengths");
        out.extend([&y, &again, &grad].map(|b| (host(b), CLOSE)));
    }
    out
}

pub fn gated(device: &Device) -> Results {
    let mut out = Results::new();
    let len = |s: [usize; 4]| s.iter().product::<usize>();
    for (x, o, masked, dilation) in [
        ([2, 9, 11, 3], 24, true, 1),
        ([1, 12, 10, 24], 48, false, 2),
        ([3, 5, 5, 7], 3, false, 1),
        ([1, 8, 7, 33], 37, false, 4),
    ] {
        let w = [2 * o, 3, 3, if masked { 5 } else { x[3] }];
        let opts = ConvOptions { padding: dilation.into(), dilation, ..Default::default() };
        let (data, weights, bias) =
            (put(device, exact(len(x), 1)), put(device, exact(len(w), 2)), put(device, exact(2 * o, 3)));
        let mask = put(device, exact(len(x) / x[3], 4).into_iter().map(|v| f32::from(v > 0.2)).collect());
        let mut y = uninit(device, x[0] * x[1] * x[2] * o);
        let mask = masked.then(|| mask.view());
        let conv = PreparedGated::new(weights, w, bias, opts, Activation::Elu(1.0)).expect("shapes fit");
        conv.run(&data, x, mask, &mut y).expect("shapes fit");
        out.push((host(&y), CLOSE));
    }
    out
}
