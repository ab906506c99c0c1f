//! Reverse-mode differentiation: one small struct per operation implements [`Grad`]; [`backward`]
//! walks the tape once, newest operation first, and adds up what reaches a value by several ways.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hotad_kernels::device::Buffer;
use hotad_kernels::elementwise;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The backward rule of one operation.
pub trait Grad: Send + Sync {
    /// Gradients of the inputs, in order, from the gradient of the output; `wanted` says which are
    /// needed, the others may be `None`.
    ///
    /// # Errors
    /// What the kernels refuse.
    fn backward(&self, grad: Buffer, wanted: &[bool]) -> Result<Vec<Option<Buffer>>>;
}

/// A value on the tape: a parameter, or the output of an operation.
pub struct Node {
    id: u64,
    inputs: Vec<Option<Arc<Node>>>,
    grad: Option<Box<dyn Grad>>,
}

/// Ids grow with time, so inputs always have smaller ids than what is made of them.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Node {
    /// A value that gradients are wanted for.
    pub(crate) fn leaf() -> Arc<Self> {
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), inputs: Vec::new(), grad: None })
    }

    pub(crate) fn operation(inputs: Vec<Option<Arc<Node>>>, grad: Box<dyn Grad>) -> Arc<Self> {
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), inputs, grad: Some(grad) })
    }
}

/// Gradients of the leaves that a value depends on.
pub struct Gradients(HashMap<u64, Buffer>);

impl Gradients {
    /// Takes the gradient of one leaf; `None` when the value did not depend on it.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Buffer> {
        leaf.node().and_then(|n| self.0.remove(&n.id))
    }
}

/// Adds `more` to what has reached `slot`.
fn add(slot: &mut Option<Buffer>, more: Buffer) -> Result<()> {
    match slot {
        Some(sum) => elementwise::add(sum, &more)?,
        None => *slot = Some(more),
    }
    Ok(())
}

/// Gradients of `loss`, a tensor of one element, with respect to every leaf.
///
/// # Errors
/// When `loss` is not one number, is not on the tape, or a kernel refuses.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    if loss.len() != 1 {
        return Err(Error::Shape { op: "backward", detail: format!("a loss is one number, not {:?}", loss.shape()) });
    }
    backward_from(loss, loss.device().upload(vec![1.0])?)
}

/// Gradients of the sum of all `value * gradient`, with respect to every leaf; the gradient has the value's elements.
///
/// # Errors
/// When the lengths differ, `value` is not on the tape, or a kernel refuses.
pub fn backward_from(value: &Tensor, gradient: Buffer) -> Result<Gradients> {
    const OP: &str = "backward";
    let root = value.node().ok_or(Error::Shape { op: OP, detail: "the loss depends on no parameter".into() })?;
    if value.len() != gradient.len() {
        let detail = format!("{} elements have a gradient of {}", value.len(), gradient.len());
        return Err(Error::Shape { op: OP, detail });
    }
    let mut pending: BTreeMap<u64, (Arc<Node>, Option<Buffer>)> = BTreeMap::new();
    pending.insert(root.id, (Arc::clone(root), Some(gradient)));
    let mut leaves = HashMap::new();
    while let Some((id, (node, grad))) = pending.pop_last() {
        let Some(grad) = grad else { continue };
        let Some(rule) = &node.grad else {
            leaves.insert(id, grad);
            continue;
        };
        let wanted: Vec<bool> = node.inputs.iter().map(Option::is_some).collect();
        for (input, grad) in node.inputs.iter().zip(rule.backward(grad, &wanted)?) {
            if let (Some(input), Some(grad)) = (input, grad) {
                let entry = pending.entry(input.id).or_insert_with(|| (Arc::clone(input), None));
                add(&mut entry.1, grad)?;
            }
        }
    }
    Ok(Gradients(leaves))
}
