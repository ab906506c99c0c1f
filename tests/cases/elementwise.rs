//! Functions of single elements.

use hotad_engine::Activation;
use hotad_engine::ops::{activate, add, gate, masked_input, mix, paste};
use hotad_engine::tensor::Tensor;
use hotad_kernels::elementwise::{affine, approach, clamp};
use hotad_kernels::projection::{Step, projection_step};

use super::arrays::sigmoid;
use super::{Array, Case, ELEMENT, Input, Values, given, learned, mask};

const fn wide(shape: &'static [usize]) -> Input {
    Input { values: Values::Wide, ..learned(shape) }
}

/// An activation: a few operations for each element, more with an exponential.
const fn activation(
    name: &'static str,
    flops: f64,
    run: fn(&[Tensor]) -> hotad_engine::Result<Tensor>,
    oracle: fn(&[Array]) -> Vec<f64>,
) -> Case {
    Case {
        name,
        checked: const { &[&[learned(&[1])], &[wide(&[5, 301])]] },
        timed: const { &[wide(&[8, 64, 64, 64])] },
        flops,
        run,
        oracle,
        tolerance: ELEMENT,
    }
}

/// Features times gates by their definition.
fn gated(halves: &Array, features: impl Fn(f64) -> f64) -> Vec<f64> {
    let c = halves.columns() / 2;
    let pixel = |p: &[f64]| (0..c).map(|k| features(p[k]) * sigmoid(p[c + k])).collect::<Vec<f64>>();
    halves.rows().flat_map(pixel).collect()
}

pub const CASES: &[Case] = &[
    activation("relu", 1.0, |t| activate(&t[0], Activation::Relu), |a| a[0].map(|v| v.max(0.0))),
    activation("relu6", 2.0, |t| activate(&t[0], Activation::Relu6), |a| a[0].map(|v| v.clamp(0.0, 6.0))),
    activation(
        "leaky_relu",
        2.0,
        |t| activate(&t[0], Activation::LeakyRelu(0.25)),
        |a| a[0].map(|v| if v > 0.0 { v } else { 0.25 * v }),
    ),
    activation(
        "elu",
        20.0,
        |t| activate(&t[0], Activation::Elu(0.5)),
        |a| a[0].map(|v| if v > 0.0 { v } else { 0.5 * (v.exp() - 1.0) }),
    ),
    activation("sigmoid", 20.0, |t| activate(&t[0], Activation::Sigmoid), |a| a[0].map(sigmoid)),
    activation("tanh", 20.0, |t| activate(&t[0], Activation::Tanh), |a| a[0].map(f64::tanh)),
    activation(
        "hard_sigmoid",
        4.0,
        |t| activate(&t[0], Activation::HardSigmoid),
        |a| a[0].map(|v| (v + 3.0).clamp(0.0, 6.0) / 6.0),
    ),
    activation(
        "hard_swish",
        5.0,
        |t| activate(&t[0], Activation::HardSwish),
        |a| a[0].map(|v| v * (v + 3.0).clamp(0.0, 6.0) / 6.0),
    ),
    Case {
        name: "add",
        checked: &[&[learned(&[1]), learned(&[1])], &[learned(&[70_001]), learned(&[70_001])]],
        timed: &[given(&[1 << 21]), given(&[1 << 21])],
        flops: 1.0,
        run: |t| add(&t[0], &t[1]),
        oracle: |a| a[0].zip(&a[1], |x, y| x + y),
        tolerance: ELEMENT,
    },
    Case {
        name: "affine",
        checked: &[&[given(&[1])], &[given(&[70_001])]],
        timed: &[given(&[1 << 21])],
        flops: 2.0,
        run: |t| {
            let mut y = t[0].device().alloc(t[0].len())?;
            affine(t[0].view(), 2.0, -1.0, &mut y)?;
            Tensor::from_buffer(y, t[0].shape())
        },
        oracle: |a| a[0].map(|x| 2.0 * x - 1.0),
        tolerance: ELEMENT,
    },
    Case {
        name: "clamp",
        checked: &[&[given(&[1])], &[given(&[70_001])]],
        timed: &[given(&[1 << 21])],
        flops: 2.0,
        run: |t| {
            let mut y = t[0].device().alloc(t[0].len())?;
            clamp(t[0].view(), (-0.5, 0.25), &mut y)?;
            Tensor::from_buffer(y, t[0].shape())
        },
        oracle: |a| a[0].map(|x| x.clamp(-0.5, 0.25)),
        tolerance: ELEMENT,
    },
    Case {
        name: "approach",
        checked: &[&[given(&[1]), given(&[1])], &[given(&[70_001]), given(&[70_001])]],
        timed: &[given(&[1 << 21]), given(&[1 << 21])],
        flops: 3.0,
        run: |t| {
            let mut y = t[0].clone().into_buffer()?;
            approach(&mut y, t[1].view(), 0.25)?;
            Tensor::from_buffer(y, t[0].shape())
        },
        oracle: |a| a[0].zip(&a[1], |x, y| x + 0.25 * (y - x)),
        tolerance: ELEMENT,
    },
    Case {
        name: "projection_step",
        checked: &[&[given(&[1000]), given(&[1000]), given(&[1000]), given(&[1000])]],
        timed: &[given(&[1 << 20]), given(&[1 << 20]), given(&[1 << 20]), given(&[1 << 20])],
        flops: 11.0,
        run: |t| {
            let mut x = t[0].clone().into_buffer()?;
            projection_step(&mut x, t[1].view(), 3.0, t[2].view(), t[3].view(), Step { size: 0.5, l1: 0.0625 })?;
            Tensor::from_buffer(x, t[0].shape())
        },
        oracle: |a| {
            let moved = |i: usize| {
                let [x, slope, made, first] = [0, 1, 2, 3].map(|k| a[k].values[i]);
                x - 0.5 * (3.0 * slope + 0.0625 * (x - first).signum()) * (x - made).powi(2)
            };
            (0..a[0].values.len()).map(|i| moved(i).clamp(0.0, 1.0)).collect()
        },
        tolerance: ELEMENT,
    },
    Case {
        name: "mix",
        checked: &[
            &[learned(&[1]), learned(&[1]), learned(&[1])],
            &[learned(&[2, 5, 7, 3]), learned(&[1]), learned(&[2, 5, 7, 3])],
        ],
        timed: &[given(&[8, 64, 64, 64]), given(&[1]), given(&[8, 64, 64, 64])],
        flops: 2.0,
        run: |t| mix(&t[0], &t[1], &t[2]),
        oracle: |a| a[0].zip(&a[2], |o, x| a[1].values[0] * o + x),
        tolerance: ELEMENT,
    },
    Case {
        name: "gate",
        checked: &[&[learned(&[1, 1, 1, 2])], &[learned(&[1, 7, 11, 10])], &[learned(&[2, 4, 4, 64])]],
        timed: &[given(&[1, 64, 64, 192])],
        flops: 20.0,
        run: |t| gate(&t[0], Activation::Elu(1.0)),
        oracle: |a| gated(&a[0], |v| if v > 0.0 { v } else { v.exp() - 1.0 }),
        tolerance: ELEMENT,
    },
    Case {
        name: "gate_of_relu",
        checked: &[&[learned(&[1, 7, 11, 10])]],
        timed: &[given(&[1, 64, 64, 192])],
        flops: 20.0,
        run: |t| gate(&t[0], Activation::Relu),
        oracle: |a| gated(&a[0], |v| v.max(0.0)),
        tolerance: ELEMENT,
    },
    Case {
        name: "gate_of_identity",
        checked: &[&[learned(&[1, 7, 11, 10])]],
        timed: &[given(&[1, 64, 64, 192])],
        flops: 19.0,
        run: |t| gate(&t[0], Activation::Identity),
        oracle: |a| gated(&a[0], |v| v),
        tolerance: ELEMENT,
    },
    Case {
        name: "masked_input",
        checked: &[&[learned(&[2, 5, 7, 3]), mask(&[2, 5, 7, 1])]],
        timed: &[given(&[8, 256, 256, 3]), mask(&[8, 256, 256, 1])],
        flops: 1.0,
        run: |t| masked_input(&t[0], &t[1]),
        oracle: |a| {
            let pixels = a[0].rows().zip(&a[1].values);
            pixels.flat_map(|(p, m)| [p[0] * (1.0 - m), p[1] * (1.0 - m), p[2] * (1.0 - m), 1.0, *m]).collect()
        },
        tolerance: ELEMENT,
    },
    Case {
        name: "paste",
        checked: &[&[learned(&[2, 5, 7, 3]), given(&[2, 5, 7, 3]), mask(&[2, 5, 7, 1])]],
        timed: &[given(&[8, 256, 256, 3]), given(&[8, 256, 256, 3]), mask(&[8, 256, 256, 1])],
        flops: 4.0,
        run: |t| paste(&t[0], &t[1], &t[2]),
        oracle: |a| {
            let pasted = |i: usize| {
                let m = a[2].values[i / 3];
                a[0].values[i] * m + a[1].values[i] * (1.0 - m)
            };
            (0..a[0].values.len()).map(pasted).collect()
        },
        tolerance: ELEMENT,
    },
];
