//! The inverted residual (Sandler et al. 2018, figure 3b): a 1x1 expansion, a depthwise convolution, squeeze-and-excitation
//! where the network has one (Howard et al. 2019, section 5.3), and a 1x1 projection without activation.

use hotad_engine::Result;
use hotad_engine::device::Device;
use hotad_engine::ops::{channel_scale, global_avg_pool2d};
use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;

use super::layer::{Layer, Prepared, Weights};
use super::trunk::Block;
use crate::export::{GraphValue, Writer};

/// A block of MobileNetV2, MobileNetV3 and EfficientNet.
pub struct InvertedResidual {
    /// To more channels; none where the block keeps its width.
    pub expand: Option<Layer>,
    /// One kernel for each channel.
    pub depthwise: Layer,
    /// The two layers of a squeeze-and-excitation.
    pub squeeze: Option<[Layer; 2]>,
    /// To the channels of the output.
    pub project: Layer,
}

impl InvertedResidual {
    /// Whether the input is added to the output: at stride 1 between equal widths.
    pub fn is_residual(&self) -> bool {
        let from = self.expand.as_ref().map_or(self.depthwise.from, |layer| layer.from);
        self.depthwise.opts.stride == 1 && from == self.project.to
    }
}

impl Block for InvertedResidual {
    fn layers(&self) -> Vec<&Layer> {
        let squeeze = self.squeeze.iter().flatten();
        self.expand.iter().chain([&self.depthwise]).chain(squeeze).chain([&self.project]).collect()
    }

    fn chain(&self) -> Option<bool> {
        self.squeeze.is_none().then(|| self.is_residual())
    }

    fn run(&self, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        if let (Weights::Prepared(ready), None) = (weights, attention)
            && let Some(y) = ready.run_fused(&self.project.name, x, self.is_residual())?
        {
            return Ok(y);
        }
        let mut y = match &self.expand {
            Some(layer) => weights.run(layer, x, None, None)?,
            None => x.clone(),
        };
        y = weights.run(&self.depthwise, &y, None, None)?;
        if let Some([first, second]) = &self.squeeze {
            let hidden = weights.linear(first, &global_avg_pool2d(&y)?)?;
            y = channel_scale(&y, &weights.linear(second, &hidden)?)?;
        }
        weights.run(&self.project, &y, self.is_residual().then_some(x), attention)
    }

    fn export(&self, to: &Writer, x: &GraphValue, attention: Option<&GraphValue>) -> Result<GraphValue> {
        let mut y = match &self.expand {
            Some(layer) => to.run(layer, x, None, None)?,
            None => x.clone(),
        };
        y = to.run(&self.depthwise, &y, None, None)?;
        if let Some([first, second]) = &self.squeeze {
            let hidden = to.linear(first, &y.averaged())?;
            y = &y * &to.linear(second, &hidden)?;
        }
        to.run(&self.project, &y, self.is_residual().then_some(x), attention)
    }

    /// In one pass where nothing stands between the convolutions; one by one where their inputs are observed.
    fn prepare(&self, state: &State, device: &Device, prepared: &mut Prepared) -> Result<()> {
        if device.cpu().is_some_and(|cpu| cpu.observed().is_some()) || self.squeeze.is_some() {
            return self.layers().into_iter().try_for_each(|layer| prepared.add(layer, state, device));
        }
        prepared.add_fused(self.expand.as_ref(), &self.depthwise, &self.project, state, device)
    }
}
