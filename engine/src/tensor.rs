//! Tensors: a shared f32 buffer in row order, a shape, and optionally a place on the tape.

use std::sync::Arc;

use hotad_kernels::conv::Nhwc;

use crate::error::{Error, Result};
use crate::tape::{Grad, Node};

/// A dense tensor. Cloning shares the buffer.
#[derive(Clone)]
pub struct Tensor {
    data: Arc<Vec<f32>>,
    shape: Vec<usize>,
    node: Option<Arc<Node>>,
}

impl Tensor {
    /// Takes values in row order.
    ///
    /// # Errors
    /// When their number is not the product of `shape`.
    pub fn new(data: Vec<f32>, shape: &[usize]) -> Result<Self> {
        Self::shared(Arc::new(data), shape, None)
    }

    /// Over a shared buffer, with a place on the tape.
    pub(crate) fn shared(data: Arc<Vec<f32>>, shape: &[usize], node: Option<Arc<Node>>) -> Result<Self> {
        if data.len() != shape.iter().product::<usize>() {
            let detail = format!("{} values do not fill {shape:?}", data.len());
            return Err(Error::Shape { op: "tensor", detail });
        }
        Ok(Self { data, shape: shape.to_vec(), node })
    }

    /// The result of an operation: on the tape when one of its inputs is.
    pub(crate) fn result(
        data: Vec<f32>,
        shape: &[usize],
        inputs: &[&Tensor],
        grad: impl FnOnce() -> Box<dyn Grad>,
    ) -> Result<Self> {
        let tracked = inputs.iter().any(|t| t.node.is_some());
        let node = tracked.then(|| Node::operation(inputs.iter().map(|t| t.node.clone()).collect(), grad()));
        Self::shared(Arc::new(data), shape, node)
    }

    /// Values in row order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The shared buffer.
    pub(crate) fn buffer(&self) -> Arc<Vec<f32>> {
        Arc::clone(&self.data)
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
    /// When there are more.
    pub fn item(&self) -> Result<f32> {
        match self.data.as_slice() {
            [value] => Ok(*value),
            _ => Err(Error::Shape { op: "item", detail: format!("{:?} holds more than one value", self.shape) }),
        }
    }

    /// The place on the tape.
    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    /// The same values with another shape; not recorded, so only for values off the tape.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        Self::shared(self.buffer(), shape, None)
    }
}
