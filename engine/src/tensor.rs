//! Tensors: a shared f32 buffer in row order on some device, a shape, and optionally a place on the
//! tape.

use std::borrow::Cow;

use hotad_kernels::device::{Buffer, Device, View};
use hotad_kernels::shape::Nhwc;
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::pooled::SharedBuffer;
use crate::tape::{Grad, Node, SharedNode};

/// Some tensors; up to eight are on the stack.
pub type Tensors = SmallVec<[Tensor; 8]>;

/// A dense tensor. Cloning shares the buffer.
#[derive(Clone)]
pub struct Tensor {
    data: SharedBuffer,
    shape: SmallVec<[usize; 4]>,
    node: Option<SharedNode>,
}

impl Tensor {
    /// Takes values in row order, on the host.
    ///
    /// # Errors
    /// When their number is not the product of `shape`.
    pub fn new(data: Vec<f32>, shape: &[usize]) -> Result<Self> {
        Self::from_buffer(Buffer::Host(data.into()), shape)
    }

    /// Takes a buffer of any device.
    ///
    /// # Errors
    /// When its length is not the product of `shape`.
    pub fn from_buffer(data: Buffer, shape: &[usize]) -> Result<Self> {
        Self::shared(SharedBuffer::new(data), shape, None)
    }

    /// Over a shared buffer, with a place on the tape.
    pub(crate) fn shared(data: SharedBuffer, shape: &[usize], node: Option<SharedNode>) -> Result<Self> {
        if data.len() != shape.iter().product::<usize>() {
            let detail = format!("{} values do not fill {shape:?}", data.len());
            return Err(Error::Shape { op: "tensor", detail });
        }
        Ok(Self { data, shape: shape.into(), node })
    }

    /// The result of an operation: on the tape when one of its inputs is.
    pub(crate) fn result<G: Grad + 'static>(
        data: Buffer,
        shape: &[usize],
        inputs: &[&Tensor],
        grad: impl FnOnce() -> G,
    ) -> Result<Self> {
        Self::shared_result(SharedBuffer::new(data), shape, inputs, grad)
    }

    /// [`Tensor::result`] over a buffer that the backward rule keeps, or that the input has.
    pub(crate) fn shared_result<G: Grad + 'static>(
        data: SharedBuffer,
        shape: &[usize],
        inputs: &[&Tensor],
        grad: impl FnOnce() -> G,
    ) -> Result<Self> {
        let tracked = inputs.iter().any(|t| t.node.is_some());
        let node = tracked.then(|| Node::operation(inputs.iter().map(|t| t.node.clone()).collect(), grad()));
        Self::shared(data, shape, node)
    }

    /// Values in row order, copied from the device when they are not on the host.
    ///
    /// # Errors
    /// What went wrong on the device since the last read.
    pub fn values(&self) -> Result<Cow<'_, [f32]>> {
        Ok(self.data.values()?)
    }

    /// What kernels read.
    pub fn view(&self) -> View<'_> {
        self.data.view()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.data.device()
    }

    /// The same values on another device; not recorded, so only for values off the tape.
    ///
    /// # Errors
    /// When the device is out of memory or lost.
    pub fn to(&self, device: &Device) -> Result<Self> {
        if self.device().is(device) {
            return self.reshaped(&self.shape);
        }
        Self::from_buffer(device.upload(self.data.to_vec()?)?, &self.shape)
    }

    /// The buffer, copied only when it is shared.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn into_buffer(self) -> Result<Buffer> {
        match self.data.try_unwrap() {
            Ok(buffer) => Ok(buffer),
            Err(shared) => Ok(shared.duplicate()?),
        }
    }

    /// The shared buffer.
    pub(crate) fn buffer(&self) -> SharedBuffer {
        self.data.clone()
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The shape of a map: images, rows, columns, channels.
    ///
    /// # Errors
    /// When there are not four axes.
    pub fn nhwc(&self) -> Result<Nhwc> {
        self.shape.as_slice().try_into().map_err(|_| Error::Shape {
            op: "tensor",
            detail: format!("a map has four axes (NHWC), this has {:?}", self.shape),
        })
    }

    /// The only value of a tensor of one element.
    ///
    /// # Errors
    /// When there are more, or what went wrong on the device.
    pub fn item(&self) -> Result<f32> {
        match self.values()?.as_ref() {
            [value] => Ok(*value),
            _ => Err(Error::Shape { op: "item", detail: format!("{:?} holds more than one value", self.shape) }),
        }
    }

    /// The place on the tape.
    pub(crate) fn node(&self) -> Option<&SharedNode> {
        self.node.as_ref()
    }

    /// The same values as something that gradients are wanted for.
    pub fn leaf(&self) -> Self {
        Self { node: Some(Node::leaf()), ..self.clone() }
    }

    /// The same values, off the tape.
    pub fn detached(&self) -> Self {
        Self { node: None, ..self.clone() }
    }

    /// The same values with another shape; not recorded, so only for values off the tape.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        Self::shared(self.buffer(), shape, None)
    }
}
