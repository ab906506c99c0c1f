//! Layers of networks as nodes, with normalisations folded and paddings in numbers.

use hotad_engine::params::State;
use hotad_engine::{Activation, Error, Result};
use hotad_kernels::conv::{ConvOptions, conv_transpose2d_shape};
use hotad_kernels::pool::PoolOptions;

use super::graph::GraphValue;
use super::onnx::Attribute;
use crate::networks::layer::{Layer, POOL2, on_host};
use crate::networks::{MEAN, VARIANCE};

/// Writes the layers of a network, whose weights it has.
pub struct Writer {
    state: State,
}

/// Said of a layer whose window is larger than its map.
fn misfit(layer: &str) -> Error {
    Error::Config(format!("layer {layer} does not fit the size of its images"))
}

/// Rows and columns of a kernel as attributes of a window, with the zeros around a map.
fn window(kernel: [usize; 2], opts: &ConvOptions, x: [usize; 3]) -> Option<(Vec<Attribute>, [usize; 2])> {
    let (top, bottom) = opts.zeros(x[1], kernel[0])?;
    let (left, right) = opts.zeros(x[2], kernel[1])?;
    let attributes = vec![
        Attribute::ints("kernel_shape", &kernel),
        Attribute::ints("strides", &[opts.stride; 2]),
        Attribute::ints("pads", &[top, left, bottom, right]),
    ];
    Some((attributes, [opts.output(x[1], kernel[0])?, opts.output(x[2], kernel[1])?]))
}

/// `[a][rows][columns][b]` as `[a][b][rows][columns]`.
fn channels_before_pixels(values: &[f32], [a, rows, columns, b]: [usize; 4]) -> Vec<f32> {
    let pixels = rows * columns;
    let at = |a: usize, b_at: usize, p: usize| values[(a * pixels + p) * b + b_at];
    (0..a)
        .flat_map(|a| (0..b).flat_map(move |b| (0..pixels).map(move |p| (a, b, p))))
        .map(|(a, b, p)| at(a, b, p))
        .collect()
}

impl Writer {
    /// With the weights of a network, under the names of its layers.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    pub fn new(state: &State) -> Result<Self> {
        Ok(Self { state: on_host(state)? })
    }

    /// `activation(norm(conv(x)) + residual) * (1 + attention)`.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn run(
        &self,
        layer: &Layer,
        x: &GraphValue,
        residual: Option<&GraphValue>,
        attention: Option<&GraphValue>,
    ) -> Result<GraphValue> {
        let convolved = self.convolved(layer, x, layer.weight_shape())?;
        let sum = residual.map_or(convolved.clone(), |r| &convolved + r);
        Ok(sum.activated(layer.activation).attended(attention))
    }

    /// A layer and a 2x2 max pooling of stride 2, then attention.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn run_pooled(&self, layer: &Layer, x: &GraphValue, attention: Option<&GraphValue>) -> Result<GraphValue> {
        Ok(self.run(layer, x, None, None)?.max_pooled(POOL2)?.attended(attention))
    }

    /// A fully connected layer over a whole map: a convolution whose kernel has its size.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn linear(&self, layer: &Layer, x: &GraphValue) -> Result<GraphValue> {
        let [channels, rows, columns] = x.shape;
        Ok(self.convolved(layer, x, [layer.to, rows, columns, channels])?.activated(layer.activation))
    }

    fn convolved(&self, layer: &Layer, x: &GraphValue, shape: [usize; 4]) -> Result<GraphValue> {
        let (weight, bias) = layer.folded(&self.state)?;
        if weight.len() != shape.iter().product::<usize>() {
            return Err(misfit(&layer.name));
        }
        let [first, rows, columns, last] = shape;
        let weight = x.graph().floats(&[first, last, rows, columns], &channels_before_pixels(&weight, shape));
        let bias = x.graph().floats(&[layer.to], &bias);
        let inputs = [x.name(), &weight, &bias];
        if layer.transposed {
            let [_, h, w, _] = conv_transpose2d_shape([1, x.shape[1], x.shape[2], first], shape, layer.opts)?;
            // The zeros that the convolution it transposes has around its own, larger map.
            let (attributes, _) = window([rows, columns], &layer.opts, [0, h, w]).ok_or_else(|| misfit(&layer.name))?;
            return Ok(x.graph().node("ConvTranspose", &inputs, attributes, [layer.to, h, w]));
        }
        let fits = window([rows, columns], &layer.opts, x.shape).filter(|_| x.shape[0] == last * layer.opts.groups);
        let (mut attributes, [h, w]) = fits.ok_or_else(|| misfit(&layer.name))?;
        attributes.push(Attribute::ints("dilations", &[layer.opts.dilation; 2]));
        attributes.push(Attribute::int("group", layer.opts.groups));
        Ok(x.graph().node("Conv", &inputs, attributes, [layer.to, h, w]))
    }
}

impl GraphValue {
    /// Under an activation.
    pub(super) fn activated(&self, activation: Activation) -> Self {
        let sixth = |name: &str| self.each(name, vec![Attribute::float("alpha", 1.0 / 6.0)]);
        match activation {
            Activation::Identity => self.clone(),
            Activation::Relu => self.apply("Relu"),
            Activation::Relu6 => {
                let (low, high) = (self.number(0.0), self.number(6.0));
                self.graph().node("Clip", &[self.name(), low.name(), high.name()], vec![], self.shape)
            }
            Activation::LeakyRelu(slope) => self.each("LeakyRelu", vec![Attribute::float("alpha", slope)]),
            Activation::Elu(alpha) => self.each("Elu", vec![Attribute::float("alpha", alpha)]),
            Activation::Sigmoid => self.apply("Sigmoid"),
            Activation::Tanh => self.apply("Tanh"),
            Activation::HardSigmoid => sixth("HardSigmoid"),
            Activation::HardSwish => self * sixth("HardSigmoid"),
        }
    }

    /// Multiplied by 1 + an attention map.
    pub(crate) fn attended(&self, attention: Option<&Self>) -> Self {
        attention.map_or(self.clone(), |map| self * (map + 1.0))
    }

    /// The attention map of features: the sigmoid of their mean over channels.
    pub(crate) fn attention(&self) -> Self {
        self.reduced("ReduceMean", &[1]).apply("Sigmoid")
    }

    /// The largest values of windows.
    pub(crate) fn max_pooled(&self, pool: PoolOptions) -> Result<Self> {
        let opts = ConvOptions { stride: pool.stride, padding: pool.padding.into(), ..ConvOptions::default() };
        let (attributes, [h, w]) = window([pool.kernel; 2], &opts, self.shape).ok_or_else(|| misfit("of a pooling"))?;
        Ok(self.graph().node("MaxPool", &[self.name()], attributes, [self.shape[0], h, w]))
    }

    /// The average of a whole map.
    pub(crate) fn averaged(&self) -> Self {
        self.graph().node("GlobalAveragePool", &[self.name()], vec![], [self.shape[0], 1, 1])
    }

    /// Twice as many rows and columns, each pixel four times.
    pub(crate) fn doubled(&self) -> Self {
        let attributes =
            [("mode", "nearest"), ("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")];
        let attributes = attributes.map(|(name, value)| Attribute::text(name, value)).to_vec();
        self.resized(2 * self.shape[1], 2 * self.shape[2], attributes)
    }

    /// Fewer rows and columns, by a triangle as wide as the scale.
    pub(crate) fn shrunk(&self, rows: usize, columns: usize) -> Self {
        // Without the last, pixels beyond the border would be repetitions of those at it.
        let switches = ["antialias", "exclude_outside"].map(|name| Attribute::int(name, 1));
        let attributes = std::iter::once(Attribute::text("mode", "linear")).chain(switches).collect();
        self.resized(rows, columns, attributes)
    }

    /// Without the mean and the deviation of ImageNet's colours.
    pub(crate) fn standardised(&self) -> Self {
        (self - self.of_channels(&MEAN)) / self.of_channels(&VARIANCE.map(f32::sqrt))
    }
}
