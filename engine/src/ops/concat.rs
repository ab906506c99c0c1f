//! Joining maps on their channels.

use hotad_kernels::concat as kernel;
use hotad_kernels::device::Buffer;
use smallvec::smallvec;

use crate::error::{Error, Result};
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct ConcatGrad {
    pixels: usize,
    channels: (usize, usize),
}

impl Grad for ConcatGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let (ca, cb) = self.channels;
        let device = grad.device();
        let (mut da, mut db) = (device.alloc(self.pixels * ca)?, device.alloc(self.pixels * cb)?);
        kernel::split_channels(&grad, [ca, cb], &mut da, &mut db)?;
        Ok(smallvec![Some(da), Some(db)])
    }
}

/// `[n, h, w, ca]` and `[n, h, w, cb]` to `[n, h, w, ca + cb]`.
///
/// # Errors
/// When images, rows or columns differ.
pub fn concat_channels(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ([n, h, w, ca], [.., cb]) = (a.nhwc()?, b.nhwc()?);
    if a.shape()[..3] != b.shape()[..3] {
        let detail = format!("{:?} and {:?} are not of one size", a.shape(), b.shape());
        return Err(Error::Shape { op: "concat_channels", detail });
    }
    let pixels = n * h * w;
    let mut y = a.device().alloc(pixels * (ca + cb))?;
    kernel::concat_channels(a.view(), b.view(), [ca, cb], &mut y)?;
    Tensor::result(y, &[n, h, w, ca + cb], &[a, b], || ConcatGrad { pixels, channels: (ca, cb) })
}
