//! Self-attention over the positions of a map (SAGAN, equations 1 to 3).

use hotad_kernels::device::Buffer;
use hotad_kernels::elementwise;
use hotad_kernels::self_attention::{self as kernel, Attended, AttentionShape, Projections};
use smallvec::smallvec;

use crate::error::{Error, Result};
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients};
use crate::tensor::Tensor;

struct AttentionGrad {
    keys: SharedBuffer,
    queries: SharedBuffer,
    values: SharedBuffer,
    shape: AttentionShape,
    output: SharedBuffer,
    log_sums: Buffer,
}

impl Grad for AttentionGrad {
    fn backward(&self, grad: Buffer, _: &[bool]) -> Result<InputGradients> {
        let device = grad.device();
        let uninit = |b: &Buffer| device.alloc(b.len());
        let (mut dk, mut dq, mut dv) = (uninit(&self.keys)?, uninit(&self.queries)?, uninit(&self.values)?);
        let projections =
            Projections { keys: self.keys.view(), queries: self.queries.view(), values: self.values.view() };
        let done = Attended { output: self.output.view(), log_sums: self.log_sums.view(), grad: grad.view() };
        kernel::self_attention_backward(projections, self.shape, done, &mut dk, &mut dq, &mut dv)?;
        Ok(smallvec![Some(dk), Some(dq), Some(dv)])
    }
}

/// `o_j = sum over i of softmax over i (f_i . g_j) h_i`: keys f and queries g `[n, h, w, k]`, values h
/// `[n, h, w, c]` to `[n, h, w, c]`.
///
/// # Errors
/// When shapes or devices do not fit.
pub fn self_attention(keys: &Tensor, queries: &Tensor, values: &Tensor) -> Result<Tensor> {
    let [n, h, w, c] = values.nhwc()?;
    let [.., k] = keys.nhwc()?;
    if keys.shape()[..3] != values.shape()[..3] || keys.shape() != queries.shape() {
        let detail = format!("keys {:?}, queries {:?}, values {:?}", keys.shape(), queries.shape(), values.shape());
        return Err(Error::Shape { op: "self_attention", detail });
    }
    let shape = AttentionShape { images: n, positions: h * w, keys: k, values: c };
    let device = values.device();
    let (mut output, mut log_sums) = (device.alloc(values.len())?, device.alloc(n * h * w)?);
    let projections = Projections { keys: keys.view(), queries: queries.view(), values: values.view() };
    kernel::self_attention(projections, shape, &mut output, &mut log_sums)?;
    let output = SharedBuffer::new(output);
    let kept = output.clone();
    Tensor::shared_result(output, values.shape(), &[keys, queries, values], || {
        let (keys, queries, values) = (keys.buffer(), queries.buffer(), values.buffer());
        AttentionGrad { keys, queries, values, shape, output: kept, log_sums }
    })
}

struct MixGrad {
    o: SharedBuffer,
    gamma: Tensor,
}

impl Grad for MixGrad {
    fn backward(&self, grad: Buffer, wanted: &[bool]) -> Result<InputGradients> {
        let mut d_gamma = grad.device().alloc(1)?;
        elementwise::dot(&*self.o, &grad, &mut d_gamma)?;
        let mut d_o = grad.duplicate()?;
        elementwise::scale(&mut d_o, self.gamma.view())?;
        Ok(smallvec![Some(d_o), Some(d_gamma), wanted[2].then_some(grad)])
    }
}

/// `gamma o + x`, gamma a tensor of one element that is learned.
///
/// # Errors
/// When lengths or devices differ.
pub fn mix(o: &Tensor, gamma: &Tensor, x: &Tensor) -> Result<Tensor> {
    let mut y = o.buffer().duplicate()?;
    elementwise::scale(&mut y, gamma.view())?;
    elementwise::add(&mut y, x.view())?;
    Tensor::result(y, x.shape(), &[o, gamma, x], || MixGrad { o: o.buffer(), gamma: gamma.clone() })
}
