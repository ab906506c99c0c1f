//! One gated convolution (Yu et al. 2019, equation 2), on the tape or ready for inference.

use std::collections::BTreeMap;

use hotad_engine::device::Device;
use hotad_engine::ops::{ConvParams, Mode, gated_conv2d, gated_upsample_conv2d, masked_input};
use hotad_engine::params::{Params, State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result};
use hotad_kernels::conv::{ConvOptions, MASKED_CHANNELS, PreparedGated};
use rand_chacha::ChaCha8Rng;

use super::inputs::Inputs;

/// A gated convolution: what the features go through, times the sigmoid of the gates.
#[derive(Clone, Debug)]
pub struct Gated {
    /// Prefix of its parameters: `weight` OHWI and `bias`, features before gates.
    pub name: String,
    /// Input channels; 5 where it sees a masked image.
    pub from: usize,
    /// Features, and as many gates.
    pub to: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Stride, padding, dilation.
    pub opts: ConvOptions,
    /// What the features go through.
    pub features: Activation,
    /// Whether the map is enlarged twofold before, by nearest neighbours.
    pub upsampled: bool,
}

impl Gated {
    /// With ELU; keeps the size at stride 1.
    pub fn new(name: String, from: usize, to: usize, kernel: usize, stride: usize, dilation: usize) -> Self {
        let opts = ConvOptions { stride, padding: (kernel / 2 * dilation).into(), dilation, groups: 1 };
        Self { name, from, to, kernel, opts, features: Activation::Elu(1.0), upsampled: false }
    }

    fn shape(&self) -> [usize; 4] {
        [2 * self.to, self.kernel, self.kernel, self.from]
    }

    /// Adds fresh parameters, drawn for half as many inputs: gates around a half halve the amplitude of what passes, and
    /// sixteen layers of that would leave nothing.
    pub fn init(&self, params: &mut Params, rng: &mut ChaCha8Rng) {
        let fan_in = self.kernel * self.kernel * self.from / 2;
        params.he_uniform(&format!("{}.weight", self.name), &self.shape(), fan_in, rng);
        params.zeros(&format!("{}.bias", self.name), &[2 * self.to]);
    }

    fn prepare(&self, state: &State, device: &Device) -> Result<(PreparedGated, Inputs)> {
        let weight = fetch(state, &format!("{}.weight", self.name), &self.shape())?;
        let inputs = Inputs::new(device, &self.name, &weight.to(&Device::CPU)?.values()?)?;
        let weight = weight.to(device)?.into_buffer()?;
        let bias = fetch(state, &format!("{}.bias", self.name), &[2 * self.to])?.to(device)?.into_buffer()?;
        let conv = match self.upsampled {
            true => PreparedGated::upsampled(weight, self.shape(), bias, self.features)?,
            false => PreparedGated::new(weight, self.shape(), bias, self.opts, self.features)?,
        };
        Ok((conv.rounded(inputs.rounding)?, inputs))
    }

    fn learned(&self, params: &Params, mode: Mode, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let get = |kind: &str| params.get(&format!("{}.{kind}", self.name), mode != Mode::Eval);
        let p = ConvParams { weight: get("weight")?, bias: Some(get("bias")?), activation: self.features };
        match mask {
            Some(mask) => gated_conv2d(&masked_input(x, mask)?, &p, self.opts),
            None if self.upsampled => gated_upsample_conv2d(x, &p),
            None => gated_conv2d(x, &p, self.opts),
        }
    }
}

/// Gated convolutions ready for inference, by name.
pub struct PreparedGates(BTreeMap<String, (PreparedGated, Inputs)>);

impl PreparedGates {
    /// Lays the weights of layers out for a device.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new<'a>(layers: impl Iterator<Item = &'a Gated>, state: &State, device: &Device) -> Result<Self> {
        layers.map(|l| Ok((l.name.clone(), l.prepare(state, device)?))).collect::<Result<_>>().map(Self)
    }
}

/// The weights that gated convolutions are run with.
#[derive(Clone, Copy)]
pub enum Gates<'a> {
    /// Parameters, on the tape in training.
    Learned(&'a Params, Mode),
    /// For inference.
    Prepared(&'a PreparedGates),
}

impl Gates<'_> {
    /// Runs a layer; with a mask `[n, h, w, 1]` the input is an image, of which the layer sees five channels.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn run(&self, layer: &Gated, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Learned(params, mode) => layer.learned(params, *mode, x, mask),
            Self::Prepared(ready) => {
                let (conv, inputs) = &ready.0[&layer.name]; // prepared from the same list of layers
                if mask.is_some() {
                    inputs.note_masked(x)?
                } else {
                    inputs.note(x)?
                }
                let [n, h, w, c] = x.nhwc()?;
                let seen = [n, h, w, if mask.is_some() { MASKED_CHANNELS } else { c }];
                let shape = conv.output(seen)?;
                let mut y = x.device().alloc(shape.iter().product())?;
                conv.run(x.view(), [n, h, w, c], mask.map(Tensor::view), &mut y)?;
                Tensor::from_buffer(y, &shape)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hotad_engine::random;

    use super::*;

    #[test]
    fn weights_are_drawn_for_half_of_the_inputs() {
        let (layer, mut params) = (Gated::new("layer".into(), 8, 16, 3, 1, 1), Params::default());
        layer.init(&mut params, &mut random::stream(1, "gated", 0));
        let weight = params.get("layer.weight", false).expect("there");
        let largest = weight.values().expect("host").iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let bound = (6.0_f32 / 36.0).sqrt();
        assert!(largest <= bound && largest > 0.95 * bound, "{largest} of {bound}");
    }
}
