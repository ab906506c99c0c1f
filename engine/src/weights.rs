//! Weights from elsewhere: any safetensors file with floating-point tensors, as f32.

use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use crate::error::{AtPath, Error, Result};
use crate::params::State;
use crate::tensor::Tensor;

/// All f32, f16 and bf16 tensors of a file; others, such as counters, are left out.
///
/// # Errors
/// When the file cannot be read or is no safetensors file.
pub fn read(path: &Path) -> Result<State> {
    let bytes = std::fs::read(path).at(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::Model {
        path: path.into(),
        reason: format!("not a safetensors file ({e}); save weights with safetensors.torch.save_file"),
    })?;
    let mut state = State::new();
    for (name, tensor) in file.iter() {
        let data = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            _ => continue,
        };
        state.insert(name.into(), Tensor::new(values, tensor.shape())?);
    }
    Ok(state)
}
