//! Max pooling.

use std::sync::Arc;

use hotad_kernels::conv::Nhwc;
use hotad_kernels::device::Buffer;
use hotad_kernels::pool::{self as kernel, PoolOptions};

use crate::error::Result;
use crate::tape::Grad;
use crate::tensor::Tensor;

struct MaxPoolGrad {
    x: Arc<Buffer>,
    shape: Nhwc,
    opts: PoolOptions,
}

impl Grad for MaxPoolGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<Vec<Option<Buffer>>> {
        let mut dx = self.x.device().alloc(self.x.len())?;
        kernel::max_pool2d_backward(&*self.x, self.shape, &grad, self.opts, &mut dx)?;
        Ok(vec![Some(dx)])
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
    Tensor::result(y, &out, &[x], || Box::new(MaxPoolGrad { x: x.buffer(), shape, opts }))
}
