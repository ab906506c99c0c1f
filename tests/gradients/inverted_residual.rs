//! Inverted residuals against their three convolutions one after the other, in float64.

use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{ConvOptions, ConvWeights, Padding, PreparedInvertedResidual};
use hotad_kernels::device::{Device, Rounding};

use crate::convolution::{Case, agree, len, poisoned, put, same};
use crate::{devices, noise};

/// Channels of input, expanded map and output; without an expansion the first two are one.
struct Block {
    from: usize,
    expanded: usize,
    to: usize,
    kernel: usize,
    opts: ConvOptions,
    activation: (Activation, fn(f64) -> f64),
}

const RELU6: (Activation, fn(f64) -> f64) = (Activation::Relu6, |v| v.clamp(0.0, 6.0));
const LEAKY: (Activation, fn(f64) -> f64) = (Activation::LeakyRelu(0.5), |v| if v > 0.0 { v } else { 0.5 * v });

impl Block {
    fn weights(&self) -> [(Vec<f64>, [usize; 4], Vec<f64>); 3] {
        let k = self.kernel;
        let shapes = [[self.expanded, 1, 1, self.from], [self.expanded, k, k, 1], [self.to, 1, 1, self.expanded]];
        let values = |shape: [usize; 4], at| (noise(len(shape), 0.5, at), shape, noise(shape[0], 0.5, at + 1));
        [values(shapes[0], 30), values(shapes[1], 32), values(shapes[2], 34)]
    }

    fn prepared(&self, device: &Device) -> PreparedInvertedResidual {
        let ready = |(w, shape, bias): &(Vec<f64>, [usize; 4], Vec<f64>)| ConvWeights {
            weight: put(device, w),
            shape: *shape,
            bias: put(device, bias),
            rounding: Rounding::None,
        };
        let [expand, depthwise, project] = self.weights();
        let expand = (self.from != self.expanded).then(|| ready(&expand));
        PreparedInvertedResidual::new(expand, ready(&depthwise), ready(&project), self.opts, self.activation.0)
            .expect("shapes fit")
    }

    /// The last of the three convolutions, for its shapes, and the output without a residual.
    fn oracle(&self, shape: [usize; 4], x: &[f64]) -> (Case, Vec<f64>) {
        let [expand, depthwise, project] = self.weights();
        let act = |values: Vec<f64>| -> Vec<f64> { values.into_iter().map(self.activation.1).collect() };
        let point = |x: [usize; 4], w: [usize; 4]| Case { x, w, opts: ConvOptions::default() };
        let first = point(shape, expand.1);
        let (wide_shape, wide) = match self.from == self.expanded {
            true => (shape, x.to_vec()),
            false => (first.y(), act(first.forward(x, &expand.0, &expand.2))),
        };
        let opts = ConvOptions { groups: self.expanded, ..self.opts };
        let second = Case { x: wide_shape, w: depthwise.1, opts };
        let mixed = act(second.forward(&wide, &depthwise.0, &depthwise.2));
        let third = point(second.y(), project.1);
        let y = third.forward(&mixed, &project.0, &project.2);
        (third, y)
    }

    fn check(&self, shape: [usize; 4], residual: bool) {
        let x = noise(len(shape), 1.0, 40);
        let (case, mut want) = self.oracle(shape, &x);
        if residual {
            want.iter_mut().zip(&x).for_each(|(w, x)| *w += x);
        }
        for device in devices::under_test() {
            let block = self.prepared(&device);
            assert_eq!(block.output(shape).expect("it fits"), case.y());
            let mut y = poisoned(&device, want.len());
            assert_eq!(block.run(&put(&device, &x), shape, residual, &mut y).expect("it fits"), case.y());
            agree(&format!("inverted residual on {}", device.name()), &case, &y, &want);
        }
    }
}

#[test]
fn inverted_residuals_of_odd_sizes() {
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        for (from, expanded, to) in [(5, 20, 11), (16, 96, 24), (3, 70, 33), (24, 24, 16), (7, 7, 9)] {
            for padding in [Padding::Same, Padding::Each(kernel / 2), Padding::Each(0)] {
                let opts = ConvOptions { padding, ..same(stride, 1, 1) };
                Block { from, expanded, to, kernel, opts, activation: RELU6 }.check([2, 9, 12, from], false);
            }
        }
    }
    let small = Block { from: 6, expanded: 36, to: 6, kernel: 5, opts: same(1, 1, 1), activation: RELU6 };
    small.check([3, 1, 2, 6], true);
    let wide = Block { from: 19, expanded: 114, to: 19, kernel: 3, opts: same(1, 1, 1), activation: LEAKY };
    wide.check([1, 7, 5, 19], true);
}

#[test]
fn an_inverted_residual_of_several_bands() {
    let block = Block { from: 8, expanded: 48, to: 8, kernel: 5, opts: same(1, 1, 1), activation: RELU6 };
    block.check([1, 61, 70, 8], true);
}

#[test]
fn inverted_residuals_that_do_not_fit_are_refused() {
    let block = Block { from: 4, expanded: 8, to: 6, kernel: 3, opts: same(2, 1, 1), activation: RELU6 };
    let ready = block.prepared(&Device::CPU);
    let (x, mut y) = (vec![0.0f32; 64], vec![0.0f32; 24]);
    let error = ready.run(&x, [1, 4, 4, 4], true, &mut y).expect_err("sizes differ");
    assert!(error.to_string().contains("cannot be added"), "{error}");
    let error = ready.run(&x, [1, 4, 8, 2], false, &mut y).expect_err("two channels");
    assert!(error.to_string().contains("input channels"), "{error}");
    let weights = |shape: [usize; 4]| ConvWeights {
        weight: Device::CPU.zeros(len(shape)).expect("memory"),
        shape,
        bias: Device::CPU.zeros(shape[0]).expect("memory"),
        rounding: Rounding::None,
    };
    let build = |depthwise, project, opts| {
        PreparedInvertedResidual::new(None, weights(depthwise), weights(project), opts, Activation::Relu6).err()
    };
    let error = build([8, 7, 7, 1], [6, 1, 1, 8], same(1, 1, 1)).expect("too large");
    assert!(error.to_string().contains("5x5"), "{error}");
    let error = build([8, 3, 3, 1], [6, 1, 1, 9], same(1, 1, 1)).expect("nine channels");
    assert!(error.to_string().contains("[6, 1, 1, 9]"), "{error}");
    assert!(build([8, 3, 3, 1], [6, 1, 1, 8], same(3, 1, 1)).is_some(), "a stride of 3");
}
