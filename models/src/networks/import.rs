//! Weights from elsewhere: safetensors files with the names of torchvision's networks.

use std::path::Path;

use hotad_engine::params::{State, fetch};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result, weights};

use super::layer::Layer;

/// Tensors of a batch normalisation.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// Channels that torchvision's networks see.
const RGB: usize = 3;

/// Weights of the given layers from a file with torchvision's names and layouts (OIHW). Left out is the
/// last layer when the file has another number of outputs there, and a layer over a whole map when the
/// file's was learned on images of another size.
///
/// # Errors
/// When the file cannot be read, or holds another architecture: names the tensor.
pub fn torchvision(path: &Path, layers: &[&Layer]) -> Result<State> {
    from_torchvision(path, &weights::read(path)?, layers)
}

/// [`torchvision`] from tensors that have been read; errors name `path`.
///
/// # Errors
/// When they are those of another architecture: names the tensor.
pub fn from_torchvision(path: &Path, file: &State, layers: &[&Layer]) -> Result<State> {
    let mut state = State::new();
    for (i, layer) in layers.iter().enumerate() {
        let inputs = layer.from / layer.opts.groups * layer.kernel * layer.kernel;
        let shape = file.get(&format!("{}.weight", layer.name)).map(Tensor::shape);
        let other_outputs = i + 1 == layers.len() && shape.is_some_and(|s| s.first() != Some(&layer.to));
        let other_size =
            layer.flattened.is_some() && shape.is_some_and(|s| s.len() == 2 && s[0] == layer.to && s[1] != inputs);
        if other_outputs || other_size {
            continue;
        }
        let name = format!("{}.weight", layer.name);
        let weight = tensor(path, file, &name, inputs * layer.to, layer)?;
        state.insert(name, Tensor::new(to_ohwi(layer, &weight.values()?), &layer.weight_shape())?);
        let follows = match &layer.norm {
            Some(norm) => NORM.map(|kind| format!("{}.{kind}", norm.name)).to_vec(),
            None => vec![format!("{}.bias", layer.name)],
        };
        for name in follows {
            let values = tensor(path, file, &name, layer.to, layer)?.reshaped(&[layer.to])?;
            state.insert(name, values);
        }
    }
    Ok(state)
}

/// Adapts the first filters of a file, which see RGB, to `channels` of input: of one channel, such as a map, they are summed
/// over the colours, so that gray is seen as before; of more, those after RGB begin with zeros. Other files stay as they are.
///
/// # Errors
/// Never for shapes that fit their values.
pub fn adapt_input(file: &mut State, first: &Layer, channels: usize) -> Result<()> {
    let name = format!("{}.weight", first.name);
    let Some(&[to, RGB, rows, columns]) = file.get(&name).map(Tensor::shape) else { return Ok(()) };
    let (values, pixels) = (file[&name].values()?.into_owned(), rows * columns);
    let adapted = values.chunks_exact(RGB * pixels).flat_map(|filter| match channels {
        1 => (0..pixels).map(|p| (0..RGB).map(|c| filter[c * pixels + p]).sum::<f32>()).collect(),
        _ => [filter, &vec![0.0; channels.saturating_sub(RGB) * pixels]].concat(),
    });
    let adapted = Tensor::new(adapted.collect(), &[to, channels, rows, columns])?;
    file.insert(name, adapted);
    Ok(())
}

/// The reverse of [`from_torchvision`] for plain convolutions: weights of the given layers in OIHW, under the same names.
///
/// # Errors
/// When a tensor is missing.
pub fn to_torchvision(state: &State, layers: &[&Layer]) -> Result<State> {
    let mut file = State::new();
    for layer in layers {
        let name = format!("{}.weight", layer.name);
        let [to, rows, columns, from] = layer.weight_shape();
        let values = fetch(state, &name, &[to, rows, columns, from])?.values()?;
        let pixels = rows * columns;
        let at = |o: usize, i: usize, p: usize| values[(o * pixels + p) * from + i];
        let oihw = (0..to).flat_map(|o| (0..from).flat_map(move |i| (0..pixels).map(move |p| (o, i, p))));
        file.insert(name, Tensor::new(oihw.map(|(o, i, p)| at(o, i, p)).collect(), &[to, from, rows, columns])?);
        let follows = match &layer.norm {
            Some(norm) => NORM.map(|kind| format!("{}.{kind}", norm.name)).to_vec(),
            None => vec![format!("{}.bias", layer.name)],
        };
        for name in follows {
            let values = fetch(state, &name, &[to])?.clone();
            file.insert(name, values);
        }
    }
    Ok(file)
}

fn tensor<'a>(path: &Path, file: &'a State, name: &str, len: usize, layer: &Layer) -> Result<&'a Tensor> {
    let refuse = |reason: String| Error::Model { path: path.into(), reason };
    let tensor = file.get(name).ok_or_else(|| {
        refuse(format!("no tensor {name:?}: these are the weights of another network, or not torchvision's names"))
    })?;
    if tensor.len() != len {
        let (from, to, k) = (layer.from, layer.to, layer.kernel);
        let wanted = format!("{from} channels to {to} with a {k}x{k} kernel, {len} values");
        let reason = format!("tensor {name:?} has shape {:?}; the network wants {wanted}", tensor.shape());
        return Err(refuse(reason));
    }
    Ok(tensor)
}

/// OIHW values as OHWI; for a layer over a flattened map (C, H, W) as (H, W, C).
fn to_ohwi(layer: &Layer, values: &[f32]) -> Vec<f32> {
    let (rows, columns) = layer.flattened.unwrap_or((layer.kernel, layer.kernel));
    let channels = values.len() / (layer.to * rows * columns);
    let pixels = rows * columns;
    let mut out = Vec::with_capacity(values.len());
    for filter in values.chunks_exact(channels * pixels) {
        out.extend((0..pixels).flat_map(|p| (0..channels).map(move |c| filter[c * pixels + p])));
    }
    out
}
