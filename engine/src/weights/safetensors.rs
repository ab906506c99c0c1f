//! Tensors of a safetensors file.

use safetensors::{Dtype as Kind, SafeTensors};

use super::tensor::Dtype;
use crate::params::State;
use crate::tensor::Tensor;

/// Longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;

/// Whether a file begins as safetensors files do: the header's length, then JSON.
pub(super) fn is_safetensors(head: &[u8]) -> bool {
    head.split_first_chunk()
        .is_some_and(|(length, json)| u64::from_le_bytes(*length) <= MAX_HEADER && json.starts_with(b"{"))
}

/// Tensors of floating point as f32; others are left out.
pub(super) fn read(bytes: &[u8]) -> Result<State, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| format!("a safetensors file that is cut short or broken ({e}): fetch it again"))?;
    let mut state = State::new();
    for (name, tensor) in file.iter() {
        let dtype = match tensor.dtype() {
            Kind::F64 => Dtype::F64,
            Kind::F32 => Dtype::F32,
            Kind::F16 => Dtype::F16,
            Kind::BF16 => Dtype::Bf16,
            _ => continue,
        };
        let values = dtype.values(tensor.data()).unwrap_or_default();
        state.insert(name.into(), Tensor::new(values, tensor.shape()).map_err(|e| format!("tensor {name:?}: {e}"))?);
    }
    Ok(state)
}
