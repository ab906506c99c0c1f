//! Activations as operations of their own, where they are not part of the kernel before them.

use hotad_kernels::activation::Activation;
use hotad_kernels::device::Buffer;
use smallvec::smallvec;

use crate::error::Result;
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct ActivationGrad {
    activation: Activation,
    /// The input where the slope needs it, else the output.
    known: SharedBuffer,
}

impl Grad for ActivationGrad {
    fn backward(&self, mut grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        self.activation.backward(&*self.known, &mut grad)?;
        Ok(smallvec![Some(grad)])
    }
}

/// `activation(x)`, element by element.
///
/// # Errors
/// When the device is out of memory.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Identity {
        return Ok(x.clone());
    }
    let mut y = x.buffer().duplicate()?;
    activation.apply(&mut y);
    let y = SharedBuffer::new(y);
    let known = if activation.slope_needs_input() { x.buffer() } else { y.clone() };
    Tensor::shared_result(y, x.shape(), &[x], || ActivationGrad { activation, known })
}
