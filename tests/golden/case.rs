//! One golden file: inputs, parameters, expected outputs and tolerances.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotad_kernels::device::{Buffer, Device, Element};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// What an operation gave, by the name after `out.`; maps back in NCHW, integers exact in f64.
pub type Outputs = BTreeMap<String, Vec<f64>>;

/// A tensor of a file, widened to f64 (every stored type fits exactly).
pub struct Stored {
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub values: Vec<f64>,
}

pub struct Case {
    /// Where the operation runs.
    pub device: Device,
    pub name: String,
    pub op: String,
    pub params: Value,
    tensors: BTreeMap<String, Stored>,
    rtol: f64,
    atol: f64,
    tensor_tol: Value,
    compare: Value,
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect(),
        Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        Dtype::U8 => bytes.iter().map(|b| f64::from(*b)).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        other => panic!("golden tensors are never {other:?}"),
    }
}

impl Case {
    pub fn read(path: &Path, device: &Device) -> Self {
        let bytes = std::fs::read(path).expect("golden file is readable");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("golden file is safetensors");
        let meta = header.metadata().clone().expect("golden file has metadata");
        let file = SafeTensors::deserialize(&bytes).expect("golden file is safetensors");
        let tensors = file
            .iter()
            .map(|(name, t)| {
                let stored =
                    Stored { shape: t.shape().to_vec(), dtype: t.dtype(), values: decode(t.dtype(), t.data()) };
                (name.to_string(), stored)
            })
            .collect();
        let json =
            |key: &str| meta.get(key).map_or(Value::Null, |v| serde_json::from_str(v).expect("metadata is JSON"));
        let number = |key: &str| meta[key].parse().expect("tolerance is a number");
        Self {
            device: device.clone(),
            name: path.file_stem().expect("a file name").to_string_lossy().into_owned(),
            op: meta["op"].clone(),
            params: json("params"),
            rtol: number("rtol"),
            atol: number("atol"),
            tensor_tol: json("tensor_tol"),
            compare: json("compare"),
            tensors,
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn get(&self, name: &str) -> &Stored {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))
    }

    /// `in.<name>` as f32, in the stored order.
    pub fn flat(&self, name: &str) -> Vec<f32> {
        self.get(&format!("in.{name}")).values.iter().map(|v| *v as f32).collect()
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.get(&format!("in.{name}")).shape
    }

    /// `in.<name>`, an NCHW map, as NHWC with its NHWC shape.
    pub fn map(&self, name: &str) -> (Vec<f32>, [usize; 4]) {
        let s = self.shape(name);
        let nchw = [s[0], s[1], s[2], s[3]];
        (permute(&self.flat(name), nchw, [0, 2, 3, 1]), [s[0], s[2], s[3], s[1]])
    }

    pub fn number(&self, key: &str) -> f64 {
        self.params[key].as_f64().unwrap_or_else(|| panic!("{}: no parameter {key}", self.name))
    }

    pub fn count(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    pub fn flag(&self, key: &str) -> bool {
        self.params[key].as_bool().unwrap_or(false)
    }

    /// Names of the tensors that begin with `prefix`, without it.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().filter_map(move |k| k.strip_prefix(prefix))
    }

    /// A parameter that is a list of texts.
    pub fn texts(&self, key: &str) -> Vec<&str> {
        self.params[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub fn text(&self, key: &str) -> &str {
        self.params[key].as_str().unwrap_or_default()
    }

    /// Numbers on the device.
    pub fn put<T: Element>(&self, values: Vec<T>) -> Buffer<T> {
        self.device.upload(values).expect("memory for a small case")
    }

    /// Room for floats that an operation must overwrite all.
    pub fn uninit(&self, len: usize) -> Buffer {
        self.put(vec![f32::NAN; len])
    }

    /// Room for integers that an operation must overwrite all.
    pub fn room_u32(&self, len: usize) -> Buffer<u32> {
        self.put(vec![u32::MAX; len])
    }

    /// Zeros, for gradients that are added to.
    pub fn zeros(&self, len: usize) -> Buffer {
        self.put(vec![0.0; len])
    }

    /// The largest share of a tolerance that was used, or what is wrong.
    pub fn compare(&self, outputs: &Outputs) -> Result<f64, String> {
        let mut worst: f64 = 0.0;
        for (name, want) in self.tensors.iter().filter(|(n, _)| n.starts_with("out.")) {
            let short = &name[4..];
            let got = outputs.get(short).ok_or(format!("{name} was not computed"))?;
            if got.len() != want.values.len() {
                return Err(format!("{name} has {} elements, {} expected", got.len(), want.values.len()));
            }
            let aligned = self.up_to_sign(name, got, want)?;
            worst = worst.max(self.compare_tensor(name, &aligned, want)?);
        }
        Ok(worst)
    }

    /// Values with the signs that the file has, where it leaves those of whole rows or channels open.
    fn up_to_sign(&self, name: &str, got: &[f64], want: &Stored) -> Result<Vec<f64>, String> {
        // Rows are the first axis, channels of maps the second.
        let parts = match self.compare[name].as_str() {
            None if self.compare[name].is_null() => return Ok(got.to_vec()),
            Some("sign_of_each_row") => want.shape[0],
            Some("sign_of_each_channel") => want.shape[1],
            _ => return Err(format!("{name}: comparison rule {} is not known", self.compare[name])),
        };
        let after: usize = want.shape[want.shape.len() - if want.shape.len() == 2 { 1 } else { 2 }..].iter().product();
        let part = |i: usize| i / after % parts;
        let mut along = vec![0.0; parts];
        for (i, (g, w)) in got.iter().zip(&want.values).enumerate() {
            along[part(i)] += g * w;
        }
        Ok(got.iter().enumerate().map(|(i, g)| if along[part(i)] < 0.0 { -g } else { *g }).collect())
    }

    fn compare_tensor(&self, name: &str, got: &[f64], want: &Stored) -> Result<f64, String> {
        let own = &self.tensor_tol[name];
        let limit = |key: &str, general: f64| own[key].as_str().map_or(general, |v| v.parse().expect("a number"));
        let exact = want.dtype != Dtype::F32;
        let general = if exact { (0.0, 0.0) } else { (self.rtol, self.atol) };
        let special = if exact { (0.0, 0.0) } else { (limit("rtol", self.rtol), limit("atol", self.atol)) };
        let fraction: f64 = own["fraction"].as_str().map_or(1.0, |v| v.parse().expect("a number"));
        let share = |g: f64, w: f64, (rtol, atol): (f64, f64)| {
            let (error, allowed) = ((g - w).abs(), atol + rtol * w.abs());
            if g.is_nan() {
                f64::INFINITY
            } else if error == 0.0 {
                0.0
            } else {
                error / allowed
            }
        };
        let mut close = 0;
        let mut worst: f64 = 0.0;
        for (i, (g, w)) in got.iter().zip(&want.values).enumerate() {
            let inside = share(*g, *w, special);
            close += usize::from(inside <= 1.0);
            let outer = if fraction < 1.0 { share(*g, *w, general) } else { inside };
            if outer > 1.0 {
                return Err(format!("{name}[{i}] is {g}, {w} expected ({outer:.2} of the tolerance)"));
            }
            worst = worst.max(outer);
        }
        if (close as f64) < fraction * got.len() as f64 {
            return Err(format!("{name}: only {close} of {} within the tensor's own tolerance", got.len()));
        }
        Ok(worst)
    }
}

/// The golden files of a folder whose names contain `only`, in order.
pub fn files(folder: &Path, only: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors") && f.to_string_lossy().contains(only));
    files.sort();
    Ok(files)
}

/// Numbers of a buffer on the host.
pub fn host<T: Element>(buffer: &Buffer<T>) -> Vec<T> {
    buffer.to_vec().expect("the device has done its work")
}

/// Axes `from` of shape `shape` in the order `order`.
pub fn permute(data: &[f32], shape: [usize; 4], order: [usize; 4]) -> Vec<f32> {
    let stride = [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1];
    let mut out = Vec::with_capacity(data.len());
    for a in 0..shape[order[0]] {
        for b in 0..shape[order[1]] {
            for c in 0..shape[order[2]] {
                for d in 0..shape[order[3]] {
                    let at = a * stride[order[0]] + b * stride[order[1]] + c * stride[order[2]] + d * stride[order[3]];
                    out.push(data[at]);
                }
            }
        }
    }
    out
}

/// An NHWC map back to NCHW, widened.
pub fn nchw(buffer: &Buffer, shape: [usize; 4]) -> Vec<f64> {
    floats(&permute(&host(buffer), shape, [0, 3, 1, 2]))
}

/// Numbers of a buffer, widened.
pub fn wide(buffer: &Buffer) -> Vec<f64> {
    floats(&host(buffer))
}

pub fn floats(data: &[f32]) -> Vec<f64> {
    data.iter().map(|v| f64::from(*v)).collect()
}

/// Builds [`Outputs`].
pub fn outputs<const N: usize>(entries: [(&str, Vec<f64>); N]) -> Outputs {
    entries.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}
