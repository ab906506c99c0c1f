//! Reverse-mode differentiation: one small struct per operation implements [`Grad`]; [`backward`]
//! walks the tape once, newest operation first, and adds up what reaches a value by several ways.

mod rule;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::LocalKey;

use hotad_kernels::device::Buffer;
use hotad_kernels::elementwise;
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::pooled::{Kept, Pooled, Shared};
use crate::tensor::Tensor;
use rule::Rule;

/// Gradients of the inputs of an operation, in order.
pub type InputGradients = SmallVec<[Option<Buffer>; 4]>;

/// The backward rule of one operation.
pub trait Grad: Send + Sync {
    /// Gradients of the inputs, in order, from the gradient of the output; `wanted` says which are
    /// needed, the others may be `None`.
    ///
    /// # Errors
    /// What the kernels refuse.
    fn backward(&self, grad: Buffer, wanted: &[bool]) -> Result<InputGradients>;
}

/// Places of the inputs of an operation; none for those that no gradient is wanted for.
pub(crate) type Inputs = SmallVec<[Option<SharedNode>; 4]>;

/// A place on the tape that tensors and later operations share.
pub(crate) type SharedNode = Shared<Node>;

/// A value on the tape: a parameter, or the output of an operation.
#[derive(Default)]
pub struct Node {
    id: u64,
    inputs: Inputs,
    rule: Option<Rule>,
}

/// Ids grow with time, so inputs always have smaller ids than what is made of them.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Node {
    /// A value that gradients are wanted for.
    pub(crate) fn leaf() -> SharedNode {
        Shared::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), ..Self::default() })
    }

    pub(crate) fn operation(inputs: Inputs, rule: impl Grad + 'static) -> SharedNode {
        Shared::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), inputs, rule: Some(Rule::new(rule)) })
    }
}

impl Pooled for Node {
    fn kept() -> &'static LocalKey<Kept<Self>> {
        thread_local! {
            static KEPT: Kept<Node> = const { RefCell::new(Vec::new()) };
        }
        &KEPT
    }
}

/// Gradients of the leaves that a value depends on, the newest leaf first.
pub struct Gradients(SmallVec<[(u64, Option<Buffer>); 4]>);

impl Gradients {
    /// Takes the gradient of one leaf; `None` when the value did not depend on it.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Buffer> {
        let id = leaf.node()?.id;
        let at = self.0.binary_search_by(|(other, _)| id.cmp(other)).ok()?;
        self.0[at].1.take()
    }
}

/// What has reached places that are still to be visited, the newest last.
#[derive(Default)]
struct Pending(SmallVec<[(SharedNode, Buffer); 8]>);

impl Pending {
    /// Adds a gradient to what has reached a place.
    fn add(&mut self, node: &SharedNode, grad: Buffer) -> Result<()> {
        match self.0.binary_search_by_key(&node.id, |(other, _)| other.id) {
            Ok(at) => elementwise::add(&mut self.0[at].1, &grad)?,
            Err(at) => self.0.insert(at, (node.clone(), grad)),
        }
        Ok(())
    }
}

/// Gradients of `loss`, a tensor of one element, with respect to every leaf.
///
/// # Errors
/// When `loss` is not one number, is not on the tape, or a kernel refuses.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    if loss.len() != 1 {
        return Err(Error::Shape { op: "backward", detail: format!("a loss is one number, not {:?}", loss.shape()) });
    }
    backward_from(loss, loss.device().filled(1, 1.0)?)
}

/// Gradients of the sum of all `value * gradient`, with respect to every leaf; the gradient has the value's elements.
///
/// # Errors
/// When the lengths differ, `value` is not on the tape, or a kernel refuses.
pub fn backward_from(value: &Tensor, gradient: Buffer) -> Result<Gradients> {
    const OP: &str = "backward";
    let none = || Error::Shape { op: OP, detail: "the loss depends on no parameter".into() };
    let root = value.node().ok_or_else(none)?;
    if value.len() != gradient.len() {
        let detail = format!("{} elements have a gradient of {}", value.len(), gradient.len());
        return Err(Error::Shape { op: OP, detail });
    }
    let (mut pending, mut leaves) = (Pending::default(), Gradients(SmallVec::new()));
    pending.add(root, gradient)?;
    while let Some((node, grad)) = pending.0.pop() {
        let Some(rule) = &node.rule else {
            leaves.0.push((node.id, Some(grad)));
            continue;
        };
        let wanted: SmallVec<[bool; 4]> = node.inputs.iter().map(Option::is_some).collect();
        for (input, grad) in node.inputs.iter().zip(rule.get().backward(grad, &wanted)?) {
            if let (Some(input), Some(grad)) = (input, grad) {
                pending.add(input, grad)?;
            }
        }
    }
    Ok(leaves)
}
