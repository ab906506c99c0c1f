//! What `torch.save` writes: since PyTorch 1.6 a zip archive (`NAME/data.pkl` and `NAME/data/KEY`),
//! before that pickles followed by raw storages. Both are read here, from `torch/serialization.py`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::archive::{Archive, Budget};
use super::bytes::Bytes;
use super::pickle::{Pickle, Value};
use super::tensor::{Storage, TensorView};
use crate::params::State;
use crate::tensor::Tensor;

/// First value of the older form.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// Version of the older form.
const LEGACY_VERSION: i128 = 1001;
/// Under which names training scripts keep the state dict.
const STATE_DICTS: [&str; 4] = ["state_dict", "model", "model_state_dict", "state_dict_ema"];
/// Elements of all tensors together, relative to those of the storages: tensors may share, and repeat
/// elements by strides of 0, but weights hardly do.
const MAX_SHARING: usize = 4;

/// Whether a file begins as the older form does, in any protocol.
pub(super) fn is_legacy(head: &[u8]) -> bool {
    let digits = &MAGIC.to_le_bytes()[..10];
    let head = &head[..head.len().min(32)];
    head.windows(10).any(|w| w == digits) || head.starts_with(format!("L{MAGIC}").as_bytes())
}

/// Tensors of the zip form; `folder` is what it calls itself.
pub(super) fn read_zip(bytes: &[u8], budget: Budget) -> Result<State, String> {
    let mut archive = Archive::in_memory(bytes, budget)?;
    let folder =
        archive.torch_folder().ok_or("a zip archive without data.pkl: save model.state_dict() with torch.save")?;
    if archive.size(&format!("{folder}/byteorder")).is_some() {
        let order = archive.read(&format!("{folder}/byteorder"))?;
        if order.trim_ascii() != b"little" {
            return Err("the weights were saved on a big-endian machine; save them again on a little-endian one".into());
        }
    }
    let pickled = archive.read(&format!("{folder}/data.pkl"))?;
    let (pickle, root) = Pickle::read(&mut Bytes(&pickled)).map_err(|e| format!("data.pkl: {e}"))?;
    let name = |key: &str| format!("{folder}/data/{key}");
    let mut sizes = BTreeMap::new();
    for storage in &pickle.storages {
        let found = archive.size(&name(storage.key)).ok_or_else(|| missing(storage))?;
        sizes.insert(storage.key, found);
    }
    let state = named_tensors(&pickle, root)?;
    build(&pickle, &state, &sizes, |key| archive.read(&name(key)).map(Cow::Owned))
}

/// Tensors of the older form: magic number, version, machine, object, list of keys, storages.
pub(super) fn read_legacy(bytes: &[u8]) -> Result<State, String> {
    let mut bytes = Bytes(bytes);
    for (expected, what) in [(MAGIC, "magic number"), (LEGACY_VERSION, "version")] {
        let (_, value) = Pickle::read(&mut bytes)?;
        if value != Value::Int(expected) {
            return Err(format!("the {what} is not that of torch.save"));
        }
    }
    // The machine that saved it: storages are little-endian wherever they were written.
    Pickle::read(&mut bytes)?;
    let (pickle, root) = Pickle::read(&mut bytes)?;
    let (keys, list) = Pickle::read(&mut bytes)?;
    let stored = legacy_storages(&pickle, keys.sequence(list).ok_or("the list of storages is missing")?, &mut bytes)?;
    let state = named_tensors(&pickle, root)?;
    let sizes = stored.iter().map(|(key, bytes)| (*key, bytes.len() as u64)).collect();
    build(&pickle, &state, &sizes, |key| Ok(Cow::Borrowed(stored[key])))
}

/// Storages behind the pickles, in the order of the list: the number of elements (i64), then the elements.
fn legacy_storages<'a>(
    pickle: &Pickle<'a>,
    keys: &[Value<'a>],
    bytes: &mut Bytes<'a>,
) -> Result<BTreeMap<&'a str, &'a [u8]>, String> {
    let declared: BTreeMap<&str, &Storage> = pickle.storages.iter().map(|s| (s.key, s)).collect();
    let mut stored = BTreeMap::new();
    for key in keys {
        let Value::Text(key) = *key else { return Err("the list of storages holds something else than keys".into()) };
        let storage =
            declared.get(key).ok_or_else(|| format!("storage {key:?} belongs to no tensor: the file is broken"))?;
        let short = |e: String| format!("storage {key:?} {e}");
        let count = bytes.u64().map_err(short)?;
        if count != storage.len as u64 {
            return Err(format!(
                "storage {key:?} has {count} elements where {} are announced: the file is broken",
                storage.len
            ));
        }
        stored.insert(key, bytes.take((storage.len * storage.dtype.size()) as u64).map_err(short)?);
    }
    Ok(stored)
}

/// The state dict in what was saved: the whole, or under one of the usual names.
fn named_tensors<'a>(pickle: &Pickle<'a>, root: Value<'a>) -> Result<BTreeMap<&'a str, usize>, String> {
    let pairs: Vec<_> = pickle.pairs(root).ok_or("holds no dict of tensors: save model.state_dict()")?.collect();
    let inner = STATE_DICTS.iter().filter_map(|name| pairs.iter().rev().find(|p| p.0 == Value::Text(name)));
    let dicts = inner.map(|p| p.1).chain([root]);
    for dict in dicts {
        let tensors: BTreeMap<&str, usize> =
            pickle.pairs(dict).into_iter().flatten().filter_map(text_and_tensor).collect();
        if !tensors.is_empty() {
            return Ok(tensors);
        }
    }
    let names: Vec<&str> =
        pairs.iter().filter_map(|p| if let Value::Text(name) = p.0 { Some(name) } else { None }).take(8).collect();
    Err(format!("holds no tensors by name, only {names:?}: save model.state_dict()"))
}

fn text_and_tensor<'a>((key, value): (Value<'a>, Value<'a>)) -> Option<(&'a str, usize)> {
    match (key, value) {
        (Value::Text(key), Value::Tensor(tensor)) => Some((key, tensor)),
        _ => None,
    }
}

/// Tensors of floating point as f32, each storage read once. `sizes` are the storages' bytes in the file.
fn build<'b>(
    pickle: &Pickle,
    named: &BTreeMap<&str, usize>,
    sizes: &BTreeMap<&str, u64>,
    mut read: impl FnMut(&str) -> Result<Cow<'b, [u8]>, String>,
) -> Result<State, String> {
    let mut users: BTreeMap<&str, Vec<(&str, &TensorView, &Storage)>> = BTreeMap::new();
    for (name, tensor) in named {
        let view = &pickle.tensors[*tensor];
        let storage = &pickle.storages[view.storage];
        if storage.dtype.is_float() {
            users.entry(storage.key).or_default().push((name, view, storage));
        }
    }
    check_sizes(&users, sizes)?;
    let mut state = State::new();
    for (key, tensors) in users {
        let values = tensors[0].2.dtype.values(&read(key)?).unwrap_or_default();
        for (name, view, storage) in tensors {
            let (first, count) = storage.part;
            let gathered = view.gather(&values[first..first + count]);
            state.insert(name.into(), Tensor::new(gathered, &view.shape).map_err(|e| format!("tensor {name:?}: {e}"))?);
        }
    }
    Ok(state)
}

/// Every storage is there in full, and the tensors together have no more elements than [`MAX_SHARING`] allows.
fn check_sizes(
    users: &BTreeMap<&str, Vec<(&str, &TensorView, &Storage)>>,
    sizes: &BTreeMap<&str, u64>,
) -> Result<(), String> {
    let (mut stored, mut wanted) = (0_usize, 0_usize);
    for (key, tensors) in users {
        let size = sizes.get(key).copied();
        for (_, view, storage) in tensors {
            if size != Some((storage.len * storage.dtype.size()) as u64) || storage.dtype != tensors[0].2.dtype {
                return Err(missing(storage));
            }
            wanted = wanted.saturating_add(view.len().unwrap_or(usize::MAX));
        }
        stored = stored.saturating_add(tensors[0].2.len);
    }
    if wanted > stored.saturating_mul(MAX_SHARING) {
        return Err(format!(
            "the tensors have {wanted} elements, the file holds {stored}: too many are repeated; save contiguous tensors"
        ));
    }
    Ok(())
}

fn missing(storage: &Storage) -> String {
    format!(
        "storage {:?} is missing or not {} elements long: the file is broken, fetch it again",
        storage.key, storage.len
    )
}
