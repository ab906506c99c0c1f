//! Convolutions of shapes that run with Winograd's transforms: within the golden tolerance of sums in float64.

use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{ConvOptions, Extra, Padding, PreparedConv, PreparedGated};
use hotad_kernels::device::{Buffer, Device};

use crate::convolution::{Case, len, poisoned, put};
use crate::naive::sigmoid;
use crate::{devices, noise};

/// The strictest that golden vectors of 3x3 convolutions have; outputs have a deviation of one.
const RELATIVE: f64 = 1e-4;
const ABSOLUTE: f64 = 2e-5;

/// A convolution and its operands in float64: input, weights, bias, and the output before the activation.
struct Example {
    case: Case,
    x: Vec<f64>,
    w: Vec<f64>,
    bias: Vec<f64>,
    y: Vec<f64>,
}

impl Example {
    /// A 3x3 convolution.
    fn three(x: [usize; 4], outputs: usize, padding: Padding, dilation: usize) -> Self {
        Self::new(x, outputs, 3, ConvOptions { stride: 1, padding, dilation, groups: 1 })
    }

    /// A 4x4 convolution of stride 2.
    fn four(x: [usize; 4], outputs: usize, padding: Padding) -> Self {
        Self::new(x, outputs, 4, ConvOptions { stride: 2, padding, dilation: 1, groups: 1 })
    }

    fn new(x: [usize; 4], outputs: usize, kernel: usize, opts: ConvOptions) -> Self {
        let case = Case { x, w: [outputs, kernel, kernel, x[3]], opts };
        let deviation = (1.0 / (kernel * kernel * x[3]) as f64).sqrt();
        let unit = 3f64.sqrt(); // of uniform values
        let (x, w) = (noise(len(case.x), unit, 1), noise(len(case.w), unit * deviation, 2));
        let bias = noise(outputs, 1.0, 3);
        let y = case.forward(&x, &w, &bias);
        Self { case, x, w, bias, y }
    }

    /// The shapes that a tile can meet: rows and columns that tiles do not fill, blocks of channels that are not full, one
    /// and several strips, all paddings, lattices of a dilation, and many channels, whose sums have the largest error.
    fn all() -> Vec<Self> {
        vec![
            Self::three([1, 16, 16, 512], 32, Padding::Each(1), 1),
            Self::three([2, 15, 18, 32], 35, Padding::Same, 1),
            Self::three([1, 19, 17, 48], 64, Padding::Each(0), 1),
            Self::three([1, 40, 13, 32], 48, Padding::Each(2), 1),
            Self::three([1, 23, 25, 32], 40, Padding::Each(2), 2),
            Self::three([1, 20, 30, 32], 32, Padding::Each(8), 8),
            Self::four([1, 24, 24, 512], 32, Padding::Each(1)),
            Self::four([2, 21, 26, 32], 35, Padding::Same),
            Self::four([1, 27, 37, 48], 64, Padding::Each(0)),
            Self::four([1, 70, 21, 32], 48, Padding::Each(3)),
            // Several bands.
            Self::four([1, 75, 70, 32], 32, Padding::Each(2)),
        ]
    }

    fn buffers(&self, device: &Device) -> [Buffer; 3] {
        [&self.x, &self.w, &self.bias].map(|v| put(device, v))
    }

    fn compare(&self, what: &str, got: &Buffer, want: &[f64]) {
        let got = got.to_vec().expect("the device has done its work");
        assert_eq!(got.len(), want.len(), "{what}");
        for (at, (g, w)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(*g) - w).abs();
            let Case { x, w: kernel, opts } = self.case;
            assert!(
                error <= ABSOLUTE + RELATIVE * w.abs(),
                "{what} of {x:?} * {kernel:?}, {opts:?}: {g} for {w} at {at}"
            );
        }
    }
}

#[test]
fn residuals_and_attention_follow() {
    for example in Example::all() {
        let channels = example.case.w[0];
        let (residual, attention) = (noise(example.y.len(), 1.0, 4), noise(example.y.len() / channels, 1.0, 5));
        let value = |at: usize| (example.y[at] + residual[at]).max(0.0) * (1.0 + attention[at / channels]);
        let y: Vec<f64> = (0..example.y.len()).map(value).collect();
        for device in devices::under_test() {
            let [x, w, bias] = example.buffers(&device);
            let [residual, attention] = [&residual, &attention].map(|v| put(&device, v));
            let Case { w: shape, opts, .. } = example.case;
            let conv = PreparedConv::new(w, shape, bias, opts, Activation::Relu).expect("fits");
            let mut out = poisoned(&device, y.len());
            let extra = Extra { residual: Some(residual.view()), attention: Some(attention.view()) };
            conv.run(&x, example.case.x, extra, &mut out).expect("fits");
            example.compare("output", &out, &y);
        }
    }
}

#[test]
fn maxima_follow() {
    for example in Example::all() {
        let [n, h, w, c] = example.case.y();
        let at = |image: usize, row: usize, col: usize, k: usize| example.y[((image * h + row) * w + col) * c + k];
        let mut maxima = Vec::new();
        for (image, row) in (0..n).flat_map(|image| (0..h / 2).map(move |row| (image, row))) {
            for (col, k) in (0..w / 2).flat_map(|col| (0..c).map(move |k| (col, k))) {
                let corner = |i: usize| at(image, 2 * row + i / 2, 2 * col + i % 2, k).clamp(0.0, 6.0);
                maxima.push((0..4).map(corner).fold(0.0, f64::max));
            }
        }
        for device in devices::under_test() {
            let [x, w, bias] = example.buffers(&device);
            let Case { w: shape, opts, .. } = example.case;
            let conv = PreparedConv::new(w, shape, bias, opts, Activation::Relu6).expect("fits");
            let mut out = poisoned(&device, maxima.len());
            conv.run_pooled(&x, example.case.x, None, &mut out).expect("fits");
            example.compare("maxima", &out, &maxima);
        }
    }
}

#[test]
fn gates_follow() {
    for example in Example::all().into_iter().filter(|e| e.case.w[0].is_multiple_of(2)) {
        let channels = example.case.w[0] / 2;
        let pixel = |p: &[f64]| -> Vec<f64> { (0..channels).map(|k| p[k].tanh() * sigmoid(p[channels + k])).collect() };
        let features: Vec<f64> = example.y.chunks_exact(2 * channels).flat_map(pixel).collect();
        for device in devices::under_test() {
            let [x, w, bias] = example.buffers(&device);
            let Case { w: shape, opts, .. } = example.case;
            let conv = PreparedGated::new(w, shape, bias, opts, Activation::Tanh).expect("fits");
            let mut out = poisoned(&device, features.len());
            conv.run(&x, example.case.x, None, &mut out).expect("fits");
            example.compare("features", &out, &features);
        }
    }
}
