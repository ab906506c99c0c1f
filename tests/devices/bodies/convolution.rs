use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{ConvOptions, PreparedGated, conv2d};
use hotad_kernels::device::Device;

use super::{Results, exact, host, noise, put, uninit};

/// Relative to the largest value; sums of up to a few thousand terms in another order.
const CLOSE: f32 = 2e-5;

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
