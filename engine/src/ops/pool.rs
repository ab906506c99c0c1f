//! Pooling.

use hotad_kernels::device::Buffer;
use hotad_kernels::pool::{self as kernel, PoolOptions};
use hotad_kernels::shape::Nhwc;
use smallvec::smallvec;

use crate::error::Result;
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct MaxPoolGrad {
    x: SharedBuffer,
    shape: Nhwc,
    opts: PoolOptions,
}

impl Grad for MaxPoolGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut dx = self.x.device().alloc(self.x.len())?;
        kernel::max_pool2d_backward(&*self.x, self.shape, &grad, self.opts, &mut dx)?;
        Ok(smallvec![Some(dx)])
    }
}

/// Max pooling: `[n, h, w, c]` to `[n, oh, ow, c]`.
///
/// # Errors
/// When no window fits.
pub fn max_pool2d(x: &Tensor, opts: PoolOptions) -> Result<Tensor> {
    let shape = x.nhwc()?;
    let out = opts.output(shape)?;
    let mut y = x.device().alloc(out.iter().product())?;
    kernel::max_pool2d(x.view(), shape, opts, &mut y)?;
    Tensor::result(y, &out, &[x], || MaxPoolGrad { x: x.buffer(), shape, opts })
}

struct GlobalAverageGrad {
    shape: Nhwc,
}

impl Grad for GlobalAverageGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut dx = grad.device().alloc(self.shape.iter().product())?;
        kernel::global_avg_pool2d_backward(&grad, self.shape, &mut dx)?;
        Ok(smallvec![Some(dx)])
    }
}

/// Mean over rows and columns: `[n, h, w, c]` to `[n, c]`.
///
/// # Errors
/// When `x` is no map.
pub fn global_avg_pool2d(x: &Tensor) -> Result<Tensor> {
    let shape = x.nhwc()?;
    let [n, _, _, c] = shape;
    let mut y = x.device().alloc(n * c)?;
    kernel::global_avg_pool2d(x.view(), shape, &mut y)?;
    Tensor::result(y, &[n, c], &[x], || GlobalAverageGrad { shape })
}
