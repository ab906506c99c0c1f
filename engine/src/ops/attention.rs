//! Layer-wise external attention (LEA-Net, equations 2 and 3).

use hotad_kernels::attention as kernel;
use hotad_kernels::device::Buffer;
use smallvec::smallvec;

use crate::error::{Error, Result};
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct MapGrad {
    map: SharedBuffer,
    channels: usize,
}

impl Grad for MapGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let mut dg = grad.device().alloc(grad.len() * self.channels)?;
        kernel::attention_map_backward(&*self.map, &grad, &mut dg)?;
        Ok(smallvec![Some(dg)])
    }
}

/// `sigmoid(mean over channels)`: features `[n, h, w, c]` to an attention map `[n, h, w, 1]`.
///
/// # Errors
/// When `g` is no map.
pub fn attention_map(g: &Tensor) -> Result<Tensor> {
    let [n, h, w, channels] = g.nhwc()?;
    let mut map = g.device().alloc(n * h * w)?;
    kernel::attention_map(g.view(), &mut map)?;
    let map = SharedBuffer::new(map);
    let kept = map.clone();
    Tensor::shared_result(map, &[n, h, w, 1], &[g], || MapGrad { map: kept, channels })
}

struct AttendGrad {
    f: SharedBuffer,
    map: SharedBuffer,
}

impl Grad for AttendGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let device = grad.device();
        let (mut df, mut dm) = (device.alloc(self.f.len())?, device.alloc(self.map.len())?);
        kernel::attend_backward(&*self.f, &*self.map, &grad, &mut df, &mut dm)?;
        Ok(smallvec![Some(df), Some(dm)])
    }
}

/// `(1 + map) f`: features `[n, h, w, c]` under an attention map `[n, h, w, 1]`.
///
/// # Errors
/// When the map has another number of images, rows or columns.
pub fn attend(f: &Tensor, map: &Tensor) -> Result<Tensor> {
    if map.shape()[..3] != f.nhwc()?[..3] || map.nhwc()?[3] != 1 {
        let detail = format!("an attention map of {:?} does not fit features of {:?}", map.shape(), f.shape());
        return Err(Error::Shape { op: "attend", detail });
    }
    let mut y = f.device().alloc(f.len())?;
    kernel::attend(f.view(), map.view(), &mut y)?;
    Tensor::result(y, f.shape(), &[f, map], || AttendGrad { f: f.buffer(), map: map.buffer() })
}
