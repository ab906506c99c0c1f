//! The file format under models and checkpoints: one safetensors file whose metadata is one JSON
//! text, with a SHA-256 over all tensors, so that a cut or altered file is told from a good one.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::data::prepare::hex;
use crate::error::{AtPath, Error, Result};
use crate::params::State;
use crate::tensor::Tensor;

/// Longest header that is read.
const HEADER_LIMIT: u64 = 16 << 20;

/// A tensor as a file holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// Single precision.
    F32(Vec<usize>, Vec<f32>),
    /// Half precision.
    F16(Vec<usize>, Vec<f16>),
}

impl Stored {
    /// Extents.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(shape, _) | Self::F16(shape, _) => shape,
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(..) => Dtype::F32,
            Self::F16(..) => Dtype::F16,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(_, v) => bytemuck::cast_slice(v),
            Self::F16(_, v) => bytemuck::cast_slice(v),
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// Kind of file: `model`, `checkpoint` or `backbone`.
    pub kind: String,
    /// Everything that is not a tensor.
    pub meta: Value,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Stored>,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    kind: String,
    sha256: String,
    meta: Value,
}

/// Parameters as stored tensors, names prefixed.
///
/// # Errors
/// When they live on a device that is lost.
pub fn store(state: &State, prefix: &str) -> Result<BTreeMap<String, Stored>> {
    let stored = |t: &Tensor| -> Result<Stored> { Ok(Stored::F32(t.shape().to_vec(), t.values()?.into_owned())) };
    state.iter().map(|(k, t)| Ok((format!("{prefix}{k}"), stored(t)?))).collect()
}

/// The f32 tensors whose names start with `prefix`, as parameters.
///
/// # Errors
/// Never for a file that was read.
pub fn restore(tensors: &BTreeMap<String, Stored>, prefix: &str) -> Result<State> {
    let named = tensors.iter().filter_map(|(k, t)| k.strip_prefix(prefix).map(|k| (k, t)));
    named
        .filter_map(|(k, t)| match t {
            Stored::F32(shape, values) => Some((k, shape, values)),
            Stored::F16(..) => None,
        })
        .map(|(k, shape, values)| Ok((k.to_string(), Tensor::new(values.clone(), shape)?)))
        .collect()
}

fn digest(tensors: &BTreeMap<String, Stored>) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(name);
        hash.update(tensor.bytes());
    }
    hex(&hash.finalize())
}

/// Writes a file, whole or not at all. Equal contents give equal bytes.
///
/// # Errors
/// I/O errors, with the path.
pub fn write(path: &Path, contents: &Contents) -> Result<()> {
    let envelope =
        Envelope { kind: contents.kind.clone(), sha256: digest(&contents.tensors), meta: contents.meta.clone() };
    let text = serde_json::to_string(&envelope).expect("JSON values always print");
    let refuse = |e: safetensors::SafeTensorError| Error::Model { path: path.into(), reason: e.to_string() };
    let views = contents
        .tensors
        .iter()
        .map(|(k, t)| TensorView::new(t.dtype(), t.shape().to_vec(), t.bytes()).map(|v| (k, v)))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(refuse)?;
    let meta = HashMap::from([("hotad".to_string(), text)]);
    let bytes = safetensors::serialize(views, Some(meta)).map_err(refuse)?;
    crate::atomic_file::write(path, |out| out.write_all(&bytes))
}

/// The kind of a file of hotad's, told by its header; `None` for any other file or a folder.
///
/// # Errors
/// When it cannot be opened.
pub fn kind(path: &Path) -> Result<Option<String>> {
    if path.is_dir() {
        return Ok(None);
    }
    let mut file = File::open(path).at(path)?;
    let mut prefix = [0; 8];
    if file.read_exact(&mut prefix).is_err() || u64::from_le_bytes(prefix) > HEADER_LIMIT {
        return Ok(None);
    }
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(prefix)).read_to_end(&mut header).at(path)?;
    let metadata = serde_json::from_slice::<Metadata>(&header).ok().and_then(|m| m.metadata().clone());
    let text = metadata.and_then(|m| m.get("hotad").cloned());
    // A damaged envelope is for the reader to name.
    Ok(text.map(|t| serde_json::from_str::<Envelope>(&t).map(|e| e.kind).unwrap_or_default()))
}

/// Reads the header: the bytes that tensors start at, and what it says.
fn read_header(file: &mut impl Read, size: u64, path: &Path) -> Result<(Metadata, Envelope)> {
    let refuse = |reason: &str| Error::Model { path: path.into(), reason: reason.into() };
    const FOREIGN: &str = "not a hotad file; expected a .safetensors written by hotad";
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(|_| refuse(FOREIGN))?;
    let length = u64::from_le_bytes(prefix);
    if length > HEADER_LIMIT || length + 8 > size {
        return Err(refuse(FOREIGN));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|_| refuse(FOREIGN))?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|_| refuse(FOREIGN))?;
    let text = metadata.metadata().as_ref().and_then(|m| m.get("hotad")).ok_or_else(|| refuse(FOREIGN))?;
    let envelope =
        serde_json::from_str(text).map_err(|_| refuse("damaged header; train again or copy the file anew"))?;
    if size != 8 + length + metadata.data_len() as u64 {
        return Err(refuse("the file is cut or has bytes too many; copy it anew"));
    }
    Ok((metadata, envelope))
}

/// Reads a file; each tensor goes straight from disk to its buffer, so it is in memory once.
///
/// # Errors
/// When the file is not one of hotad's, is of another kind, cut or altered.
pub fn read(path: &Path, kind: &str) -> Result<Contents> {
    let mut file = File::open(path).at(path)?;
    let size = file.metadata().at(path)?.len();
    read_from(&mut file, size, path, kind)
}

/// [`read`] from bytes in memory; errors name `path`.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(mut bytes: &[u8], path: &Path, kind: &str) -> Result<Contents> {
    let size = bytes.len() as u64;
    read_from(&mut bytes, size, path, kind)
}

fn read_from(file: &mut impl Read, size: u64, path: &Path, kind: &str) -> Result<Contents> {
    let refuse = |reason: String| Error::Model { path: path.into(), reason };
    let (metadata, envelope) = read_header(file, size, path)?;
    if envelope.kind != kind {
        return Err(refuse(format!("this is a {}, a {kind} is wanted", envelope.kind)));
    }
    let mut infos: Vec<_> = metadata.tensors().into_iter().collect();
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut tensors = BTreeMap::new();
    for (name, info) in infos {
        let count = info.shape.iter().product();
        let tensor = match info.dtype {
            Dtype::F32 => {
                let mut values = vec![0f32; count];
                file.read_exact(bytemuck::cast_slice_mut(&mut values)).at(path)?;
                Stored::F32(info.shape.clone(), values)
            }
            Dtype::F16 => {
                let mut values = vec![f16::ZERO; count];
                file.read_exact(bytemuck::cast_slice_mut(&mut values)).at(path)?;
                Stored::F16(info.shape.clone(), values)
            }
            other => return Err(refuse(format!("tensor {name} is {other:?}, which hotad never writes"))),
        };
        tensors.insert(name, tensor);
    }
    if digest(&tensors) != envelope.sha256 {
        return Err(refuse("the tensors do not match their SHA-256: the file was altered; copy it anew".into()));
    }
    Ok(Contents { kind: envelope.kind, meta: envelope.meta, tensors })
}
