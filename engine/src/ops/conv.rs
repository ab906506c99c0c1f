//! Convolutions with bias and activation.

use hotad_kernels::activation::Activation;
use hotad_kernels::conv::{self as kernel, ConvOptions};
use hotad_kernels::device::{Buffer, View};
use hotad_kernels::pool::PoolOptions;
use hotad_kernels::shape::Nhwc;
use smallvec::smallvec;

use super::max_pool2d;
use crate::error::{Error, Result};
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, InputGradients, Inputs, Node};
use crate::tensor::Tensor;

/// Weights, bias and activation of one layer.
#[derive(Clone)]
pub struct ConvParams {
    /// OHWI (IHWO for a transposed convolution).
    pub weight: Tensor,
    /// One value for each output channel, if there is any.
    pub bias: Option<Tensor>,
    /// Applied in the epilogue; one whose slope needs its input only where nothing is recorded.
    pub activation: Activation,
}

impl ConvParams {
    fn bias(&self) -> Option<View<'_>> {
        self.bias.as_ref().map(Tensor::view)
    }

    /// Places on the tape of an input, the weights and the bias.
    fn nodes(&self, x: &Tensor) -> Inputs {
        let bias = self.bias.as_ref().and_then(|b| b.node().cloned());
        smallvec![x.node().cloned(), self.weight.node().cloned(), bias]
    }

    fn recorded(&self, x: &Tensor) -> bool {
        let bias = self.bias.as_ref().and_then(Tensor::node);
        x.node().or(self.weight.node()).or(bias).is_some()
    }
}

/// Which of the three convolutions a rule belongs to.
#[derive(Clone, Copy)]
enum Kind {
    Plain(ConvOptions),
    Transposed(ConvOptions),
    Upsampled,
}

struct ConvGrad {
    kind: Kind,
    activation: Activation,
    x: SharedBuffer,
    x_shape: Nhwc,
    w: SharedBuffer,
    w_shape: [usize; 4],
    y: Option<SharedBuffer>,
    y_shape: Nhwc,
}

impl Grad for ConvGrad {
    fn backward(&self, mut grad: Buffer, wanted: &[bool]) -> Result<InputGradients> {
        if let Some(y) = &self.y {
            self.activation.backward(&**y, &mut grad)?;
        }
        Ok(smallvec![
            wanted[0].then(|| self.data(&grad)).transpose()?,
            wanted[1].then(|| self.weight(&grad)).transpose()?,
            wanted[2].then(|| self.bias(&grad)).transpose()?,
        ])
    }
}

impl ConvGrad {
    fn data(&self, grad: &Buffer) -> Result<Buffer> {
        let (xs, ws) = (self.x_shape, self.w_shape);
        let (w, mut dx) = (self.w.view(), self.x.device().alloc(self.x.len())?);
        match self.kind {
            Kind::Plain(opts) => kernel::conv2d_backward_data(grad, xs, w, ws, opts, &mut dx),
            Kind::Transposed(opts) => kernel::conv_transpose2d_backward_data(grad, xs, w, ws, opts, &mut dx),
            Kind::Upsampled => kernel::upsample_conv2d_backward_data(grad, xs, w, ws, &mut dx),
        }?;
        Ok(dx)
    }

    fn weight(&self, grad: &Buffer) -> Result<Buffer> {
        let (xs, ws) = (self.x_shape, self.w_shape);
        let (x, mut dw) = (self.x.view(), self.w.device().zeros(self.w.len())?);
        match self.kind {
            Kind::Plain(opts) => kernel::conv2d_backward_weight(x, xs, grad, ws, opts, &mut dw),
            Kind::Transposed(opts) => kernel::conv_transpose2d_backward_weight(x, xs, grad, ws, opts, &mut dw),
            Kind::Upsampled => kernel::upsample_conv2d_backward_weight(x, xs, grad, ws, &mut dw),
        }?;
        Ok(dw)
    }

    fn bias(&self, grad: &Buffer) -> Result<Buffer> {
        let mut db = grad.device().zeros(self.y_shape[3])?;
        kernel::conv2d_backward_bias(grad, self.y_shape, &mut db)?;
        Ok(db)
    }
}

fn weight_shape(p: &ConvParams) -> Result<[usize; 4]> {
    p.weight.shape().try_into().map_err(|_| Error::Shape {
        op: "conv2d",
        detail: format!("weights have four axes, these have {:?}", p.weight.shape()),
    })
}

/// Records a convolution that has been computed.
fn record(kind: Kind, x: &Tensor, p: &ConvParams, y: Buffer, y_shape: Nhwc) -> Result<Tensor> {
    let (x_shape, w_shape) = (x.nhwc()?, weight_shape(p)?);
    let y = SharedBuffer::new(y);
    let kept = (p.activation != Activation::Identity).then(|| y.clone());
    if p.recorded(x) && p.activation.slope_needs_input() {
        let detail = format!("{:?} cannot be fused where gradients are wanted; apply it afterwards", p.activation);
        return Err(Error::Shape { op: "conv2d", detail });
    }
    let node = p.recorded(x).then(|| {
        let rule = ConvGrad {
            kind,
            activation: p.activation,
            x: x.buffer(),
            x_shape,
            w: p.weight.buffer(),
            w_shape,
            y: kept,
            y_shape,
        };
        Node::operation(p.nodes(x), rule)
    });
    Tensor::shared(y, &y_shape, node)
}

/// Convolution: `[n, h, w, i]` to `[n, oh, ow, o]`.
///
/// # Errors
/// When shapes and options do not fit together.
pub fn conv2d(x: &Tensor, p: &ConvParams, opts: ConvOptions) -> Result<Tensor> {
    let (xs, ws) = (x.nhwc()?, weight_shape(p)?);
    let size = |n, k| opts.output(n, k).unwrap_or(0);
    let ys = [xs[0], size(xs[1], ws[1]), size(xs[2], ws[2]), ws[0]];
    let mut y = x.device().alloc(ys.iter().product())?;
    kernel::conv2d(x.view(), xs, p.weight.view(), ws, p.bias(), opts, p.activation, &mut y)?;
    record(Kind::Plain(opts), x, p, y, ys)
}

/// Convolution and 2x2 max pooling of stride 2: `[n, h, w, i]` to `[n, oh / 2, ow / 2, o]`. One fused
/// pass where nothing is recorded, two operations on the tape; the values are the same.
///
/// # Errors
/// When shapes and options do not fit together.
pub fn conv2d_max_pool2(x: &Tensor, p: &ConvParams, opts: ConvOptions) -> Result<Tensor> {
    let (Some(bias), false) = (&p.bias, p.recorded(x)) else {
        return max_pool2d(&conv2d(x, p, opts)?, PoolOptions { kernel: 2, stride: 2, padding: 0 });
    };
    let (xs, ws) = (x.nhwc()?, weight_shape(p)?);
    let size = |n, k| opts.output(n, k).unwrap_or(0) / 2;
    let ys = [xs[0], size(xs[1], ws[1]), size(xs[2], ws[2]), ws[0]];
    let mut y = x.device().alloc(ys.iter().product())?;
    kernel::conv2d_max_pool2(x.view(), xs, p.weight.view(), ws, bias.view(), opts, p.activation, &mut y)?;
    Tensor::from_buffer(y, &ys)
}

/// Transposed convolution: `[n, h, w, i]` to `[n, (h-1)s - 2p + k, .., o]`.
///
/// # Errors
/// When shapes and options do not fit together.
pub fn conv_transpose2d(x: &Tensor, p: &ConvParams, opts: ConvOptions) -> Result<Tensor> {
    let (xs, ws) = (x.nhwc()?, weight_shape(p)?);
    let ys = kernel::conv_transpose2d_shape(xs, ws, opts)?;
    let mut y = x.device().alloc(ys.iter().product())?;
    kernel::conv_transpose2d(x.view(), xs, p.weight.view(), ws, p.bias(), opts, p.activation, &mut y)?;
    record(Kind::Transposed(opts), x, p, y, ys)
}

/// Nearest x2 up-sampling and a 3x3 convolution in one: `[n, h, w, i]` to `[n, 2h, 2w, o]`.
///
/// # Errors
/// When shapes do not fit together.
pub fn upsample_conv2d(x: &Tensor, p: &ConvParams) -> Result<Tensor> {
    let (xs, ws) = (x.nhwc()?, weight_shape(p)?);
    let ys = [xs[0], 2 * xs[1], 2 * xs[2], ws[0]];
    let mut y = x.device().alloc(ys.iter().product())?;
    kernel::upsample_conv2d(x.view(), xs, p.weight.view(), ws, p.bias(), p.activation, &mut y)?;
    record(Kind::Upsampled, x, p, y, ys)
}
