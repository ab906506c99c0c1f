//! Batch normalisation, with a residual and an activation in the same pass.

use std::sync::Mutex;

use hotad_kernels::activation::Activation;
use hotad_kernels::batch_norm::{self as kernel, Affine, After, Statistics};
use hotad_kernels::device::Buffer;
use smallvec::{SmallVec, smallvec};

use crate::error::{Error, Result};
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

/// Scale, shift and running statistics of one layer.
pub struct BatchNormParams<'a> {
    /// Multiplies the normalised value, one for each channel.
    pub weight: Tensor,
    /// Added after that, one for each channel.
    pub bias: Tensor,
    /// Running mean and variance.
    pub running: [&'a Mutex<Buffer>; 2],
    /// Added to the variance.
    pub eps: f32,
    /// Share of a batch in the running statistics.
    pub momentum: f32,
}

/// Which statistics a normalisation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch; the running ones move.
    Train,
    /// The running ones, which stay as they are while scale and shift learn.
    Fixed,
    /// The running ones, without learning.
    Eval,
}

struct BatchNormGrad {
    x: SharedBuffer,
    weight: Tensor,
    bias: Tensor,
    statistics: Statistics,
    batch: bool,
    activation: Activation,
    y: SharedBuffer,
}

impl Grad for BatchNormGrad {
    fn backward(&self, mut grad: Buffer, wanted: &[bool]) -> Result<InputGradients> {
        self.activation.backward(&*self.y, &mut grad)?;
        let affine = Affine { weight: self.weight.view(), bias: self.bias.view() };
        let d = kernel::batch_norm2d_backward(&*self.x, &grad, affine, &self.statistics, self.batch)?;
        let mut grads: InputGradients = smallvec![Some(d.x), Some(d.weight), Some(d.bias)];
        if wanted.len() == 4 {
            grads.push(Some(grad));
        }
        Ok(grads)
    }
}

/// `activation(norm(x) + residual)` over images and pixels of `[.., c]`.
///
/// # Errors
/// When the channels do not fit, the activation's slope needs its input, or a batch to normalise by has one value for each
/// channel, which would become 0 whatever it is.
pub fn batch_norm2d(
    x: &Tensor,
    p: &BatchNormParams,
    mode: Mode,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    const OP: &str = "batch_norm2d";
    if activation.slope_needs_input() {
        let detail = format!("{activation:?} cannot be fused; apply it afterwards");
        return Err(Error::Shape { op: OP, detail });
    }
    if mode == Mode::Train && x.len() == p.weight.len() {
        let detail =
            "one value for each channel cannot be normalised by its batch; use batches of more images or larger ones";
        return Err(Error::Shape { op: OP, detail: detail.into() });
    }
    let affine = Affine { weight: p.weight.view(), bias: p.bias.view() };
    let after = After { residual: residual.map(Tensor::view), activation };
    let mut y = x.device().alloc(x.len())?;
    // A poisoned lock only says that another thread has panicked; the statistics are whole.
    let [mut mean, mut var] = p.running.map(|m| m.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let statistics = match mode {
        Mode::Train => {
            let running = (mean.view_mut(), var.view_mut());
            kernel::batch_norm2d_train(x.view(), affine, running, p.momentum, p.eps, after, &mut y)?
        }
        Mode::Fixed | Mode::Eval => {
            let statistics = Statistics::running(&*mean, &*var, p.eps)?;
            kernel::batch_norm2d_eval(x.view(), affine, &statistics, after, &mut y)?;
            statistics
        }
    };
    let y = SharedBuffer::new(y);
    let mut inputs: SmallVec<[&Tensor; 4]> = smallvec![x, &p.weight, &p.bias];
    inputs.extend(residual);
    let kept = y.clone();
    Tensor::shared_result(y, x.shape(), &inputs, || BatchNormGrad {
        x: x.buffer(),
        weight: p.weight.clone(),
        bias: p.bias.clone(),
        statistics,
        batch: mode == Mode::Train,
        activation,
        y: kept,
    })
}
