//! A factor for each channel of each image.

use hotad_kernels::channel_scale as kernel;
use hotad_kernels::device::Buffer;
use hotad_kernels::shape::Nhwc;
use smallvec::smallvec;

use crate::error::Result;
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct ChannelScaleGrad {
    x: SharedBuffer,
    shape: Nhwc,
    s: SharedBuffer,
}

impl Grad for ChannelScaleGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let device = grad.device();
        let (mut dx, mut ds) = (device.alloc(self.x.len())?, device.alloc(self.s.len())?);
        kernel::channel_scale_backward(&*self.x, self.shape, &*self.s, &grad, &mut dx, &mut ds)?;
        Ok(smallvec![Some(dx), Some(ds)])
    }
}

/// `x * s` for a map `[n, h, w, c]` and factors `[n, c]`.
///
/// # Errors
/// When the factors do not fit.
pub fn channel_scale(x: &Tensor, s: &Tensor) -> Result<Tensor> {
    let shape = x.nhwc()?;
    let mut y = x.device().alloc(x.len())?;
    kernel::channel_scale(x.view(), shape, s.view(), &mut y)?;
    Tensor::result(y, &shape, &[x, s], || ChannelScaleGrad { x: x.buffer(), shape, s: s.buffer() })
}
