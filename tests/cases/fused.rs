//! Convolutions with the activations that are applied to their sums: each one after the plain convolution and the depthwise one, and
//! where sums are written in other ways one with a parameter and one that rises and falls.

use hotad_engine::Result;
use hotad_engine::ops::{ConvParams, conv_transpose2d, conv2d, conv2d_max_pool2, upsample_conv2d};
use hotad_engine::tensor::Tensor;
use hotad_kernels::activation::Activation;

use super::arrays::sigmoid;
use super::convolution::{
    AROUND, DEPTHWISE, STRIDED, constant, convolution, output, pooled, shape, transposed, upsampled,
};
use super::{Array, Case, Input, SUM, learned};

/// The activations with a parameter, which differs from those that networks use.
const LEAKY: Activation = Activation::LeakyRelu(0.25);
const ELU: Activation = Activation::Elu(0.5);

/// Sums of 162 products, to -10 and 10: beyond the bounds of every activation.
const DENSE: &[&[Input]] = &[&[constant(&[2, 7, 6, 18]), constant(&[70, 3, 3, 18]), constant(&[70])]];
const UPSAMPLED: &[&[Input]] = &[&[constant(&[2, 3, 4, 18]), constant(&[21, 3, 3, 18]), constant(&[21])]];
const TRANSPOSED: &[&[Input]] = &[&[constant(&[2, 3, 4, 18]), constant(&[18, 4, 4, 21]), constant(&[21])]];
const BY_CHANNEL: &[&[Input]] = &[&[constant(&[2, 11, 14, 21]), constant(&[21, 5, 5, 1]), constant(&[21])]];
const ON_TAPE: &[&[Input]] = &[&[learned(&[2, 5, 4, 7]), learned(&[6, 3, 3, 7]), learned(&[6])]];

/// Weights and bias as a layer with an activation.
fn layer(t: &[Tensor], activation: Activation) -> ConvParams {
    ConvParams { weight: t[1].clone(), bias: Some(t[2].clone()), activation }
}

fn dense(x: &Tensor, params: &ConvParams) -> Result<Tensor> {
    conv2d(x, params, AROUND)
}

fn dense_sums(a: &[Array]) -> Vec<f64> {
    convolution(a, AROUND)
}

fn by_channel(x: &Tensor, params: &ConvParams) -> Result<Tensor> {
    conv2d(x, params, DEPTHWISE)
}

fn sums_by_channel(a: &[Array]) -> Vec<f64> {
    convolution(a, DEPTHWISE)
}

/// The activations by their definitions.
fn activated(activation: Activation, values: Vec<f64>) -> Vec<f64> {
    let of = |v: f64| match activation {
        Activation::Identity => v,
        Activation::Relu => v.max(0.0),
        Activation::Relu6 => v.clamp(0.0, 6.0),
        Activation::LeakyRelu(slope) => v.max(f64::from(slope) * v),
        Activation::Elu(alpha) => {
            if v > 0.0 {
                v
            } else {
                f64::from(alpha) * (v.exp() - 1.0)
            }
        }
        Activation::Sigmoid => sigmoid(v),
        Activation::Tanh => v.tanh(),
        Activation::HardSigmoid => (v + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSwish => v * (v + 3.0).clamp(0.0, 6.0) / 6.0,
    };
    values.into_iter().map(of).collect()
}

/// A case that is not timed: its activation costs nothing beside the convolution.
const fn case(
    name: &'static str,
    checked: &'static [&'static [Input]],
    run: fn(&[Tensor]) -> Result<Tensor>,
    oracle: fn(&[Array]) -> Vec<f64>,
) -> Case {
    Case { name, checked, timed: &[], flops: 0.0, run, oracle, tolerance: SUM }
}

/// A convolution of the same kind with each of some activations.
macro_rules! cases {
    ($checked:expr, $run:path, $sums:path, $($name:literal: $activation:expr),+ $(,)?) => {
        &[$(case(
            $name,
            $checked,
            |t| $run(&t[0], &layer(t, $activation)),
            |a| activated($activation, $sums(a)),
        )),+]
    };
}

/// With exact operands and without gradients.
pub const PLAIN: &[Case] = cases!(
    DENSE, dense, dense_sums,
    "conv2d_relu": Activation::Relu,
    "conv2d_relu6": Activation::Relu6,
    "conv2d_leaky_relu": LEAKY,
    "conv2d_elu": ELU,
    "conv2d_sigmoid": Activation::Sigmoid,
    "conv2d_tanh": Activation::Tanh,
    "conv2d_hard_sigmoid": Activation::HardSigmoid,
    "conv2d_hard_swish": Activation::HardSwish,
);

/// Beside [`PLAIN`], with exact operands: sums that are pooled, and those of a transposed convolution.
pub const OTHERS: &[Case] = &[
    case(
        "conv2d_max_pool2_leaky_relu",
        DENSE,
        |t| conv2d_max_pool2(&t[0], &layer(t, LEAKY), AROUND),
        |a| pooled(&activated(LEAKY, convolution(a, AROUND)), output(shape(&a[0]), shape(&a[1]), AROUND)),
    ),
    // The largest of the outputs need not be that of the largest sum.
    case(
        "conv2d_max_pool2_hard_swish",
        DENSE,
        |t| conv2d_max_pool2(&t[0], &layer(t, Activation::HardSwish), AROUND),
        |a| {
            let y = activated(Activation::HardSwish, convolution(a, AROUND));
            pooled(&y, output(shape(&a[0]), shape(&a[1]), AROUND))
        },
    ),
    case(
        "upsample_conv2d_leaky_relu",
        UPSAMPLED,
        |t| upsample_conv2d(&t[0], &layer(t, LEAKY)),
        |a| activated(LEAKY, upsampled(a)),
    ),
    case(
        "upsample_conv2d_hard_swish",
        UPSAMPLED,
        |t| upsample_conv2d(&t[0], &layer(t, Activation::HardSwish)),
        |a| activated(Activation::HardSwish, upsampled(a)),
    ),
    case(
        "conv_transpose2d_leaky_relu",
        TRANSPOSED,
        |t| conv_transpose2d(&t[0], &layer(t, LEAKY), STRIDED),
        |a| activated(LEAKY, transposed(a, STRIDED)),
    ),
    case(
        "conv_transpose2d_hard_swish",
        TRANSPOSED,
        |t| conv_transpose2d(&t[0], &layer(t, Activation::HardSwish), STRIDED),
        |a| activated(Activation::HardSwish, transposed(a, STRIDED)),
    ),
];

/// Of every channel by itself, which no precision but f32 is for.
pub const DEPTHWISE_CASES: &[Case] = cases!(
    BY_CHANNEL, by_channel, sums_by_channel,
    "conv2d_depthwise_relu": Activation::Relu,
    "conv2d_depthwise_relu6": Activation::Relu6,
    "conv2d_depthwise_leaky_relu": LEAKY,
    "conv2d_depthwise_elu": ELU,
    "conv2d_depthwise_sigmoid": Activation::Sigmoid,
    "conv2d_depthwise_tanh": Activation::Tanh,
    "conv2d_depthwise_hard_sigmoid": Activation::HardSigmoid,
    "conv2d_depthwise_hard_swish": Activation::HardSwish,
);

/// With gradients, which are made of the outputs: not hard swish, which is not fused then. The operands are not exact, so that no sum
/// is where an activation has no slope.
pub const LEARNED: &[Case] = cases!(
    ON_TAPE, dense, dense_sums,
    "conv2d_relu_learned": Activation::Relu,
    "conv2d_relu6_learned": Activation::Relu6,
    "conv2d_leaky_relu_learned": LEAKY,
    "conv2d_elu_learned": ELU,
    "conv2d_sigmoid_learned": Activation::Sigmoid,
    "conv2d_tanh_learned": Activation::Tanh,
    "conv2d_hard_sigmoid_learned": Activation::HardSigmoid,
);
