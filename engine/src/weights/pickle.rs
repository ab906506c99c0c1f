//! Python's pickle, as far as `torch.save` writes it (protocols 1 to 5): a stack machine that builds
//! numbers, texts, containers and descriptions of tensors, and executes nothing. A name outside
//! [`globals`](super::globals) ends the reading.
//!
//! Why not a crate: `serde-pickle` knows no persistent ids, which is how PyTorch refers to storages;
//! `repugnant-pickle` (0.0.1) reads the zip form only; the readers of candle and burn come with their frameworks.
//!
//! Source: Python's `Lib/pickletools.py`, which defines every opcode.
//!
//! All values live in one arena and refer to each other by index. So nothing recurses, cycles are
//! harmless, and memory is bounded by the number of steps ([`MAX_STEPS`]) and by the file's length.

use std::collections::HashMap;

use super::bytes::Bytes;
use super::globals::{self, Global};
use super::tensor::{Storage, TensorView};

/// Steps of the machine. A state dict takes some 30 a tensor, so this is a hundred thousand tensors.
const MAX_STEPS: usize = 4_000_000;

/// A value; containers are indices into [`Pickle::items`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    Text(&'a str),
    /// Tuple or list.
    Sequence(usize),
    /// Keys and values in turn.
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
    /// Something that weights do not depend on: fractions, bytes, sets, devices.
    Other,
}

/// What one pickle holds.
#[derive(Default)]
pub(super) struct Pickle<'a> {
    items: Vec<Vec<Value<'a>>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<TensorView>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    steps: usize,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle to its STOP and gives its value; `bytes` is left behind it.
    pub fn read(bytes: &mut Bytes<'a>) -> Result<(Self, Value<'a>), String> {
        let mut pickle = Self::default();
        loop {
            pickle.charge(1)?;
            let code = bytes.byte()?;
            if code == b'.' {
                let value = pickle.pop()?;
                return Ok((pickle, value));
            }
            pickle.step(code, bytes)?;
        }
    }

    /// Members of a tuple or list.
    pub fn sequence(&self, value: Value) -> Option<&[Value<'a>]> {
        match value {
            Value::Sequence(i) => Some(&self.items[i]),
            _ => None,
        }
    }

    /// Keys and values of a dict.
    pub fn pairs(&self, value: Value) -> Option<impl Iterator<Item = (Value<'a>, Value<'a>)>> {
        match value {
            Value::Dict(i) => Some(self.items[i].chunks_exact(2).map(|p| (p[0], p[1]))),
            _ => None,
        }
    }

    /// Counts work that takes memory.
    pub fn charge(&mut self, steps: usize) -> Result<(), String> {
        self.steps += steps;
        if self.steps > MAX_STEPS {
            return Err(format!("the pickle takes more than {MAX_STEPS} steps; save model.state_dict() alone"));
        }
        Ok(())
    }

    /// A new container's index.
    pub fn container(&mut self, items: Vec<Value<'a>>) -> usize {
        self.items.push(items);
        self.items.len() - 1
    }

    fn step(&mut self, code: u8, bytes: &mut Bytes<'a>) -> Result<(), String> {
        match code {
            // PROTO, FRAME
            0x80 => protocol(bytes.byte()?)?,
            0x95 => drop(bytes.take(8)?),
            // MARK, POP, POP_MARK, DUP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.discard()?,
            b'1' => drop(self.since_mark()?),
            b'2' => self.stack.push(self.top()?),
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => self.put(bytes.byte()?.into())?,
            b'r' => self.put(bytes.u32()?)?,
            0x94 => self.put(self.memo.len() as u32)?,
            b'h' => self.get(bytes.byte()?.into())?,
            b'j' => self.get(bytes.u32()?)?,
            b'N' | 0x88 | 0x89 | b'I' | b'L' | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => {
                let value = number(code, bytes)?;
                self.stack.push(value);
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => {
                let value = text(code, bytes)?;
                self.stack.push(value);
            }
            b']' | b')' | b't' | 0x85..=0x87 | b'}' | 0x8f | 0x91 => self.new_container(code)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(code)?,
            _ => return self.object(code, bytes),
        }
        Ok(())
    }

    /// EMPTY_LIST, EMPTY_TUPLE, TUPLE, TUPLE1 to 3, EMPTY_DICT, EMPTY_SET, FROZENSET.
    fn new_container(&mut self, code: u8) -> Result<(), String> {
        let items = match code {
            b't' | 0x91 => self.since_mark()?,
            0x85..=0x87 => self.last(usize::from(code - 0x84))?,
            _ => Vec::new(),
        };
        let value = match code {
            0x8f | 0x91 => Value::Other,
            b'}' => Value::Dict(self.container(items)),
            _ => Value::Sequence(self.container(items)),
        };
        self.stack.push(value);
        Ok(())
    }

    /// APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS.
    fn extend(&mut self, code: u8) -> Result<(), String> {
        let more = match code {
            b'a' => self.last(1)?,
            b's' => self.last(2)?,
            _ => self.since_mark()?,
        };
        match (code, self.top()?) {
            (b'a' | b'e', Value::Sequence(i)) => self.items[i].extend(more),
            (b's' | b'u', Value::Dict(i)) if more.len() % 2 == 0 => self.items[i].extend(more),
            (_, Value::Other) => {}
            _ => return Err("the pickle adds members to something that has none".into()),
        }
        Ok(())
    }

    /// GLOBAL, STACK_GLOBAL, REDUCE, BUILD, BINPERSID; what makes other objects is refused.
    fn object(&mut self, code: u8, bytes: &mut Bytes<'a>) -> Result<(), String> {
        match code {
            b'c' | b'i' => {
                let (module, name) = (bytes.line()?, bytes.line()?);
                let global = globals::find(module, name)?;
                if code == b'i' {
                    return Err(globals::refused(module, name));
                }
                self.stack.push(Value::Global(global));
            }
            0x93 => {
                let [module, name] = self.last_array()?;
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err("the pickle looks up a name that is no text".into());
                };
                self.stack.push(Value::Global(globals::find(module, name)?));
            }
            b'R' => {
                let [function, arguments] = self.last_array()?;
                let value = globals::call(self, function, arguments)?;
                self.stack.push(value);
            }
            b'b' => {
                // Attributes of an OrderedDict: `_metadata` of a state dict, which says nothing about values.
                self.pop()?;
                if !matches!(self.top()?, Value::Dict(_) | Value::Other) {
                    return Err("the pickle sets the state of an object; save model.state_dict() alone".into());
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let value = globals::persistent(self, id)?;
                self.stack.push(value);
            }
            0x81 | 0x92 | b'o' => {
                return Err("the pickle makes an object of a class; save model.state_dict() alone".into());
            }
            _ => return Err(format!("the pickle holds opcode 0x{code:02x}, which torch.save does not write")),
        }
        Ok(())
    }

    /// Where the values since the last MARK begin.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        self.last_array::<1>().map(|[value]| value)
    }

    fn top(&self) -> Result<Value<'a>, String> {
        if self.stack.len() > self.floor() { Ok(self.stack[self.stack.len() - 1]) } else { Err(empty()) }
    }

    /// Removes the last `n` values.
    fn last(&mut self, n: usize) -> Result<Vec<Value<'a>>, String> {
        match self.stack.len().checked_sub(n) {
            Some(at) if at >= self.floor() => Ok(self.stack.split_off(at)),
            _ => Err(empty()),
        }
    }

    fn last_array<const N: usize>(&mut self) -> Result<[Value<'a>; N], String> {
        self.last(N)?.try_into().map_err(|_| empty())
    }

    /// Removes everything since the last MARK, and the MARK.
    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let at = self.marks.pop().ok_or_else(empty)?;
        Ok(self.stack.split_off(at))
    }

    /// POP takes a MARK where there is one on top.
    fn discard(&mut self) -> Result<(), String> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn put(&mut self, index: u32) -> Result<(), String> {
        self.memo.insert(index, self.top()?);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<(), String> {
        let value = self.memo.get(&index).ok_or("the pickle refers to a value that it has not stored")?;
        self.stack.push(*value);
        Ok(())
    }
}

fn empty() -> String {
    "the pickle takes a value from an empty stack".into()
}

fn protocol(version: u8) -> Result<(), String> {
    if version > 5 {
        return Err(format!("the pickle has protocol {version}; 1 to 5 are read"));
    }
    Ok(())
}

/// NONE, NEWTRUE, NEWFALSE, INT, LONG, BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT.
fn number<'a>(code: u8, bytes: &mut Bytes<'a>) -> Result<Value<'a>, String> {
    Ok(match code {
        b'N' => Value::None,
        0x88 => Value::Bool(true),
        0x89 => Value::Bool(false),
        b'I' | b'L' => match bytes.line()? {
            "00" if code == b'I' => Value::Bool(false),
            "01" if code == b'I' => Value::Bool(true),
            line => line.trim_end_matches('L').parse().map_or(Value::Other, Value::Int),
        },
        b'J' => Value::Int((bytes.u32()? as i32).into()),
        b'K' => Value::Int(bytes.byte()?.into()),
        b'M' => Value::Int(bytes.u16()?.into()),
        0x8a => long(bytes.byte()?.into(), bytes)?,
        0x8b => long(bytes.u32()?.into(), bytes)?,
        _ => {
            bytes.take(8)?;
            Value::Other
        }
    })
}

/// A little-endian number in two's complement; beyond 16 bytes nothing here depends on it.
fn long<'a>(length: u64, bytes: &mut Bytes<'a>) -> Result<Value<'a>, String> {
    let digits = bytes.take(length)?;
    if digits.len() > 16 {
        return Ok(Value::Other);
    }
    let negative = digits.last().is_some_and(|b| b & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 16];
    whole[..digits.len()].copy_from_slice(digits);
    Ok(Value::Int(i128::from_le_bytes(whole)))
}

/// BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, BINSTRING, SHORT_BINSTRING (texts of Python 2),
/// BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8.
fn text<'a>(code: u8, bytes: &mut Bytes<'a>) -> Result<Value<'a>, String> {
    let length = match code {
        0x8c | b'U' | b'C' => bytes.byte()?.into(),
        b'X' | b'T' | b'B' => bytes.u32()?.into(),
        _ => bytes.u64()?,
    };
    let content = bytes.take(length)?;
    Ok(match (code, std::str::from_utf8(content)) {
        (b'X' | 0x8c | 0x8d | b'T' | b'U', Ok(text)) => Value::Text(text),
        _ => Value::Other,
    })
}
