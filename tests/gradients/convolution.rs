//! Convolutions, their gradients and their fused forms against sums over every pair of pixel and tap,
//! in float64.

use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{
    ConvOptions, Extra, Padding, PreparedConv, PreparedGated, conv_transpose2d, conv2d, conv2d_backward_data,
    conv2d_backward_weight, conv2d_max_pool2,
};
use hotad_kernels::device::{Buffer, Device};

use crate::cases::convolution;
use crate::naive::sigmoid;
use crate::{devices, narrow, noise};

/// Error relative to the largest value: sums of up to a few thousand f32 products.
const CLOSE: f64 = 1e-5;

/// One convolution.
pub struct Case {
    pub x: [usize; 4],
    pub w: [usize; 4],
    pub opts: ConvOptions,
}

pub fn len(shape: [usize; 4]) -> usize {
    shape.iter().product()
}

impl Case {
    pub fn y(&self) -> [usize; 4] {
        convolution::output(self.x, self.w, self.opts)
    }

    /// Calls `f` with the indices in output, input and weights of every product.
    fn products(&self, f: impl FnMut(usize, usize, usize)) {
        convolution::products(self.x, self.w, self.opts, f);
    }

    pub fn forward(&self, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
        let mut y: Vec<f64> = (0..len(self.y())).map(|at| bias[at % self.w[0]]).collect();
        self.products(|y_at, x_at, w_at| y[y_at] += x[x_at] * w[w_at]);
        y
    }
}

pub fn put(device: &Device, values: &[f64]) -> Buffer {
    device.upload(narrow(values)).expect("memory")
}

/// Memory that is not a number until it is written.
pub fn poisoned(device: &Device, len: usize) -> Buffer {
    device.upload(vec![f32::NAN; len]).expect("memory")
}

pub fn agree(what: &str, case: &Case, got: &Buffer, want: &[f64]) {
    let got = got.to_vec().expect("the device has done its work");
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(1e-6, |m: f64, v| m.max(v.abs()));
    for (at, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - w).abs() / largest;
        assert!(error < CLOSE, "{what} of {:?} * {:?}, {:?}: {g} for {w} at {at}", case.x, case.w, case.opts);
    }
}

/// Forward, both gradients and the prepared form on every device.
fn check(case: &Case) {
    let (x, w, bias) = (noise(len(case.x), 1.0, 1), noise(len(case.w), 1.0, 2), noise(case.w[0], 1.0, 3));
    let grad = noise(len(case.y()), 1.0, 4);
    let y: Vec<f64> = case.forward(&x, &w, &bias).iter().map(|v| v.clamp(0.0, 6.0)).collect();
    let (mut dx, mut dw) = (vec![0.0; x.len()], noise(w.len(), 1.0, 5));
    let before = dw.clone();
    case.products(|y_at, x_at, w_at| {
        dx[x_at] += grad[y_at] * w[w_at];
        dw[w_at] += grad[y_at] * x[x_at];
    });
    for device in devices::under_test() {
        let device = &device;
        let operands = [&x, &w, &bias, &grad].map(|v| put(device, v));
        let [x, w, bias, grad] = &operands;
        let (mut out, mut again) = (poisoned(device, y.len()), poisoned(device, y.len()));
        let shape = conv2d(x, case.x, w, case.w, Some(bias.view()), case.opts, Activation::Relu6, &mut out);
        assert_eq!(shape.expect("shapes fit"), case.y());
        agree("output", case, &out, &y);
        let copy = |b: &Buffer| b.duplicate().expect("memory");
        let prepared = PreparedConv::new(copy(w), case.w, copy(bias), case.opts, Activation::Relu6).expect("fits");
        assert_eq!(prepared.output(case.x).expect("fits"), case.y());
        prepared.run(x, case.x, Extra::default(), &mut again).expect("fits");
        agree("prepared output", case, &again, &y);
        let (mut got_dx, mut got_dw) = (poisoned(device, dx.len()), put(device, &before));
        conv2d_backward_data(grad, case.x, w, case.w, case.opts, &mut got_dx).expect("fits");
        conv2d_backward_weight(x, case.x, grad, case.w, case.opts, &mut got_dw).expect("fits");
        agree("input gradient", case, &got_dx, &dx);
        agree("weight gradient", case, &got_dw, &dw);
    }
}

pub fn same(stride: usize, dilation: usize, groups: usize) -> ConvOptions {
    ConvOptions { stride, padding: Padding::Same, dilation, groups }
}

#[test]
fn dense_convolutions_with_same_padding() {
    for (h, w) in [(8, 11), (9, 6), (7, 7), (2, 3), (1, 10)] {
        for (kernel, stride, dilation) in [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 2, 2), (1, 2, 1), (2, 3, 1)]
        {
            check(&Case { x: [2, h, w, 5], w: [19, kernel, kernel, 5], opts: same(stride, dilation, 1) });
        }
    }
    // Rows and columns of the kernel, groups, and few enough channels for all phases in one pass.
    check(&Case { x: [1, 6, 9, 6], w: [8, 3, 5, 3], opts: same(2, 1, 2) });
    check(&Case { x: [2, 10, 7, 3], w: [20, 3, 3, 3], opts: same(2, 1, 1) });
}

#[test]
fn depthwise_convolutions() {
    for channels in [2, 8, 37] {
        for (h, w) in [(8, 11), (9, 6), (2, 3), (1, 1)] {
            for (kernel, stride, dilation) in [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 2, 2), (5, 1, 2)] {
                let shapes = ([2, h, w, channels], [channels, kernel, kernel, 1]);
                check(&Case { x: shapes.0, w: shapes.1, opts: same(stride, dilation, channels) });
                let each = ConvOptions { padding: (kernel / 2 * dilation).into(), ..same(stride, dilation, channels) };
                check(&Case { x: shapes.0, w: shapes.1, opts: each });
            }
        }
    }
    // A kernel of another size, and padding wider than the kernel's reach.
    check(&Case { x: [1, 7, 6, 21], w: [21, 4, 2, 1], opts: same(2, 1, 21) });
    let wide = ConvOptions { padding: 4.into(), ..same(1, 1, 9) };
    check(&Case { x: [1, 3, 5, 9], w: [9, 3, 3, 1], opts: wide });
}

#[test]
fn pooled_and_gated_convolutions_with_same_padding() {
    let case = Case { x: [2, 9, 12, 4], w: [14, 3, 3, 4], opts: same(2, 1, 1) };
    let (x, w, bias) = (noise(len(case.x), 1.0, 1), noise(len(case.w), 1.0, 2), noise(14, 1.0, 3));
    let y = case.forward(&x, &w, &bias);
    let [n, oh, ow, o] = case.y();
    let value = |image: usize, r: usize, s: usize, k: usize| y[((image * oh + r) * ow + s) * o + k];
    let mut pooled = Vec::new();
    for at in 0..n * (oh / 2) * (ow / 2) * o {
        let (k, s, r, image) =
            (at % o, at / o % (ow / 2), at / (o * (ow / 2)) % (oh / 2), at / (o * (ow / 2) * (oh / 2)));
        let corner = |dy: usize, dx: usize| value(image, 2 * r + dy, 2 * s + dx, k);
        pooled.push(corner(0, 0).max(corner(0, 1)).max(corner(1, 0)).max(corner(1, 1)));
    }
    let gate = |p: &[f64]| -> Vec<f64> { (0..7).map(|k| p[k].max(0.0) * sigmoid(p[7 + k])).collect() };
    let gated: Vec<f64> = y.chunks_exact(14).flat_map(gate).collect();
    for device in devices::under_test() {
        let operands = [&x, &w, &bias].map(|v| put(&device, v));
        let [x, w, bias] = &operands;
        let (mut maxima, mut features) = (poisoned(&device, pooled.len()), poisoned(&device, gated.len()));
        conv2d_max_pool2(x, case.x, w, case.w, bias, case.opts, Activation::Identity, &mut maxima).expect("fits");
        agree("maxima", &case, &maxima, &pooled);
        let copy = |b: &Buffer| b.duplicate().expect("memory");
        let conv = PreparedGated::new(copy(w), case.w, copy(bias), case.opts, Activation::Relu).expect("fits");
        conv.run(x, case.x, None, &mut features).expect("fits");
        agree("features", &case, &features, &gated);
    }
}

#[test]
fn a_transposed_convolution_refuses_same_padding() {
    let (x, w, mut y) = (vec![0.0f32; 8], vec![0.0f32; 18], vec![0.0f32; 32]);
    let error = conv_transpose2d(&x, [1, 2, 2, 2], &w, [2, 3, 3, 1], None, same(2, 1, 1), Activation::Identity, &mut y);
    assert!(error.expect_err("SAME is ambiguous here").to_string().contains("SAME"));
    let (weight, bias) = (Device::CPU.upload(w).expect("memory"), Device::CPU.upload(vec![0.0]).expect("memory"));
    let error = PreparedConv::transposed(weight, [2, 3, 3, 1], bias, same(2, 1, 1), Activation::Identity);
    assert!(error.err().expect("SAME is ambiguous here").to_string().contains("SAME"));
}

#[test]
fn relu6_is_flat_outside_its_range() {
    let x = [-7.5, -0.0, 0.0, 1e-3, 3.25, 5.999, 6.0, 6.001, 100.0, f32::INFINITY, f32::NEG_INFINITY];
    let (y, slope) = (x.map(|v| v.clamp(0.0, 6.0)), x.map(|v| if v > 0.0 && v < 6.0 { 2.0 } else { 0.0 }));
    for device in devices::under_test() {
        let (mut out, mut grad) =
            (device.upload(x.to_vec()).expect("memory"), device.upload(vec![2.0; x.len()]).expect("memory"));
        Activation::Relu6.apply(&mut out);
        Activation::Relu6.backward(&out, &mut grad).expect("one length");
        assert_eq!(out.to_vec().expect("read"), y, "on {}", device.name());
        assert_eq!(grad.to_vec().expect("read"), slope, "on {}", device.name());
    }
}
