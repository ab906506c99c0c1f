//! The names that a pickle of tensors may use, and what calling one gives. Nothing else is looked up.

use super::pickle::{Pickle, Value};
use super::tensor::{Dtype, Storage, TensorView};

/// PyTorch allows more axes; weights of networks have at most five.
const MAX_AXES: usize = 8;

/// A name that may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`, `collections.Counter`.
    Dict,
    /// `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`.
    Tensor,
    /// `torch._utils._rebuild_parameter` and `_rebuild_parameter_with_state`: the first argument is the tensor.
    Parameter,
    /// `torch.Size`: the argument is the tuple.
    Size,
    /// `torch.FloatStorage` and its like, named in persistent ids, never called.
    Storage(Dtype),
    /// A value that no weight depends on, such as `torch.float32`; never called.
    Constant,
    /// Makes something that no weight depends on: bytes, sets, devices.
    Other,
}

/// The line that refuses a name.
pub(super) fn refused(module: &str, name: &str) -> String {
    let named: String = format!("{module}.{name}").chars().take(100).flat_map(char::escape_default).collect();
    format!("the file calls {named}; only tensors are read and nothing is executed: save model.state_dict() alone")
}

/// Looks a name up.
pub(super) fn find(module: &str, name: &str) -> Result<Global, String> {
    Ok(match (module, name) {
        ("collections", "OrderedDict" | "Counter") => Global::Dict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::Tensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::Parameter,
        ("torch", "Size") => Global::Size,
        ("torch", "device") | ("_codecs", "encode") => Global::Other,
        ("builtins" | "__builtin__", "set" | "frozenset" | "bytes" | "bytearray" | "complex") => Global::Other,
        ("torch" | "torch.storage", _) => match name.strip_suffix("Storage") {
            Some(kind) => Global::Storage(storage(kind).ok_or_else(|| refused(module, name))?),
            None if module == "torch" && is_dtype(name) => Global::Constant,
            None => return Err(refused(module, name)),
        },
        _ => return Err(refused(module, name)),
    })
}

/// The element type of `torch.KINDStorage`.
fn storage(kind: &str) -> Option<Dtype> {
    Some(match kind {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::Bf16,
        "Long" | "ComplexFloat" => Dtype::Other(8),
        "Int" => Dtype::Other(4),
        "Short" => Dtype::Other(2),
        "Char" | "Byte" | "Bool" | "Untyped" | "_Untyped" => Dtype::Other(1),
        "ComplexDouble" => Dtype::Other(16),
        _ => return None,
    })
}

fn is_dtype(name: &str) -> bool {
    let plain = ["double", "float", "half", "long", "int", "short", "bool"];
    let sized = ["float", "bfloat", "uint", "int", "complex", "quint", "qint", "float8_e"];
    plain.contains(&name)
        || sized
            .iter()
            .any(|kind| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
}

/// REDUCE: what `function(*arguments)` gives.
pub(super) fn call<'a>(pickle: &mut Pickle<'a>, function: Value, arguments: Value) -> Result<Value<'a>, String> {
    let arguments = pickle.sequence(arguments).ok_or("the pickle calls something without a tuple of arguments")?;
    let first = arguments.first().copied();
    match function {
        Value::Global(Global::Dict) => dict(pickle, first),
        Value::Global(Global::Tensor) => tensor(pickle, arguments).map(|view| {
            pickle.tensors.push(view);
            Value::Tensor(pickle.tensors.len() - 1)
        }),
        Value::Global(Global::Parameter) => match first {
            Some(Value::Tensor(i)) => Ok(Value::Tensor(i)),
            _ => Err("the pickle holds a parameter without a tensor".into()),
        },
        Value::Global(Global::Size) => first.ok_or_else(|| "the pickle holds a size without extents".into()),
        Value::Global(Global::Other) => Ok(Value::Other),
        _ => Err("the pickle calls something that is no function; only tensors are read".into()),
    }
}

/// `OrderedDict()`, or `OrderedDict([[key, value], ...])` as Python 2 wrote it.
fn dict<'a>(pickle: &mut Pickle<'a>, from: Option<Value<'a>>) -> Result<Value<'a>, String> {
    let mut items = Vec::new();
    match from {
        None => {}
        Some(Value::Dict(i)) => return Ok(Value::Dict(i)),
        Some(pairs) => {
            let count = pickle.sequence(pairs).map_or(0, <[Value]>::len);
            pickle.charge(2 * count)?;
            for pair in pickle.sequence(pairs).unwrap_or_default() {
                match pickle.sequence(*pair) {
                    Some(&[key, value]) => items.extend([key, value]),
                    _ => return Err("the pickle holds a dict of something else than pairs".into()),
                }
            }
        }
    }
    Ok(Value::Dict(pickle.container(items)))
}

/// `_rebuild_tensor(storage, offset, shape, strides, ...)`; what follows concerns training.
fn tensor(pickle: &Pickle, arguments: &[Value]) -> Result<TensorView, String> {
    let broken = || "the pickle holds a tensor without storage, offset, shape and strides".to_string();
    let &[Value::Storage(storage), offset, shape, strides, ..] = arguments else { return Err(broken()) };
    let extents = |value: Value| -> Option<Vec<usize>> {
        let items = pickle.sequence(value).filter(|items| items.len() <= MAX_AXES)?;
        items.iter().map(|v| size(*v)).collect()
    };
    let shape = extents(shape).ok_or_else(broken)?;
    let strides = extents(strides).filter(|s| s.len() == shape.len()).ok_or_else(broken)?;
    let strides = shape.iter().zip(strides).map(|(&extent, stride)| if extent == 1 { 0 } else { stride }).collect();
    let view = TensorView { storage, offset: size(offset).ok_or_else(broken)?, shape, strides };
    if !view.fits(pickle.storages[storage].part.1) {
        return Err(format!("a tensor of shape {:?} reaches beyond its storage: the file is broken", view.shape));
    }
    Ok(view)
}

/// BINPERSID: `("storage", torch.FloatStorage, key, location, numel)`, and in the older form also
/// the part of another storage that this is, or None.
pub(super) fn persistent<'a>(pickle: &mut Pickle<'a>, id: Value) -> Result<Value<'a>, String> {
    let broken = || "the pickle refers to something that is no storage; save model.state_dict() alone".to_string();
    let (&[Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), _, len], rest) =
        pickle.sequence(id).and_then(<[Value]>::split_first_chunk).ok_or_else(broken)?
    else {
        return Err(broken());
    };
    let len = size(len).ok_or_else(broken)?;
    let part = match rest {
        [] | [Value::None] => (0, len),
        [view] => match pickle.sequence(*view) {
            Some(&[_, offset, count]) => size(offset).zip(size(count)).ok_or_else(broken)?,
            _ => return Err(broken()),
        },
        _ => return Err(broken()),
    };
    if part.0.checked_add(part.1).is_none_or(|end| end > len) || len.checked_mul(dtype.size()).is_none() {
        return Err(format!("storage {key:?} reaches beyond its end: the file is broken"));
    }
    pickle.storages.push(Storage { key, dtype, len, part });
    Ok(Value::Storage(pickle.storages.len() - 1))
}

fn size(value: Value) -> Option<usize> {
    match value {
        Value::Int(n) => usize::try_from(n).ok(),
        _ => None,
    }
}
