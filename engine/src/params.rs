//! Named parameters of a network, their initial values and their optimiser state.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hotad_kernels::adam::{AdamOptions, adam};
use hotad_kernels::device::{Buffer, Device};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::pooled::SharedBuffer;
use crate::tape::{Gradients, Node};
use crate::tensor::Tensor;

/// Tensors by name, in name order.
pub type State = BTreeMap<String, Tensor>;

/// One parameter: its value, its place on the tape, Adam's moments and how often it has been stepped.
struct Param {
    value: Tensor,
    first: Buffer,
    second: Buffer,
    steps: u32,
}

/// The parameters of a network, all on one device.
#[derive(Default)]
pub struct Params {
    entries: BTreeMap<String, Param>,
    /// Running statistics and the like: kept with the parameters, moved by forward passes, not by the
    /// optimiser.
    running: BTreeMap<String, Mutex<Buffer>>,
    device: Device,
    /// While an initialisation only says what there would be: names and shapes, the running ones after.
    plan: Option<Plan>,
}

/// Names and shapes of parameters.
#[derive(Default)]
struct Plan {
    learned: Vec<(String, Vec<usize>)>,
    running: Vec<(String, usize)>,
}

impl Params {
    /// Adds a weight drawn from U(-b, b), b = sqrt(6 / fan_in) (He et al. 2015, for ReLU).
    pub fn he_uniform(&mut self, name: &str, shape: &[usize], fan_in: usize, rng: &mut ChaCha8Rng) {
        if self.planned(name, shape) {
            return;
        }
        let bound = (6.0 / fan_in.max(1) as f32).sqrt();
        let values = (0..shape.iter().product()).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound).collect();
        self.insert(name, values, shape);
    }

    /// Adds a parameter of zeros.
    pub fn zeros(&mut self, name: &str, shape: &[usize]) {
        if !self.planned(name, shape) {
            self.insert(name, vec![0.0; shape.iter().product()], shape);
        }
    }

    /// Those of a file: what an initialisation would make, with the values of `state`. Nothing is allocated for a shape
    /// that the state does not have.
    ///
    /// # Errors
    /// When one is missing or has another shape, or the device is out of memory.
    pub fn restored(state: &State, device: &Device, init: impl FnOnce(&mut Self)) -> Result<Self> {
        let mut planned = Self { plan: Some(Plan::default()), ..Self::default() };
        init(&mut planned);
        let Plan { learned, running } = planned.plan.unwrap_or_default();
        let mut params = Self { device: device.clone(), ..Self::default() };
        for (name, shape) in learned {
            let value = leaf(fetch(state, &name, &shape)?, device)?;
            let (first, second) = (device.upload(vec![0.0; value.len()])?, device.upload(vec![0.0; value.len()])?);
            params.entries.insert(name, Param { value, first, second, steps: 0 });
        }
        for (name, len) in running {
            let buffer = fetch(state, &name, &[len])?.to(device)?.buffer().duplicate()?;
            params.running.insert(name, Mutex::new(buffer));
        }
        Ok(params)
    }

    /// Notes a parameter instead of making it, while there is a plan.
    fn planned(&mut self, name: &str, shape: &[usize]) -> bool {
        let Some(plan) = &mut self.plan else { return false };
        plan.learned.push((name.into(), shape.to_vec()));
        true
    }

    /// Adds the scale (ones), shift (zeros) and running statistics (zeros, ones) of a batch
    /// normalisation: `name.weight`, `name.bias`, `name.running_mean`, `name.running_var`.
    pub fn batch_norm(&mut self, name: &str, channels: usize) {
        let weight = format!("{name}.weight");
        if !self.planned(&weight, &[channels]) {
            self.insert(&weight, vec![1.0; channels], &[channels]);
        }
        self.zeros(&format!("{name}.bias"), &[channels]);
        for (kind, value) in [("mean", 0.0), ("var", 1.0)] {
            self.keep(&format!("{name}.running_{kind}"), channels, || vec![value; channels]);
        }
    }

    /// Adds `len` numbers that are kept and saved with the parameters, but not learned.
    pub fn keep(&mut self, name: &str, len: usize, values: impl FnOnce() -> Vec<f32>) {
        if let Some(plan) = &mut self.plan {
            return plan.running.push((name.into(), len));
        }
        self.running.insert(name.into(), Mutex::new(Buffer::Host(values().into())));
    }

    /// The running statistics of a name.
    ///
    /// # Errors
    /// When there are none of that name.
    pub fn running(&self, name: &str) -> Result<&Mutex<Buffer>> {
        self.running.get(name).ok_or_else(|| Error::Config(format!("no running statistics {name:?}")))
    }

    /// The running statistics as tensors.
    fn running_values(&self) -> Result<State> {
        let copy = |m: &Mutex<Buffer>| -> Result<Tensor> {
            // A poisoned lock only says that another thread has panicked; the statistics are whole.
            let buffer = m.lock().unwrap_or_else(PoisonError::into_inner).duplicate()?;
            let shape = [buffer.len()];
            Tensor::from_buffer(buffer, &shape)
        };
        self.running.iter().map(|(name, m)| Ok((name.clone(), copy(m)?))).collect()
    }

    fn set_running(&mut self, state: &State, prefix: &str) -> Result<()> {
        for (name, slot) in &mut self.running {
            let buffer = slot.get_mut().unwrap_or_else(PoisonError::into_inner);
            let stored = fetch(state, &format!("{prefix}{name}"), &[buffer.len()])?.to(&self.device)?;
            *buffer = stored.buffer().duplicate()?;
        }
        Ok(())
    }

    fn insert(&mut self, name: &str, values: Vec<f32>, shape: &[usize]) {
        let (first, second) = [0, 1].map(|_| Buffer::Host(vec![0.0; values.len()].into())).into();
        let value = Tensor::shared(SharedBuffer::new(Buffer::Host(values.into())), shape, Some(Node::leaf()))
            .expect("as many values as the shape says");
        self.entries.insert(name.into(), Param { value, first, second, steps: 0 });
    }

    /// Moves values and optimiser state to a device. Parameters are made on the host.
    ///
    /// # Errors
    /// When the device is out of memory or lost.
    pub fn to(mut self, device: &Device) -> Result<Self> {
        for p in self.entries.values_mut() {
            p.value = leaf(&p.value, device)?;
            p.first = device.upload(p.first.to_vec()?)?;
            p.second = device.upload(p.second.to_vec()?)?;
        }
        for slot in self.running.values_mut() {
            let buffer = slot.get_mut().unwrap_or_else(PoisonError::into_inner);
            *buffer = device.upload(buffer.to_vec()?)?;
        }
        self.device = device.clone();
        Ok(self)
    }

    /// Where they live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A parameter by name, on the tape when `tracked`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &str, tracked: bool) -> Result<Tensor> {
        let param = self.entries.get(name).ok_or_else(|| Error::Config(format!("no parameter {name:?}")))?;
        if tracked { Ok(param.value.clone()) } else { param.value.reshaped(param.value.shape()) }
    }

    /// Removes those whose names start with a prefix.
    pub fn drop_all(&mut self, prefix: &str) {
        self.entries.retain(|name, _| !name.starts_with(prefix));
        self.running.retain(|name, _| !name.starts_with(prefix));
        if let Some(plan) = &mut self.plan {
            plan.learned.retain(|(name, _)| !name.starts_with(prefix));
            plan.running.retain(|(name, _)| !name.starts_with(prefix));
        }
    }

    /// Number of scalars that are learned.
    pub fn count(&self) -> usize {
        self.entries.values().map(|p| p.value.len()).sum()
    }

    /// One Adam step of every parameter that has a gradient; the others stay as they are, so that two networks
    /// may learn in turn.
    ///
    /// # Errors
    /// When a gradient has the wrong length.
    pub fn adam(&mut self, grads: &mut Gradients, opts: &AdamOptions) -> Result<()> {
        self.adam_of("", grads, opts)
    }

    /// [`Params::adam`] of the parameters whose names start with a prefix.
    ///
    /// # Errors
    /// When a gradient has the wrong length.
    pub fn adam_of(&mut self, prefix: &str, grads: &mut Gradients, opts: &AdamOptions) -> Result<()> {
        for (_, param) in self.entries.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
            if let Some(grad) = grads.take(&param.value) {
                let mut value = param.value.buffer().duplicate()?;
                param.steps += 1;
                adam(&mut value, &grad, &mut param.first, &mut param.second, opts, param.steps)?;
                param.value = Tensor::shared(SharedBuffer::new(value), param.value.shape(), Some(Node::leaf()))?;
            }
        }
        Ok(())
    }

    /// The values alone, running statistics among them.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn values(&self) -> Result<State> {
        let mut state = self.running_values()?;
        state.extend(self.entries.iter().map(|(k, p)| (k.clone(), p.value.clone())));
        Ok(state)
    }

    /// Values and optimiser state, to continue from bit-identically.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn full_state(&self) -> Result<State> {
        let mut state = State::new();
        for (name, p) in &self.entries {
            state.insert(format!("value.{name}"), p.value.clone());
            state.insert(format!("first.{name}"), Tensor::from_buffer(p.first.duplicate()?, p.value.shape())?);
            state.insert(format!("second.{name}"), Tensor::from_buffer(p.second.duplicate()?, p.value.shape())?);
            // The bits of the step count, so that the state is tensors only.
            state.insert(format!("steps.{name}"), Tensor::new(vec![f32::from_bits(p.steps)], &[1])?);
        }
        state.extend(self.running_values()?.into_iter().map(|(name, t)| (format!("value.{name}"), t)));
        Ok(state)
    }

    /// Sets the values, checking names and shapes.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn set_values(&mut self, state: &State) -> Result<()> {
        for (name, param) in &mut self.entries {
            param.value = leaf(fetch(state, name, param.value.shape())?, &self.device)?;
        }
        self.set_running(state, "")
    }

    /// Sets the values that `state` has; returns the names of the others.
    ///
    /// # Errors
    /// When one has another shape.
    pub fn start_from(&mut self, state: &State) -> Result<Vec<String>> {
        let (mut values, mut missing) = (self.values()?, Vec::new());
        for (name, value) in &mut values {
            match state.get(name) {
                Some(given) => *value = given.clone(),
                None => missing.push(name.clone()),
            }
        }
        self.set_values(&values)?;
        Ok(missing)
    }

    /// Sets values and optimiser state.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn set_full_state(&mut self, state: &State) -> Result<()> {
        for (name, p) in &mut self.entries {
            let shape = p.value.shape().to_vec();
            p.value = leaf(fetch(state, &format!("value.{name}"), &shape)?, &self.device)?;
            let moment = |kind: &str| -> Result<Buffer> {
                let stored = fetch(state, &format!("{kind}.{name}"), &shape)?.to(&self.device)?;
                Ok(stored.buffer().duplicate()?)
            };
            (p.first, p.second) = (moment("first")?, moment("second")?);
            p.steps = fetch(state, &format!("steps.{name}"), &[1])?.item()?.to_bits();
        }
        self.set_running(state, "value.")
    }
}

/// The values of a tensor on a device, as something that gradients are wanted for.
fn leaf(value: &Tensor, device: &Device) -> Result<Tensor> {
    Tensor::shared(value.to(device)?.buffer(), value.shape(), Some(Node::leaf()))
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
