//! One convolution with what follows it: `y = activation(norm(conv(x)) + residual) * (1 + attention)`.

use std::collections::BTreeMap;

use hotad_engine::device::Device;
use hotad_engine::ops::{
    BatchNormParams, ConvParams, Mode, activate, add, attend, batch_norm2d, conv_transpose2d, conv2d, conv2d_max_pool2,
    max_pool2d, reshape, upsample_conv2d,
};
use hotad_engine::params::{Params, State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Error, Result};
use hotad_kernels::batch_norm::fold;
use hotad_kernels::conv::{ConvOptions, ConvWeights, Extra, PreparedConv, PreparedInvertedResidual};
use hotad_kernels::pool::PoolOptions;
use rand_chacha::ChaCha8Rng;

use super::inputs::Inputs;

/// Share of a batch in the running statistics, as torchvision has it.
const MOMENTUM: f32 = 0.1;

/// The 2x2 pooling of stride 2 that can be fused into the convolution before it.
pub const POOL2: PoolOptions = PoolOptions { kernel: 2, stride: 2, padding: 0 };

/// A batch normalisation after a convolution.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Prefix of its parameters.
    pub name: String,
    /// Added to the variance.
    pub eps: f32,
}

/// A convolution, transposed convolution or fully connected layer. It has a bias where no normalisation
/// follows.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Prefix of its parameters, as torchvision names them where the network is one of its.
    pub name: String,
    /// Input channels.
    pub from: usize,
    /// Output channels.
    pub to: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Stride, padding, groups.
    pub opts: ConvOptions,
    /// Follows the convolution.
    pub norm: Option<Norm>,
    /// Follows the normalisation and the residual.
    pub activation: Activation,
    /// Whether it enlarges the map.
    pub transposed: bool,
    /// Whether the map is enlarged twofold before, by nearest neighbours.
    pub upsampled: bool,
    /// For a fully connected layer over a whole map: its rows and columns.
    pub flattened: Option<(usize, usize)>,
}

impl Layer {
    /// A convolution that keeps the size at stride 1, without activation.
    pub fn conv(name: impl Into<String>, from: usize, to: usize, kernel: usize, stride: usize) -> Self {
        let opts = ConvOptions { stride, padding: (kernel / 2).into(), ..ConvOptions::default() };
        Self {
            name: name.into(),
            from,
            to,
            kernel,
            opts,
            norm: None,
            activation: Activation::Identity,
            transposed: false,
            upsampled: false,
            flattened: None,
        }
    }

    /// A fully connected layer.
    pub fn linear(name: impl Into<String>, from: usize, to: usize) -> Self {
        Self::conv(name, from, to, 1, 1)
    }

    /// With a batch normalisation.
    pub fn norm(self, name: impl Into<String>, eps: f32) -> Self {
        Self { norm: Some(Norm { name: name.into(), eps }), ..self }
    }

    /// With an activation.
    pub fn then(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// After the map is enlarged twofold, by nearest neighbours; its kernel is 3x3.
    pub fn upsampled(self) -> Self {
        Self { upsampled: true, ..self }
    }

    /// Every channel with a kernel of its own.
    pub fn depthwise(self) -> Self {
        let opts = ConvOptions { groups: self.from, ..self.opts };
        Self { opts, ..self }
    }

    /// Shape of the weights: OHWI, or IHWO when transposed.
    pub fn weight_shape(&self) -> [usize; 4] {
        let k = self.kernel;
        if self.transposed { [self.from, k, k, self.to] } else { [self.to, k, k, self.from / self.opts.groups] }
    }

    fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }

    /// Scalars that are learned.
    pub fn count(&self) -> usize {
        let follows = if self.norm.is_some() { 2 * self.to } else { self.to };
        self.weight_shape().iter().product::<usize>() + follows
    }

    /// Adds fresh parameters.
    pub fn init(&self, params: &mut Params, prefix: &str, rng: &mut ChaCha8Rng) {
        let taps = self.kernel * self.kernel;
        let fan_in = match self.transposed {
            true => (self.from * taps / (self.opts.stride * self.opts.stride)).max(1),
            false => self.from / self.opts.groups * taps,
        };
        params.he_uniform(&format!("{prefix}{}", self.weight()), &self.weight_shape(), fan_in, rng);
        match &self.norm {
            Some(norm) => params.batch_norm(&format!("{prefix}{}", norm.name), self.to),
            None => params.zeros(&format!("{prefix}{}", self.bias()), &[self.to]),
        }
    }

    /// Weights and bias with the normalisation folded in. `state` is on the host.
    pub(crate) fn folded(&self, state: &State) -> Result<(Vec<f32>, Vec<f32>)> {
        let weight = fetch(state, &self.weight(), &self.weight_shape())?.values()?;
        let Some(norm) = &self.norm else {
            return Ok((weight.into_owned(), fetch(state, &self.bias(), &[self.to])?.values()?.into_owned()));
        };
        let value = |kind: &str| fetch(state, &format!("{}.{kind}", norm.name), &[self.to])?.values();
        let affine = (&*value("weight")?, &*value("bias")?);
        let running = (&*value("running_mean")?, &*value("running_var")?);
        match self.transposed {
            false => Ok(fold(&weight, affine, running, norm.eps)?),
            true => fold_transposed(&weight, self.to, affine, running, norm.eps),
        }
    }

    /// Its parameters, for a layer without normalisation, with the activation that follows.
    fn convolution(&self, params: &Params, prefix: &str, mode: Mode) -> Result<ConvParams> {
        let get = |name: &str| params.get(&format!("{prefix}{name}"), mode != Mode::Eval);
        Ok(ConvParams {
            weight: get(&self.weight())?,
            bias: self.norm.is_none().then(|| get(&self.bias())).transpose()?,
            activation: self.activation,
        })
    }

    /// Laid out for a device.
    fn prepare(&self, state: &State, device: &Device) -> Result<(PreparedConv, Inputs)> {
        let (weight, bias) = self.folded(state)?;
        let inputs = Inputs::new(device, &self.name, &weight);
        let (weight, bias) = (device.upload(weight)?, device.upload(bias)?);
        let (shape, opts, activation) = (self.weight_shape(), self.opts, self.activation);
        let conv = if self.upsampled {
            PreparedConv::upsampled(weight, shape, bias, activation)?
        } else if self.transposed {
            PreparedConv::transposed(weight, shape, bias, opts, activation)?
        } else {
            PreparedConv::new(weight, shape, bias, opts, activation)?
        };
        Ok((conv.rounded(inputs.rounding)?, inputs))
    }

    /// As a part of a fused block.
    fn part(&self, state: &State, device: &Device) -> Result<(ConvWeights, Inputs)> {
        let (weight, bias) = self.folded(state)?;
        let inputs = Inputs::new(device, &self.name, &weight);
        let (weight, bias) = (device.upload(weight)?, device.upload(bias)?);
        Ok((ConvWeights { weight, shape: self.weight_shape(), bias, rounding: inputs.rounding }, inputs))
    }
}

/// [`fold`] for IHWO weights, whose output channels are innermost.
fn fold_transposed(
    w: &[f32],
    to: usize,
    affine: (&[f32], &[f32]),
    running: (&[f32], &[f32]),
    eps: f32,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (factors, shift) = fold(&vec![1.0; to], affine, running, eps)?;
    let folded = w.iter().enumerate().map(|(i, v)| v * factors[i % to]).collect();
    Ok((folded, shift))
}

/// Layers and fused blocks ready for inference, by name.
#[derive(Default)]
pub struct Prepared {
    layers: BTreeMap<String, (PreparedConv, Inputs)>,
    blocks: BTreeMap<String, (PreparedInvertedResidual, Vec<Inputs>)>,
}

impl Prepared {
    /// Folds and lays out the weights of layers.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(layers: &[&Layer], state: &State, device: &Device) -> Result<Self> {
        let (mut prepared, state) = (Self::default(), on_host(state)?);
        layers.iter().try_for_each(|layer| prepared.add(layer, &state, device))?;
        Ok(prepared)
    }

    /// Adds a layer. `state` is on the host.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn add(&mut self, layer: &Layer, state: &State, device: &Device) -> Result<()> {
        self.layers.insert(layer.name.clone(), layer.prepare(state, device)?);
        Ok(())
    }

    /// Adds an inverted residual that is run in one pass, under the name of its projection. `state` is on the host.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn add_fused(
        &mut self,
        expand: Option<&Layer>,
        depthwise: &Layer,
        project: &Layer,
        state: &State,
        device: &Device,
    ) -> Result<()> {
        let part = |layer: &Layer| layer.part(state, device);
        let (expand, (own, mixed), (last, projected)) =
            (expand.map(part).transpose()?, part(depthwise)?, part(project)?);
        let (first, expanded) = expand.unzip();
        let block = PreparedInvertedResidual::new(first, own, last, depthwise.opts, depthwise.activation)?;
        let inputs = expanded.into_iter().chain([mixed, projected]).collect();
        self.blocks.insert(project.name.clone(), (block, inputs));
        Ok(())
    }

    /// The layer of a name, which is given `x`.
    fn layer(&self, name: &str, x: &Tensor) -> Result<&PreparedConv> {
        let Some((conv, inputs)) = self.layers.get(name) else {
            return Err(Error::Config(format!("layer {name} has no weights here")));
        };
        inputs.note(x)?;
        Ok(conv)
    }

    /// Runs a fused block with its input added or not; `None` where there is no such block.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn run_fused(&self, name: &str, x: &Tensor, residual: bool) -> Result<Option<Tensor>> {
        let Some((block, inputs)) = self.blocks.get(name) else { return Ok(None) };
        inputs.iter().try_for_each(Inputs::check)?;
        let shape = block.output(x.nhwc()?)?;
        let mut y = x.device().alloc(shape.iter().product())?;
        block.run(x.view(), x.nhwc()?, residual, &mut y)?;
        Tensor::from_buffer(y, &shape).map(Some)
    }
}

/// A state on the host.
///
/// # Errors
/// When the device of the weights is lost.
pub fn on_host(state: &State) -> Result<State> {
    state.iter().map(|(k, t)| Ok((k.clone(), t.to(&Device::CPU)?))).collect()
}

/// The weights that a network is run with.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// Parameters whose names start with a prefix; in training they are on the tape, and normalisations
    /// use the batch.
    Learned(&'a Params, &'a str, Mode),
    /// For inference.
    Prepared(&'a Prepared),
}

impl Weights<'_> {
    /// Runs a layer.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn run(
        &self,
        layer: &Layer,
        x: &Tensor,
        residual: Option<&Tensor>,
        attention: Option<&Tensor>,
    ) -> Result<Tensor> {
        match self {
            Self::Learned(params, prefix, mode) => {
                let y = learned(layer, (params, prefix, *mode), x, residual)?;
                attention.map_or(Ok(y.clone()), |map| attend(&y, map))
            }
            Self::Prepared(ready) => {
                let conv = ready.layer(&layer.name, x)?;
                let shape = conv.output(x.nhwc()?)?;
                let mut y = x.device().alloc(shape.iter().product())?;
                let extra = Extra { residual: residual.map(Tensor::view), attention: attention.map(Tensor::view) };
                conv.run(x.view(), x.nhwc()?, extra, &mut y)?;
                Tensor::from_buffer(y, &shape)
            }
        }
    }

    /// Runs a layer and a 2x2 max pooling of stride 2, then attention.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn run_pooled(&self, layer: &Layer, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Learned(params, prefix, mode) => {
                let y = match layer.norm.is_none() && !layer.activation.slope_needs_input() {
                    true => conv2d_max_pool2(x, &layer.convolution(params, prefix, *mode)?, layer.opts)?,
                    false => max_pool2d(&self.run(layer, x, None, None)?, POOL2)?,
                };
                attention.map_or(Ok(y.clone()), |map| attend(&y, map))
            }
            Self::Prepared(ready) => {
                let conv = ready.layer(&layer.name, x)?;
                let [n, h, w, c] = conv.output(x.nhwc()?)?;
                let shape = [n, h / 2, w / 2, c];
                let mut y = x.device().alloc(shape.iter().product())?;
                conv.run_pooled(x.view(), x.nhwc()?, attention.map(Tensor::view), &mut y)?;
                Tensor::from_buffer(y, &shape)
            }
        }
    }

    /// Runs a fully connected layer: `[n, from]` to `[n, to]`. The images are the pixels of one map, so
    /// that the weights are read once.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn linear(&self, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        let n = x.shape().first().copied().unwrap_or(0);
        let y = self.run(layer, &reshape(x, &[1, 1, n, layer.from])?, None, None)?;
        reshape(&y, &[n, layer.to])
    }
}

fn learned(
    layer: &Layer,
    (params, prefix, mode): (&Params, &str, Mode),
    x: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let get = |name: &str| params.get(&format!("{prefix}{name}"), mode != Mode::Eval);
    let apart = layer.activation.slope_needs_input();
    let fused = if apart { Activation::Identity } else { layer.activation };
    let last = if layer.norm.is_some() || residual.is_some() { Activation::Identity } else { fused };
    let conv = ConvParams { activation: last, ..layer.convolution(params, prefix, mode)? };
    let mut y = if layer.upsampled {
        upsample_conv2d(x, &conv)?
    } else if layer.transposed {
        conv_transpose2d(x, &conv, layer.opts)?
    } else {
        conv2d(x, &conv, layer.opts)?
    };
    if let Some(norm) = &layer.norm {
        let name = |kind: &str| format!("{}.{kind}", norm.name);
        let running = |kind: &str| params.running(&format!("{prefix}{}", name(kind)));
        let norm = BatchNormParams {
            weight: get(&name("weight"))?,
            bias: get(&name("bias"))?,
            running: [running("running_mean")?, running("running_var")?],
            eps: norm.eps,
            momentum: MOMENTUM,
        };
        y = batch_norm2d(&y, &norm, mode, residual, fused)?;
    } else if let Some(residual) = residual {
        y = activate(&add(&y, residual)?, fused)?;
    }
    if apart { activate(&y, layer.activation) } else { Ok(y) }
}
