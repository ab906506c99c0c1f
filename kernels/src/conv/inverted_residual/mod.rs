//! Inverted residual of MobileNetV2 and EfficientNet-Lite for inference, in one pass.
//!
//! `y = project(act(depthwise(act(expand(x))))) (+ x)`: a 1x1 convolution into e channels, a depthwise
//! k x k convolution whose zero padding lies around the expanded map, a 1x1 convolution out of them; a bias
//! (with batch normalisation folded in) after each, the activation after the first two. Source: Sandler et
//! al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", figure 3.
//!
//! Tile by tile, some expanded channels at a time: the expanded map, six times the input, is never in main
//! memory. In int8 it holds bytes, and so does what the projection takes (bytes.rs). Bytes
//! moved: input (and the halo of each tile), weights, output. Operations: `2 e (from * pixels +
//! (k * k + to) * output pixels)`, and those of the halos.

mod band;
mod bytes;
mod gpu;
mod host;
mod stages;

use super::{ConvOptions, Geometry};
use crate::activation::Activation;
use crate::device::{Buffer, Place, Rounding, View, ViewMut, mixed, place};
use crate::error::{Result, check_len, shape_error};
use crate::shape::Nhwc;

const OP: &str = "inverted residual";

/// Largest kernel and stride: the expanded tile of a GPU's cube fits into 16 KiB of shared memory.
const LARGEST: (usize, usize) = (5, 2);

/// Weights (OHWI) of one of the convolutions, and a bias for each output channel.
pub struct ConvWeights {
    /// As many values as the shape says.
    pub weight: Buffer,
    /// Output channels, kernel rows, kernel columns, input channels per group.
    pub shape: [usize; 4],
    /// One value for each output channel.
    pub bias: Buffer,
    /// What the operands of its products are rounded to, on the CPU. That of the depthwise convolution holds only where every
    /// convolution's is int8 and the activation is ReLU or ReLU6; its range is that of the map after the activation.
    pub rounding: Rounding,
}

/// An inverted residual with weights as its device wants them.
pub struct PreparedInvertedResidual {
    weights: Weights,
    /// Shape of the depthwise weights: `[e, k, k, 1]`.
    depthwise: [usize; 4],
    from: usize,
    to: usize,
    opts: ConvOptions,
    activation: Activation,
}

enum Weights {
    Host(Box<host::Packed>),
    Gpu(Box<gpu::Buffers>),
}

impl Weights {
    fn new(
        expand: Option<ConvWeights>,
        depthwise: ConvWeights,
        project: ConvWeights,
        activation: Activation,
    ) -> Result<Self> {
        let all = expand.iter().chain([&depthwise, &project]);
        let views: Vec<View> = all.flat_map(|w| [w.weight.view(), w.bias.view()]).collect();
        let operands: Vec<&dyn Place> = views.iter().map(|v| v as &dyn Place).collect();
        if place(OP, &operands)?.is_some() {
            return gpu::Buffers::new(expand, depthwise, project)
                .map_or_else(|| mixed(OP), |w| Ok(Self::Gpu(Box::new(w))));
        }
        let (kernel, bounds) = ((depthwise.shape[1], depthwise.shape[2]), activation.bounds());
        let expand = expand.as_ref().map(on_host);
        let packed = host::Packed::new(expand, on_host(&depthwise), kernel, on_host(&project), bounds)?;
        Ok(Self::Host(Box::new(packed)))
    }
}

fn on_host(weights: &ConvWeights) -> host::Given<'_> {
    let (weight, bias) = (weights.weight.view().host(), weights.bias.view().host());
    host::Given { weight, bias, rounding: weights.rounding }
}

impl PreparedInvertedResidual {
    /// `expand` is `[e, 1, 1, from]`, or left out where e = from; `depthwise` `[e, k, k, 1]` with k at most
    /// 5; `project` `[to, 1, 1, e]`. Stride (1 or 2) and padding in `opts` are the depthwise convolution's,
    /// whose dilation is 1; its groups follow from the weights. The activation follows expansion and
    /// depthwise convolution.
    ///
    /// # Errors
    /// When shapes, lengths, options or devices do not fit together.
    pub fn new(
        expand: Option<ConvWeights>,
        depthwise: ConvWeights,
        project: ConvWeights,
        opts: ConvOptions,
        activation: Activation,
    ) -> Result<Self> {
        let [e, kh, kw, _] = depthwise.shape;
        let from = expand.as_ref().map_or(e, |w| w.shape[3]);
        let to = project.shape[0];
        check(&depthwise, [e, kh, kw, 1])?;
        check(&project, [to, 1, 1, e])?;
        expand.iter().try_for_each(|w| check(w, [e, 1, 1, from]))?;
        let (kernel, stride) = LARGEST;
        if kh.max(kw) > kernel || opts.stride > stride || opts.dilation != 1 || e * to * from == 0 {
            return shape_error(
                OP,
                format!("kernels up to {kernel}x{kernel}, strides up to {stride}, no dilation, at least one channel"),
            );
        }
        let opts = ConvOptions { groups: e, ..opts };
        Geometry::new(OP, [1, kh, kw, e], depthwise.shape, opts)?;
        let shape = depthwise.shape;
        Ok(Self {
            weights: Weights::new(expand, depthwise, project, activation)?,
            depthwise: shape,
            from,
            to,
            opts,
            activation,
        })
    }

    /// The shape of the output for an input of shape `x`.
    ///
    /// # Errors
    /// When the input does not fit.
    pub fn output(&self, x: Nhwc) -> Result<Nhwc> {
        let [n, h, w, _] = self.geometry(x)?.y;
        Ok([n, h, w, self.to])
    }

    /// The depthwise convolution.
    fn geometry(&self, x: Nhwc) -> Result<Geometry> {
        check_len(OP, "input channels", x[3], self.from)?;
        Geometry::new(OP, [x[0], x[1], x[2], self.depthwise[0]], self.depthwise, self.opts)
    }

    /// Writes `y` and returns its shape. With `residual` the input is added, which has the output's shape.
    ///
    /// # Errors
    /// When shapes, lengths or devices do not fit together.
    pub fn run<'a>(
        &self,
        x: impl Into<View<'a>>,
        x_shape: Nhwc,
        residual: bool,
        y: impl Into<ViewMut<'a>>,
    ) -> Result<Nhwc> {
        let (x, y) = (x.into(), y.into());
        let g = self.geometry(x_shape)?;
        let y_shape = self.output(x_shape)?;
        check_len(OP, "input", x.len(), x_shape.iter().product())?;
        check_len(OP, "output", y.len(), y_shape.iter().product())?;
        if residual && x_shape != y_shape {
            return shape_error(OP, format!("input {x_shape:?} cannot be added to output {y_shape:?}"));
        }
        let (from, to, activation) = (self.from, self.to, self.activation);
        match &self.weights {
            Weights::Host(weights) => {
                place(OP, &[&x, &y])?.map_or(Ok(()), |_| mixed(OP))?;
                host::Call { g: &g, from, to, activation, weights, residual }.run(x.host(), y.host());
            }
            Weights::Gpu(weights) => {
                place(OP, &[&x, &View::Gpu(&weights.depthwise.0), &y])?;
                gpu::Call { g: &g, from, to, activation, weights, residual }.run(x.device(), y.device())?;
            }
        }
        Ok(y_shape)
    }
}

fn check(weights: &ConvWeights, shape: [usize; 4]) -> Result<()> {
    if weights.shape != shape {
        return shape_error(OP, format!("weights {:?} (OHWI) where {shape:?} was expected", weights.shape));
    }
    check_len(OP, "weights", weights.weight.len(), shape.iter().product())?;
    check_len(OP, "bias", weights.bias.len(), shape[0])
}
