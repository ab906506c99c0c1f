//! Named parameters of a network, their initial values and their optimiser state.

use std::collections::BTreeMap;
use std::sync::Arc;

use hotad_kernels::adam::{AdamOptions, adam};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::tape::{Gradients, Node};
use crate::tensor::Tensor;

/// Tensors by name, in name order.
pub type State = BTreeMap<String, Tensor>;

/// One parameter: its value, its place on the tape, and Adam's moments.
struct Param {
    value: Tensor,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The parameters of a network.
#[derive(Default)]
pub struct Params {
    entries: BTreeMap<String, Param>,
    steps: u32,
}

impl Params {
    /// Adds a weight drawn from U(-b, b), b = sqrt(6 / fan_in) (He et al. 2015, for ReLU).
    pub fn he_uniform(&mut self, name: &str, shape: &[usize], fan_in: usize, rng: &mut ChaCha8Rng) {
        let bound = (6.0 / fan_in.max(1) as f32).sqrt();
        let values = (0..shape.iter().product()).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound).collect();
        self.insert(name, values, shape);
    }

    /// Adds a parameter of zeros.
    pub fn zeros(&mut self, name: &str, shape: &[usize]) {
        self.insert(name, vec![0.0; shape.iter().product()], shape);
    }

    fn insert(&mut self, name: &str, values: Vec<f32>, shape: &[usize]) {
        let (first, second) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        let value =
            Tensor::shared(Arc::new(values), shape, Some(Node::leaf())).expect("as many values as the shape says");
        self.entries.insert(name.into(), Param { value, first, second });
    }

    /// A parameter by name, on the tape when `tracked`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &str, tracked: bool) -> Result<Tensor> {
        let param = self.entries.get(name).ok_or_else(|| Error::Config(format!("no parameter {name:?}")))?;
        if tracked { Ok(param.value.clone()) } else { param.value.reshaped(param.value.shape()) }
    }

    /// Number of scalars.
    pub fn count(&self) -> usize {
        self.entries.values().map(|p| p.value.data().len()).sum()
    }

    /// One Adam step with the gradients of a loss.
    ///
    /// # Errors
    /// When a gradient has the wrong length.
    pub fn adam(&mut self, grads: &mut Gradients, opts: &AdamOptions) -> Result<()> {
        self.steps += 1;
        for param in self.entries.values_mut() {
            if let Some(grad) = grads.take(&param.value) {
                let mut value = param.value.data().to_vec();
                adam(&mut value, &grad, &mut param.first, &mut param.second, opts, self.steps)?;
                param.value = Tensor::shared(Arc::new(value), param.value.shape(), Some(Node::leaf()))?;
            }
        }
        Ok(())
    }

    /// The values alone.
    pub fn values(&self) -> State {
        self.entries.iter().map(|(k, p)| (k.clone(), p.value.clone())).collect()
    }

    /// Values and optimiser state, to continue from bit-identically.
    ///
    /// # Errors
    /// Never for parameters that this type made.
    pub fn full_state(&self) -> Result<State> {
        let mut state = State::new();
        for (name, p) in &self.entries {
            state.insert(format!("value.{name}"), p.value.clone());
            state.insert(format!("first.{name}"), Tensor::new(p.first.clone(), p.value.shape())?);
            state.insert(format!("second.{name}"), Tensor::new(p.second.clone(), p.value.shape())?);
        }
        // The bits of the step count, so that the state is tensors only.
        state.insert("steps".into(), Tensor::new(vec![f32::from_bits(self.steps)], &[1])?);
        Ok(state)
    }

    /// Sets the values, checking names and shapes.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn set_values(&mut self, state: &State) -> Result<()> {
        for (name, param) in &mut self.entries {
            let value = fetch(state, name, param.value.shape())?;
            param.value = Tensor::shared(value.buffer(), value.shape(), Some(Node::leaf()))?;
        }
        Ok(())
    }

    /// Sets values and optimiser state.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn set_full_state(&mut self, state: &State) -> Result<()> {
        for (name, p) in &mut self.entries {
            let shape = p.value.shape().to_vec();
            let value = fetch(state, &format!("value.{name}"), &shape)?;
            p.value = Tensor::shared(value.buffer(), &shape, Some(Node::leaf()))?;
            p.first = fetch(state, &format!("first.{name}"), &shape)?.data().to_vec();
            p.second = fetch(state, &format!("second.{name}"), &shape)?.data().to_vec();
        }
        self.steps = fetch(state, "steps", &[1])?.item()?.to_bits();
        Ok(())
    }
}

/// A tensor by name and shape.
///
/// # Errors
/// When it is missing or has another shape.
pub fn fetch<'a>(state: &'a State, name: &str, shape: &[usize]) -> Result<&'a Tensor> {
    let tensor = state.get(name).ok_or_else(|| Error::Config(format!("tensor {name:?} is missing")))?;
    if tensor.shape() != shape {
        return Err(Error::Config(format!("tensor {name:?} has shape {:?}, {shape:?} expected", tensor.shape())));
    }
    Ok(tensor)
}
