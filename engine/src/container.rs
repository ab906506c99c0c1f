//! The file format under models, checkpoints and backbones: one safetensors file whose metadata is one JSON text, with a
//! SHA-256 of the whole file, header and tensors, so that no bit can change unnoticed.
//!
//! The text starts with `{"container":2,"sha256":"`. The digest is that of all bytes of the file, with 64 zeros (ASCII
//! `0`) in the place of its own hexadecimal digits.

use std::collections::{BTreeMap, HashMap};
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
use crate::input_file;
use crate::params::State;
use crate::tensor::Tensor;

/// Longest header that is read.
const HEADER_LIMIT: u64 = 16 << 20;

/// The version of this format.
const CONTAINER: u32 = 2;

/// What stands in the place of the digest while it is computed.
const NO_DIGEST: [u8; 64] = [b'0'; 64];

/// What comes before the digest in a header, where the text is a string of JSON within JSON.
const BEFORE_DIGEST: &[u8] = br#"{\"container\":2,\"sha256\":\""#;

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

    /// Whether every value is a finite number.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::F32(_, v) => v.iter().all(|x| x.is_finite()),
            Self::F16(_, v) => v.iter().all(|x| x.is_finite()),
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

/// The text in the header. The order of its fields is part of the format.
#[derive(Serialize, Deserialize)]
struct Envelope {
    container: u32,
    sha256: String,
    kind: String,
    meta: Value,
}

/// Parameters as stored tensors, names prefixed.
///
/// # Errors
/// When the device of the weights is lost.
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

/// SHA-256 of tensors, their names and bytes.
pub fn sha256_of(tensors: &BTreeMap<String, Stored>) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(name);
        hash.update(tensor.bytes());
    }
    hex(&hash.finalize())
}

/// Where the digest is in a header.
fn digest_at(header: &[u8]) -> Option<std::ops::Range<usize>> {
    let before = header.windows(BEFORE_DIGEST.len()).position(|w| w == BEFORE_DIGEST)?;
    let start = before + BEFORE_DIGEST.len();
    (start + NO_DIGEST.len() <= header.len()).then(|| start..start + NO_DIGEST.len())
}

/// Writes a file, whole or not at all. Equal contents give equal bytes.
///
/// # Errors
/// I/O errors, with the path.
pub fn write(path: &Path, contents: &Contents) -> Result<()> {
    let sha256 = String::from_utf8_lossy(&NO_DIGEST).into_owned();
    let envelope = Envelope { container: CONTAINER, sha256, kind: contents.kind.clone(), meta: contents.meta.clone() };
    let text = serde_json::to_string(&envelope).expect("JSON values always print");
    let refuse = |e: safetensors::SafeTensorError| Error::Model { path: path.into(), reason: e.to_string() };
    let views = contents
        .tensors
        .iter()
        .map(|(k, t)| TensorView::new(t.dtype(), t.shape().to_vec(), t.bytes()).map(|v| (k, v)))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(refuse)?;
    let meta = HashMap::from([("hotad".to_string(), text)]);
    let mut bytes = safetensors::serialize(views, Some(meta)).map_err(refuse)?;
    let header = u64::from_le_bytes(*bytes.first_chunk().expect("a file begins with the length of its header"));
    if header > HEADER_LIMIT {
        let reason = format!("its header would have {header} bytes, more than the {HEADER_LIMIT} that are read");
        return Err(Error::Model { path: path.into(), reason });
    }
    let digest = hex(&Sha256::digest(&bytes));
    let place = digest_at(&bytes).expect("just written");
    bytes[place].copy_from_slice(digest.as_bytes());
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
    let mut file = input_file::open(path)?;
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

/// A reader that digests what it reads.
struct Digesting<'a, R> {
    inner: &'a mut R,
    hash: Sha256,
}

impl<R: Read> Read for Digesting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Reads a file of any kind and checks it whole.
///
/// # Errors
/// When it is not one of hotad's, of another format, cut or altered.
pub fn check(path: &Path) -> Result<()> {
    let kind = kind(path)?.unwrap_or_default();
    read(path, &kind).map(drop)
}

/// Reads the text of a header; it is not yet known whether it has been altered.
fn envelope(text: &str) -> std::result::Result<Envelope, String> {
    let value: Value = serde_json::from_str(text).map_err(|_| ALTERED.to_string())?;
    match value["container"].as_u64() {
        None if value["sha256"].is_string() => Err(FORMER.into()),
        Some(newer) if newer > u64::from(CONTAINER) => {
            Err(format!("file format {newer} is newer than this hotad reads ({CONTAINER}); update hotad"))
        }
        _ => serde_json::from_value(value).map_err(|_| ALTERED.into()),
    }
}

/// Reads the header of a file of `size` bytes; the digest goes on over what comes after it.
fn read_header<'a, R: Read>(file: &'a mut R, size: u64) -> std::result::Result<Header<'a, R>, String> {
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(|_| FOREIGN)?;
    let length = u64::from_le_bytes(prefix);
    if length > HEADER_LIMIT || length + 8 > size {
        return Err(FOREIGN.into());
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|_| FOREIGN)?;
    let tensors: Metadata = serde_json::from_slice(&header).map_err(|_| FOREIGN)?;
    let text = tensors.metadata().as_ref().and_then(|m| m.get("hotad")).ok_or(FOREIGN)?;
    let envelope = envelope(text)?;
    if size != 8 + length + tensors.data_len() as u64 {
        return Err("the file is cut or has bytes too many; copy it anew".into());
    }
    let place = digest_at(&header).filter(|p| header[p.clone()] == *envelope.sha256.as_bytes()).ok_or(ALTERED)?;
    header[place].copy_from_slice(&NO_DIGEST);
    let hash = Sha256::new().chain_update(prefix).chain_update(&header);
    Ok(Header { tensors, envelope, rest: Digesting { inner: file, hash } })
}

/// A header that has been read, and the tensors' bytes to come.
struct Header<'a, R> {
    tensors: Metadata,
    envelope: Envelope,
    rest: Digesting<'a, R>,
}

/// Reads a file; each tensor goes straight from disk to its buffer, so it is in memory once.
///
/// # Errors
/// When the file is not one of hotad's, is of another kind or format, cut or altered.
pub fn read(path: &Path, kind: &str) -> Result<Contents> {
    let mut file = input_file::open(path)?;
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
    let Header { tensors: metadata, envelope, mut rest } = read_header(file, size).map_err(refuse)?;
    if envelope.kind != kind {
        return Err(refuse(format!("this is a {}, a {kind} is wanted", envelope.kind)));
    }
    let mut infos: Vec<_> = metadata.tensors().into_iter().collect();
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut tensors = BTreeMap::new();
    for (name, info) in infos {
        // The header has been checked: as many bytes as the shape says, all within the file.
        let count = info.shape.iter().product();
        let tensor = match info.dtype {
            Dtype::F32 => {
                let mut values = vec![0f32; count];
                rest.read_exact(bytemuck::cast_slice_mut(&mut values)).at(path)?;
                Stored::F32(info.shape.clone(), values)
            }
            Dtype::F16 => {
                let mut values = vec![f16::ZERO; count];
                rest.read_exact(bytemuck::cast_slice_mut(&mut values)).at(path)?;
                Stored::F16(info.shape.clone(), values)
            }
            other => return Err(refuse(format!("tensor {name} is {other:?}, which hotad never writes"))),
        };
        tensors.insert(name, tensor);
    }
    if hex(&rest.hash.finalize()) != envelope.sha256 {
        return Err(refuse(ALTERED.into()));
    }
    match tensors.iter().find(|(_, tensor)| !tensor.is_finite()) {
        Some((name, _)) if kind != "checkpoint" => {
            Err(refuse(format!("tensor {name:?} holds numbers that are not finite; train again")))
        }
        _ => Ok(Contents { kind: envelope.kind, meta: envelope.meta, tensors }),
    }
}

/// Said of a file that is none of hotad's.
const FOREIGN: &str = "not a hotad file; expected a .safetensors written by hotad";

/// Said of a file that does not match its digest.
const ALTERED: &str = "the file does not match its SHA-256: it was altered or damaged; copy it anew";

/// Said of a file whose digest left settings and thresholds out.
const FORMER: &str = "written by an earlier hotad, in a format whose settings could be altered unnoticed; train the \
                      model or import the backbone again";
